//! A fresh folder, and the command typed in it.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

pub use rustix::process::Signal;

/// A fresh folder that is removed when the test ends.
pub struct Place {
    folder: tempfile::TempDir,
}

/// How a command ended.
pub struct Ended {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Its standard output, after an exit code of 0.
    #[track_caller]
    pub fn done(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        &self.out
    }

    /// What it said, after an exit code of 2 without a panic.
    #[track_caller]
    pub fn refused(&self) -> &str {
        assert_eq!(self.code, Some(2), "{}\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        &self.err
    }

    /// Its JSON lines; every line is one.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        self.out.lines().map(parse).collect()
    }
}

impl Place {
    /// An empty folder.
    pub fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A folder with `still.png`, 24×16 pixels that are all different.
    pub fn with_still() -> Place {
        let place = Place::new();
        colours(24, 16).save(place.path("still.png")).unwrap();
        place
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command with its words, ready to run here; nothing of this machine's hub settings is seen.
    pub fn command<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        self.set_up(command.args(words));
        command
    }

    fn set_up<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env_remove("HF_TOKEN")
            .env("HF_HOME", self.path("hub"))
            // The port of the discard service, where nobody listens.
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            // The models are tiny, and the tests run side by side.
            .env("RAYON_NUM_THREADS", "1")
    }

    /// Runs the command to its end.
    pub fn kinora<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Ended {
        ended(&mut self.command(words))
    }

    /// Runs the command where no file may grow beyond a few kibibytes, as on a full disk.
    pub fn kinora_on_a_full_disk(&self, words: &[&str]) -> Ended {
        let mut shell = Command::new("sh");
        // Ignored, the signal becomes an error of the write, as a full disk gives.
        let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"";
        shell.args(["-c", script, env!("CARGO_BIN_EXE_kinora")]);
        ended(self.set_up(shell.args(words)))
    }

    /// Generates a tiny clip with more `words`, into a file or folder of this name.
    pub fn generate(&self, out: &str, words: &[&str]) -> Ended {
        self.kinora(
            generate_words("still.png", out)
                .iter()
                .copied()
                .chain(words.iter().copied()),
        )
    }

    /// Three small videos in `videos`.
    pub fn render_footage(&self) {
        let words = "footage videos --videos 3 --width 24 --height 16";
        self.kinora(words.split(' ')).done();
    }

    /// The names in the folder, in order, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }
}

/// The words that generate a tiny clip.
pub fn generate_words<'a>(still: &'a str, out: &'a str) -> Vec<&'a str> {
    let mut words = vec!["generate", still, "--model", MODEL, "--out", out];
    words.extend("--frames 2 --width 32 --height 32 --steps 2".split(' '));
    words
}

/// The tiny model of the pipeline goldens, in the published layout.
pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pipeline/model");

/// Runs a command to its end.
pub fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The names in a folder, in order, hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A picture whose pixels are all different.
pub fn colours(width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([
            (x * 10) as u8,
            (y * 15) as u8,
            ((x * 7 + y * 3) % 256) as u8,
        ])
    })
}

/// Copies a folder and all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// A command that runs, its JSON lines being read.
pub struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts a command that was given `--json`.
    pub fn start(mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// Reads up to the first line that `wanted` takes.
    #[track_caller]
    pub fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        for line in self.lines.by_ref() {
            let line = serde_json::from_str(&line.unwrap()).unwrap();
            if wanted(&line) {
                return line;
            }
        }
        panic!("it ended first");
    }

    pub fn send(&self, signal: Signal) {
        // One that has already ended cannot be told anything any more.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal);
    }

    /// Its exit code, and the lines after those that were read. A line cut off by a kill is none.
    pub fn end(mut self) -> (Option<i32>, Vec<Value>) {
        let rest = self.lines.by_ref().map_while(Result::ok);
        let rest = rest
            .filter_map(|line| serde_json::from_str(&line).ok())
            .collect();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
