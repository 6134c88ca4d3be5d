//! The operations on the machine that stands in for a card, and the kernels under NVIDIA's compiler.

use super::host::say;
use super::libraries::Surroundings;
use super::nvrtc::Compiler;
use super::sources::Source;
use crate::testing::numbers;
use crate::{DType, Device, Result, Tensor, host_device, ops, selfcheck};
use std::path::Path;

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

fn agrees_with_the_processor(dtype: DType) -> Result<()> {
    let Some(device) = host_device(1 << 30) else {
        return Ok(());
    };
    let mut misses = Vec::new();
    let mut count = 0;
    selfcheck::check(device, dtype, |outcome| {
        count += 1;
        if !outcome.holds() {
            misses.push(outcome);
        }
    })?;
    assert!(misses.is_empty(), "{misses:#?}");
    assert!(count > 60, "{count} cases");
    Ok(())
}

#[test]
fn every_operation_agrees_with_the_processor_in_f32() -> Result<()> {
    agrees_with_the_processor(DType::F32)
}

#[test]
fn every_operation_agrees_with_the_processor_in_f16() -> Result<()> {
    agrees_with_the_processor(DType::F16)
}

#[test]
fn every_operation_agrees_with_the_processor_in_bf16_with_weights_in_f32() -> Result<()> {
    agrees_with_the_processor(DType::BF16)
}

#[test]
fn casts_round_as_the_processor_does() -> Result<()> {
    let Some(device) = host_device(1 << 20) else {
        return Ok(());
    };
    let mut values = numbers([1000], 1).to_vec();
    values.extend([
        0.0, -0.0, 1e-7, 6e-8, 3e-8, -2e-8, 65504.0, 65519.9, 65520.0, -1e9,
    ]);
    values.extend([
        6.1e-5,
        6.097e-5,
        1.0009766,
        1.0029297,
        f32::INFINITY,
        f32::NAN,
        1e-40,
    ]);
    let x = Tensor::from_slice(&values, [values.len()])?;
    for from in TYPES {
        for to in TYPES {
            let stored = x.to_dtype(from)?;
            let expected = stored.to_dtype(to)?.to_vec();
            let found = stored.to_device(device)?.to_dtype(to)?;
            assert_eq!((found.device(), found.dtype()), (device, to));
            for (found, expected) in found.to_vec().iter().zip(expected) {
                let both_nan = found.is_nan() && expected.is_nan();
                assert!(
                    both_nan || found.to_bits() == expected.to_bits(),
                    "{from} to {to}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn operands_on_two_devices_are_refused() -> Result<()> {
    let Some(device) = host_device(1 << 20) else {
        return Ok(());
    };
    let x = numbers([2, 3], 1);
    let error = ops::add(&x.to_device(device)?, &x).unwrap_err().to_string();
    let expected = format!(
        "add: one array lies on {device}, another on cpu; bring them together with `to_device`"
    );
    assert_eq!(error, expected);
    Ok(())
}

#[test]
fn memory_that_is_not_there_is_a_sentence_and_comes_back() -> Result<()> {
    let Some(device) = host_device(3 << 20) else {
        return Ok(());
    };
    let large = Tensor::zeros([1 << 19]).to_device(device)?; // 2 MiB
    let error = ops::square(&large).unwrap_err().to_string();
    let expected = format!(
        "{device}: out of memory: 2.0 MiB were asked for, and 1.0 of 3.0 MiB are free; take fewer \
         frames, a smaller picture or weights in 16 bits, or end what else uses the card"
    );
    assert_eq!(error, expected);
    drop(large);
    ops::square(&Tensor::zeros([1 << 17]).to_device(device)?)?;
    Ok(())
}

#[test]
fn a_card_that_is_not_there_is_a_sentence() {
    // Where there is a driver, it has no card of this number.
    let error = numbers([1], 1).to_device(Device::Cuda(999)).unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("cuda:999: "), "{error}");
    let no_driver = error.contains("libcuda.so.1");
    assert!(
        no_driver || error.contains("cards") || error.contains("driver"),
        "{error}"
    );
}

#[test]
fn every_kernel_compiles_for_every_card() {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/nvrtc");
    let mut surroundings = Surroundings::of_this_process();
    surroundings.toolkits.insert(0, unpacked);
    let compiler = match Compiler::in_places(&surroundings) {
        Ok(compiler) => compiler,
        Err(why) => {
            return say(&format!(
                "skipped: kernels were not compiled for cards: {why}"
            ));
        }
    };
    let version = compiler.version().unwrap();
    assert!(version >= (12, 0), "{version:?}");
    for (source, dtype) in Source::ALL.into_iter().flat_map(|s| TYPES.map(|t| (s, t))) {
        for sm in [80, 90, 120] {
            let made = compiler.compile(&source.whole(dtype), source.name(), sm);
            let code = made.unwrap_or_else(|log| panic!("{source:?} {dtype} sm_{sm}:\n{log}"));
            assert!(code.starts_with(b"\x7fELF"), "{source:?} {dtype} sm_{sm}");
        }
    }
    let error = compiler
        .compile("KERNEL(nothing", "nothing", 90)
        .unwrap_err();
    assert!(error.contains("nothing"), "{error}");
}
