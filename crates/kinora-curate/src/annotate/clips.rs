//! From what was measured to cuts, from cuts to clips, and clips as files.

use super::Work;
use super::ingest::{Opened, Probed};
use super::look::Seen;
use crate::Result;
use crate::cache::key;
use crate::clipping::{
    ClipFile, ClipPlan, ClipSettings, CutOut, CutOutOptions, Keyframes, clip_ending, cut_out,
    in_one_run, plan_clips,
};
use crate::cuts::cuts;
use crate::motion::{MotionTrack, motion_score};
use crate::step::Step;
use kinora_media::{ClipRow, CutRow, Status, VideoInfo};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A clip that was cut out, as the cache knows it.
#[derive(Serialize, Deserialize)]
struct CutOutFile {
    /// Its size: another file of that name is no longer this one.
    bytes: u64,
    /// Why its frames had to be encoded again.
    reason: Option<String>,
}

impl Work<'_> {
    /// Finds the cuts, plans the clips, and begins their rows.
    pub(super) fn cut(
        &mut self,
        opened: &Opened,
        probed: &Probed,
        seen: &Seen,
    ) -> Result<Vec<ClipPlan>> {
        let config = &self.workshop.config;
        let micros = &seen.scores.micros;
        let found = self
            .costs
            .of("cuts", 0, || cuts(&seen.scores, &config.cuts));
        let Probed { info, packets } = probed;
        let untimed = packets.is_empty();
        let settings = ClipSettings {
            encode: config.clips.encode || untimed,
            ..config.clips.clone()
        };
        let keyframes = Keyframes::new(packets, seen.first_micros, micros);
        let plans = plan_clips(&found, &keyframes, micros, &settings);
        self.annotation.cuts = found
            .iter()
            .map(|cut| CutRow {
                source: self.name.to_owned(),
                frame: cut.frame,
                seconds: cut.micros as f64 / 1e6,
                kind: cut.kind,
                score: cut.score,
            })
            .collect();
        self.describe(seen);
        let rows = plans.iter().map(|plan| self.clip_row(opened, info, plan));
        self.annotation.clips = rows.collect();
        self.explain(untimed, plans.is_empty());
        Ok(plans)
    }

    /// Writes down what only a decode tells of the video.
    fn describe(&mut self, seen: &Seen) {
        let row = &mut self.annotation.source;
        let micros = &seen.scores.micros;
        row.frames = micros.len() as u64;
        if let [first, .., before, last] = micros[..] {
            row.duration_s = (last + (last - before) - first) as f64 / 1e6;
            row.fps = row.frames as f64 / row.duration_s;
        }
        if let Some(words) = &seen.complaints {
            row.status = Status::Partial;
            row.reason = Some(format!(
                "damaged, and decoded as far as it could be: {words}"
            ));
        }
    }

    /// Says why the clips of a video are encoded where they were to be copied, and why a video that can be
    /// read gave none.
    fn explain(&mut self, untimed: bool, no_clip: bool) {
        let settings = &self.workshop.config.clips;
        let row = &mut self.annotation.source;
        if row.reason.is_some() {
            return;
        }
        if no_clip {
            row.reason = Some(format!(
                "no clip: no part of {} s or more lies between two cuts and begins on a key frame",
                settings.least_secs
            ));
        } else if untimed && !settings.encode {
            row.reason = Some(
                "its packets carry no times, so its clips are encoded; in a container they are copied: ffmpeg -i VIDEO -c copy VIDEO.mkv"
                    .to_owned(),
            );
        }
    }

    fn clip_row(&self, opened: &Opened, info: &VideoInfo, plan: &ClipPlan) -> ClipRow {
        let (start, end) = (plan.start_frame, plan.end_frame);
        ClipRow {
            clip_id: key(&[&opened.content, &start.to_string(), &end.to_string()]),
            source: self.name.to_owned(),
            start_frame: start,
            end_frame: end,
            start_s: plan.start_micros as f64 / 1e6,
            end_s: plan.end_micros as f64 / 1e6,
            fps: plan.frames() as f64 / plan.secs().max(1e-6),
            width: info.width as u32,
            height: info.height as u32,
            versions: self.workshop.makers.versions(),
            ..ClipRow::default()
        }
    }

    /// Writes the clips to files of their own, those that are not there yet.
    pub(super) fn cut_out(
        &mut self,
        opened: &Opened,
        info: &VideoInfo,
        seen: &Seen,
        plans: &[ClipPlan],
    ) -> Result<()> {
        let mut wanted = Vec::new();
        for (at, plan) in plans.iter().enumerate() {
            let ending = match plan.encode {
                true => "mp4",
                false => clip_ending(info),
            };
            let id = &self.annotation.clips[at].clip_id;
            let name = format!("clips/{}/{id}.{ending}", &id[..2]);
            let out = self.workshop.ledger.folder().join(&name);
            match self.known_clip(id, &out) {
                Some(file) => self.has_file(at, name, file),
                None if self.workshop.asked.includes(Step::Clips) => wanted.push((at, name, out)),
                None => self.left_out(Step::Clips),
            }
        }
        let files = wanted.iter().map(|(at, _, out)| ClipFile {
            plan: &plans[*at],
            out,
        });
        let files: Vec<ClipFile> = files.collect();
        let mut done = 0;
        while done < files.len() {
            self.stop_where_asked()?;
            let run = &files[done..][..in_one_run(&files[done..])];
            let made = self.cut_out_together(opened, info, seen, run)?;
            for (made, (at, name, out)) in made.into_iter().zip(&wanted[done..]) {
                match made.and_then(|made| self.keep_clip(*at, made, out)) {
                    Ok(file) => self.has_file(*at, name.clone(), file),
                    Err(failure) if super::is_ours(&failure, self.workshop) => return Err(failure),
                    Err(failure) => {
                        self.missing(*at, Step::Clips, &self.reason_of(&failure));
                    }
                }
            }
            done += run.len();
        }
        Ok(())
    }

    /// The clip of that name that an earlier run made, if it is still there.
    fn known_clip(&self, id: &str, out: &Path) -> Option<CutOutFile> {
        let cache = self.workshop.ledger.cache();
        let known: Option<CutOutFile> = cache.get(&self.workshop.makers.clips, id);
        known.filter(|file| std::fs::metadata(out).is_ok_and(|about| about.len() == file.bytes))
    }

    fn has_file(&mut self, at: usize, name: String, file: CutOutFile) {
        let clip = &mut self.annotation.clips[at];
        (clip.file, clip.reason) = (Some(name), file.reason);
    }

    fn cut_out_together(
        &mut self,
        opened: &Opened,
        info: &VideoInfo,
        seen: &Seen,
        run: &[ClipFile],
    ) -> Result<Vec<Result<CutOut>>> {
        for clip in run {
            let folder = clip.out.parent().expect("a clip lies in a folder");
            std::fs::create_dir_all(folder).map_err(crate::Error::file(folder))?;
        }
        let options = CutOutOptions {
            threads: self.workshop.decoder_threads,
            time_limit: self.time_limit(info),
            ..CutOutOptions::default()
        };
        Ok(self.costs.of("clips", run.len() as u64, || {
            cut_out(opened.path(), info, seen.first_micros, run, &options)
        }))
    }

    /// Notes a clip that was made, so that no later run makes it again.
    fn keep_clip(&self, at: usize, made: CutOut, out: &Path) -> Result<CutOutFile> {
        let about = std::fs::metadata(out).map_err(crate::Error::file(out))?;
        let file = CutOutFile {
            bytes: about.len(),
            reason: made.reason.map(|why| {
                format!(
                    "encoded again: {}",
                    super::steady(&super::with_name(&why, &self.place, self.name))
                )
            }),
        };
        let id = &self.annotation.clips[at].clip_id;
        let cache = self.workshop.ledger.cache();
        cache.put(&self.workshop.makers.clips, id, &file)?;
        Ok(file)
    }

    /// Fills in the motion of every clip.
    pub(super) fn measure_motion(&mut self, plans: &[ClipPlan], motion: Option<&MotionTrack>) {
        let Some(maker) = &self.workshop.makers.motion else {
            return;
        };
        let Some(track) = motion else {
            return self.left_out(Step::Motion);
        };
        for (clip, plan) in self.annotation.clips.iter_mut().zip(plans) {
            clip.motion_score = motion_score(track, plan.start_micros, plan.end_micros);
            clip.versions.motion = maker.label();
        }
    }

    /// Where a clip's file is.
    pub(super) fn clip_path(&self, at: usize) -> Result<PathBuf> {
        match &self.annotation.clips[at].file {
            Some(file) => Ok(self.workshop.ledger.folder().join(file)),
            None => Err(crate::Error::Judge {
                judge: "clips",
                what: "the clip has no file to look at; see what is said of it".into(),
            }),
        }
    }

    /// How long ffmpeg may keep us waiting for this video.
    pub(super) fn time_limit(&self, info: &VideoInfo) -> Duration {
        let ingest = &self.workshop.config.ingest;
        let length_s = info.duration_secs.unwrap_or(0.0);
        // A file may say that it lasts for ever.
        let limit_s = ingest.time_limit_s + ingest.time_limit_per_second * length_s;
        Duration::try_from_secs_f64(limit_s.min(1e6)).unwrap_or(Duration::from_secs(1_000_000))
    }
}
