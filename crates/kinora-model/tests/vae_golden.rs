//! Agreement of the autoencoder with diffusers; `fixtures/vae/make.py` made the goldens.

#![allow(clippy::unwrap_used)] // A golden that cannot be read fails its test.

mod golden;

use golden::{Golden, fixture};
use kinora_model::params::Params;
use kinora_model::vae::Vae;
use kinora_model::weights::{Opening, open_vae};
use kinora_tensor::testing::{assert_close, relative_l2};
use kinora_tensor::{Tensor, ops};

/// Met with room to spare by plain convolutions; fast ones round more.
const TOLERANCE: f64 = 1e-5;
const GRADIENT_TOLERANCE: f64 = 2e-5;
/// The derivative with respect to a mix factor is one number, a sum over a whole array that nearly
/// cancels: what is left of it magnifies the rounding of its terms.
const MIX_FACTOR_TOLERANCE: f64 = 3e-4;

fn open(name: &str) -> (Vae, Params, Golden) {
    let part = open_vae(fixture(&format!("vae/{name}")), &Opening::default()).unwrap();
    let source = part.source();
    let vae = Vae::new(&source, &part.config).unwrap();
    source.check_unused().unwrap();
    let golden = Golden::open(&format!("vae/{name}_golden.safetensors"));
    (vae, source.params(), golden)
}

fn check(found: &Tensor, golden: &Golden, name: &str) {
    let expected = golden.get(name);
    assert_eq!(found.dims(), expected.dims(), "{name}");
    assert_close(&found.to_vec(), &expected.to_vec(), TOLERANCE);
}

fn check_encode(vae: &Vae, golden: &Golden) {
    let moments = vae.encode(&golden.get("encode.images")).unwrap();
    check(&moments.mean, golden, "encode.mean");
    check(&moments.logvar, golden, "encode.logvar");
    // Two of the four log-variances are clamped and large; the others must agree by themselves.
    let free = |x: &Tensor| ops::narrow(x, 3, 2, 2).unwrap().to_vec();
    let expected = golden.get("encode.logvar");
    assert_close(&free(&moments.logvar), &free(&expected), TOLERANCE);
    let clamped = ops::narrow(&expected, 3, 0, 2).unwrap().to_vec();
    assert!(clamped.iter().all(|v| *v == 20.0 || *v == -30.0));
}

#[test]
fn pictures_are_encoded_as_diffusers_does() {
    for name in ["temporal", "image"] {
        let (vae, _, golden) = open(name);
        check_encode(&vae, &golden);
    }
}

#[test]
fn clips_are_decoded_as_diffusers_does() {
    let (vae, _, golden) = open("temporal");
    let latents = golden.get("decode.latents");
    check(&vae.decode(&latents).unwrap(), &golden, "decode.frames");
    let chunked = vae.decode_chunked(&latents, 4).unwrap();
    check(&chunked, &golden, "decode.chunked_by_4");
    let still = ops::narrow(&ops::narrow(&latents, 0, 0, 1).unwrap(), 1, 0, 1).unwrap();
    check(&vae.decode(&still).unwrap(), &golden, "decode.still");
}

#[test]
fn chunks_that_hold_everything_change_nothing() {
    let (vae, _, golden) = open("temporal");
    let latents = ops::narrow(&golden.get("decode.latents"), 0, 0, 1).unwrap();
    let whole = vae.decode(&latents).unwrap().to_vec();
    let chunked = |frames| vae.decode_chunked(&latents, frames).unwrap().to_vec();
    assert_eq!(chunked(5), whole);
    assert_eq!(chunked(99), whole);
    assert!(relative_l2(&chunked(2), &whole) > 1e-2);
}

#[test]
fn pictures_are_decoded_as_diffusers_does() {
    let (vae, _, golden) = open("image");
    let frames = vae.decode(&golden.get("decode.latents")).unwrap();
    check(&frames, &golden, "decode.frames");
}

/// The gradients of the golden under `prefix`, and of its input, for the loss that `loss` makes.
fn check_gradients(
    params: &Params,
    golden: &Golden,
    [prefix, input]: [&str; 2],
    loss: impl FnOnce(&Tensor) -> Tensor,
) {
    let x = golden.get(input).tracked();
    for entry in params {
        entry.param.set_trainable(true);
    }
    let gradients = loss(&x).backward().unwrap();
    let close = |leaf: &Tensor, name: &str| {
        let found = gradients
            .get(leaf)
            .unwrap_or_else(|| panic!("no gradient of {name}"));
        let expected = golden.get(name);
        assert_eq!(found.dims(), expected.dims(), "{name}");
        let distance = relative_l2(&found.to_vec(), &expected.to_vec());
        let most = if name.ends_with("mix_factor") {
            MIX_FACTOR_TOLERANCE
        } else {
            GRADIENT_TOLERANCE
        };
        assert!(distance <= most, "{name}: {distance:.2e}");
    };
    let (_, last) = input.split_once('.').unwrap();
    close(&x, &format!("{prefix}{last}"));
    let mut checked = 0;
    let file = golden.file();
    let of_weights = |name: &&str| name.starts_with(prefix) && !name.ends_with(last);
    for name in file.names().into_iter().filter(of_weights) {
        let param = params.get(&name[prefix.len()..]).unwrap();
        close(&param.get(), name);
        checked += 1;
    }
    assert!(checked > 0);
}

fn encode_loss(vae: &Vae, golden: &Golden, x: &Tensor) -> Tensor {
    let moments = vae.encode(x).unwrap();
    let weighted = |x: &Tensor, name| {
        let product = ops::mul(x, &golden.get(name)).unwrap();
        ops::sum(&product).unwrap()
    };
    ops::add(
        &weighted(&moments.mean, "encode.mean_weights"),
        &weighted(&moments.logvar, "encode.logvar_weights"),
    )
    .unwrap()
}

fn decode_loss(vae: &Vae, golden: &Golden, x: &Tensor) -> Tensor {
    let frames = vae.decode(x).unwrap();
    ops::sum(&ops::mul(&frames, &golden.get("decode.weights")).unwrap()).unwrap()
}

#[test]
fn gradients_are_those_of_diffusers() {
    for name in ["temporal", "image"] {
        let (vae, params, golden) = open(name);
        check_gradients(&params, &golden, ["encode.grad.", "encode.images"], |x| {
            encode_loss(&vae, &golden, x)
        });
    }
    let (vae, params, golden) = open("temporal");
    check_gradients(&params, &golden, ["decode.grad.", "decode.latents"], |x| {
        decode_loss(&vae, &golden, x)
    });
}

#[test]
fn recomputing_changes_no_gradient() {
    let (vae, params, golden) = open("temporal");
    for entry in &params {
        entry.param.set_trainable(true);
    }
    let all = |vae: &Vae| {
        let loss = ops::add(
            &encode_loss(vae, &golden, &golden.get("encode.images")),
            &decode_loss(vae, &golden, &golden.get("decode.latents")),
        )
        .unwrap();
        let gradients = loss.backward().unwrap();
        let of = |name: &str| {
            gradients
                .get(&params.get(name).unwrap().get())
                .unwrap()
                .to_vec()
        };
        params
            .iter()
            .map(|entry| of(&entry.name))
            .collect::<Vec<_>>()
    };
    let kept = all(&vae);
    let recomputed = all(&vae.clone().recomputing());
    assert!(kept == recomputed);
}
