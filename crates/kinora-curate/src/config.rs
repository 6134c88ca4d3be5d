//! What a curation does, as a TOML file in which no unknown key is let pass.

use crate::captions::EndpointSettings;
use crate::clipping::ClipSettings;
use crate::cuts::CutSettings;
use crate::filter::FilterSettings;
use crate::latents::LatentSettings;
use crate::motion::MotionSettings;
use crate::scores;
use crate::text_area::TesseractSettings;
use crate::{Error, Result};
use kinora_media::ShardOptions;
use kinora_model::judges::coca::{Beams, Decoding};
use kinora_model::judges::craft;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything that decides what is made of the videos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How the videos are read.
    pub ingest: Ingest,
    /// Where shots end.
    pub cuts: CutSettings,
    /// Which clips are made, and how.
    pub clips: ClipSettings,
    /// How much moves.
    pub motion: Motion,
    /// How much of the picture is text.
    pub text: Text,
    /// Embeddings, likeness, aesthetics.
    pub clip: Clip,
    /// What is seen and what happens, in words.
    pub captions: Captions,
    /// What stays.
    pub filter: FilterSettings,
    /// What stays, for training.
    pub shards: Shards,
}

/// How the videos are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    /// Shorter side in pixels of the small frames that cuts and motion are told from.
    pub analysis_short_side: usize,
    /// Seconds that ffmpeg may keep us waiting for a video, whatever its length.
    pub time_limit_s: f64,
    /// Seconds more for each second that the video says it has.
    pub time_limit_per_second: f64,
}

/// Who measures how much moves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "judge", rename_all = "snake_case", deny_unknown_fields)]
pub enum Motion {
    /// Nobody: the columns stay empty.
    None {},
    /// Farnebäck's dense flow.
    Farneback(MotionSettings),
}

/// Who judges the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "judge", rename_all = "snake_case", deny_unknown_fields)]
pub enum Text {
    /// Nobody: the column stays empty.
    None {},
    /// The program of that name.
    Tesseract(TesseractSettings),
    /// A network, with weights that the user brings.
    Craft(CraftSettings),
}

/// CRAFT: its weights, how a picture is shown to it, and what in its maps counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CraftSettings {
    /// A file of safetensors with the public weights.
    pub weights: PathBuf,
    /// The most pixels on the longer side of what the network sees.
    pub canvas_pixels: usize,
    /// How many times larger than the picture that is, where it fits.
    pub magnification: f32,
    /// A word must reach this on the region map.
    pub text_threshold: f32,
    /// Above this on the affinity map two characters belong together.
    pub link_threshold: f32,
    /// Above this on the region map a place belongs to a character.
    pub low_text: f32,
}

impl CraftSettings {
    /// The settings without the weights.
    pub fn of_the_network(&self) -> craft::CraftSettings {
        craft::CraftSettings {
            canvas_pixels: self.canvas_pixels,
            magnification: self.magnification,
            text_threshold: self.text_threshold,
            link_threshold: self.link_threshold,
            low_text: self.low_text,
        }
    }
}

/// Who embeds frames and captions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "judge", rename_all = "snake_case", deny_unknown_fields)]
pub enum Clip {
    /// Nobody: the columns stay empty.
    None {},
    /// A CLIP model, with weights that the user brings.
    Clip(scores::ClipSettings),
}

/// Who writes each caption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captions {
    /// Of the middle frame.
    pub image: ImageJudge,
    /// Of the clip.
    pub video: CaptionJudge,
    /// Of both captions, merged.
    pub merged: CaptionJudge,
}

/// Who says what the middle frame shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "judge", rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageJudge {
    /// Nobody: the column stays empty.
    None {},
    /// A network of our own, with weights that the user brings.
    Coca(CocaSettings),
    /// A server.
    Endpoint(Box<EndpointSettings>),
}

/// CoCa: its weights, and how it looks for words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CocaSettings {
    /// open_clip's file or folder, or an id on the hub.
    pub weights: String,
    /// The most tokens a caption has, the ones that begin and end it among them.
    pub max_tokens: usize,
    /// No caption ends before it has so many.
    pub min_tokens: usize,
    /// Texts that are written at once; 1 takes the likeliest word each time.
    pub beams: usize,
    /// Groups of them that do not share what they find.
    pub beam_groups: usize,
}

impl CocaSettings {
    /// How it looks for words.
    pub fn decoding(&self) -> Decoding {
        Decoding {
            seq_len: self.max_tokens,
            min_seq_len: self.min_tokens,
            beams: (self.beams > 1).then_some(Beams {
                beams: self.beams,
                groups: self.beam_groups,
            }),
        }
    }

    /// The settings that decide the result beside the weights themselves, wherever those lie.
    pub fn decoding_only(&self) -> CocaSettings {
        CocaSettings {
            weights: String::new(),
            ..self.clone()
        }
    }
}

/// Who says what happens in the clip, or merges two captions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "judge", rename_all = "snake_case", deny_unknown_fields)]
pub enum CaptionJudge {
    /// Nobody: the column stays empty.
    None {},
    /// A server.
    Endpoint(Box<EndpointSettings>),
}

/// What stays, for training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case", deny_unknown_fields)]
pub enum Shards {
    /// No shards.
    None {},
    /// Tar files with an index.
    Webdataset(WebdatasetSettings),
}

/// How clips are spread over tar files, and what stands beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebdatasetSettings {
    /// As in [`ShardOptions`].
    pub name: String,
    /// As in [`ShardOptions`].
    pub max_bytes: u64,
    /// As in [`ShardOptions`].
    pub max_clips: u64,
    /// Encode the clips, for the training of a denoiser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latents: Option<LatentSettings>,
}

impl Default for WebdatasetSettings {
    fn default() -> Self {
        let ShardOptions {
            name,
            max_bytes,
            max_clips,
        } = ShardOptions::default();
        WebdatasetSettings {
            name,
            max_bytes,
            max_clips,
            latents: None,
        }
    }
}

impl WebdatasetSettings {
    /// How the clips are spread.
    pub fn options(&self) -> ShardOptions {
        ShardOptions {
            name: self.name.clone(),
            max_bytes: self.max_bytes,
            max_clips: self.max_clips,
        }
    }
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When the file cannot be read, has an unknown key, lacks one, or a value makes no sense.
    pub fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        Config::parse(&text).map_err(|what| Error::Setting(format!("{}: {what}", path.display())))
    }

    /// Reads a configuration from its text.
    ///
    /// # Errors
    /// As [`Config::read`], in words.
    pub fn parse(text: &str) -> std::result::Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// The configuration as TOML, every number written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every part of a configuration has a TOML form")
    }

    fn check(&self) -> std::result::Result<(), String> {
        self.ingest.check()?;
        let words = |failure: Error| failure.to_string();
        self.clips.check().map_err(words)?;
        if let Motion::Farneback(settings) = &self.motion {
            settings.check().map_err(words)?;
        }
        self.filter.check().map_err(words)?;
        if let Shards::Webdataset(settings) = &self.shards {
            let checked = settings.options().check();
            checked.map_err(|failure| failure.to_string())?;
            if let Some(latents) = &settings.latents {
                latents.check().map_err(words)?;
            }
        }
        Ok(())
    }
}

impl Ingest {
    fn check(&self) -> std::result::Result<(), String> {
        if !(16..=1080).contains(&self.analysis_short_side) {
            return Err(format!(
                "ingest.analysis_short_side: expected 16 to 1080 pixels, found {}",
                self.analysis_short_side
            ));
        }
        for (key, value) in [
            ("time_limit_s", self.time_limit_s),
            ("time_limit_per_second", self.time_limit_per_second),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!(
                    "ingest.{key}: expected a number above zero, found {value}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_configuration_differs_in_its_clips_and_its_filter_alone() {
        let usual = Config::parse(include_str!("../../../configs/curate.toml")).unwrap();
        let small = Config::parse(include_str!("../../../configs/small_curate.toml")).unwrap();
        assert!(small.clips.encode && small.clips.most_secs < usual.clips.most_secs);
        let same = Config {
            clips: usual.clips.clone(),
            filter: usual.filter.clone(),
            ..small
        };
        assert_eq!(same, usual);
    }
}
