//! The operations on the machine that stands in for a card, and the kernels under NVIDIA's compiler.

use super::attention::{chunked_attention, chunked_backward};
use super::fail_copies_after;
use super::host::say;
use super::launch::{Argument, Grid, Kernel, arguments};
use super::libraries::Surroundings;
use super::nvrtc::Compiler;
use super::sources::Source;
use crate::cpu::attention::Sizes;
use crate::testing::{assert_close, numbers};
use crate::{DType, Device, Order, Result, Tensor, host_device, host_device_with, ops, selfcheck};
use std::collections::BTreeSet;
use std::path::Path;

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// The closed list as the README tells it, but for what is made on the processor.
fn listed_operations() -> BTreeSet<String> {
    let readme = include_str!("../../README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let names = names.filter(|name| !["sinusoid", "Moments"].contains(name));
    names.map(str::to_owned).collect()
}

fn agrees_with_the_processor(dtype: DType) -> Result<()> {
    let Some(device) = host_device(1 << 30) else {
        return Ok(());
    };
    let mut misses = Vec::new();
    let mut tried = BTreeSet::new();
    selfcheck::check(device, dtype, |outcome| {
        tried.extend(outcome.name.split(' ').next().map(str::to_owned));
        if !outcome.holds() {
            misses.push(outcome);
        }
    })?;
    assert!(misses.is_empty(), "{misses:#?}");
    let listed = listed_operations();
    let missing: Vec<_> = listed.difference(&tried).collect();
    assert!(
        listed.len() > 30 && missing.is_empty(),
        "not tried: {missing:?}"
    );
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
fn attention_in_several_chunks_is_attention_in_one() -> Result<()> {
    let Some(device) = host_device(1 << 26) else {
        return Ok(());
    };
    for causal in [false, true] {
        let sizes = Sizes {
            batch: 2,
            n: 11,
            m: 11,
            heads: 3,
            d: 5,
            causal,
        };
        let on_card = |seed| numbers([2, 11, 15], seed).to_device(device);
        let [q, k, v, dout] = [on_card(1)?, on_card(2)?, on_card(3)?, on_card(4)?];
        let operands = [q.array()?, k.array()?, v.array()?];
        // 11 queries against 11 keys in 3 heads: 4 queries at a time, or all.
        let made = [4 * 4 * 3 * 11, 1 << 20].map(|bytes| -> Result<Vec<Vec<f32>>> {
            let out = chunked_attention(operands, sizes, bytes)?;
            let [dq, dk, dv] = chunked_backward(operands, dout.array()?, sizes, bytes)?;
            let values = |array| Ok(Tensor::from_values(array, q.shape())?.to_vec());
            [out, dq, dk, dv].into_iter().map(values).collect()
        });
        let [chunked, whole] = made;
        for (chunked, whole) in chunked?.iter().zip(whole?) {
            assert_close(chunked, &whole, 1e-6);
        }
    }
    Ok(())
}

#[test]
fn the_test_machine_notices_a_wrong_launch() -> Result<()> {
    let Some(device) = host_device(1 << 20) else {
        return Ok(());
    };
    let x = numbers([300], 1).to_device(device)?;
    let x = x.array()?;
    let launch = |name: &'static str, list: &[Argument]| {
        let kernel = Kernel {
            source: Source::Elementwise,
            name,
            dtype: DType::F32,
        };
        let outcome = x.board().launch(kernel, Grid::elements(300), list);
        outcome.map_err(|error| error.to_string())
    };
    let told = |name: &str, why: &str| Err(format!("{device}: kernel `{name}`: {why}"));
    let wrong = launch("affine", arguments![x, x, 300usize, 1.0]);
    assert_eq!(wrong, told("affine", "the number of arguments is wrong"));
    let wrong = launch("affine", arguments![x, x, 300, 1.0, 0.0]);
    assert_eq!(wrong, told("affine", "argument 3 has the wrong size"));
    let wrong = launch("affin", arguments![x]);
    assert_eq!(wrong, told("affin", "there is no such kernel"));
    assert_eq!(
        launch("affine", arguments![x, x, 300usize, 1.0, 0.0]),
        Ok(())
    );
    Ok(())
}

#[test]
#[should_panic(expected = "a kernel wrote outside an array of 1196 bytes")]
fn the_test_machine_notices_a_write_outside() {
    let Some(device) = host_device(1 << 20) else {
        panic!("a kernel wrote outside an array of 1196 bytes: not tried without a compiler");
    };
    let x = numbers([300], 1).to_device(device).unwrap();
    let x = x.array().unwrap();
    let short = x.like(299).unwrap();
    let kernel = Kernel {
        source: Source::Elementwise,
        name: "affine",
        dtype: DType::F32,
    };
    let list = arguments![x, &short, 300usize, 1.0, 0.0];
    let _ = x.board().launch(kernel, Grid::elements(300), list);
    drop(short);
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
fn a_limit_of_memory_is_kept_and_what_is_kept_for_later_is_given_up_first() -> Result<()> {
    let Some(device) = host_device(8 << 20) else {
        return Ok(());
    };
    crate::limit_device_bytes(device, 3 << 20)?;
    let large = Tensor::zeros([1 << 19]).to_device(device)?; // 2 MiB
    let error = ops::square(&large).unwrap_err().to_string();
    assert!(
        error.contains("2.0 MiB were asked for, and 1.0 of 3.0 MiB are free"),
        "{error}"
    );
    drop(large);
    // Another size: the 2 MiB that were kept have to go first.
    Tensor::zeros([3 << 18]).to_device(device)?;
    assert_eq!(crate::peak_device_bytes(device)?, 3 << 20);
    Ok(())
}

#[test]
fn a_copy_to_the_card_that_fails_is_an_error_and_takes_no_memory() -> Result<()> {
    let Some(device) = host_device(1 << 20) else {
        return Ok(());
    };
    fail_copies_after(device, 2); // of 1 KiB each
    let error = numbers([1000], 1)
        .to_device(device)
        .unwrap_err()
        .to_string();
    assert_eq!(error, format!("{device}: a copy failed, as it was told to"));
    fail_copies_after(device, usize::MAX);
    let x = numbers([1 << 18], 1);
    assert_eq!(x.to_device(device)?.to_vec(), x.to_vec());
    Ok(())
}

#[test]
fn what_is_copied_may_change_at_once() -> Result<()> {
    for order in [Order::WorkFirst, Order::CopiesFirst] {
        let Some(device) = host_device_with(1 << 20, order) else {
            return Ok(());
        };
        // Longer than all staging buffers together, in a buffer of the processor that is used again.
        let sums: Result<Vec<Tensor>> = (1..6)
            .map(|k| {
                let x = Tensor::full(k as f32, [5000]).to_device(device)?;
                ops::sum(&x)
            })
            .collect();
        for (sum, k) in sums?.iter().zip(1..) {
            assert_eq!(sum.to_vec(), [k as f32 * 5000.0]);
        }
    }
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
