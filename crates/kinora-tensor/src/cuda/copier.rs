//! Copies from the processor beside the work. A thread of its own reads the values (from a mapped file,
//! that means from the disk), fills the staging buffers and queues the copies, so that whoever queues
//! work does not wait for any of it.

use super::board::failed;
use super::streams::{Event, Staging, Stream};
use super::{Array, Board};
use crate::{Error, Result, Tensor};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Where copies are asked for.
pub(super) struct Copier {
    jobs: Sender<Job>,
}

struct Job {
    /// On the processor.
    values: Tensor,
    address: u64,
    /// What the copy has to wait for: work on what lay there before.
    after: Vec<Arc<Event>>,
    told: Told,
}

/// What became of a copy.
#[derive(Default)]
struct Arrival {
    state: Mutex<Option<std::result::Result<Event, Error>>>,
    changed: Condvar,
}

/// Tells it, even when the thread ends before it could.
struct Told(Arc<Arrival>);

impl Told {
    fn tell(&self, outcome: std::result::Result<Event, Error>) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_none() {
            *state = Some(outcome);
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let message = "the thread that copies to the card ended before its work was done";
        self.tell(Err(failed(usize::MAX, message)));
    }
}

/// An array that is on its way. Nothing can read it before [`Incoming::arrive`].
pub(crate) struct Incoming {
    board: Arc<Board>,
    array: Option<Array>,
    arrival: Arc<Arrival>,
}

impl Incoming {
    /// The array. Work that is queued from now on waits for the copy; the processor waits only until
    /// the copy is queued.
    ///
    /// # Errors
    /// When the copy failed.
    pub(crate) fn arrive(mut self) -> Result<Array> {
        // Taken first: what failed is not waited for a second time.
        let array = self.array.take().expect("it is taken once");
        self.wait()?;
        Ok(array)
    }

    fn wait(&self) -> Result<()> {
        let arrival = &self.arrival;
        let state = arrival.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = arrival.changed.wait_while(state, |state| state.is_none());
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        match state.take().expect("waited for") {
            Ok(event) => self.board.engine().wait(Stream::Work, &event),
            Err(Error::Device { message, .. }) => Err(Error::Device {
                device: self.board.device(),
                message: format!("a copy of weights to the card: {message}"),
            }),
            Err(other) => Err(other),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Its memory goes back to work, which must not write there before the copy does.
        if self.array.is_some() {
            let _ = self.wait();
        }
    }
}

impl Board {
    /// Begins to copy the values, which are on the processor, into `array` as soon as the events
    /// `after` are done.
    ///
    /// # Errors
    /// While something is captured.
    pub(crate) fn bring(
        self: &Arc<Self>,
        values: &Tensor,
        array: Array,
        after: Vec<Arc<Event>>,
    ) -> Result<Incoming> {
        self.refuse_in_capture(|| "a weight that is brought as it is used".to_owned())?;
        assert_eq!(values.elements(), array.len(), "values fill their array");
        let copier = self.copier.get_or_init(|| {
            let (jobs, work) = channel();
            let board = self.clone();
            std::thread::spawn(move || copy_all(&board, &work));
            Copier { jobs }
        });
        let arrival = Arc::new(Arrival::default());
        let job = Job {
            values: values.clone(),
            address: array.address(),
            after,
            told: Told(arrival.clone()),
        };
        // Where the thread is gone, what could not be sent is dropped and tells so.
        let _ = copier.jobs.send(job);
        Ok(Incoming {
            board: self.clone(),
            array: Some(array),
            arrival,
        })
    }
}

fn copy_all(board: &Board, work: &Receiver<Job>) {
    let mut staging = Staging::default();
    while let Ok(job) = work.recv() {
        let outcome = copy(board, &mut staging, &job);
        job.told.tell(outcome);
    }
}

fn copy(board: &Board, staging: &mut Staging, job: &Job) -> Result<Event> {
    let engine = board.engine();
    for event in &job.after {
        engine.wait(Stream::Copies, event)?;
    }
    let bytes = job.values.le_bytes()?;
    staging.send(engine, Stream::Copies, job.address, &bytes)?;
    engine.record(Stream::Copies)
}
