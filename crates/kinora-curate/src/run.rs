//! Many inputs on many cores: the same results in the same places whatever the number of workers.

use crate::annotate::{Annotation, Workshop, annotate};
use crate::cost::Costs;
use crate::sources::Slice;
use crate::{Error, Result};
use kinora_media::{SourceRow, Status};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What happens on the way.
#[derive(Debug)]
pub enum Event {
    /// More frames were decoded.
    Frames(u64),
    /// An input is done.
    Done {
        /// What became of it.
        source: SourceRow,
        /// Whether an earlier run had done it.
        reused: bool,
    },
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Inputs of the slice.
    pub inputs: usize,
    /// Inputs that an earlier run had done.
    pub reused: usize,
    /// Inputs of which nothing could be made.
    pub failed: usize,
    /// Inputs of which not all could be made that was asked for.
    pub partial: usize,
    /// Clips.
    pub clips: usize,
    /// What the steps done now have cost.
    pub costs: Costs,
}

/// Annotates the inputs of a slice, each at its own place in the ledger, with `workers` at a time.
///
/// # Errors
/// When a file cannot be written, ffmpeg is missing, or the user asked to stop. A bad video is no
/// error but a row.
pub fn run(
    workshop: &Workshop,
    names: &[String],
    slice: Slice,
    workers: usize,
    on_event: &mut dyn FnMut(Event),
) -> Result<Ran> {
    let mine: Vec<&String> = names
        .iter()
        .enumerate()
        .filter(|(number, _)| slice.holds(*number))
        .map(|(_, name)| name)
        .collect();
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let (send, events) = channel();
    let work = |send: Sender<Message>| {
        while !failed.load(Ordering::SeqCst) {
            let Some(name) = mine.get(next.fetch_add(1, Ordering::SeqCst)) else {
                return;
            };
            let outcome = one_input(workshop, name, &send);
            failed.fetch_or(outcome.is_err(), Ordering::SeqCst);
            let _ = send.send(Message::Outcome(outcome.map(Box::new)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, mine.len().max(1)) {
            let (work, send) = (&work, send.clone());
            scope.spawn(move || work(send));
        }
        drop(send);
        gather(events, mine.len(), on_event)
    })
}

/// Listens to the workers until the last has ended.
fn gather(
    messages: Receiver<Message>,
    inputs: usize,
    on_event: &mut dyn FnMut(Event),
) -> Result<Ran> {
    let mut ran = Ran {
        inputs,
        ..Ran::default()
    };
    let mut trouble = None;
    for message in messages {
        match message {
            Message::Frames(count) => on_event(Event::Frames(count)),
            Message::Outcome(Ok(done)) => {
                ran.count(&done);
                on_event(Event::Done {
                    source: done.source,
                    reused: done.reused,
                });
            }
            // The first failure is the cause; those after it may be its echoes.
            Message::Outcome(Err(failure)) => trouble = trouble.or(Some(failure)),
        }
    }
    trouble.map_or(Ok(ran), Err)
}

enum Message {
    Frames(u64),
    Outcome(Result<Box<Done>>),
}

struct Done {
    source: SourceRow,
    clips: usize,
    reused: bool,
    costs: Costs,
}

impl Ran {
    fn count(&mut self, done: &Done) {
        self.reused += usize::from(done.reused);
        self.failed += usize::from(done.source.status == Status::Failed);
        self.partial += usize::from(done.source.status == Status::Partial);
        self.clips += done.clips;
        self.costs.add_all(&done.costs);
    }
}

fn one_input(workshop: &Workshop, name: &str, send: &Sender<Message>) -> Result<Done> {
    if workshop.stop.load(Ordering::SeqCst) {
        return Err(Error::Stopped);
    }
    let mut frames = |count| {
        // Nobody listens any more when another worker has failed: this one will see that too.
        let _ = send.send(Message::Frames(count));
    };
    let made = annotate(name, workshop, &mut frames)?;
    let Annotation { source, clips, .. } = made.annotation;
    Ok(Done {
        source,
        clips: clips.len(),
        reused: made.reused,
        costs: made.costs,
    })
}
