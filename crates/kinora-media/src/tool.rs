//! Another program asked one question: bytes in, bytes out, within a time limit.

use crate::error::{Error, Result};
use crate::video::Process;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

/// Runs `program` on behalf of `about` (a file, or a name for what is worked on), gives it `input`
/// and returns what it wrote to its standard output.
///
/// The program runs in a process group of its own, and the whole group is ended when it takes longer
/// than `limit` or writes more than `max_output_bytes`.
///
/// # Errors
/// [`Error::ToolMissing`] when it is not installed, [`Error::TimedOut`] when its time runs out, and
/// [`Error::Tool`] with its words when it fails or writes too much.
pub fn run_tool(
    program: &str,
    about: &Path,
    arguments: &[OsString],
    input: &[u8],
    limit: Duration,
    max_output_bytes: usize,
) -> Result<Vec<u8>> {
    let mut process = Process::spawn(program, about, arguments, true, limit)?;
    let mut to_child = process.take_input().expect("standard input is piped");
    let from_child = process.take_output().expect("standard output is piped");
    let mut output = Vec::new();
    let read = process.within_limit(|| {
        // Both ends at once: a child that answers before it has read everything would otherwise wait
        // for us while we wait for it.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // A child that goes away early says why by its exit status.
                let _ = to_child.write_all(input);
            });
            // By value, so that a child that writes too much meets a closed pipe.
            from_child
                .take(max_output_bytes as u64 + 1)
                .read_to_end(&mut output)
        })
    });
    if output.len() > max_output_bytes {
        drop(process);
        return Err(Error::Tool {
            program: program.to_owned(),
            path: about.to_path_buf(),
            status: "ended by us".to_owned(),
            words: format!("it wrote more than the {max_output_bytes} bytes expected"),
        });
    }
    process.finish()?;
    read.map_err(Error::io("read a program's answer about", about))?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], limit: Duration) -> Result<Vec<u8>> {
        let arguments = ["-c", script].map(OsString::from);
        run_tool(
            "sh",
            Path::new("a picture"),
            &arguments,
            input,
            limit,
            1 << 20,
        )
    }

    #[test]
    fn more_than_a_pipe_holds_goes_there_and_back() {
        let input: Vec<u8> = (0..700_000).map(|i| (i % 251) as u8).collect();
        let output = shell("cat", &input, Duration::from_secs(60)).unwrap();
        assert!(output == input);
    }

    #[test]
    fn a_child_that_does_not_read_is_no_failure() {
        let output = shell("echo done", &vec![0; 1 << 20], Duration::from_secs(60)).unwrap();
        assert_eq!(output, b"done\n");
    }

    #[test]
    fn a_child_that_hangs_is_ended() {
        let failure = shell("sleep 600", &vec![0; 1 << 20], Duration::from_millis(200));
        assert!(
            matches!(failure, Err(Error::TimedOut { .. })),
            "{failure:?}"
        );
    }

    #[test]
    fn a_flood_is_ended() {
        let failure = shell("yes", &[], Duration::from_secs(60)).unwrap_err();
        assert!(failure.to_string().contains("more than the 1048576 bytes"));
    }

    #[test]
    fn a_failure_carries_the_words() {
        let failure = shell(
            "echo no such language >&2; exit 1",
            &[],
            Duration::from_secs(60),
        );
        let failure = failure.unwrap_err().to_string();
        assert!(failure.contains("no such language"), "{failure}");
    }
}
