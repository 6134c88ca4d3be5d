use super::*;
use crate::cuda::fail_copies_after;
use crate::testing::numbers;
use crate::{DType, Order, host_device_with, ops};

/// Layers of 4 KiB each, f32 or mixed with bf16, of a network that has `count` of them.
fn layers(count: u64) -> Result<Vec<Param>> {
    let layer = |seed| {
        let value = ops::scale(&numbers([32, 32], seed), 0.4)?;
        let dtype = [DType::F32, DType::BF16][usize::from(seed % 4 == 3)];
        Ok(Param::new(value.to_dtype(dtype)?))
    };
    (0..count).map(layer).collect()
}

const ALL_BYTES: usize = 12 * 4096 - 3 * 2048;

/// One after the other.
fn pass<'a>(layers: impl IntoIterator<Item = &'a Param>, x: &Tensor) -> Result<Vec<f32>> {
    let mut x = x.clone();
    for layer in layers {
        x = ops::silu(&ops::linear(&x, &layer.for_work()?, None)?)?;
    }
    Ok(x.to_device(Device::Cpu)?.to_vec())
}

fn input(device: Device, seed: u64) -> Result<Tensor> {
    numbers([3, 32], seed).to_device(device)
}

/// Both orders of the streams, each with so much memory.
fn devices(limit_bytes: usize) -> Vec<Device> {
    let orders = [Order::WorkFirst, Order::CopiesFirst];
    let devices = orders
        .into_iter()
        .map(|order| host_device_with(limit_bytes, order));
    devices.flatten().collect()
}

#[test]
fn weights_that_do_not_fit_give_the_same_results_within_the_budget() -> Result<()> {
    const BUDGET: usize = 14_000;
    const BESIDE: usize = 12_000; // inputs, results, and a weight in another type
    let Some(large) = devices(1 << 20).pop() else {
        return Ok(());
    };
    let resident = layers(12)?;
    let all = Residency::place(&resident, large, 1 << 20)?;
    assert_eq!((all.resident_bytes(), all.streamed_bytes()), (ALL_BYTES, 0));
    for device in devices(BUDGET + BESIDE) {
        let streamed = layers(12)?;
        let residency = Residency::place(&streamed, device, BUDGET)?;
        assert_eq!(
            residency.resident_bytes() + residency.streamed_bytes(),
            ALL_BYTES
        );
        assert!(residency.streamed_bytes() > 20_000);
        let mut late = Vec::new();
        for step in 0..4 {
            let before = residency.copied_bytes();
            let found = pass(&streamed, &input(device, step)?)?;
            assert_eq!(found, pass(&resident, &input(large, step)?)?, "step {step}");
            if step > 0 {
                // Each once in a round, however the ends of two rounds overlap.
                let copied = residency.copied_bytes() - before;
                assert!(copied.abs_diff(residency.streamed_bytes()) <= 2 * 4096);
            }
            late.push(residency.late());
        }
        // The first of the second round is not foreseen; from then on all are.
        assert!(late[1] <= late[0] + 1, "{late:?}");
        assert_eq!(late[1], late[3], "{late:?}");
        assert!(cuda::of_device("test", device)?.peak_bytes() <= BUDGET + BESIDE);
    }
    Ok(())
}

#[test]
fn the_order_may_change_and_weights_may_be_used_again_and_again() -> Result<()> {
    let Some(large) = devices(1 << 20).pop() else {
        return Ok(());
    };
    let resident = layers(12)?;
    Residency::place(&resident, large, 1 << 20)?;
    let forth: Vec<usize> = (0..12).collect();
    let back: Vec<usize> = (0..12).rev().collect();
    let looped = vec![0, 1, 2, 1, 2, 1, 2, 3, 4, 9, 4, 9, 11, 11, 11];
    for device in devices(1 << 20) {
        let streamed = layers(12)?;
        let residency = Residency::place(&streamed, device, 20_000)?;
        for order in [&forth, &looped, &looped, &back, &forth, &looped] {
            let of = |layers: &[Param], x: &Tensor| pass(order.iter().map(|k| &layers[*k]), x);
            let found = of(&streamed, &input(device, 5)?)?;
            assert_eq!(found, of(&resident, &input(large, 5)?)?, "{order:?}");
        }
        assert!(residency.late() > 0);
    }
    Ok(())
}

#[test]
fn what_loops_over_two_weights_does_not_bring_them_twice() -> Result<()> {
    for device in devices(1 << 20) {
        let streamed = layers(12)?;
        let residency = Residency::place(&streamed, device, 20_000)?;
        let looped = [0, 1, 2, 3, 4, 5, 4, 5, 4, 5, 6, 7, 8, 9, 10, 11].map(|k| &streamed[k]);
        for _ in 0..3 {
            pass(looped, &input(device, 5)?)?;
        }
        assert!(residency.copied_bytes() <= 3 * residency.streamed_bytes() + 8192);
    }
    Ok(())
}

#[test]
fn a_copy_that_fails_is_an_error_wherever_weights_are_used_after_it() -> Result<()> {
    for device in devices(1 << 20) {
        let streamed = layers(12)?;
        Residency::place(&streamed, device, 14_000)?;
        let x = input(device, 1)?;
        fail_copies_after(device, 9);
        for _ in 0..2 {
            let error = pass(&streamed, &x).unwrap_err().to_string();
            let expected = format!(
                "{device}: a copy of weights to the card: a copy failed, as it was told to"
            );
            assert_eq!(error, expected);
        }
    }
    Ok(())
}

#[test]
fn more_in_use_at_once_than_fits_is_an_error() -> Result<()> {
    for device in devices(1 << 20) {
        let streamed = layers(12)?;
        Residency::place(&streamed, device, 9000)?;
        let held: Result<Vec<Tensor>> = streamed.iter().map(Param::for_work).collect();
        let error = held.unwrap_err().to_string();
        assert!(error.contains("are in use at once"), "{error}");
        pass(&streamed, &input(device, 1)?)?;
    }
    Ok(())
}

#[test]
fn a_weight_that_is_set_is_brought_no_more() -> Result<()> {
    for device in devices(1 << 20) {
        let streamed = layers(12)?;
        let residency = Residency::place(&streamed, device, 9000)?;
        assert!(residency.streamed_bytes() > 0);
        let away = streamed
            .iter()
            .find(|param| param.get().device() == Device::Cpu);
        let param = away.expect("one that is not resident");
        assert_eq!(param.device(), device);
        assert_eq!(param.for_work()?.to_vec(), param.get().to_vec());
        param.set(Tensor::zeros([32, 32]));
        assert_eq!(
            (param.device(), param.for_work()?.device()),
            (Device::Cpu, Device::Cpu)
        );
    }
    Ok(())
}

#[test]
fn results_outlive_the_weights_and_their_window() -> Result<()> {
    for device in devices(1 << 20) {
        let x = input(device, 1)?;
        let (kept, expected) = {
            let streamed = layers(4)?;
            let residency = Residency::place(&streamed, device, 9000)?;
            let weight = streamed[2].for_work()?;
            assert!(residency.late() > 0 || weight.device() == device);
            (
                ops::linear(&x, &weight, None)?,
                ops::linear(&x.to_device(Device::Cpu)?, &streamed[2].get(), None)?,
            )
        };
        // What the window leaves is taken and written at once.
        let _fresh = Tensor::full(7.0, [2048]).to_device(device)?;
        crate::testing::assert_close(&kept.to_vec(), &expected.to_vec(), 1e-6);
    }
    Ok(())
}

#[test]
fn a_device_with_less_memory_than_the_budget_is_an_error() -> Result<()> {
    for device in devices(10_000) {
        let error = Residency::place(&layers(12)?, device, 30_000).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("out of memory"), "{error}");
    }
    Ok(())
}

#[test]
fn weights_that_are_trained_are_not_brought() -> Result<()> {
    for device in devices(1 << 20) {
        let layers = layers(12)?;
        layers.iter().for_each(|layer| layer.set_trainable(true));
        let error = Residency::place(&layers, device, 14_000)
            .unwrap_err()
            .to_string();
        assert!(error.contains("weights that are trained"), "{error}");
        Residency::place(&layers, device, 1 << 20)?;
        assert!(layers[0].is_trainable() && layers[0].device() == device);
    }
    Ok(())
}

#[test]
fn a_weight_that_is_held_is_not_written_over_before_it_is_used() -> Result<()> {
    for device in devices(1 << 20) {
        let layers = layers(12)?;
        Residency::place(&layers, device, 9000)?;
        let away = |layer: &&Param| layer.get().device() == Device::Cpu;
        let streamed: Vec<&Param> = layers.iter().filter(away).collect();
        let x = input(device, 1)?;
        let held = streamed[0].for_work()?;
        streamed[1].for_work()?;
        let found = ops::linear(&x, &held, None)?;
        drop(held);
        for layer in &streamed[2..] {
            layer.for_work()?;
        }
        let x = x.to_device(Device::Cpu)?;
        let expected = ops::linear(&x, &streamed[0].get(), None)?;
        crate::testing::assert_close(&found.to_vec(), &expected.to_vec(), 1e-6);
    }
    Ok(())
}
