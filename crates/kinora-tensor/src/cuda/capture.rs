//! Work that is written down once and then started as a whole: a step of a network is thousands of
//! kernels, each of which costs the processor some microseconds to start.

use super::Board;
use super::board::{failed, lock};
use super::engine::Recorded;
use crate::{Error, Result};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// What is being captured on a board.
pub(crate) struct Capture {
    /// Every address that the captured work uses; each is held in the pool.
    used: HashSet<u64>,
}

/// Captured work. While it lives, no address it was captured with goes to anyone else.
pub(crate) struct Graph {
    board: Arc<Board>,
    recorded: Recorded,
    held: Vec<u64>,
}

impl Board {
    pub(crate) fn is_capturing(&self) -> bool {
        lock(&self.capture).is_some()
    }

    /// Refuses what the processor would have to wait for, or to do again at every replay.
    pub(crate) fn refuse_in_capture(&self, what: impl FnOnce() -> String) -> Result<()> {
        if !self.is_capturing() {
            return Ok(());
        }
        let message = format!(
            "{} cannot be captured: make it before, and give its result to what is captured",
            what()
        );
        Err(failed(self.ordinal, message))
    }

    /// Work that is about to be queued uses these addresses.
    pub(super) fn mention(&self, addresses: impl IntoIterator<Item = u64>) {
        if let Some(capture) = lock(&self.capture).as_mut() {
            for address in addresses.into_iter().filter(|address| *address != 0) {
                if capture.used.insert(address) {
                    self.pool(|pool| pool.hold(address));
                }
            }
        }
    }

    /// Whether weights are brought here as they are used, which no graph can do.
    pub(crate) fn streams_weights(&self) -> bool {
        self.streaming.load(Ordering::Relaxed) > 0
    }
}

impl Graph {
    /// Writes down what `work` queues on the board, which does not run it. Everything `work` needs
    /// must have run once before: kernels compiled, algorithms chosen.
    pub(crate) fn capture<T, E: From<Error>>(
        board: &Arc<Board>,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(Self, T), E> {
        board.refuse_in_capture(|| "a capture within a capture".to_owned())?;
        let used = HashSet::new();
        *lock(&board.capture) = Some(Capture { used });
        board.pool(super::pool::Pool::begin_capture);
        let mut underway = Underway {
            board,
            begun: false,
        };
        board.engine().begin_capture()?;
        underway.begun = true;
        let made = work();
        underway.begun = false;
        let recorded = board.engine().end_capture();
        let held = underway.held();
        std::mem::forget(underway);
        let told = made.and_then(|made| Ok((made, recorded?)));
        match told {
            Ok((made, recorded)) => Ok((
                Graph {
                    board: board.clone(),
                    recorded,
                    held,
                },
                made,
            )),
            Err(error) => {
                board.pool(|pool| pool.forget_graph(&held));
                Err(error)
            }
        }
    }

    pub(crate) fn replay(&self) -> Result<()> {
        self.board.replay(&self.recorded)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // What comes next on these addresses is queued behind the last replay, on the same stream.
        self.board.pool(|pool| pool.forget_graph(&self.held));
    }
}

/// Ends a capture, on the way of an error or a panic too.
struct Underway<'a> {
    board: &'a Arc<Board>,
    begun: bool,
}

impl Underway<'_> {
    /// Ends it for the pool, and tells what is held.
    fn held(&self) -> Vec<u64> {
        let mut capture = self
            .board
            .capture
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let used = capture.take().map(|capture| capture.used);
        self.board.pool(super::pool::Pool::end_capture);
        used.unwrap_or_default().into_iter().collect()
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if self.begun {
            let _ = self.board.engine().end_capture();
        }
        let held = self.held();
        self.board.pool(|pool| pool.forget_graph(&held));
    }
}
