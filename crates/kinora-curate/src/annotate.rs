//! One video in, its rows and clips out: the unit of work that never panics and can be repeated.

mod clips;
mod ingest;
mod look;
mod pictures;
mod words;

use crate::config::Config;
use crate::cost::Costs;
use crate::judges::Judges;
use crate::ledger::Ledger;
use crate::makers::Makers;
use crate::sources::Stores;
use crate::step::{Asked, Step};
use crate::{Error, Result};
use kinora_media::{ClipRow, CutRow, SourceRow, Status};
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// What is needed to annotate any video.
#[derive(Debug)]
pub struct Workshop<'a> {
    /// What is to be done, and how.
    pub config: Config,
    /// Which steps are to be done now.
    pub asked: Asked,
    /// Who look at pictures and texts.
    pub judges: Judges,
    /// Who makes each column.
    pub makers: Makers,
    /// Where results are kept.
    pub ledger: Ledger,
    /// How videos in object stores are reached.
    pub stores: Stores,
    /// Threads of each decoder.
    pub decoder_threads: usize,
    /// Raised when the user asks to stop.
    pub stop: &'a AtomicBool,
}

/// What was made of a video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Hash of the bytes and the settings it was made of.
    pub stamp: String,
    /// Steps that are switched on and not, or not wholly, done.
    pub missing: Vec<Step>,
    /// The video.
    pub source: SourceRow,
    /// Its cuts.
    pub cuts: Vec<CutRow>,
    /// Its clips.
    pub clips: Vec<ClipRow>,
}

/// An annotation, and what making it took.
#[derive(Clone, Debug)]
pub struct Made {
    /// The annotation.
    pub annotation: Annotation,
    /// Whether an earlier run had made it.
    pub reused: bool,
    /// What the steps done now have cost.
    pub costs: Costs,
}

/// Annotates one video: its name in; its rows, and its clips at their places in the ledger, out.
///
/// The same video with the same settings gives the same rows and files, whoever calls, however often
/// and however many at a time. Whatever is wrong with the video becomes a row with the reason, even a
/// mistake of our own that panics. `on_frames` is told how many more frames were decoded.
///
/// # Errors
/// Only what is no fault of the video: ffmpeg is missing, the ledger cannot be written, or the user
/// asked to stop.
pub fn annotate(name: &str, workshop: &Workshop, on_frames: &mut dyn FnMut(u64)) -> Result<Made> {
    let mut work = Work::new(name, workshop, on_frames);
    match caught(|| work.all_steps()) {
        Ok(Some(known)) => {
            return Ok(Made {
                annotation: known,
                reused: true,
                costs: work.costs,
            });
        }
        Ok(None) => {}
        Err(failure) if is_ours(&failure, workshop) => return Err(failure),
        Err(failure) => work.fail(&work.reason_of(&failure)),
    }
    let (annotation, costs) = (work.annotation, work.costs);
    workshop.ledger.keep_result(&annotation)?;
    workshop.ledger.keep_costs(name, &costs)?;
    Ok(Made {
        annotation,
        reused: false,
        costs,
    })
}

/// A video on its way through the steps.
struct Work<'a> {
    name: &'a str,
    workshop: &'a Workshop<'a>,
    on_frames: &'a mut dyn FnMut(u64),
    annotation: Annotation,
    costs: Costs,
    /// Where the video is read, which a row does not know: a copy has another name each time.
    place: String,
}

impl<'a> Work<'a> {
    fn new(
        name: &'a str,
        workshop: &'a Workshop<'a>,
        on_frames: &'a mut dyn FnMut(u64),
    ) -> Work<'a> {
        Work {
            name,
            workshop,
            on_frames,
            annotation: Annotation {
                stamp: workshop.makers.stamp(""),
                missing: Vec::new(),
                source: SourceRow {
                    source: name.to_owned(),
                    ..SourceRow::default()
                },
                cuts: Vec::new(),
                clips: Vec::new(),
            },
            costs: Costs::default(),
            place: name.to_owned(),
        }
    }

    /// Gives back what an earlier run made, where nothing is left to do.
    fn all_steps(&mut self) -> Result<Option<Annotation>> {
        if let Some(content) = self.known_content()? {
            self.annotation.stamp = self.workshop.makers.stamp(&content);
            if let Some(known) = self.known()? {
                return Ok(Some(known));
            }
        }
        let opened = self.open()?;
        self.annotation.stamp = self.workshop.makers.stamp(&opened.content);
        if let Some(known) = self.known()? {
            return Ok(Some(known));
        }
        let probed = self.probe(&opened)?;
        let info = &probed.info;
        let (seen, motion) = self.look(&opened, info)?;
        let Some(seen) = seen else {
            self.left_out(Step::Cuts);
            return Ok(None);
        };
        let plans = self.cut(&opened, &probed, &seen)?;
        self.cut_out(&opened, info, &seen, &plans)?;
        self.measure_motion(&plans, motion.as_ref());
        self.judge_pictures()?;
        self.caption()?;
        self.liken()?;
        self.close();
        Ok(None)
    }

    /// What an earlier run made of the same bytes with the same settings, if nothing that is asked for
    /// now is missing in it. What failed in part is tried again.
    fn known(&self) -> Result<Option<Annotation>> {
        let asked = self.workshop.asked;
        let known = self.workshop.ledger.result(self.name)?;
        Ok(known.filter(|known| {
            known.stamp == self.annotation.stamp
                && known.source.status == Status::Ok
                && !known.missing.iter().any(|&step| asked.includes(step))
        }))
    }

    /// A step that is switched on was not done.
    fn left_out(&mut self, step: Step) {
        let missing = &mut self.annotation.missing;
        if let Err(place) = missing.binary_search(&step) {
            missing.insert(place, step);
        }
    }

    /// A step failed for a clip, which goes on without the column.
    fn missing(&mut self, at: usize, step: Step, why: &str) {
        self.left_out(step);
        let clip = &mut self.annotation.clips[at];
        let why = format!("{step}: {}", steady(why));
        clip.status = Status::Partial;
        clip.reason = Some(match clip.reason.take() {
            Some(before) => format!("{before}; {why}"),
            None => why,
        });
    }

    /// Counts what there is, and says of the video what failed for some of its clips.
    fn close(&mut self) {
        let Annotation {
            source,
            cuts,
            clips,
            ..
        } = &mut self.annotation;
        (source.cuts, source.clips) = (cuts.len() as u32, clips.len() as u32);
        let mut in_part = clips.iter().filter(|clip| clip.status != Status::Ok);
        if let Some(first) = in_part.next() {
            let why = format!(
                "{} of {} clips lack something ({})",
                1 + in_part.count(),
                clips.len(),
                first.reason.as_deref().unwrap_or("no reason was given")
            );
            source.status = Status::Partial;
            source.reason = Some(match source.reason.take() {
                Some(before) => format!("{before}; {why}"),
                None => why,
            });
        }
    }

    fn stop_where_asked(&self) -> Result<()> {
        match self.workshop.stop.load(Ordering::SeqCst) {
            true => Err(Error::Stopped),
            false => Ok(()),
        }
    }

    /// A failure in words, without the name that every row has beside it.
    fn reason_of(&self, failure: &Error) -> String {
        steady(&with_name(&failure.to_string(), &self.place, self.name))
    }

    /// Nothing can be made of the video.
    fn fail(&mut self, reason: &str) {
        let row = &mut self.annotation.source;
        (row.status, row.reason) = (Status::Failed, Some(reason.to_owned()));
        (row.cuts, row.clips) = (0, 0);
        self.annotation.cuts.clear();
        self.annotation.clips.clear();
    }
}

/// Whether a failure is none of the video's.
fn is_ours(failure: &Error, workshop: &Workshop) -> bool {
    let inside = |path: &std::path::Path| path.starts_with(workshop.ledger.folder());
    let full = |source: &std::io::Error| source.kind() == std::io::ErrorKind::StorageFull;
    match failure {
        Error::Stopped => true,
        Error::File { path, source } => inside(path) || full(source),
        Error::Media(kinora_media::Error::ToolMissing { .. }) => true,
        Error::Media(kinora_media::Error::Io { path, source, .. }) => inside(path) || full(source),
        Error::Media(kinora_media::Error::Output { path, .. }) => inside(path),
        _ => false,
    }
}

/// Words about the file at `place` as words about the video `name`, which they need not begin with.
fn with_name(words: &str, place: &str, name: &str) -> String {
    let named = format!("{place}: ");
    words
        .strip_prefix(&named)
        .unwrap_or(words)
        .replace(place, name)
}

/// Words of a program without the addresses in its memory, which differ from run to run. Each thing is
/// said once.
fn steady(words: &str) -> String {
    let mut said: Vec<String> = Vec::new();
    for part in words.split("; ").map(without_addresses) {
        if !said.contains(&part) {
            said.push(part);
        }
    }
    said.join("; ")
}

/// [`steady`] words of a program with several threads, which speak in no order.
fn steady_in_any_order(words: &str) -> String {
    let words = steady(words);
    let mut said: Vec<&str> = words.split("; ").collect();
    said.sort_unstable();
    said.join("; ")
}

/// `[h264 @ 0x55d0c8] error` becomes `[h264] error`.
fn without_addresses(words: &str) -> String {
    let mut parts = words.split(" @ 0x");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept += part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    kept
}

/// Does something in which a mistake of our own must not cost more than the video at hand.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What was half done is thrown away with the video's row, so that nothing broken is seen again.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(Error::Judge {
            judge: "kinora",
            what: format!(
                "this is a mistake of ours ({}); please report it with the video",
                words_of(panic.as_ref())
            ),
        })
    })
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_programs_become_the_same_in_every_run() {
        let one = "[h264 @ 0x55d0c8] no frame!; [mov @ 0x12ab] cut off; [h264 @ 0x77] no frame!";
        let other = "[mov @ 0xffff] cut off; [h264 @ 0x1] no frame!";
        assert_eq!(steady(one), "[h264] no frame!; [mov] cut off");
        assert_eq!(steady(other), "[mov] cut off; [h264] no frame!");
        assert_eq!(steady_in_any_order(one), steady_in_any_order(other));
    }

    #[test]
    fn a_reason_speaks_of_the_video_and_not_of_its_copy() {
        let words = "/tmp/k-1.mp4: not a video: /tmp/k-1.mp4 has no header";
        let expected = "not a video: s3://films/a.mp4 has no header";
        assert_eq!(
            with_name(words, "/tmp/k-1.mp4", "s3://films/a.mp4"),
            expected
        );
        assert_eq!(with_name("v.mp4: empty", "v.mp4", "v.mp4"), "empty");
    }

    #[test]
    fn a_mistake_of_our_own_is_a_failure_in_words() {
        let text = caught(|| -> Result<()> { panic!("frame {} of {}", 3, 2) });
        let text = text.unwrap_err().to_string();
        assert!(
            text.contains("frame 3 of 2") && text.contains("report"),
            "{text}"
        );
        let word = caught(|| -> Result<()> { panic!("odd") });
        assert!(word.unwrap_err().to_string().contains("odd"));
        assert_eq!(caught(|| Ok(7)).unwrap(), 7);
    }
}
