//! The one decode of a video, which everything that looks at all its frames shares.

use super::Work;
use super::ingest::Opened;
use crate::config::Motion;
use crate::cost::{Cost, Moment};
use crate::cuts::{CutMeter, FrameScores};
use crate::motion::{MotionMeter, MotionTrack};
use crate::step::Step;
use crate::{Error, Result};
use kinora_media::{AnalysisFrame, AnalysisOptions, AnalysisReader, VideoInfo};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;

/// Frames from one word about the progress to the next.
const FRAMES_A_WORD: u64 = 64;

/// What was measured of every frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The time that the file itself gives the first frame, microseconds.
    pub first_micros: i64,
    /// What the decoder complained of.
    pub complaints: Option<String>,
    /// What cuts are told from.
    pub scores: FrameScores,
}

/// What a decode is to find out.
#[derive(Clone, Copy)]
struct Wanted {
    scores: bool,
    motion: bool,
}

impl Work<'_> {
    /// What was measured of every frame, from the cache or by decoding; none where neither is there
    /// and the step was not asked for.
    pub(super) fn look(
        &mut self,
        opened: &Opened,
        info: &VideoInfo,
    ) -> Result<(Option<Seen>, Option<MotionTrack>)> {
        let cache = self.workshop.ledger.cache();
        let makers = &self.workshop.makers;
        let mut seen: Option<Seen> = cache.get(&makers.frames, &opened.content);
        let mut motion: Option<MotionTrack> = makers
            .motion
            .as_ref()
            .and_then(|maker| cache.get(maker, &opened.content));
        let asked = self.workshop.asked;
        let wanted = Wanted {
            scores: seen.is_none() && asked.includes(Step::Cuts),
            motion: motion.is_none() && makers.motion.is_some() && asked.includes(Step::Motion),
        };
        if wanted.scores || wanted.motion {
            let (new_seen, new_motion) = self.decode(opened, info, wanted)?;
            if let Some(new) = new_seen {
                cache.put(&makers.frames, &opened.content, &new)?;
                seen = Some(new);
            }
            if let (Some(new), Some(maker)) = (new_motion, &makers.motion) {
                cache.put(maker, &opened.content, &new)?;
                motion = Some(new);
            }
        }
        Ok((seen, motion))
    }

    fn decode(
        &mut self,
        opened: &Opened,
        info: &VideoInfo,
        wanted: Wanted,
    ) -> Result<(Option<Seen>, Option<MotionTrack>)> {
        let options = AnalysisOptions {
            short_side: self.workshop.config.ingest.analysis_short_side,
            threads: self.workshop.decoder_threads,
            time_limit: self.time_limit(info),
        };
        let began = Moment::now();
        let mut reader = AnalysisReader::open_probed(opened.path(), info.clone(), &options)?;
        let mut cut_meter = wanted.scores.then(CutMeter::new);
        let mut motion_meter = match &self.workshop.config.motion {
            Motion::Farneback(settings) if wanted.motion => {
                Some(MotionMeter::new(settings.clone())?)
            }
            _ => None,
        };
        let (mut cuts, mut motion) = (Cost::default(), Cost::default());
        let mut frame = AnalysisFrame::default();
        let mut count = 0;
        while reader.read_into(&mut frame)? {
            count += 1;
            let read = Moment::now();
            if let Some(meter) = &mut cut_meter {
                meter.push(&frame);
            }
            let cut = Moment::now();
            if let Some(meter) = &mut motion_meter {
                meter.push(&frame)?;
            }
            cuts.add(read.until(cut, 1));
            motion.add(cut.until(Moment::now(), 1));
            self.report(count)?;
        }
        (self.on_frames)(count % FRAMES_A_WORD);
        let (first_micros, complaints) = (reader.first_micros(), reader.complaints());
        let complaints = complaints.map(super::steady_in_any_order);
        drop(reader);
        let mut decode = began.until(Moment::now(), count);
        for (step, cost, measured) in [
            ("cuts", cuts, wanted.scores),
            ("motion", motion, wanted.motion),
        ] {
            decode.own_s -= cost.own_s;
            if measured {
                self.costs.add(step, cost);
            }
        }
        self.costs.add("decode", decode);
        let seen = cut_meter.map(|meter| Seen {
            first_micros,
            complaints,
            scores: meter.finish(),
        });
        let motion = motion_meter.map(MotionMeter::finish).transpose()?;
        Ok((seen, motion))
    }

    /// Tells of the frames now and then, and stops where the user asked to.
    fn report(&mut self, count: u64) -> Result<()> {
        if count.is_multiple_of(FRAMES_A_WORD) {
            (self.on_frames)(FRAMES_A_WORD);
            if self.workshop.stop.load(Ordering::SeqCst) {
                return Err(Error::Stopped);
            }
        }
        Ok(())
    }
}
