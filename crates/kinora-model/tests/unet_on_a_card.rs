//! A whole UNet where its arrays lie on a card, or on what stands in for one here.

use kinora_model::Result;
use kinora_model::params::{Params, Source};
use kinora_model::unet::{Pass, UNet, UNetConfig};
use kinora_tensor::testing::{numbers, relative_l2};
use kinora_tensor::{DType, Device, Tensor, host_device, no_grad, ops, peak_device_bytes};
use std::path::Path;

fn network() -> Result<(UNet, Params)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/unet/image.json");
    let text = std::fs::read_to_string(file).expect("fixture");
    let source = Source::fresh(3);
    let net = UNet::new(&source, &UNetConfig::from_json(&text)?)?;
    let params = source.params();
    // What begins as zero would hide whatever is before it.
    for (seed, entry) in (1..).zip(&params) {
        let value = entry.param.get();
        if value.to_vec().iter().all(|v| *v == 0.0) {
            let small = ops::scale(&numbers(value.shape(), seed), 0.1)?;
            entry.param.set(small);
        }
    }
    Ok((net, params))
}

/// The result and the gradients of every parameter and of the input.
fn run(
    (net, params): &(UNet, Params),
    device: Device,
    dtype: DType,
) -> Result<(Tensor, Vec<Option<Vec<f32>>>)> {
    let there = |x: Tensor| -> Result<Tensor> { Ok(x.to_dtype(dtype)?.to_device(device)?) };
    for entry in params {
        entry.param.set(entry.param.get().to_device(device)?);
        entry.param.set_trainable(true);
    }
    let x = there(numbers([2, 3, 8, 4, 8], 91))?.tracked();
    let context = there(numbers([2, 4, 24], 92))?;
    let added = [[6.0, 127.0, 0.02], [5.0, 30.0, 0.1]];
    let y = net.forward(&x, &[0.3, -0.8], &context, &added, Pass::default())?;
    let weights = there(numbers(y.shape(), 93))?;
    let gradients = ops::sum(&ops::mul(&y, &weights)?)?.backward()?;
    let leaves = params.iter().map(|entry| entry.param.get()).chain([x]);
    let of = |leaf: Tensor| gradients.get(&leaf).map(Tensor::to_vec);
    let found = leaves.map(of).collect();
    Ok((y.detach(), found))
}

/// Distances of the result and, at most, of a gradient.
fn distances(device: Device, dtype: DType) -> Result<[f64; 2]> {
    let network = network()?;
    let (expected, expected_gradients) = run(&network, Device::Cpu, DType::F32)?;
    let (found, gradients) = run(&network, device, dtype)?;
    assert_eq!((found.device(), found.dtype()), (device, dtype));
    let norm = |values: &[f32]| relative_l2(values, &vec![0.0; values.len()]);
    let largest = expected_gradients.iter().flatten().map(|g| norm(g));
    let largest = largest.fold(0.0, f64::max);
    let mut worst = 0f64;
    for (found, expected) in gradients.iter().zip(&expected_gradients) {
        assert_eq!(found.is_some(), expected.is_some());
        if let (Some(found), Some(expected)) = (found, expected) {
            let apart: Vec<f32> = found.iter().zip(expected).map(|(f, e)| f - e).collect();
            // A bias before a norm of single channels has no influence: its gradient is rounding.
            let distance = norm(&apart) / norm(expected).max(1e-3 * largest);
            worst = worst.max(distance);
        }
    }
    Ok([relative_l2(&found.to_vec(), &expected.to_vec()), worst])
}

#[test]
fn a_unet_and_its_gradients_are_the_same_on_a_card() -> Result<()> {
    let Some(device) = host_device(1 << 30) else {
        return Ok(());
    };
    let [result, gradient] = distances(device, DType::F32)?;
    println!("f32: {result:.1e}, gradients {gradient:.1e}");
    assert!(
        result <= 1e-5 && gradient <= 1e-4,
        "{result:.1e}, {gradient:.1e}"
    );
    Ok(())
}

#[test]
fn a_unet_in_bf16_with_weights_in_f32_stays_near() -> Result<()> {
    let Some(device) = host_device(1 << 30) else {
        return Ok(());
    };
    let [result, _] = distances(device, DType::BF16)?;
    println!("bf16: {result:.1e}");
    assert!(result <= 0.05, "{result:.1e}");
    Ok(())
}

/// The estimates of a few steps under the same conditions, which are prepared once or for each step.
fn steps(net: &UNet, device: Device, [prepare_each, captures]: [bool; 2]) -> Result<Vec<Vec<f32>>> {
    let there = |shape: &[usize], seed| numbers(shape.to_vec(), seed).to_device(device);
    let (context, condition) = (there(&[1, 1, 24], 92)?, there(&[1, 1, 4, 4, 4], 94)?);
    let added = [[6.0, 127.0, 0.02]];
    let prepare = || net.prepare(&context, &added, Some(&condition), 2);
    let mut prepared = prepare()?;
    let mut estimates = Vec::new();
    for step in 0..4 {
        if prepare_each {
            prepared = prepare()?;
        }
        let noisy = there(&[1, 2, 4, 4, 4], 100 + step)?;
        let levels = [0.3 - step as f32];
        let estimate = net.forward_prepared(&prepared, &noisy, &levels)?;
        estimates.push(estimate.to_device(Device::Cpu)?.to_vec());
    }
    let (captured, refusal) = (prepared.step().is_captured(), prepared.step().refusal());
    assert_eq!((captured, refusal), (captures, None));
    Ok(estimates)
}

#[test]
fn steps_that_are_captured_and_weights_that_are_brought_give_the_same_estimates() -> Result<()> {
    const ACTIVATION_BYTES: usize = 1 << 20;
    let Some(device) = host_device(1 << 30) else {
        return Ok(());
    };
    no_grad(|| {
        let (net, params) = network()?;
        let weights_bytes = 4 * params.values();
        let largest = params.iter().map(|entry| 4 * entry.param.get().elements());
        let budget_bytes = (2 * largest.max().expect("some")).max(weights_bytes / 3);
        let residency = params.place(device, usize::MAX)?;
        assert_eq!(residency.streamed_bytes(), 0);
        // A network that is prepared anew for each step never repeats one.
        let plain = steps(&net, device, [true, false])?;
        assert_eq!(steps(&net, device, [false, true])?, plain, "captured");
        let Some(small) = host_device(budget_bytes + ACTIVATION_BYTES) else {
            return Ok(());
        };
        let (net, params) = network()?;
        let residency = params.place(small, budget_bytes)?;
        assert!(residency.streamed_bytes() > weights_bytes / 3);
        assert_eq!(steps(&net, small, [false, false])?, plain, "brought");
        let peak = peak_device_bytes(small)?;
        println!(
            "weights of {weights_bytes} bytes within {budget_bytes}: peak {peak}, late {}",
            residency.late()
        );
        assert!(peak <= budget_bytes + ACTIVATION_BYTES);
        assert!(residency.late() < 2 * params.len());
        Ok(())
    })
}
