//! How much moves in a clip: the mean length of its flow (paper, App. C), and its bucket.
//!
//! Pictures are taken twice a second, the flow from each to the next is made small, so that its
//! short side is 16 cells, and the score is the mean length of the vectors over cells and time, in
//! pixels of that small map. Why these units, and why lengths are taken last, is told in
//! `docs/decisions/0005-motion.md`. From scores to buckets leads [`kinora_media::MotionLaw`].

mod map;

use crate::flow::{Farneback, FlowSettings};
use crate::{Error, Result};
use kinora_media::AnalysisFrame;
pub use map::MotionMap;
use serde::{Deserialize, Serialize};

/// Counts up when equal videos and settings no longer give equal scores.
const VERSION: u32 = 2;

/// Displacements are told for this long, whatever time really lies between two pictures.
const UNIT_MICROS: f32 = 500_000.0;

/// Distance of the closer pictures, which are looked at where a shot may be short.
const CLOSE_MICROS: i64 = 250_000;

/// Share of pixels whose brightness must move to another bin before a cut is thought possible
/// between two pictures. Motion alone seldom does it, and a needless look costs time only.
const POSSIBLE_CUT: f32 = 0.2;

/// How motion is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MotionSettings {
    /// Pictures a second between which flow is measured; 2 in the paper. Scores keep their unit.
    pub pictures_per_second: f64,
    /// Cells of a map's short side; 16 in the paper. Scores are in pixels of this map.
    pub map_short_side: u16,
    /// Of the flow.
    pub flow: FlowSettings,
}

impl Default for MotionSettings {
    fn default() -> Self {
        MotionSettings {
            pictures_per_second: 2.0,
            map_short_side: 16,
            flow: FlowSettings::default(),
        }
    }
}

impl MotionSettings {
    /// Method, version and settings in a word: scores with equal words can be compared.
    pub fn version(&self) -> String {
        let FlowSettings {
            pyramid_scale,
            levels,
            window,
            iterations,
            neighbourhood,
            sigma,
            averaging,
        } = &self.flow;
        format!(
            "farneback-{VERSION} {pyramid_scale}/{levels}/{window}/{iterations}/{neighbourhood}/{sigma}/{} {} per second, {} cells",
            format!("{averaging:?}").to_lowercase(),
            self.pictures_per_second,
            self.map_short_side
        )
    }

    /// Says which setting makes no sense, if one does.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check(&self) -> Result<()> {
        let rate = self.pictures_per_second;
        if !(0.01..=240.0).contains(&rate) {
            return Err(Error::Setting(format!(
                "motion: expected pictures_per_second from 0.01 to 240, found {rate}; the paper has 2"
            )));
        }
        if !(1..=1024).contains(&self.map_short_side) {
            return Err(Error::Setting(format!(
                "motion: expected map_short_side from 1 to 1024, found {}; the paper has 16",
                self.map_short_side
            )));
        }
        self.flow.check()
    }
}

/// What moved between two pictures of a video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MotionPair {
    /// When the first picture is shown, in microseconds from the first frame.
    pub first_micros: i64,
    /// When the second is.
    pub second_micros: i64,
    /// Mean length of the map's vectors, in pixels of the map in half a second.
    pub magnitude: f32,
    /// Where to.
    pub map: MotionMap,
}

/// The motion of a whole video, cuts included: which pairs count is decided by the clip that asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MotionTrack {
    /// [`MotionSettings::version`] of the meter.
    pub version: String,
    /// Neighbouring pictures of the regular rate, in order.
    pub pairs: Vec<MotionPair>,
    /// Pictures a quarter of a second apart, in order, only around possible cuts and at the end of
    /// the video, for shots too short for a regular pair.
    pub close_pairs: Vec<MotionPair>,
}

/// The motion score of the clip that begins at `start_micros` and whose last frame ends at
/// `end_micros` (that is when the next shot begins): the mean over the pairs of which both pictures
/// are inside. In a clip with none, which is shorter than about a second, the mean over
/// its close pairs, where there are any. None where nothing was measured inside the clip, which is
/// then shorter than about half a second, or between cuts that no brightness betrays.
pub fn motion_score(track: &MotionTrack, start_micros: i64, end_micros: i64) -> Option<f32> {
    let mean_inside = |pairs: &[MotionPair]| {
        let inside = pairs
            .iter()
            .filter(|pair| pair.first_micros >= start_micros && pair.second_micros < end_micros);
        let (count, total) = inside.fold((0_u32, 0.0), |(count, total), pair| {
            (count + 1, total + f64::from(pair.magnitude))
        });
        (count > 0).then(|| (total / f64::from(count)) as f32)
    };
    mean_inside(&track.pairs).or_else(|| mean_inside(&track.close_pairs))
}

/// Measures the motion of a video as its frames go by.
pub struct MotionMeter {
    settings: MotionSettings,
    /// Set up at the first frame.
    flows: Option<Flows>,
    /// The newest picture of the regular rate.
    last: Option<Picture>,
    /// Pictures since then, a quarter of a second apart.
    since: Vec<Picture>,
    track: MotionTrack,
}

/// Flow at the regular rate, and of close pictures.
struct Flows {
    regular: Farneback,
    close: Farneback,
    size: (usize, usize),
}

struct Picture {
    micros: i64,
    luma: Vec<u8>,
}

impl MotionMeter {
    /// A meter at the beginning of a video.
    ///
    /// # Errors
    /// [`Error::Setting`] if a setting makes no sense.
    pub fn new(settings: MotionSettings) -> Result<Self> {
        settings.check()?;
        let version = settings.version();
        Ok(MotionMeter {
            settings,
            flows: None,
            last: None,
            since: Vec::new(),
            track: MotionTrack {
                version,
                ..MotionTrack::default()
            },
        })
    }

    /// Takes the next frame of the video; most are not looked at. Meant for frames whose short side
    /// is about 144 pixels: the flow's window and reach are in pixels of these.
    ///
    /// # Errors
    /// [`Error::Setting`] if the frame's size is not that of the first one.
    pub fn push(&mut self, frame: &AnalysisFrame) -> Result<()> {
        self.expect_size(frame)?;
        let Some(last) = &self.last else {
            return self.pick(frame);
        };
        // The rate's ticks are fixed, so that one late frame does not make all others late.
        let interval = 1e6 / self.settings.pictures_per_second;
        let tick = |micros: i64| (micros as f64 / interval).floor();
        if tick(frame.micros) > tick(last.micros) {
            return self.pick(frame);
        }
        let before = self.since.last().unwrap_or(last).micros;
        if frame.micros >= before + CLOSE_MICROS {
            self.since.push(Picture::of(frame));
        }
        Ok(())
    }

    /// The motion of the video that has ended.
    ///
    /// # Errors
    /// None but those of [`Self::push`].
    pub fn finish(mut self) -> Result<MotionTrack> {
        // The last shot may have begun after the last picture but one.
        self.look_closer(None)?;
        Ok(self.track)
    }

    fn expect_size(&mut self, frame: &AnalysisFrame) -> Result<()> {
        let found = (frame.width, frame.height);
        let size = match &self.flows {
            Some(flows) => flows.size,
            None => {
                let farneback = || Farneback::new(&self.settings.flow, frame.width, frame.height);
                self.flows = Some(Flows {
                    regular: farneback()?,
                    close: farneback()?,
                    size: found,
                });
                found
            }
        };
        if found != size || frame.luma.len() != size.0 * size.1 {
            return Err(Error::Setting(format!(
                "motion: expected frames of {}×{} as the first one, found {}×{} with {} values of brightness in frame {}; scale the frames of a video to one size",
                size.0,
                size.1,
                found.0,
                found.1,
                frame.luma.len(),
                frame.number
            )));
        }
        Ok(())
    }

    /// A picture of the regular rate.
    fn pick(&mut self, frame: &AnalysisFrame) -> Result<()> {
        let picture = Picture::of(frame);
        let flows = self.flows.as_mut().expect("set up at the first frame");
        let Some(last) = &self.last else {
            flows.regular.push(&picture.luma)?;
            self.last = Some(picture);
            return Ok(());
        };
        let pair = measure(&self.settings, &mut flows.regular, last, &picture)?;
        self.track.pairs.push(pair);
        if moved_share(&last.luma, &picture.luma) > POSSIBLE_CUT {
            self.look_closer(Some(&picture))?;
        }
        self.since.clear();
        self.last = Some(picture);
        Ok(())
    }

    /// Measures from close picture to close picture since the last regular one.
    fn look_closer(&mut self, end: Option<&Picture>) -> Result<()> {
        let (Some(flows), Some(last)) = (&mut self.flows, &self.last) else {
            return Ok(());
        };
        if self.since.is_empty() {
            return Ok(());
        }
        flows.close.restart();
        flows.close.push(&last.luma)?;
        let mut before = last;
        for picture in self.since.iter().chain(end) {
            let pair = measure(&self.settings, &mut flows.close, before, picture)?;
            self.track.close_pairs.push(pair);
            before = picture;
        }
        Ok(())
    }
}

impl Picture {
    fn of(frame: &AnalysisFrame) -> Self {
        Picture {
            micros: frame.micros,
            luma: frame.luma.clone(),
        }
    }
}

/// The motion from the picture that `farneback` saw last to `second`.
fn measure(
    settings: &MotionSettings,
    farneback: &mut Farneback,
    first: &Picture,
    second: &Picture,
) -> Result<MotionPair> {
    let flow = farneback.push(&second.luma)?;
    let flow = flow.expect("it saw the first picture of the pair");
    let gain = UNIT_MICROS / (second.micros - first.micros) as f32;
    let map = MotionMap::of_flow(flow, settings.map_short_side, gain);
    Ok(MotionPair {
        first_micros: first.micros,
        second_micros: second.micros,
        magnitude: map.mean_magnitude(),
        map,
    })
}

/// Share of pixels that must change their brightness, by more than a bin of eight levels or so, to
/// turn one picture's distribution of brightness into the other's.
fn moved_share(first: &[u8], second: &[u8]) -> f32 {
    let mut surplus = [0_i32; 32];
    for (first, second) in first.iter().zip(second) {
        surplus[usize::from(first >> 3)] += 1;
        surplus[usize::from(second >> 3)] -= 1;
    }
    let moved: i32 = surplus.iter().map(|count| count.abs()).sum();
    moved as f32 / (2 * first.len()) as f32
}

#[cfg(test)]
mod tests;
