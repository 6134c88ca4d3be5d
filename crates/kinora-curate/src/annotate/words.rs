//! The three captions of every clip, and how well CLIP finds that each fits its frames.

use super::Work;
use super::pictures::frames_of;
use crate::Result;
use crate::cache::{Cache, Maker, key};
use crate::captions::{
    AnswerCache, Caption, Endpoint, NoCaption, Question, Surroundings, frame_numbers,
};
use crate::judges::locked;
use crate::scores::{best_similarity, similarity};
use crate::step::Step;
use kinora_media::ClipRow;
use std::path::PathBuf;

/// Chance in the waits before a question is asked again comes from here; no caption does.
const WAIT_SEED: u64 = 0;

/// A column of captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Image,
    Video,
    Merged,
}

impl Column {
    fn of(self, clip: &ClipRow) -> Option<&String> {
        match self {
            Column::Image => clip.caption_image.as_ref(),
            Column::Video => clip.caption_video.as_ref(),
            Column::Merged => clip.caption_merged.as_ref(),
        }
    }

    fn set(self, clip: &mut ClipRow, caption: String, maker: &Maker) {
        let (place, version) = match self {
            Column::Image => (&mut clip.caption_image, &mut clip.versions.caption_image),
            Column::Video => (&mut clip.caption_video, &mut clip.versions.caption_video),
            Column::Merged => (&mut clip.caption_merged, &mut clip.versions.caption_merged),
        };
        (*place, *version) = (Some(caption), maker.label());
    }
}

impl Work<'_> {
    /// Fills the three captions of every clip.
    pub(super) fn caption(&mut self) -> Result<()> {
        let makers = self.workshop.makers.clone();
        for (column, maker) in [
            (Column::Image, makers.caption_image),
            (Column::Video, makers.caption_video),
            (Column::Merged, makers.caption_merged),
        ] {
            if let Some(maker) = maker {
                self.stop_where_asked()?;
                self.caption_column(column, &maker)?;
            }
        }
        Ok(())
    }

    fn caption_column(&mut self, column: Column, maker: &Maker) -> Result<()> {
        let cache = self.workshop.ledger.cache();
        let mut open = Vec::new();
        for at in 0..self.annotation.clips.len() {
            let Some(subject) = self.subject(column, at) else {
                continue; // What it would be merged from is not there, and that has been said.
            };
            match cache.get::<String>(maker, &subject) {
                Some(kept) => column.set(&mut self.annotation.clips[at], kept, maker),
                None => open.push((at, subject)),
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        if !self.workshop.asked.includes(Step::Captions) {
            self.left_out(Step::Captions);
            return Ok(());
        }
        let captions = self.ask(column, &open);
        for ((at, subject), caption) in open.into_iter().zip(captions) {
            match caption {
                Ok(words) => {
                    cache.put(maker, &subject, &words)?;
                    column.set(&mut self.annotation.clips[at], words, maker);
                }
                Err(reason) => self.missing(at, Step::Captions, &reason.to_string()),
            }
        }
        Ok(())
    }

    /// What a caption is a caption of: the clip, or the two texts to be merged.
    fn subject(&self, column: Column, at: usize) -> Option<String> {
        let clip = &self.annotation.clips[at];
        match column {
            Column::Image | Column::Video => Some(clip.clip_id.clone()),
            Column::Merged => Some(key(&[
                clip.caption_image.as_ref()?,
                clip.caption_video.as_ref()?,
            ])),
        }
    }
}

/// A clip that a question is about.
struct Asked {
    path: std::result::Result<PathBuf, String>,
    frames: u64,
    captions: Option<(String, String)>,
}

impl Work<'_> {
    /// Asks for the captions of the clips of these numbers, several at a time.
    fn ask(&mut self, column: Column, open: &[(usize, String)]) -> Vec<Caption> {
        let asked: Vec<Asked> = open
            .iter()
            .map(|(at, _)| {
                let clip = &self.annotation.clips[*at];
                Asked {
                    path: self.clip_path(*at).map_err(|failure| failure.to_string()),
                    frames: clip.end_frame - clip.start_frame,
                    captions: clip.caption_image.clone().zip(clip.caption_video.clone()),
                }
            })
            .collect();
        let workshop = self.workshop;
        let answers = Answers(workshop.ledger.cache());
        let surroundings = Surroundings {
            cache: &answers,
            sleep: &std::thread::sleep,
            seed: WAIT_SEED,
        };
        let judges = &workshop.judges;
        let threads = workshop.decoder_threads;
        self.costs
            .of("captions", asked.len() as u64, || match column {
                Column::Image => match &judges.coca {
                    Some(coca) => asked
                        .iter()
                        .map(|clip| {
                            let frame = clip.middle(threads).map_err(NoCaption::Question)?;
                            locked(coca).caption(&frame)
                        })
                        .collect(),
                    None => from(&judges.image, &asked, threads, &surroundings),
                },
                Column::Video => from(&judges.video, &asked, threads, &surroundings),
                Column::Merged => from(&judges.merged, &asked, threads, &surroundings),
            })
    }

    /// Fills in how well the frames of every clip fit its captions, where both are there.
    pub(super) fn liken(&mut self) -> Result<()> {
        let workshop = self.workshop;
        let Some(maker) = &workshop.makers.clip else {
            return Ok(());
        };
        for at in 0..self.annotation.clips.len() {
            let Some(joined) = self.annotation.clips[at].embeddings.clone() else {
                continue;
            };
            let frames: Vec<Vec<f32>> = joined
                .chunks((joined.len() / 3).max(1))
                .map(<[f32]>::to_vec)
                .collect();
            let mut found = [None; 3];
            for (place, column) in
                found
                    .iter_mut()
                    .zip([Column::Image, Column::Video, Column::Merged])
            {
                if let Some(caption) = column.of(&self.annotation.clips[at]).cloned() {
                    let embedding = self.embed_caption(at, &caption, maker)?;
                    *place = embedding.map(|caption| similarity(&frames, &caption));
                }
            }
            let clip = &mut self.annotation.clips[at];
            [
                clip.similarity_image,
                clip.similarity_video,
                clip.similarity_merged,
            ] = found;
            let all: Vec<f32> = found.into_iter().flatten().collect();
            clip.clip_similarity = best_similarity(&all);
        }
        Ok(())
    }

    /// The embedding of a caption, which depends on its words alone.
    fn embed_caption(
        &mut self,
        at: usize,
        caption: &str,
        maker: &Maker,
    ) -> Result<Option<Vec<f32>>> {
        let workshop = self.workshop;
        let cache = workshop.ledger.cache();
        let subject = key(&["caption", caption]);
        if let Some(kept) = cache.get(maker, &subject) {
            return Ok(Some(kept));
        }
        if !workshop.asked.includes(Step::Clip) {
            self.left_out(Step::Clip);
            return Ok(None);
        }
        let Some(judge) = &workshop.judges.clip else {
            return Ok(None);
        };
        let made = self
            .costs
            .of("clip", 0, || locked(judge).embed_captions(&[caption]));
        match made {
            Ok(mut embeddings) => {
                let embedding = embeddings.remove(0);
                cache.put(maker, &subject, &embedding)?;
                Ok(Some(embedding))
            }
            Err(failure) => {
                self.missing(at, Step::Clip, &failure.to_string());
                Ok(None)
            }
        }
    }
}

impl Asked {
    /// The middle frame.
    fn middle(&self, threads: usize) -> std::result::Result<kinora_media::Rgb8Image, String> {
        let path = self.path.as_ref().map_err(Clone::clone)?;
        let frames = frames_of(path, &frame_numbers(self.frames, 1), threads);
        let mut frames = frames.map_err(|failure| failure.to_string())?;
        frames
            .pop()
            .ok_or_else(|| "the clip has no frame".to_owned())
    }

    /// The question to an endpoint that is shown `count` frames, or the captions where it is none.
    fn question(&self, count: usize, threads: usize) -> std::result::Result<Question, String> {
        if count == 0 {
            let (image, video) = self.captions.clone().ok_or("a caption is missing")?;
            return Ok(Question::Captions { image, video });
        }
        let path = self.path.as_ref().map_err(Clone::clone)?;
        let frames = frames_of(path, &frame_numbers(self.frames, count), threads);
        frames
            .map(Question::Frames)
            .map_err(|failure| failure.to_string())
    }
}

/// The captions of an endpoint.
fn from(
    endpoint: &Option<Endpoint>,
    asked: &[Asked],
    threads: usize,
    surroundings: &Surroundings<'_>,
) -> Vec<Caption> {
    let endpoint = endpoint
        .as_ref()
        .expect("a column with a maker has its judge");
    let count = endpoint.settings().frames;
    endpoint.captions(
        asked.len(),
        &|n| asked[n].question(count, threads),
        surroundings,
    )
}

/// Answers of endpoints, kept by their requests.
struct Answers(Cache);

impl Answers {
    fn maker() -> Maker {
        Maker::new("answers", "endpoint", "1", "")
    }
}

impl AnswerCache for Answers {
    fn get(&self, key: &str) -> Option<String> {
        self.0.get(&Answers::maker(), key)
    }

    fn put(&self, key: &str, answer: &str) -> Result<()> {
        self.0.put(&Answers::maker(), key, &answer)
    }
}
