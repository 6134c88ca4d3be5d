//! Those who look at pictures and texts: opened once, shared by all videos.

use crate::Result;
use crate::cache::{Maker, parameters_of};
use crate::captions::{Endpoint, NoCaption};
use crate::config::{CaptionJudge, Clip, CocaSettings, Config, ImageJudge, Motion, Text};
use crate::cuts::METER_VERSION;
use crate::makers::Makers;
use crate::scores::{ClipJudge, located};
use crate::text_area::{Tesseract, TextJudge};
use kinora_media::Rgb8Image;
use kinora_model::judges::coca::Captioner;
use kinora_model::judges::craft::Craft;
use kinora_model::pixels::Picture;
use kinora_model::weights::Opening;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Raised when the same thresholds would find other cuts in the same measurements.
const CUTS_VERSION: u32 = 1;

/// Raised when clips would be cut out otherwise than before.
const CLIPS_VERSION: &str = "1";

/// Raised when CoCa's captions would become others.
const COCA_VERSION: &str = "1";

/// The judges that are switched on. A network is used by one video at a time: it fills all cores, and
/// memory holds the work of one.
#[derive(Debug, Default)]
pub struct Judges {
    /// Of the text area.
    pub text: Option<TextJudge>,
    /// Of embeddings, likeness and aesthetics.
    pub clip: Option<Mutex<ClipJudge>>,
    /// Of the middle frame, in words: a server.
    pub image: Option<Endpoint>,
    /// Of the middle frame, in words: a network of our own.
    pub coca: Option<Mutex<Coca>>,
    /// Of the clip, in words.
    pub video: Option<Endpoint>,
    /// Of both captions.
    pub merged: Option<Endpoint>,
}

/// CoCa and how it looks for words.
#[derive(Debug)]
pub struct Coca {
    captioner: Captioner,
    settings: CocaSettings,
}

impl Coca {
    /// What a frame shows.
    ///
    /// # Errors
    /// When the settings cannot be followed.
    pub fn caption(&self, frame: &Rgb8Image) -> std::result::Result<String, NoCaption> {
        let decoding = self.settings.decoding();
        let picture = Picture::new(frame.data(), frame.height(), frame.width());
        let captions = picture.and_then(|picture| self.captioner.captions(&[picture], &decoding));
        let mut captions = captions.map_err(|failure| NoCaption::Question(failure.to_string()))?;
        Ok(captions.remove(0))
    }
}

impl Judges {
    /// Opens the judges that a configuration switches on, and says who makes each column.
    ///
    /// # Errors
    /// When a program is not installed, weights cannot be read, or a key is not set.
    pub fn open(config: &Config) -> Result<(Judges, Makers)> {
        let mut judges = Judges {
            text: open_text(&config.text)?,
            video: open_endpoint(&config.captions.video)?,
            merged: open_endpoint(&config.captions.merged)?,
            ..Judges::default()
        };
        if let Clip::Clip(settings) = &config.clip {
            judges.clip = Some(Mutex::new(ClipJudge::open(settings)?));
        }
        match &config.captions.image {
            ImageJudge::None {} => {}
            ImageJudge::Endpoint(settings) => {
                judges.image = Some(Endpoint::open(settings.as_ref().clone())?);
            }
            ImageJudge::Coca(settings) => {
                let path = located(&settings.weights)?;
                judges.coca = Some(Mutex::new(Coca {
                    captioner: Captioner::open(path, &Opening::default())?,
                    settings: settings.clone(),
                }));
            }
        }
        let makers = judges.makers(config);
        Ok((judges, makers))
    }

    fn makers(&self, config: &Config) -> Makers {
        let side = config.ingest.analysis_short_side;
        let meter = METER_VERSION.to_string();
        let cascade = format!("{meter}.{CUTS_VERSION}");
        let clip = self.clip.as_ref().map(locked);
        Makers {
            frames: Maker::new("frames", "cascade", &meter, &parameters_of(&side)),
            cuts: Maker::new(
                "cuts",
                "cascade",
                &cascade,
                &parameters_of(&(side, &config.cuts)),
            ),
            clips: Maker::new(
                "clips",
                "ffmpeg",
                CLIPS_VERSION,
                &parameters_of(&config.clips),
            ),
            motion: match &config.motion {
                Motion::None {} => None,
                Motion::Farneback(settings) => Some(Maker::new(
                    "motion",
                    "farneback",
                    &settings.version(),
                    &parameters_of(&(side, settings)),
                )),
            },
            text: self
                .text
                .as_ref()
                .map(|judge| Maker::new("text", judge.id(), &judge.version(), &judge.params())),
            aesthetic: clip
                .as_ref()
                .filter(|judge| judge.has_aesthetic())
                .map(|judge| Maker::new("aesthetic", judge.id(), judge.version(), judge.params())),
            clip: clip
                .as_ref()
                .map(|judge| Maker::new("clip", judge.id(), judge.version(), judge.params())),
            caption_image: match &self.coca {
                Some(coca) => Some(locked(coca).maker()),
                None => self
                    .image
                    .as_ref()
                    .map(|judge| endpoint("caption_image", judge)),
            },
            caption_video: self
                .video
                .as_ref()
                .map(|judge| endpoint("caption_video", judge)),
            caption_merged: self
                .merged
                .as_ref()
                .map(|judge| endpoint("caption_merged", judge)),
        }
    }
}

impl Coca {
    fn maker(&self) -> Maker {
        let parameters = (self.captioner.fingerprint(), self.settings.decoding_only());
        Maker::new(
            "caption_image",
            "coca",
            COCA_VERSION,
            &parameters_of(&parameters),
        )
    }
}

/// A network, for one video. One that another worker's mistake left behind is as good as before: no
/// judgement changes it.
pub fn locked<T>(judge: &Mutex<T>) -> MutexGuard<'_, T> {
    judge.lock().unwrap_or_else(PoisonError::into_inner)
}

fn endpoint(step: &str, judge: &Endpoint) -> Maker {
    Maker::new(step, judge.id(), &judge.version(), &judge.params())
}

fn open_text(text: &Text) -> Result<Option<TextJudge>> {
    Ok(match text {
        Text::None {} => None,
        Text::Tesseract(settings) => Some(TextJudge::Tesseract(Tesseract::find(settings.clone())?)),
        Text::Craft(settings) => Some(TextJudge::Craft(
            Box::new(Craft::open(&settings.weights)?),
            settings.of_the_network(),
        )),
    })
}

fn open_endpoint(judge: &CaptionJudge) -> Result<Option<Endpoint>> {
    match judge {
        CaptionJudge::None {} => Ok(None),
        CaptionJudge::Endpoint(settings) => Endpoint::open(settings.as_ref().clone()).map(Some),
    }
}
