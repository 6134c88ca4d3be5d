//! The graph behind tracked arrays, and the walk back through it.

use crate::cpu::elementwise;
use crate::{Device, Error, Result, Tensor, cuda};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

type DerivativeFn = dyn Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync;

/// How to turn the gradient of a result into gradients of its inputs.
pub(crate) struct Derivative {
    inputs: Vec<Tensor>,
    rule: Box<DerivativeFn>,
    /// Leaves reached by a recomputed block come back through this side door.
    leaves: bool,
}

impl Derivative {
    pub(crate) fn new<D>(inputs: &[&Tensor], rule: D) -> Self
    where
        D: Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    {
        // Untracked inputs are needed only for their position; the rule holds what it uses.
        let inputs = inputs.iter().map(|&input| input.clone()).collect();
        Derivative {
            inputs,
            rule: Box::new(rule),
            leaves: false,
        }
    }
}

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
    static SIDE_DOOR: Cell<Option<Gradients>> = const { Cell::new(None) };
}

/// Whether operations on tracked arrays are being recorded on this thread.
pub fn is_recording() -> bool {
    RECORDING.get()
}

/// Runs `work` without recording, whatever it touches.
pub fn no_grad<T>(work: impl FnOnce() -> T) -> T {
    with_recording(false, work)
}

fn with_recording<T>(recording: bool, work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let _restore = Restore(RECORDING.replace(recording));
    work()
}

/// Runs `work` that another thread handed over: it records if that thread did, and nothing that this thread was
/// in the middle of is seen or lost.
pub(crate) fn handed_over<T>(recording: bool, work: impl FnOnce() -> T) -> T {
    struct PutBack(Option<Gradients>);
    impl Drop for PutBack {
        fn drop(&mut self) {
            SIDE_DOOR.set(self.0.take());
        }
    }
    let _put_back = PutBack(SIDE_DOOR.take());
    with_recording(recording, work)
}

/// Gradients of a scalar with respect to the tracked leaves behind it.
#[derive(Debug, Default)]
pub struct Gradients {
    by_id: HashMap<u64, Tensor>,
}

impl Gradients {
    /// The gradient with respect to `leaf`; `None` where the scalar does not depend on it.
    pub fn get(&self, leaf: &Tensor) -> Option<&Tensor> {
        self.by_id.get(&leaf.id())
    }

    /// Takes the gradient with respect to `leaf` out.
    pub fn take(&mut self, leaf: &Tensor) -> Option<Tensor> {
        self.by_id.remove(&leaf.id())
    }

    fn add(&mut self, id: u64, gradient: Tensor) -> Result<()> {
        let sum = match self.by_id.remove(&id) {
            None => gradient,
            Some(before) => sum(before, gradient)?,
        };
        self.by_id.insert(id, sum);
        Ok(())
    }
}

/// The sum of two gradients, in the memory of one that nothing else holds where there is one.
fn sum(mut before: Tensor, mut more: Tensor) -> Result<Tensor> {
    if before.device() != Device::Cpu {
        let sum = cuda::zip("add", before.array()?, more.array()?)?;
        return Tensor::from_values(sum, before.shape());
    }
    if let Some(values) = before.unshared_mut() {
        elementwise::add_assign(values, more.as_f32()?);
        return Ok(before);
    }
    if let Some(values) = more.unshared_mut() {
        elementwise::add_assign(values, before.as_f32()?);
        return Ok(more);
    }
    Tensor::filled_by(before.shape(), |sum| {
        elementwise::zip(before.as_f32()?, more.as_f32()?, sum, |x, y| x + y);
        Ok(())
    })
}

/// Walks back from `root`, whose own gradient is `seed` (ones where none is given).
pub(crate) fn backward(root: Tensor, seed: Option<Tensor>) -> Result<Gradients> {
    if !root.is_tracked() {
        return Err(Error::NotTracked);
    }
    no_grad(|| {
        let mut gradients = Gradients::default();
        let seed = seed.map_or_else(|| root.full_like(1.0), Ok)?;
        gradients.add(root.id(), seed)?;
        let mut order = tracked_ancestors(root);
        // Results are always younger than their inputs, so the youngest first is a valid order; each
        // is dropped as soon as it is done, which frees what it alone held.
        while let Some(tensor) = order.pop() {
            let Some(derivative) = tensor.derivative() else {
                continue;
            };
            let Some(gradient) = gradients.by_id.remove(&tensor.id()) else {
                continue;
            };
            let wanted: Vec<bool> = derivative.inputs.iter().map(Tensor::is_tracked).collect();
            let parts = (derivative.rule)(&gradient, &wanted)?;
            drop(gradient);
            assert_eq!(
                parts.len(),
                derivative.inputs.len(),
                "one gradient entry for each input"
            );
            for ((input, part), wanted) in derivative.inputs.iter().zip(parts).zip(wanted) {
                if let (Some(part), true) = (part, wanted) {
                    assert_eq!(
                        part.dims(),
                        input.dims(),
                        "a gradient has the shape of its input"
                    );
                    gradients.add(input.id(), part)?;
                }
            }
            if derivative.leaves {
                for (id, part) in SIDE_DOOR.take().unwrap_or_default().by_id {
                    gradients.add(id, part)?;
                }
            }
        }
        Ok(gradients)
    })
}

/// Every tracked array behind `root`, itself included, oldest first.
fn tracked_ancestors(root: Tensor) -> Vec<Tensor> {
    let mut seen = HashSet::from([root.id()]);
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(tensor) = open.pop() {
        for input in tensor.derivative().map_or(&[][..], |d| &d.inputs) {
            if input.is_tracked() && seen.insert(input.id()) {
                open.push(input.clone());
            }
        }
        found.push(tensor);
    }
    found.sort_unstable_by_key(Tensor::id);
    found
}

/// Runs `block` now without keeping its inner results, and again during `backward`: memory for time.
///
/// The gradient reaches `inputs` and every tracked leaf (parameter) the block uses; anything tracked
/// that is not a leaf must be among `inputs`. The block must compute the same thing both times.
///
/// # Errors
/// Whatever the block returns.
pub fn checkpoint<F>(inputs: &[&Tensor], block: F) -> Result<Tensor>
where
    F: Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
{
    let detached: Vec<Tensor> = inputs.iter().map(|input| input.detach()).collect();
    if !is_recording() {
        return block(&detached);
    }
    let result = no_grad(|| block(&detached))?;
    let rule = move |gradient: &Tensor, wanted: &[bool]| {
        let leaves: Vec<Tensor> = detached
            .iter()
            .zip(wanted)
            .map(|(input, &wanted)| {
                if wanted {
                    input.tracked()
                } else {
                    input.clone()
                }
            })
            .collect();
        let again = with_recording(true, || block(&leaves))?;
        if !again.is_tracked() {
            return Ok(vec![None; leaves.len()]);
        }
        let mut inner = backward(again, Some(gradient.clone()))?;
        let parts = leaves.iter().map(|leaf| inner.take(leaf)).collect();
        SIDE_DOOR.set(Some(inner));
        Ok(parts)
    };
    Ok(Tensor::checkpointed(result, inputs, rule))
}

impl Tensor {
    /// `result` as a tracked array: the block may use parameters that are not among its inputs.
    fn checkpointed<D>(result: Tensor, inputs: &[&Tensor], rule: D) -> Tensor
    where
        D: Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    {
        let derivative = Derivative {
            leaves: true,
            ..Derivative::new(inputs, rule)
        };
        result.with_derivative(derivative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use crate::{Param, ops};

    fn block(x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let y = ops::linear(x, w, None)?;
        ops::mul(&y, &y)
    }

    #[test]
    fn a_result_used_twice_gets_both_gradients() -> Result<()> {
        let x = Tensor::from_vec(vec![3.0], [1])?.tracked();
        let y = ops::mul(&x, &x)?;
        let z = ops::add(&y, &ops::mul(&y, &x)?)?; // x² + x³
        assert_eq!(
            z.backward()?.get(&x).unwrap().to_vec(),
            vec![2.0 * 3.0 + 3.0 * 9.0]
        );
        Ok(())
    }

    #[test]
    fn recomputing_a_block_gives_the_same_gradients_to_inputs_and_parameters() -> Result<()> {
        let (x, first, second) = (
            numbers([4, 3], 1).tracked(),
            numbers([5, 3], 2),
            numbers([3, 5], 3),
        );
        let (first, second) = (Param::new(first.tracked()), Param::new(second.tracked()));
        let plain = block(&block(&x, &first.get())?, &second.get())?.backward()?;
        let (p, q) = (first.clone(), second.clone());
        let h = checkpoint(&[&x], move |inputs| {
            let p = p.clone();
            checkpoint(&[&inputs[0]], move |inputs| block(&inputs[0], &p.get()))
        })?;
        let again = checkpoint(&[&h], move |inputs| block(&inputs[0], &q.get()))?.backward()?;
        for leaf in [x, first.get(), second.get()] {
            assert_eq!(
                plain.get(&leaf).unwrap().to_vec(),
                again.get(&leaf).unwrap().to_vec()
            );
        }
        Ok(())
    }

    #[test]
    fn nothing_is_recorded_for_frozen_arrays_or_inside_no_grad() -> Result<()> {
        let (x, w) = (numbers([4, 3], 1), numbers([3, 3], 2));
        assert!(!block(&x, &w)?.is_tracked());
        assert!(!no_grad(|| block(&x, &w.tracked()))?.is_tracked());
        assert!(matches!(block(&x, &w)?.backward(), Err(Error::NotTracked)));
        Ok(())
    }

    #[test]
    fn frozen_inputs_get_no_gradient() -> Result<()> {
        let (x, w) = (numbers([4, 3], 1).tracked(), numbers([3, 3], 2));
        let gradients = block(&x, &w)?.backward()?;
        assert!(gradients.get(&x).is_some());
        assert!(gradients.get(&w).is_none());
        Ok(())
    }
}
