//! Work that repeats itself on a card, captured once and then started as a whole.
//!
//! A step of a network is thousands of kernels, and starting one costs the processor some microseconds:
//! where the kernels are short, the card waits for them. A captured step is one start.

#[cfg(test)]
mod tests;

use crate::cuda::{self, Array, Graph};
use crate::{DType, Device, Error, Result, Shape, Tensor, is_recording, no_grad};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Captured work: a function of arrays of fixed shapes, to be applied to others of the same shapes.
///
/// It reads its inputs from arrays of its own, into which [`Captured::replay`] copies, and whatever else
/// the work used (weights, conditions) from where that lay when it was captured: changes made there in
/// the meantime are seen, a [`Param`](crate::Param) that was given another array is not. All of that
/// memory, and what the work needs on the way, stays taken as long as this lives.
pub struct Captured {
    // The fields go in this order: the graph ends before its arrays.
    graph: Graph,
    inputs: Vec<Tensor>,
    output: Tensor,
}

impl Captured {
    /// Captures what `work` does with arrays like `inputs`, which lie on one card. Nothing is computed
    /// and nothing recorded; the same work must have been done once before, so that kernels are
    /// compiled and algorithms chosen.
    ///
    /// # Errors
    /// What `work` returns; and when it copies to or from the card or brings weights as they are used,
    /// naming which.
    pub fn record<E: From<Error>>(
        inputs: &[&Tensor],
        work: impl FnOnce(&[Tensor]) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Self, E> {
        let device = inputs.first().map_or(Device::Cpu, |input| input.device());
        let board = cuda::of_device("graph", device)?;
        let fixed = inputs.iter().map(|input| copied(input));
        let fixed = fixed.collect::<Result<Vec<Tensor>>>()?;
        let (graph, output) = Graph::capture(&board, || {
            let output = no_grad(|| work(&fixed))?;
            match output.device() == device {
                true => Ok(output.detach()),
                false => Err(E::from(Error::Devices {
                    op: "graph",
                    first: device,
                    other: output.device(),
                })),
            }
        })?;
        Ok(Captured {
            graph,
            inputs: fixed,
            output,
        })
    }

    /// The result of the work for these inputs.
    ///
    /// # Shapes
    /// As at [`Captured::record`], and so are the types and the device.
    ///
    /// # Errors
    /// When an input is not like that, or the card fails.
    pub fn replay(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (expected, found) = (
            likeness(self.inputs.iter()),
            likeness(inputs.iter().copied()),
        );
        if expected != found {
            return Err(Error::Shape {
                op: "graph",
                expected: format!("what was captured, {expected:?}"),
                found: format!("{found:?}"),
            });
        }
        for (fixed, input) in self.inputs.iter().zip(inputs) {
            fixed.array()?.overwrite(input.array()?)?;
        }
        self.graph.replay()?;
        // The next replay writes over the result.
        copied(&self.output)
    }
}

impl std::fmt::Debug for Captured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Captured({:?} -> {:?})", self.inputs, self.output)
    }
}

fn copied(x: &Tensor) -> Result<Tensor> {
    let array: Array = x.array()?.copied()?;
    Tensor::from_values(array, x.shape())
}

/// What has to be the same for a graph to be replayed.
type Likeness = Vec<(Device, DType, Shape)>;

fn likeness<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Likeness {
    let of = |x: &Tensor| (x.device(), x.dtype(), x.shape().clone());
    tensors.map(of).collect()
}

/// Work that is captured where that can be done, and is plain work everywhere else. Clones share what
/// was captured.
///
/// On a card the first run is plain, the second with inputs like the first's is captured, and the ones
/// after it are replayed; nothing is compiled for it. Inputs of other shapes, work that is recorded for
/// its derivative, and weights that are brought as they are used keep to plain work. So does what could
/// not be captured: [`Repeated::refusal`] tells why.
#[derive(Clone, Debug, Default)]
pub struct Repeated {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Fresh,
    Seen(Likeness),
    Captured(Captured),
    Refused(String),
}

impl Repeated {
    /// `work(inputs)`, which must be the same work every time.
    ///
    /// # Errors
    /// What `work` returns.
    pub fn run<E: From<Error> + Display>(
        &self,
        inputs: &[&Tensor],
        work: impl Fn(&[Tensor]) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Tensor, E> {
        let given = || inputs.iter().map(|&input| input.clone());
        let plainly = || work(&given().collect::<Vec<_>>());
        if !can_be_captured(inputs)? {
            return plainly();
        }
        let mut state = self.state();
        let found = likeness(inputs.iter().copied());
        match &*state {
            State::Captured(captured) if likeness(captured.inputs.iter()) == found => {
                return Ok(captured.replay(inputs)?);
            }
            State::Captured(_) | State::Refused(_) => {}
            State::Seen(seen) if *seen == found => match Captured::record(inputs, &work) {
                Ok(captured) => {
                    let result = captured.replay(inputs);
                    *state = State::Captured(captured);
                    return Ok(result?);
                }
                Err(error) => *state = State::Refused(error.to_string()),
            },
            State::Fresh | State::Seen(_) => *state = State::Seen(found),
        }
        drop(state);
        plainly()
    }

    /// Whether the work is replayed from now on.
    pub fn is_captured(&self) -> bool {
        matches!(&*self.state(), State::Captured(_))
    }

    /// Why the work is not captured, where that was tried.
    pub fn refusal(&self) -> Option<String> {
        match &*self.state() {
            State::Refused(why) => Some(why.clone()),
            _ => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn can_be_captured(inputs: &[&Tensor]) -> Result<bool> {
    let device = inputs.first().map_or(Device::Cpu, |input| input.device());
    let apart = inputs.iter().any(|input| input.device() != device);
    if device == Device::Cpu || apart || is_recording() {
        return Ok(false);
    }
    let board = cuda::of_device("graph", device)?;
    Ok(!board.streams_weights() && !board.is_capturing())
}
