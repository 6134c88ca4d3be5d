use super::*;
use crate::testing::numbers;
use crate::{Order, Param, Residency, host_device_with, ops};
use std::cell::Cell;

/// A few layers with most kinds of work in them: kernels, products, convolutions, casts.
fn network(weights: &[Tensor], x: &Tensor) -> Result<Tensor> {
    let [linear, convolution, scale] = weights else {
        panic!("three weights");
    };
    let h = ops::silu(&ops::linear(x, linear, None)?)?;
    let h = ops::conv2d(&h, convolution, None, ops::Conv2d::down())?;
    let ones = scale.full_like(1.0)?;
    let h = ops::group_norm(&h, scale, &ones, 4, 1e-5, ops::Activation::Silu)?;
    ops::add(&h, &ops::square(&h)?)
}

fn weights(device: Device) -> Result<Vec<Tensor>> {
    let shapes: [&[usize]; 3] = [&[8, 6], &[8, 3, 3, 8], &[8]];
    let made = shapes.into_iter().zip(1..).map(|(shape, seed)| {
        let x = numbers(shape.to_vec(), seed);
        x.to_device(device)
    });
    made.collect()
}

fn input(device: Device, seed: u64) -> Result<Tensor> {
    numbers([2, 6, 5, 6], seed).to_device(device)
}

fn devices() -> Vec<Device> {
    let orders = [Order::WorkFirst, Order::CopiesFirst];
    orders
        .into_iter()
        .filter_map(|order| host_device_with(1 << 20, order))
        .collect()
}

#[test]
fn a_replay_is_the_work_itself() -> Result<()> {
    for device in devices() {
        let weights = weights(device)?;
        let plain = |seed| network(&weights, &input(device, seed)?);
        let expected = [plain(11)?, plain(12)?, plain(13)?];
        let captured = Captured::record(&[&input(device, 11)?], |x| network(&weights, &x[0]))?;
        let mut results = Vec::new();
        for seed in 11..14 {
            results.push(captured.replay(&[&input(device, seed)?])?);
            // Others come and go between: none may get memory that a replay writes to.
            results.push(ops::square(&plain(seed + 10)?)?);
        }
        for (found, expected) in results.iter().step_by(2).zip(&expected) {
            assert_eq!(found.to_vec(), expected.to_vec());
        }
        for (found, seed) in results.iter().skip(1).step_by(2).zip(21..) {
            assert_eq!(found.to_vec(), ops::square(&plain(seed)?)?.to_vec());
        }
    }
    Ok(())
}

#[test]
fn what_a_graph_reads_outlives_its_owner() -> Result<()> {
    for device in devices() {
        let expected = network(&weights(device)?, &input(device, 11)?)?.to_vec();
        let captured = {
            let weights = weights(device)?;
            Captured::record(&[&input(device, 1)?], |x| network(&weights, &x[0]))?
        };
        // As large as the weights were, and nothing like them.
        let other = |w: Tensor| ops::scale(&w, 9.0)?.to_device(device);
        let fresh = weights(Device::Cpu)?.into_iter().map(other);
        let fresh = fresh.collect::<Result<Vec<Tensor>>>()?;
        let found = captured.replay(&[&input(device, 11)?])?.to_vec();
        assert_eq!(found, expected);
        drop(fresh);
    }
    Ok(())
}

#[test]
fn two_graphs_share_memory_and_do_not_disturb_one_another() -> Result<()> {
    for device in devices() {
        let weights = weights(device)?;
        let capture = || Captured::record(&[&input(device, 1)?], |x| network(&weights, &x[0]));
        let board = cuda::of_device("test", device)?;
        network(&weights, &input(device, 1)?)?;
        let first = capture()?;
        let after_one = board.peak_bytes();
        let second = capture()?;
        // An input and a result each; all else is shared.
        assert!(board.peak_bytes() <= after_one + 4 * (2 * 6 * 5 * 6 + 2 * 3 * 3 * 8));
        let [a, b] = [input(device, 11)?, input(device, 12)?];
        let expected = [
            network(&weights, &a)?.to_vec(),
            network(&weights, &b)?.to_vec(),
        ];
        for _ in 0..2 {
            let found = [first.replay(&[&a])?, second.replay(&[&b])?];
            assert_eq!(found.map(|x| x.to_vec()), expected);
        }
        drop(first);
        network(&weights, &a)?;
        assert_eq!(second.replay(&[&b])?.to_vec(), expected[1]);
    }
    Ok(())
}

#[test]
fn what_cannot_be_captured_is_an_error_with_its_name() -> Result<()> {
    for device in devices() {
        let x = input(device, 1)?;
        let table = numbers([7, 3], 1).to_device(device)?;
        let refused = |work: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
            Captured::record(&[&x], work).unwrap_err().to_string()
        };
        let told = |what: &str| {
            format!(
                "{device}: {what} cannot be captured: make it before, and give its result to what \
                 is captured"
            )
        };
        let error = refused(&|_| numbers([4], 1).to_device(device));
        assert_eq!(error, told("to_device: a copy of 16 bytes to the card"));
        let error = refused(&|_| ops::embedding(&table, &[1, 2]));
        assert_eq!(error, told("embedding: a copy of 16 bytes to the card"));
        let error = refused(&|x| x[0].to_device(Device::Cpu));
        assert_eq!(error, told("to_device: a copy of 1440 bytes from the card"));
        let error =
            refused(&|x| Captured::record(&[&x[0]], |y| Ok(y[0].clone())).map(|_| x[0].clone()));
        assert_eq!(error, told("a capture within a capture"));
        let params: Vec<Param> = (0..4)
            .map(|seed| Param::new(numbers([512], seed)))
            .collect();
        let residency = Residency::place(&params, device, 5000)?;
        assert!(residency.streamed_bytes() > 0);
        let error = refused(&|_| {
            for param in &params {
                param.for_work()?;
            }
            Ok(x.clone())
        });
        assert_eq!(error, told("a weight that is brought as it is used"));
        // All is as it was.
        assert_eq!(ops::scale(&x, 2.0)?.to_vec(), ops::add(&x, &x)?.to_vec());
    }
    Ok(())
}

#[test]
fn a_capture_without_memory_leaves_none_taken() -> Result<()> {
    let Some(device) = host_device_with(10_000, Order::WorkFirst) else {
        return Ok(());
    };
    let x = numbers([1000], 1).to_device(device)?;
    let error = Captured::record(&[&x], ops_square).unwrap_err().to_string();
    assert!(error.contains("out of memory"), "{error}");
    ops::square(&x)?;
    Ok(())
}

fn ops_square(x: &[Tensor]) -> Result<Tensor> {
    ops::square(&x[0])
}

#[test]
fn repeated_work_runs_plainly_once_then_is_captured_then_only_replayed() -> Result<()> {
    for device in devices() {
        let weights = weights(device)?;
        let (repeated, calls) = (Repeated::default(), Cell::new(0));
        let counted = |x: &Tensor| {
            repeated.run(&[x], |x| {
                calls.set(calls.get() + 1);
                network(&weights, &x[0])
            })
        };
        let run = |x: &Tensor| no_grad(|| counted(x));
        let mut seen = Vec::new();
        for seed in 1..6 {
            let x = input(device, seed)?;
            assert_eq!(run(&x)?.to_vec(), network(&weights, &x)?.to_vec());
            seen.push(calls.get());
        }
        assert_eq!(seen, [1, 2, 2, 2, 2]);
        assert!(repeated.is_captured());
        let other = numbers([1, 6, 5, 6], 7).to_device(device)?;
        assert_eq!(run(&other)?.to_vec(), network(&weights, &other)?.to_vec());
        assert_eq!(calls.get(), 3, "another shape is plain work");
        let x = input(device, 9)?;
        assert_eq!(run(&x)?.to_vec(), network(&weights, &x)?.to_vec());
        assert_eq!(calls.get(), 3);
        let tracked = counted(&x.tracked())?;
        assert!(tracked.is_tracked(), "recorded work is plain work");
        assert_eq!((calls.get(), repeated.refusal()), (4, None));
    }
    Ok(())
}

#[test]
fn repeated_work_that_cannot_be_captured_stays_plain_and_tells_why() -> Result<()> {
    for device in devices() {
        let repeated = Repeated::default();
        let x = input(device, 1)?;
        for seed in 1..5 {
            let found =
                no_grad(|| repeated.run(&[&x], |x| ops::add(&x[0], &input(device, seed)?)))?;
            assert_eq!(
                found.to_vec(),
                ops::add(&x, &input(device, seed)?)?.to_vec()
            );
            let why = repeated.refusal().unwrap_or_default();
            assert_eq!(why.contains("a copy of 1440 bytes to the card"), seed > 1);
        }
    }
    Ok(())
}

#[test]
fn an_input_of_another_shape_is_refused() -> Result<()> {
    for device in devices() {
        let x = input(device, 1)?;
        let captured = Captured::record(&[&x], ops_square)?;
        let error = captured.replay(&[&ops::narrow(&x, 0, 0, 1)?]).unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("graph: expected what was captured"),
            "{error}"
        );
    }
    Ok(())
}

#[test]
fn on_the_processor_repeated_work_is_plain_work() -> Result<()> {
    let weights = weights(Device::Cpu)?;
    let (repeated, calls) = (Repeated::default(), Cell::new(0));
    for seed in 1..4 {
        let x = input(Device::Cpu, seed)?;
        let found = repeated.run(&[&x], |x| {
            calls.set(calls.get() + 1);
            network(&weights, &x[0])
        })?;
        assert_eq!(found.to_vec(), network(&weights, &x)?.to_vec());
    }
    assert_eq!(calls.get(), 3);
    Ok(())
}
