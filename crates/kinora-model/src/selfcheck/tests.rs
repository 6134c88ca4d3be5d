//! The check on the machine that stands in for a card, and that it finds what is wrong.

use super::*;
use crate::params::{Init, Layout};
use kinora_tensor::host_device;

fn every_block_agrees(dtype: DType) -> Result<()> {
    let Some(device) = host_device(1 << 30) else {
        return Ok(());
    };
    let mut outcomes = Vec::new();
    check(device, dtype, |outcome| {
        println!(
            "{}: {:.1e}, {:.1e}",
            outcome.name, outcome.forward, outcome.backward
        );
        outcomes.push(outcome);
    })?;
    let missed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.holds()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    assert!(outcomes.len() > 20, "{} blocks", outcomes.len());
    Ok(())
}

#[test]
fn every_block_agrees_with_the_processor_in_f32() -> Result<()> {
    every_block_agrees(DType::F32)
}

#[test]
fn every_block_agrees_with_the_processor_in_f16() -> Result<()> {
    every_block_agrees(DType::F16)
}

#[test]
fn every_block_agrees_with_the_processor_in_bf16_with_weights_in_f32() -> Result<()> {
    every_block_agrees(DType::BF16)
}

/// x · w, with what `change` makes of it on a card.
fn changed_on_a_card(change: fn(&Tensor) -> Result<Tensor>) -> Result<Block> {
    let source = Source::fresh(1);
    let w = source.param("weight", &[50], Layout::Plain, Init::Normal(1.0))?;
    let inputs = vec![Input::new(&[50], 1)];
    Block::new("changed", &source, inputs, move |x| {
        let y = ops::mul(&x[0], &w.get())?;
        match y.device() {
            Device::Cpu => Ok(y),
            _ => change(&y),
        }
    })
}

#[test]
fn what_is_wrong_is_a_miss() -> Result<()> {
    let Some(device) = host_device(1 << 20) else {
        return Ok(());
    };
    let outcome = |change| compare(&changed_on_a_card(change)?, device, DType::F32);
    let right = outcome(|y| Ok(y.reshape(y.shape())?))?;
    assert!(right.holds(), "{right:?}");

    let scaled = outcome(|y| Ok(ops::scale(y, 1.0 + 1e-4)?))?;
    assert!(!scaled.holds() && scaled.forward > 9e-5, "{scaled:?}");
    let not_a_number = outcome(|y| Ok(ops::scale(y, f32::NAN)?))?;
    assert!(!not_a_number.holds(), "{not_a_number:?}");

    // The same result, of which half has no way back.
    let halves = |y: &Tensor| {
        let half = ops::scale(y, 0.5)?;
        Ok(ops::add(&half, &half.detach())?)
    };
    let outcome = outcome(halves)?;
    assert!(outcome.forward <= outcome.forward_limit, "{outcome:?}");
    assert!(
        (outcome.backward - 0.5).abs() < 1e-6 && !outcome.holds(),
        "{outcome:?}"
    );
    Ok(())
}

#[test]
fn a_gradient_that_is_missing_on_one_side_is_infinitely_far() {
    let (some, none) = ([Some(vec![1.0, 2.0])], [None]);
    assert_eq!(farthest(&some, &none), f64::INFINITY);
    assert_eq!(farthest(&none, &some), f64::INFINITY);
    assert_eq!(farthest(&none, &none), 0.0);
    assert_eq!(farthest(&some, &some), 0.0);
    // Beside a long one, a short one is measured by a hundredth of the long one's length.
    let beside = |short| [Some(vec![100.0]), Some(vec![short])];
    let distance = farthest(&beside(2e-3), &beside(1e-3));
    assert!((distance - 1e-3).abs() < 1e-6, "{distance}");
    let nan = farthest(&beside(f32::NAN), &beside(1e-3));
    assert!(nan.is_nan());
}
