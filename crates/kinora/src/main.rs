//! The command: words become library calls, and what comes back becomes reports.
//!
//! Exit codes: 0 done, 1 done with failures, 2 not done, 130 stopped by the user.

mod args;

mod bench;
mod curate;
mod doctor;
mod footage;
mod generate;
mod inspect;
mod selfcheck;
mod sheet;
mod train;

mod defaults;
mod device;
mod interrupt;
mod memory;
mod model_path;
mod plan;
mod progress;

use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;

/// How a verb ended when nothing went wrong on the way to its end.
pub(crate) enum Outcome {
    /// All of it was done.
    Done,
    /// It ran to the end, and some of it failed and was reported.
    DoneWithFailures,
    /// The user stopped it; nothing is left broken.
    Stopped,
}

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    match run(cli.verb) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::DoneWithFailures) => ExitCode::from(1),
        Ok(Outcome::Stopped) => ExitCode::from(130),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; what is left to say then is the exit code.
            let _ = writeln!(std::io::stderr(), "kinora: {}", in_words(&error));
            ExitCode::from(2)
        }
    }
}

fn run(verb: args::Verb) -> anyhow::Result<Outcome> {
    match verb {
        args::Verb::Generate(args) => generate::run(&args),
        args::Verb::Curate(args) => curate::run(&args),
        args::Verb::Train(args) => train::run(&args),
        args::Verb::Footage(args) => footage::run(&args),
        args::Verb::Inspect(args) => inspect::run(&args),
        args::Verb::Sheet(args) => sheet::run(&args),
        args::Verb::Doctor(args) => doctor::run(&args),
        args::Verb::Selfcheck(args) => selfcheck::run(&args),
        args::Verb::Bench(args) => bench::run(&args),
    }
}

/// The causes one after another, none told twice: an error of the libraries already ends with the
/// words of what caused it.
pub(crate) fn in_words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        let cause = cause.trim_end();
        if words.ends_with(cause) {
            continue;
        }
        if !words.is_empty() {
            words.push_str(": ");
        }
        words.push_str(cause);
    }
    words
}

/// Whoever read our output has seen enough: that is success.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn no_cause_is_told_twice() {
        let io = std::io::Error::other("the disk is full");
        let error = anyhow::Error::from(io).context("a.mp4: could not write: the disk is full");
        assert_eq!(in_words(&error), "a.mp4: could not write: the disk is full");
        let bare: anyhow::Result<()> = Err(anyhow::anyhow!("no number\n"));
        let error = bare.context("a.json").expect_err("an error");
        assert_eq!(in_words(&error), "a.json: no number");
    }
}
