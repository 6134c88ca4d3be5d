//! Whole networks against diffusers, and against themselves by another way. The goldens and the
//! script that made them are in `fixtures/unet`.

use kinora_model::Result;
use kinora_model::params::{Params, Source};
use kinora_model::unet::{Pass, UNet, UNetConfig};
use kinora_tensor::testing::{numbers, relative_l2};
use kinora_tensor::{Gradients, Tensor, no_grad, ops};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

type Arrays = HashMap<String, Tensor>;

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/unet")
        .join(file)
}

fn arrays(file: &str) -> Arrays {
    let bytes = std::fs::read(fixture(file)).expect("run fixtures/unet/make.py");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let read = |(name, view): (&str, TensorView)| {
        let values: Vec<f32> = match view.dtype() {
            Dtype::F16 => {
                let bits = view.data().as_chunks::<2>().0.iter();
                bits.map(|b| half::f16::from_le_bytes(*b).to_f32())
                    .collect()
            }
            _ => {
                let bits = view.data().as_chunks::<4>().0.iter();
                bits.map(|b| f32::from_le_bytes(*b)).collect()
            }
        };
        let tensor = Tensor::from_vec(values, view.shape()).expect("the file's own shape");
        (name.to_owned(), tensor)
    };
    file.iter().map(read).collect()
}

/// The network of a case: its own weights where it has some, those of `image` elsewhere.
fn network(case: &str) -> Result<(UNet, Params)> {
    let text = std::fs::read_to_string(fixture(&format!("{case}.json"))).expect("fixture");
    let source = Source::fresh(0);
    let net = UNet::new(&source, &UNetConfig::from_json(&text)?)?;
    let mut weights = arrays("image.weights.safetensors");
    weights.extend(arrays(&format!("{case}.weights.safetensors")));
    let params = source.params();
    for entry in &params {
        let value = weights.remove(&entry.name).expect(&entry.name);
        let dims = entry.param.get().dims().to_vec();
        assert_eq!(
            entry.layout.file_dims(&dims),
            value.dims(),
            "{}",
            entry.name
        );
        let moved = entry.layout.memory_from_file(&value.to_vec(), &dims);
        entry.param.set(Tensor::from_vec(moved, dims)?);
    }
    assert!(weights.is_empty(), "not used: {:?}", weights.keys());
    Ok((net, params))
}

/// The micro-conditions of each clip.
fn added(golden: &Arrays) -> Vec<Vec<f32>> {
    let values = &golden["added"];
    let rows = values.to_vec();
    rows.chunks_exact(values.dims()[1])
        .map(<[f32]>::to_vec)
        .collect()
}

fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    relative_l2(&found.to_vec(), &expected.to_vec())
}

fn halves(x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
    let noisy = ops::narrow(x, 4, 0, 4)?;
    let rest = x.dims()[4] - 4;
    let condition = (rest > 0).then(|| ops::narrow(x, 4, 4, rest));
    Ok((noisy, condition.transpose()?))
}

#[test]
fn whole_networks_give_what_diffusers_gives() -> Result<()> {
    for (case, tokens) in [
        ("image", vec![1, 4]),
        ("text", vec![5]),
        ("interpolation", vec![2]),
    ] {
        let golden = arrays(&format!("{case}.safetensors"));
        let (net, _) = network(case)?;
        let (x, c_noise, added) = (&golden["x"], golden["c_noise"].to_vec(), added(&golden));
        for n in tokens {
            let (context, expected) =
                (&golden[&format!("context.{n}")], &golden[&format!("y.{n}")]);
            let found = net.forward(x, &c_noise, context, &added, Pass::default())?;
            let off = distance(&found, expected);
            println!("{case}, {n} tokens: {off:.1e}");
            assert!(off <= 1e-5, "{case}, {n} tokens: {off:.1e}");

            let (noisy, condition) = halves(x)?;
            let prepared = net.prepare(context, &added, condition.as_ref(), x.dims()[1])?;
            let again = net.forward_prepared(&prepared, &noisy, &c_noise)?;
            let off = distance(&again, &found);
            println!("{case}, {n} tokens, prepared: {off:.1e}");
            // The first convolution rounds differently; behind it the code is the same.
            assert!(off <= 3e-6, "{case}, {n} tokens, prepared: {off:.1e}");
        }
    }
    Ok(())
}

/// The derivatives of sum(seed · output), by every parameter and by the input.
fn derivatives(
    (net, params): &(UNet, Params),
    golden: &Arrays,
    tokens: usize,
    pass: Pass,
) -> Result<(Gradients, Tensor)> {
    for entry in params {
        entry.param.set_trainable(true);
    }
    let x = golden["x"].tracked();
    let context = &golden[&format!("context.{tokens}")];
    let y = net.forward(
        &x,
        &golden["c_noise"].to_vec(),
        context,
        &added(golden),
        pass,
    )?;
    let loss = ops::sum(&ops::mul(&y, &golden[&format!("seed.{tokens}")])?)?;
    Ok((loss.backward()?, x))
}

#[test]
fn derivatives_are_those_of_diffusers_with_and_without_recomputation() -> Result<()> {
    let golden = arrays("image.safetensors");
    let network = network("image")?;
    for (tokens, recompute) in [(1, false), (1, true), (4, false), (4, true)] {
        let pass = Pass {
            recompute,
            ..Pass::default()
        };
        let (gradients, x) = derivatives(&network, &golden, tokens, pass)?;
        let prefix = format!("grad.{tokens}.");
        let mut worst = 0f64;
        for (name, expected) in golden.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            let name = &name[prefix.len()..];
            if name == "x" {
                worst = worst.max(distance(gradients.get(&x).expect("the input's"), expected));
                continue;
            }
            let entry = network
                .1
                .iter()
                .find(|entry| entry.name == name)
                .expect(name);
            let found = gradients.get(&entry.param.get());
            if tokens == 1 && name.ends_with("attn2.to_q.weight") {
                assert!(
                    found.is_none(),
                    "a query cannot matter where there is one key"
                );
                continue;
            }
            let found = found.unwrap_or_else(|| panic!("no gradient for {name}"));
            let dims = found.dims().to_vec();
            let moved = entry.layout.file_from_memory(&found.to_vec(), &dims);
            let off = relative_l2(&moved, &expected.to_vec());
            assert!(off <= 1e-4, "{tokens} tokens, {name}: {off:.1e}");
            worst = worst.max(off);
        }
        println!("{tokens} tokens, recompute {recompute}: at most {worst:.1e}");
        assert!(worst > 0.0 && worst <= 1e-4);
    }
    Ok(())
}

/// Which parameters cannot influence the result of a context of one token.
fn without_influence(name: &str) -> bool {
    let of_query = name.contains("attn2.to_q.") || name.contains("attn2.to_k.");
    let before_query = name.contains("transformer_blocks.") && name.contains(".norm2.");
    of_query || before_query
}

#[test]
fn every_parameter_that_matters_gets_a_gradient_and_no_other() -> Result<()> {
    let golden = arrays("image.safetensors");
    let network = network("image")?;
    for image_only in [false, true] {
        let pass = Pass {
            image_only,
            recompute: true,
        };
        for tokens in [1, 4] {
            let (gradients, _) = derivatives(&network, &golden, tokens, pass)?;
            for entry in &network.1 {
                let name = &entry.name;
                let along_time = name.contains("temporal_")
                    || name.contains("time_mixer")
                    || name.contains("time_pos_embed");
                let idle = image_only && along_time || tokens == 1 && without_influence(name);
                let found = gradients.get(&entry.param.get());
                assert_eq!(
                    found.is_some(),
                    !idle,
                    "{name}, {tokens} tokens, image {image_only}"
                );
                let finite = found.is_none_or(|g| g.to_vec().iter().all(|v| v.is_finite()));
                assert!(finite, "{name}");
            }
        }
    }
    Ok(())
}

#[test]
fn images_alone_are_one_frame_whatever_the_other_frames_are() -> Result<()> {
    let golden = arrays("image.safetensors");
    let (net, _) = network("image")?;
    let pass = Pass {
        image_only: true,
        ..Pass::default()
    };
    let (c_noise, context, added) = (
        golden["c_noise"].to_vec(),
        &golden["context.1"],
        added(&golden),
    );
    let all = net.forward(&golden["x"], &c_noise, context, &added, pass)?;
    let second = ops::narrow(&golden["x"], 1, 1, 1)?;
    let alone = net.forward(&second, &c_noise, context, &added, pass)?;
    // Three frames and one may be convolved by different algorithms, which round differently.
    let off = distance(&alone, &ops::narrow(&all, 1, 1, 1)?);
    assert!(off <= 3e-6, "{off:.1e}");
    Ok(())
}

#[test]
fn a_fresh_network_begins_with_zero_and_leaves_its_residual_branches_out() -> Result<()> {
    let text = std::fs::read_to_string(fixture("image.json")).expect("fixture");
    let source = Source::fresh(5);
    let net = UNet::new(&source, &UNetConfig::from_json(&text)?)?;
    let (x, context) = (numbers([1, 2, 4, 4, 8], 1), numbers([1, 1, 24], 2));
    let y = no_grad(|| net.forward(&x, &[0.1], &context, &[[6.0, 127.0, 0.02]], Pass::default()))?;
    assert!(y.to_vec().iter().all(|v| *v == 0.0));
    for entry in &source.params() {
        let value = entry.param.get().to_vec();
        let name = entry.name.as_str();
        if name.ends_with("mix_factor") {
            assert_eq!(value, [0.5], "{name}");
        }
        let ends = ["conv2.weight", "proj_out.weight", "conv_out.weight"];
        let zero = value.iter().all(|v| *v == 0.0);
        let is_end = ends.iter().any(|end| name.ends_with(end));
        assert!(!name.ends_with("weight") || zero == is_end, "{name}");
    }
    Ok(())
}

#[test]
fn refusals_name_the_argument() -> Result<()> {
    let golden = arrays("image.safetensors");
    let (net, _) = network("image")?;
    let (x, context) = (&golden["x"], &golden["context.1"]);
    let (c_noise, added) = ([0.1, 0.2], added(&golden));
    let pass = Pass::default();
    let refusal = |result: Result<Tensor>| result.expect_err("refused").to_string();
    let (noisy, condition) = halves(x)?;

    let found = refusal(net.forward(&noisy, &c_noise, context, &added, pass));
    assert_eq!(
        found,
        "x: expected clips [b, t, h, w, 8], found [2, 3, 7, 5, 4]"
    );
    let found = refusal(net.forward(x, &c_noise[..1], context, &added, pass));
    assert_eq!(
        found,
        "c_noise: expected one value for each of 2 clips, found 1"
    );
    let found = refusal(net.forward(x, &c_noise, context, &added[..1], pass));
    assert_eq!(
        found,
        "added: expected 3 micro-conditions for each of 2 clips, found [3]"
    );
    let one = ops::narrow(context, 0, 0, 1)?;
    let found = refusal(net.forward(x, &c_noise, &one, &added, pass));
    assert_eq!(
        found,
        "context: expected tokens [2, n, d] with n ≥ 1, found [1, 1, 24]"
    );

    let error = net
        .prepare(context, &added, None, 3)
        .expect_err("refused")
        .to_string();
    assert_eq!(
        error,
        "condition: this network needs condition latents of 4 channels"
    );
    let prepared = net.prepare(context, &added, condition.as_ref(), 3)?;
    let found = refusal(net.forward_prepared(&prepared, &ops::narrow(&noisy, 1, 0, 2)?, &c_noise));
    assert_eq!(
        found,
        "noisy latents: expected the 2 clips of 3 frames that were prepared, found [2, 2, 7, 5, 4]"
    );
    Ok(())
}
