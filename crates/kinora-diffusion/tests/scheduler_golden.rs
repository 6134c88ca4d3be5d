//! Agreement with diffusers' EulerDiscreteScheduler; `fixtures/scheduler/make.py` made the golden.

#![allow(clippy::unwrap_used)] // A golden that cannot be read fails its test.

use kinora_diffusion::{Error, LinearGuider, initial_deviation, karras, sampler, v_scaling};
use kinora_tensor::testing::assert_close;
use kinora_tensor::{Tensor, ops};
use safetensors::SafeTensors;
use std::ops::ControlFlow;

struct Golden(Vec<u8>);

impl Golden {
    fn read() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/scheduler/golden.safetensors"
        );
        Golden(std::fs::read(path).unwrap())
    }

    fn tensor(&self, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        let bytes = view.data().chunks_exact(4);
        let values = bytes.map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        Tensor::from_vec(values.collect(), view.shape()).unwrap()
    }
}

#[test]
fn the_schedule_is_that_of_diffusers() {
    let golden = Golden::read();
    for n in [1, 2, 5, 25, 30] {
        let sigmas = karras(n, 0.002, 700.0, 7.0);
        assert_eq!(sigmas, golden.tensor(&format!("sigmas_{n}")).to_vec());
        let labels: Vec<f32> = sigmas[..n].iter().map(|s| v_scaling(*s).c_noise).collect();
        let timesteps = golden.tensor(&format!("timesteps_{n}")).to_vec();
        assert_close(&labels, &timesteps, 1e-7);
        let init = golden.tensor(&format!("init_{n}")).to_vec();
        assert_eq!(vec![initial_deviation(sigmas[0])], init);
    }
}

#[test]
fn every_euler_step_is_that_of_diffusers() {
    let golden = Golden::read();
    let (a, b) = (golden.tensor("a"), golden.tensor("b"));
    let mut denoise = |x: &Tensor, sigma: f32| {
        let scaling = v_scaling(sigma);
        let v = ops::add(&ops::mul(&a, &scaling.input(x)?)?, &b)?;
        scaling.denoised(x, &v)
    };
    let mut observer = |step: &sampler::Step<'_>| {
        let expected = golden.tensor(&format!("x_{}", step.done - 1));
        assert_close(&step.x.to_vec(), &expected.to_vec(), 1e-6);
        ControlFlow::Continue(())
    };
    let sigmas = karras(25, 0.002, 700.0, 7.0);
    let start = golden.tensor("start");
    let found = sampler::euler::<Error>(&mut denoise, start, &sigmas, &mut observer).unwrap();
    assert_close(&found.to_vec(), &golden.tensor("x_24").to_vec(), 1e-6);
}

#[test]
fn guidance_is_spread_over_frames_as_pytorch_spreads_it() {
    let golden = Golden::read();
    let guider = LinearGuider { min: 1.0, max: 3.0 };
    for frames in [1, 2, 3, 14, 25] {
        let expected = golden.tensor(&format!("scales_{frames}")).to_vec();
        assert_eq!(guider.scales(frames), expected);
    }
}
