//! A child process that cannot outlive its time limit or its owner.

use crate::error::{Error, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::cell::Cell;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The most of a child's words that are kept: enough for the cause, bounded for a damaged file that
/// complains of every block.
const MAX_WORDS_BYTES: usize = 2000;

/// The groups that run, for [`end_all_processes`].
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every child and lets none begin any more, for a process that is about to exit at once.
pub(crate) fn end_all_processes() {
    let running = running();
    running.iter().for_each(|group| end_group(*group));
    std::mem::forget(running);
}

/// A running child in a process group of its own. Dropping it ends the whole group.
///
/// The time limit counts only the time spent waiting for the child ([`Process::within_limit`]): a
/// reader that pauses between two frames must not cost the child its life.
#[derive(Debug)]
pub(crate) struct Process {
    program: String,
    path: PathBuf,
    child: Child,
    words: Option<JoinHandle<String>>,
    watchdog: Option<JoinHandle<()>>,
    watch: Arc<Watch>,
    limit: Duration,
    waited: Duration,
}

#[derive(Debug, Default)]
struct Watch {
    state: Mutex<WatchState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WatchState {
    deadline: Option<Instant>,
    /// When the watchdog looks up by itself; none where it waits to be told.
    looks_up: Option<Instant>,
    expired: bool,
    closed: bool,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut WatchState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Sets a deadline, or takes it away. The watchdog is only woken where it would sleep through it: a
    /// deadline comes and goes with every frame, and waking costs more than reading a small one.
    fn set_deadline(&self, deadline: Option<Instant>) {
        let mut state = self.lock();
        state.deadline = deadline;
        if let Some(deadline) = deadline
            && state.looks_up.is_none_or(|time| time > deadline)
        {
            self.changed.notify_all();
        }
    }

    /// Sleeps until told to stop; ends the group when a deadline passes first.
    fn guard(&self, group: Pid) {
        let mut state = self.lock();
        while !state.closed {
            state.looks_up = state.deadline;
            state = match state.deadline {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.expired = true;
                        state.deadline = None;
                        end_group(group);
                        continue;
                    }
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}

impl Process {
    /// Starts `program` on behalf of the file `path`.
    ///
    /// # Errors
    /// When the program is not installed or cannot be started.
    pub fn spawn(
        program: &str,
        path: &Path,
        arguments: &[OsString],
        feeds_input: bool,
        limit: Duration,
    ) -> Result<Process> {
        // Held while the child begins: between its start and its listing nobody may end all.
        let mut running = running();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(if feeds_input {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Threads of OpenMP in each of many children slow all of them down.
            .env("OMP_THREAD_LIMIT", "1")
            .process_group(0)
            .spawn()
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => Error::ToolMissing {
                    program: program.to_owned(),
                },
                _ => Error::io("start a program for", path)(source),
            })?;
        let stderr = child.stderr.take().expect("standard error is piped");
        let watch = Arc::new(Watch::default());
        let group = Pid::from_child(&child);
        running.push(group);
        drop(running);
        let watched = Arc::clone(&watch);
        Ok(Process {
            program: program.to_owned(),
            path: path.to_path_buf(),
            child,
            words: Some(std::thread::spawn(move || drain(stderr))),
            watchdog: Some(std::thread::spawn(move || watched.guard(group))),
            watch,
            limit,
            waited: Duration::ZERO,
        })
    }

    /// The child's input, once.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The child's output, once.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Does something that waits for the child, ending the child when its time runs out.
    pub fn within_limit<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let deadline = start + self.limit.saturating_sub(self.waited);
        self.watch.set_deadline(Some(deadline));
        let value = wait();
        self.watch.set_deadline(None);
        self.waited += start.elapsed();
        value
    }

    /// Waits for the end of a child whose pipes are closed, and gives back what it said.
    ///
    /// # Errors
    /// When it failed or ran out of time.
    pub fn finish(mut self) -> Result<String> {
        drop(self.take_input());
        drop(self.take_output());
        // The exit is awaited without reaping, so that the watchdog can never aim at a process number
        // that the system has already given to somebody else.
        let pid = Pid::from_child(&self.child);
        let exit = self.within_limit(|| {
            waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            )
        });
        exit.map_err(|errno| Error::io("wait for a program for", &self.path)(errno.into()))?;
        let (status, words) = self.close();
        let status = status.map_err(Error::io("wait for a program for", &self.path))?;
        if self.watch.lock().expired {
            return Err(Error::TimedOut {
                program: self.program.clone(),
                path: self.path.clone(),
                limit_secs: self.limit.as_secs_f64(),
            });
        }
        if !status.success() {
            return Err(Error::Tool {
                program: self.program.clone(),
                path: self.path.clone(),
                status: status.to_string(),
                words: if words.is_empty() {
                    "it gave no reason".to_owned()
                } else {
                    words
                },
            });
        }
        Ok(words)
    }

    /// Ends what still runs of the group, reaps the child and joins the threads.
    fn close(&mut self) -> (std::io::Result<ExitStatus>, String) {
        self.watch.change(|state| state.closed = true);
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
            end_group(Pid::from_child(&self.child));
            // Before it is reaped: afterwards its number may be somebody else's.
            let group = Pid::from_child(&self.child);
            running().retain(|running| *running != group);
        }
        count_cpu(&self.child);
        let status = self.child.wait();
        let words = self.words.take().and_then(|words| words.join().ok());
        // ffmpeg names the file in every line; our errors do so once.
        let named = format!("file:{}: ", self.path.display());
        (status, words.unwrap_or_default().replace(&named, ""))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

/// Refuses when a program is not on the PATH.
pub(crate) fn require_program(program: &str) -> Result<()> {
    let Some(path) = std::env::var_os("PATH") else {
        return Ok(()); // the system looks in places of its own then
    };
    match std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        true => Ok(()),
        false => Err(Error::ToolMissing {
            program: program.to_owned(),
        }),
    }
}

thread_local! {
    static CHILDREN_CPU_SECS: Cell<f64> = const { Cell::new(0.0) };
}

/// Processor time of all programs that this crate ran and ended on the calling thread, seconds. Zero
/// where the system does not tell (it is read from `/proc`).
pub fn children_cpu_secs() -> f64 {
    CHILDREN_CPU_SECS.get()
}

/// Adds what a child has used, once it has ended and before it is reaped: afterwards nobody knows.
fn count_cpu(child: &Child) {
    let pid = Pid::from_child(child);
    let ended = waitid(
        WaitId::Pid(pid),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    );
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
    if let (Ok(_), Ok(stat)) = (ended, stat) {
        let ticks = cpu_ticks(&stat).unwrap_or(0) as f64;
        let secs = ticks / rustix::param::clock_ticks_per_second() as f64;
        CHILDREN_CPU_SECS.set(CHILDREN_CPU_SECS.get() + secs);
    }
}

/// User and system time, its own and of its reaped children, from a line of `/proc/PID/stat`. The
/// program's name, in brackets, may hold anything, brackets and blanks too.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut numbers = after_name.split_whitespace().skip(11);
    let mut sum = 0;
    for _ in 0..4 {
        sum += numbers.next()?.parse::<u64>().ok()?;
    }
    Some(sum)
}

/// Ends every process of the group. One that has already ended is no failure.
fn end_group(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
}

/// Reads the child's standard error to its end on a thread of its own, so that a talkative child
/// never blocks; keeps the first words.
fn drain(stderr: impl Read) -> String {
    let mut reader = BufReader::new(stderr);
    let mut words = String::new();
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        let room = MAX_WORDS_BYTES.saturating_sub(words.len());
        if !text.is_empty() && room > 0 {
            if !words.is_empty() {
                words.push_str("; ");
            }
            words.extend(text.chars().take(room));
        }
        line.clear();
    }
    words
}

/// A path as ffmpeg must be given it: the `file:` in front keeps a name that starts with a dash from
/// being an option and a name like `concat:a` from being a protocol.
pub(crate) fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

/// Arguments from words with blanks between them; none may hold a blank of its own.
pub(crate) fn split(words: &str) -> Vec<OsString> {
    words.split_whitespace().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Process {
        let arguments = ["-c", script].map(OsString::from);
        Process::spawn("sh", Path::new("in.mp4"), &arguments, false, limit).unwrap()
    }

    fn is_running(pid: &str) -> bool {
        // A process that has ended, and that its new parent has not reaped yet, is a zombie.
        let ps = Command::new("ps")
            .args(["-o", "stat=", "-p", pid.trim()])
            .output()
            .unwrap();
        let state = String::from_utf8(ps.stdout).unwrap();
        !state.trim().is_empty() && !state.trim().starts_with('Z')
    }

    /// A killed process may take a moment to die.
    fn ends_soon(pid: &str) -> bool {
        (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            !is_running(pid)
        })
    }

    #[test]
    fn a_missing_program_says_how_to_install_it() {
        let limit = Duration::from_secs(1);
        let failure = Process::spawn("kinora-no-such-tool", Path::new("a.mp4"), &[], false, limit)
            .unwrap_err()
            .to_string();
        assert!(failure.contains("apt-get install ffmpeg"), "{failure}");
    }

    #[test]
    fn a_failure_carries_the_words() {
        let failure = shell("echo broken stream >&2; exit 3", Duration::from_secs(10))
            .finish()
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("broken stream") && failure.contains("in.mp4"),
            "{failure}"
        );
    }

    #[test]
    fn a_flood_of_words_neither_blocks_nor_fills_the_memory() {
        let script = "i=0; while [ $i -lt 20000 ]; do echo \"line $i\" >&2; i=$((i+1)); done";
        let words = shell(script, Duration::from_secs(60)).finish().unwrap();
        assert!(words.starts_with("line 0; line 1") && words.len() <= MAX_WORDS_BYTES + 2);
    }

    #[test]
    fn out_of_time_ends_the_whole_group() {
        // A grandchild that holds the pipe open would keep a plain kill of the child waiting.
        let mut process = shell("sleep 600 & echo $!; wait", Duration::from_millis(300));
        let mut output = BufReader::new(process.take_output().unwrap());
        let mut grandchild = String::new();
        output.read_line(&mut grandchild).unwrap();
        let mut rest = Vec::new();
        process
            .within_limit(|| output.read_to_end(&mut rest))
            .unwrap();
        let failure = process.finish().unwrap_err();
        assert!(matches!(failure, Error::TimedOut { .. }), "{failure}");
        assert!(ends_soon(&grandchild));
    }

    #[test]
    fn dropping_ends_the_whole_group_at_once() {
        let start = Instant::now();
        let mut process = shell("sleep 600 & echo $!; wait", Duration::from_secs(600));
        let mut output = BufReader::new(process.take_output().unwrap());
        let mut grandchild = String::new();
        output.read_line(&mut grandchild).unwrap();
        assert!(is_running(&grandchild));
        drop(process);
        assert!(start.elapsed() < Duration::from_secs(60));
        assert!(ends_soon(&grandchild));
    }

    #[test]
    fn processor_time_of_a_child_is_counted() {
        let line = "12 (a (b) c) S 1 1 1 0 -1 4 5 6 7 8 100 20 3 4 20 0 1 0 9";
        assert_eq!(cpu_ticks(line), Some(127));
        assert_eq!(cpu_ticks("12 (cut"), None);
        let before = children_cpu_secs();
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        shell(script, Duration::from_secs(60)).finish().unwrap();
        let used = children_cpu_secs() - before;
        assert!(used > 0.0 || !cfg!(target_os = "linux"), "{used}");
    }

    #[test]
    fn a_deadline_that_came_after_the_first_is_kept_too() {
        let mut process = shell("sleep 60", Duration::from_millis(300));
        // The watchdog sleeps until the first deadline, and is not woken for those that follow.
        for _ in 0..20 {
            process.within_limit(|| std::thread::sleep(Duration::from_millis(1)));
        }
        std::thread::sleep(Duration::from_millis(400));
        let failure = process.finish().unwrap_err();
        assert!(matches!(failure, Error::TimedOut { .. }), "{failure}");
    }

    #[test]
    fn time_between_two_waits_does_not_count() {
        let mut process = shell("sleep 0.4; echo done", Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(500));
        assert!(process.waited < Duration::from_millis(100));
        let mut text = String::new();
        let mut output = process.take_output().unwrap();
        process
            .within_limit(|| output.read_to_string(&mut text))
            .unwrap();
        assert_eq!(text, "done\n");
        process.finish().unwrap();
    }
}
