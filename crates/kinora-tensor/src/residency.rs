//! Weights that need not all fit into a card's memory: what fits stays there, the rest is copied there
//! ahead of its use and leaves after it.

mod plan;
#[cfg(test)]
mod tests;

use crate::cuda::{self, Board, Event, Incoming, Window};
use crate::{DType, Device, Error, Param, Result, Tensor};
pub use plan::{ResidencyPlan, WeightBytes};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the weights of a network are while it works.
///
/// [`Residency::place`] puts as many on the device as a budget allows. The others stay where they were
/// (a mapped file, or memory of the processor, in their own type) and [`Param::for_work`] brings them.
/// Which follows which is learned in the first pass over the network; from the second on, each is
/// copied beside the work on those before it. Values and results are the same either way.
#[derive(Clone, Debug)]
pub struct Residency {
    resident_bytes: usize,
    streamed: Option<Arc<Streamed>>,
}

impl Residency {
    /// Places the weights, which are on the processor, on `device`, in the order in which a network
    /// uses them, with at most `budget_bytes` bytes of the device's memory. On the processor nothing
    /// changes: there they are read in place.
    ///
    /// A weight that is brought as it is used is frozen: [`Param::set`], [`Param::update`] and
    /// [`Param::set_trainable`] end that, and leave it on the processor. Work that is recorded keeps
    /// what it used, and so needs room for all of it.
    ///
    /// # Errors
    /// When the budget has no room for the two largest at a time or for one that is trained, or the
    /// device cannot be used or has no memory left.
    pub fn place(params: &[Param], device: Device, budget_bytes: usize) -> Result<Self> {
        Self::place_as(params, 0, (device, None), budget_bytes)
    }

    /// As [`Residency::place`], and those that stay are rounded to a type on the device, where one is
    /// given. The last `once` are used once in a whole run: they make room before any other does.
    ///
    /// # Errors
    /// As [`Residency::place`].
    pub fn place_as(
        params: &[Param],
        once: usize,
        (device, dtype): (Device, Option<DType>),
        budget_bytes: usize,
    ) -> Result<Self> {
        let values: Vec<Tensor> = params.iter().map(Param::get).collect();
        let all: Vec<WeightBytes> = values
            .iter()
            .map(|value| both_bytes(value, dtype))
            .collect();
        if device == Device::Cpu {
            return Ok(Residency {
                resident_bytes: all.iter().map(|bytes| bytes.passing).sum(),
                streamed: None,
            });
        }
        let plan = ResidencyPlan::new(&all, once, budget_bytes)?;
        let (mut entries, mut brought) = (Vec::new(), Vec::new());
        for ((param, value), stays) in params.iter().zip(values).zip(&plan.stays) {
            if *stays {
                let there = value.to_device(device)?;
                param.set(there.to_dtype(dtype.unwrap_or(there.dtype()))?);
            } else if param.is_trainable() {
                return Err(Error::argument(
                    "residency",
                    "weights that are trained have to stay on the device, and do not fit; freeze \
                     some, or allow more memory",
                ));
            } else {
                entries.push(Entry::new(value.to_device(Device::Cpu)?));
                brought.push(param);
            }
        }
        let streamed = match entries.is_empty() {
            true => None,
            false => Some(Arc::new(Streamed::new(device, plan.window_bytes, entries)?)),
        };
        for (number, param) in brought.into_iter().enumerate() {
            param.stream_from(streamed.clone().map(|streamed| (streamed, number)));
        }
        Ok(Residency {
            resident_bytes: plan.resident_bytes,
            streamed,
        })
    }

    /// Bytes of the weights that stay on the device.
    pub fn resident_bytes(&self) -> usize {
        self.resident_bytes
    }

    /// Bytes of the weights that are brought as they are used.
    pub fn streamed_bytes(&self) -> usize {
        let of = |streamed: &Arc<Streamed>| streamed.state().entries.iter().map(|e| e.bytes).sum();
        self.streamed.as_ref().map_or(0, of)
    }

    /// Bytes that were copied to the device so far because they were about to be used.
    pub fn copied_bytes(&self) -> usize {
        let streamed = self.streamed.as_ref();
        streamed.map_or(0, |streamed| streamed.state().copied_bytes)
    }

    /// How often a weight was used whose copy had not begun before.
    pub fn late(&self) -> usize {
        let streamed = self.streamed.as_ref();
        streamed.map_or(0, |streamed| streamed.state().late)
    }
}

/// What a weight takes of a device's memory: stored as it is, and in a type, where one is given.
fn both_bytes(value: &Tensor, dtype: Option<DType>) -> WeightBytes {
    let stored = value.dtype();
    WeightBytes::new(value.elements(), stored, dtype.unwrap_or(stored))
}

/// Weights that pass through a window of a card's memory.
pub(crate) struct Streamed {
    board: Arc<Board>,
    state: Mutex<State>,
}

struct State {
    entries: Vec<Entry>,
    window: Window,
    /// What is in the window, the oldest first.
    inside: VecDeque<usize>,
    /// The one that was begun last.
    newest: Option<usize>,
    coming_bytes: usize,
    /// The most that may be on its way; the rest is for what may be used again soon.
    ahead_bytes: usize,
    copied_bytes: usize,
    late: usize,
    /// Why no copy can be trusted any more.
    broken: Option<String>,
}

struct Entry {
    /// On the processor.
    value: Tensor,
    bytes: usize,
    /// Which one was begun after it the last time.
    next: Option<usize>,
    place: Place,
}

enum Place {
    Away,
    Coming(Incoming),
    /// With an event behind all work on it, once nothing else holds it.
    Here(Tensor, Option<Arc<Event>>),
}

impl Entry {
    fn new(value: Tensor) -> Self {
        Entry {
            bytes: both_bytes(&value, None).passing,
            value,
            next: None,
            place: Place::Away,
        }
    }
}

impl Streamed {
    fn new(device: Device, window_bytes: usize, entries: Vec<Entry>) -> Result<Self> {
        let board = cuda::of_device("residency", device)?;
        let window = Window::new(&board, window_bytes)?;
        board.streaming.fetch_add(1, Ordering::Relaxed);
        let state = State {
            entries,
            window,
            inside: VecDeque::new(),
            newest: None,
            coming_bytes: 0,
            ahead_bytes: window_bytes / 2,
            copied_bytes: 0,
            late: 0,
            broken: None,
        };
        Ok(Streamed {
            board,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn device(&self) -> Device {
        self.board.device()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The weight of that number on the device. What may follow it is on its way when this returns.
    ///
    /// # Errors
    /// When a copy failed, what is in use at once does not fit, or work is being captured.
    pub(crate) fn fetch(&self, number: usize) -> Result<Tensor> {
        self.board
            .refuse_in_capture(|| "a weight that is brought as it is used".to_owned())?;
        let (mut state, board) = (self.state(), &self.board);
        if let Some(message) = state.broken.clone() {
            let device = self.device();
            return Err(Error::Device { device, message });
        }
        if !matches!(state.entries[number].place, Place::Here(..)) {
            state.arrive(board, number)?;
            if let Some(before) = state.newest.replace(number) {
                state.entries[before].next = Some(number);
            }
        }
        state.mark_done(board, number)?;
        state.look_ahead(board, number)?;
        match &state.entries[number].place {
            Place::Here(tensor, _) => Ok(tensor.clone()),
            _ => unreachable!("it arrived, and looking ahead keeps it"),
        }
    }
}

impl State {
    fn arrive(&mut self, board: &Arc<Board>, number: usize) -> Result<()> {
        if matches!(self.entries[number].place, Place::Away) {
            self.late += 1;
            while !self.bring(board, number)? {
                if !self.evict(board, number, true)? {
                    return Err(self.too_small(board, number));
                }
            }
        }
        self.settle(number)
    }

    /// Makes one that is coming be there.
    fn settle(&mut self, number: usize) -> Result<()> {
        let entry = &mut self.entries[number];
        let incoming = match std::mem::replace(&mut entry.place, Place::Away) {
            Place::Coming(incoming) => incoming,
            other => {
                entry.place = other;
                return Ok(());
            }
        };
        self.coming_bytes -= entry.bytes;
        let array = incoming.arrive().inspect_err(|error| {
            // Its span is lost, and with it the order of those after it.
            if let Error::Device { message, .. } = error {
                self.broken = Some(message.clone());
            }
        })?;
        let tensor = Tensor::from_values(array, entry.value.shape())?;
        entry.place = Place::Here(tensor, None);
        Ok(())
    }

    /// Begins a copy where the window has room.
    fn bring(&mut self, board: &Arc<Board>, number: usize) -> Result<bool> {
        let entry = &mut self.entries[number];
        let (len, dtype) = (entry.value.elements(), entry.value.dtype());
        let Some((array, after)) = self.window.place(len, dtype) else {
            return Ok(false);
        };
        entry.place = Place::Coming(board.bring(&entry.value, array, after)?);
        self.inside.push_back(number);
        self.coming_bytes += entry.bytes;
        self.copied_bytes += entry.bytes;
        Ok(true)
    }

    /// Lets the oldest in the window go, if it was used and nothing holds it. Where there is `need`,
    /// one goes too that came and was not used.
    fn evict(&mut self, board: &Arc<Board>, keep: usize, need: bool) -> Result<bool> {
        let Some(&oldest) = self.inside.front().filter(|oldest| **oldest != keep) else {
            return Ok(false);
        };
        if need {
            self.settle(oldest)?;
        }
        let done = match &self.entries[oldest].place {
            Place::Here(tensor, _) if tensor.is_shared() => return Ok(false),
            Place::Here(_, Some(done)) => done.clone(),
            Place::Here(_, None) => Arc::new(board.record_work()?),
            Place::Coming(_) | Place::Away => return Ok(false),
        };
        self.entries[oldest].place = Place::Away;
        self.inside.pop_front();
        self.window.leave_oldest(done);
        Ok(true)
    }

    /// `number` is in use again; all others that nothing holds any more are done with, since whoever
    /// held them has queued its work.
    fn mark_done(&mut self, board: &Arc<Board>, number: usize) -> Result<()> {
        let mut event = None;
        for other in &self.inside {
            let Place::Here(tensor, done) = &mut self.entries[*other].place else {
                continue;
            };
            if *other == number {
                *done = None;
            } else if done.is_none() && !tensor.is_shared() {
                if event.is_none() {
                    event = Some(Arc::new(board.record_work()?));
                }
                done.clone_from(&event);
            }
        }
        Ok(())
    }

    /// Begins the copies of those that followed `number` the last time.
    fn look_ahead(&mut self, board: &Arc<Board>, number: usize) -> Result<()> {
        let mut at = number;
        for _ in 0..self.entries.len() {
            let Some(next) = self.entries[at].next.filter(|next| *next != number) else {
                return Ok(());
            };
            let entry = &self.entries[next];
            if matches!(entry.place, Place::Away) {
                let ahead = self.coming_bytes + entry.bytes;
                if self.coming_bytes > 0 && ahead > self.ahead_bytes {
                    return Ok(());
                }
                while !self.bring(board, next)? {
                    if !self.evict(board, number, false)? {
                        return Ok(());
                    }
                }
            }
            at = next;
        }
        Ok(())
    }

    fn too_small(&self, board: &Board, number: usize) -> Error {
        let held = self.inside.iter().map(|other| self.entries[*other].bytes);
        let message = format!(
            "weights of {} bytes are in use at once, and one of {} does not fit beside them; allow \
             more memory for weights, and record no work whose weights are brought as they are used",
            held.sum::<usize>(),
            self.entries[number].bytes
        );
        Error::Device {
            device: board.device(),
            message,
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.board.streaming.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Streamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.state().entries.len();
        write!(f, "Streamed({count} weights on {})", self.device())
    }
}
