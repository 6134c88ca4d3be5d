//! A fresh folder in which the binary is run.

#![allow(clippy::unwrap_used)] // What cannot be set up fails its test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A fresh folder with a configuration.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// One with the repository's configuration, in which no program beside ffmpeg is asked.
    pub fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        let text = include_str!("../../../../configs/curate.toml");
        let own = text.replace("judge = \"tesseract\"", "judge = \"none\"");
        let own: String = without_keys_of(&own, "[text]");
        std::fs::write(folder.path("curate.toml"), own).unwrap();
        folder
    }

    /// The configuration.
    pub fn config(&self) -> String {
        std::fs::read_to_string(self.path("curate.toml")).unwrap()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.args(words).current_dir(self.0.path());
        command
    }

    /// Runs the binary: what it said on standard output, or on standard error where it failed.
    pub fn kinora(&self, words: &[&str]) -> Result<String, String> {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(words).output().unwrap();
        match status.success() {
            true => Ok(String::from_utf8(stdout).unwrap()),
            false => Err(String::from_utf8(stderr).unwrap()),
        }
    }

    /// Curates the folder `videos`: what people read on standard error.
    pub fn curate_and_read(&self, out: &str) -> String {
        let words = ["curate", "videos", "--config", "curate.toml", "--out", out];
        let output = self.command(&words).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Curates the folder `videos`.
    pub fn curate(&self, out: &str, more: &[&str]) -> Result<String, String> {
        self.kinora(
            &[
                &["curate", "videos", "--config", "curate.toml", "--out", out],
                more,
            ]
            .concat(),
        )
    }

    /// Curates, and kills the process after a while; whether it was still at work.
    pub fn curate_and_kill(&self, out: &str, after: Duration) -> bool {
        let words = ["curate", "videos", "--config", "curate.toml", "--out", out];
        let mut child = self
            .command(&words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(after);
        let at_work = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        at_work
    }

    /// Frames that the runs into a folder have decoded.
    pub fn frames_decoded(&self, out: &str) -> u64 {
        let text = std::fs::read(self.path(out).join("costs.json")).unwrap();
        let costs: serde_json::Value = serde_json::from_slice(&text).unwrap();
        costs["decode"]["items"].as_u64().unwrap()
    }

    /// Frames of a file, by decoding it.
    pub fn frames_in(&self, name: &str) -> u64 {
        let probe = Command::new("ffprobe")
            .args("-v error -select_streams v:0 -count_frames -of csv=p=0".split(' '))
            .args(["-show_entries", "stream=nb_read_frames"])
            .arg(self.path(name))
            .output()
            .unwrap();
        let text = String::from_utf8(probe.stdout).unwrap();
        text.trim()
            .trim_end_matches(',')
            .parse()
            .unwrap_or_else(|_| panic!("{name}: {text}"))
    }

    /// Files of all kinds, damaged and hostile ones among them, in the folder `videos`.
    pub fn strange_videos(&self) {
        let videos = self.path("videos");
        std::fs::create_dir(&videos).unwrap();
        let source = "-f lavfi -i testsrc2=size=64x48:rate=25:duration=2";
        let h264 = "-c:v libx264 -g 12 -pix_fmt yuv420p";
        for words in [
            format!("{source} {h264} -output_ts_offset 7.3 late.mkv"),
            format!("{source} {h264} upright.mp4"),
            format!("{source} {h264} -vf setsar=2/1 wide_pixels.mp4"),
            format!("{source} -c:v mpeg2video -flags +ildct+ilme -top 1 interlaced.ts"),
            format!("{source} {h264} -vf setpts=(N+mod(N\\,3)*0.4)/25/TB -fps_mode vfr uneven.mkv"),
            format!("{source} {h264} -f h264 no_duration.h264"),
            format!("{source} {h264} whole.mkv"),
            "-f lavfi -i sine=duration=1 sound.wav".to_owned(),
        ] {
            ffmpeg(&videos, &words);
        }
        ffmpeg(
            &videos,
            "-i upright.mp4 -c copy -metadata:s:v rotate=90 turned.mp4",
        );
        std::fs::remove_file(videos.join("upright.mp4")).unwrap();
        let whole = std::fs::read(videos.join("whole.mkv")).unwrap();
        std::fs::write(videos.join("cut_short.mkv"), &whole[..whole.len() * 2 / 3]).unwrap();
        std::fs::remove_file(videos.join("whole.mkv")).unwrap();
        std::fs::write(videos.join("empty.mp4"), b"").unwrap();
        std::fs::write(
            videos.join("words.mp4"),
            b"no video, only words\n".repeat(99),
        )
        .unwrap();
        for (name, entry) in [
            ("playlist.mp4", "interlaced.ts"),
            ("spying.mp4", "file:///etc/passwd"),
        ] {
            let list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{entry}\n");
            std::fs::write(videos.join(name), list).unwrap();
        }
        let header = "YUV4MPEG2 W30000 H6000 F25:1 Ip A1:1 C420jpeg\nFRAME\n";
        std::fs::write(videos.join("huge.y4m"), header).unwrap();
        std::fs::write(videos.join("stub.png"), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR").unwrap();
    }
}

fn ffmpeg(folder: &Path, words: &str) {
    let output = Command::new("ffmpeg")
        .args("-nostdin -v error -y".split(' '))
        .args(words.split(' '))
        .current_dir(folder)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ffmpeg {words}: {told}");
}

/// A configuration without the keys of one table but its judge.
fn without_keys_of(text: &str, table: &str) -> String {
    let mut inside = false;
    let kept = text.lines().filter(|line| {
        if line.starts_with('[') {
            inside = *line == table;
        }
        !inside || line.starts_with('[') || line.starts_with("judge")
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// What was published: the name and bytes of every file, but for those that tell of the run and not
/// of the set.
pub fn published(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(folder)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let of_the_run = ["ledger", "costs.json", "report.html"].contains(&name.as_str());
            let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
            if of_the_run || hidden {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}
