//! A stretch of a board's memory that arrays pass through, the oldest leaving first: weights that do not
//! all fit are copied here ahead of their use.
//!
//! It is the one place that both streams write to or read from. A span is written by the stream of
//! copies, then read by work, which has waited for the copy; when it is given up, an event behind the
//! last work on it is kept, and the next copy into the window waits for that.

use super::streams::Event;
use super::{Array, Board};
use crate::{DType, Result};
use std::collections::VecDeque;
use std::sync::Arc;

/// Begins of spans are multiples of this: what kernels read is then aligned as fresh memory is.
const ALIGNMENT: usize = 256;

pub(crate) struct Window {
    memory: Arc<Array>,
    /// Start and length of each, in bytes, the oldest first.
    spans: VecDeque<[usize; 2]>,
    /// Behind the work on spans that were given up since the last copy.
    left: Vec<Arc<Event>>,
}

impl Window {
    /// # Errors
    /// When the board has no memory left.
    pub(crate) fn new(board: &Arc<Board>, bytes: usize) -> Result<Self> {
        let memory = Array::new(board, bytes.div_ceil(4), DType::F32)?;
        // Whoever had this memory before may still be at work on it.
        let left = vec![Arc::new(board.record_work()?)];
        Ok(Window {
            memory: Arc::new(memory),
            spans: VecDeque::new(),
            left,
        })
    }

    /// Room for an array behind the newest; `None` where the oldest have to go first. With it comes
    /// what the copy into it has to wait for.
    pub(crate) fn place(&mut self, len: usize, dtype: DType) -> Option<(Array, Vec<Arc<Event>>)> {
        let bytes = (len * dtype.size_bytes()).next_multiple_of(ALIGNMENT);
        let start = self.room(bytes)?;
        self.spans.push_back([start, bytes]);
        let array = Array::within(&self.memory, start, len, dtype);
        Some((array, std::mem::take(&mut self.left)))
    }

    fn room(&self, bytes: usize) -> Option<usize> {
        let all = self.memory.bytes();
        let (Some(oldest), Some(newest)) = (self.spans.front(), self.spans.back()) else {
            return (bytes <= all).then_some(0);
        };
        let (head, tail) = (newest[0] + newest[1], oldest[0]);
        if head <= tail {
            return (head + bytes <= tail).then_some(head);
        }
        let at_head = (head + bytes <= all).then_some(head);
        at_head.or((bytes <= tail).then_some(0))
    }

    /// Gives up the oldest span, whose last work is before `done`.
    pub(crate) fn leave_oldest(&mut self, done: Arc<Event>) {
        let oldest = self.spans.pop_front();
        assert!(oldest.is_some(), "a span that was placed");
        self.left.push(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::board::of_device;
    use crate::host_device;

    #[test]
    fn spans_follow_one_another_round_the_window() -> Result<()> {
        let Some(device) = host_device(1 << 20) else {
            return Ok(());
        };
        let board = of_device("test", device)?;
        let mut window = Window::new(&board, 1024)?;
        let start = window.memory.address();
        let place = |window: &mut Window, bytes: usize| {
            let (array, after) = window.place(bytes / 4, DType::F32)?;
            Some((array.address() - start, after.len()))
        };
        // The first waits for whoever had the memory.
        assert_eq!(place(&mut window, 512), Some((0, 1)));
        assert_eq!(place(&mut window, 100), Some((512, 0)));
        assert_eq!(place(&mut window, 512), None);
        let leave = |window: &mut Window| -> Result<()> {
            window.leave_oldest(Arc::new(board.record_work()?));
            Ok(())
        };
        leave(&mut window)?;
        // Behind the newest there are 256 bytes; this one goes to the beginning.
        assert_eq!(place(&mut window, 512), Some((0, 1)));
        assert_eq!(place(&mut window, 4), None, "all of it is taken");
        leave(&mut window)?;
        assert_eq!(place(&mut window, 4), Some((512, 1)));
        assert_eq!(place(&mut window, 256), Some((768, 0)));
        assert_eq!(place(&mut window, 256), None);
        leave(&mut window)?;
        leave(&mut window)?;
        assert_eq!(place(&mut window, 512), Some((0, 2)));
        leave(&mut window)?;
        leave(&mut window)?;
        assert_eq!(place(&mut window, 2048), None);
        assert_eq!(place(&mut window, 1024), Some((0, 2)));
        Ok(())
    }
}
