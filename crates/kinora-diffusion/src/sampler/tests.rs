//! Held against data whose best denoiser, and whose ODE, are known in closed form.

use super::*;
use crate::karras;
use kinora_tensor::testing::{assert_close, numbers};

const MEAN: f32 = 0.5;
const VARIANCE: f32 = 0.25;

/// The best denoiser of data drawn from N(`MEAN`, `VARIANCE`).
fn gaussian(x: &Tensor, sigma: f32) -> Result<Tensor> {
    let total = VARIANCE + sigma * sigma;
    let noise_share = sigma * sigma / total;
    Ok(ops::affine(x, VARIANCE / total, noise_share * MEAN)?)
}

/// Where the ODE carries a start at noise level `from` once the level is `to`: the distance from
/// the mean shrinks with the standard deviation of the noised data.
fn carried(start: &[f32], from: f32, to: f32) -> Vec<f32> {
    let shrink = ((VARIANCE + to * to) / (VARIANCE + from * from)).sqrt();
    start.iter().map(|x| MEAN + (x - MEAN) * shrink).collect()
}

fn quiet(_: &Step<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Relative error of a sampler in `n` steps from σ = 10 to σ = 0.1.
fn error_of(sampler: Sampler, n: usize) -> f64 {
    let start = ops::scale(&numbers([64], 5), 10.0).unwrap();
    let mut sigmas = karras(n + 1, 0.1, 10.0, 3.0);
    sigmas.pop(); // the zero: every step keeps the method's own order
    let expected = carried(&start.to_vec(), 10.0, 0.1);
    let found = sampler.run::<Error>(&mut gaussian, start, &sigmas, &mut quiet);
    kinora_tensor::testing::relative_l2(&found.unwrap().to_vec(), &expected)
}

/// By what power of the step the error falls between 16 and 64 steps.
fn order_of(sampler: Sampler) -> f64 {
    (error_of(sampler, 16) / error_of(sampler, 64)).log2() / 2.0
}

#[test]
fn each_converges_at_its_order_to_the_known_solution() {
    for (sampler, order) in [
        (Sampler::Euler, 1.0),
        (Sampler::Heun, 2.0),
        (Sampler::DpmPp2M, 2.0),
    ] {
        let found = order_of(sampler);
        assert!((found - order).abs() < 0.3, "{sampler:?}: order {found:.2}");
        assert!(error_of(sampler, 64) < 0.05, "{sampler:?}");
    }
}

#[test]
fn the_denoiser_of_a_point_gives_it_in_one_step() -> Result<()> {
    let data = numbers([7], 1);
    for sampler in [Sampler::Euler, Sampler::Heun, Sampler::DpmPp2M] {
        let start = ops::scale(&numbers([7], 2), 700.0)?;
        let mut denoise = |_: &Tensor, _: f32| Ok::<_, Error>(data.clone());
        let found = sampler.run(&mut denoise, start, &[700.0, 0.0], &mut quiet)?;
        assert_close(&found.to_vec(), &data.to_vec(), 1e-4);
    }
    Ok(())
}

#[test]
fn evaluations_are_as_many_as_told() -> Result<()> {
    for sampler in [Sampler::Euler, Sampler::Heun, Sampler::DpmPp2M] {
        for steps in [1, 2, 9] {
            let mut asked = 0;
            let mut denoise = |x: &Tensor, sigma: f32| {
                asked += 1;
                gaussian(x, sigma)
            };
            let sigmas = karras(steps, 0.1, 10.0, 7.0);
            sampler.run(&mut denoise, numbers([3], 1), &sigmas, &mut quiet)?;
            assert_eq!(asked, sampler.evaluations(steps), "{sampler:?}");
        }
    }
    Ok(())
}

#[test]
fn churn_keeps_the_law_of_the_data() -> Result<()> {
    // Many independent places, so that their mean and variance are those of the law.
    const N: usize = 20_000;
    let mut random = Philox::new(11, 0);
    let start = ops::affine(&random.normal([N])?, 20.0, MEAN)?;
    let churn = Churn {
        s_churn: 40.0,
        ..Churn::NONE
    };
    let sigmas = karras(400, 0.01, 20.0, 7.0);
    let found = euler_churned(
        &mut gaussian,
        start,
        &sigmas,
        &mut quiet,
        &churn,
        &mut random,
    )?
    .to_vec();
    let mean = found.iter().sum::<f32>() / N as f32;
    let variance = found.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / N as f32;
    assert!((mean - MEAN).abs() < 0.02, "{mean}");
    assert!((variance - VARIANCE).abs() < 0.015, "{variance}");
    Ok(())
}

#[test]
fn churn_stays_inside_its_window_and_its_limit() {
    let churn = Churn {
        s_churn: 40.0,
        s_tmin: 0.05,
        s_tmax: 50.0,
        s_noise: 1.0,
    };
    assert_eq!(churn.gamma(0.01, 200), 0.0);
    assert_eq!(churn.gamma(80.0, 200), 0.0);
    assert_eq!(churn.gamma(1.0, 200), 0.2);
    assert!((churn.gamma(1.0, 4) - 0.414_213_5).abs() < 1e-6);
    assert_eq!(Churn::NONE.gamma(1.0, 4), 0.0);
}

#[test]
fn churn_is_a_function_of_its_seed() -> Result<()> {
    let sigmas = karras(6, 0.01, 20.0, 7.0);
    let churn = Churn {
        s_churn: 3.0,
        ..Churn::NONE
    };
    let run = |seed| {
        let mut random = Philox::new(seed, 0);
        euler_churned::<Error>(
            &mut gaussian,
            numbers([9], 1),
            &sigmas,
            &mut quiet,
            &churn,
            &mut random,
        )
        .unwrap()
        .to_vec()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    Ok(())
}

#[test]
fn the_observer_sees_every_step_and_can_stop() {
    let sigmas = karras(5, 0.1, 10.0, 7.0);
    let mut seen = Vec::new();
    let mut observer = |step: &Step<'_>| {
        assert_eq!(step.x.dims(), step.denoised.dims());
        seen.push((step.done, step.steps, step.sigma));
        if step.done == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let error = euler::<Error>(&mut gaussian, numbers([3], 1), &sigmas, &mut observer);
    assert_eq!(
        error.unwrap_err().to_string(),
        "stopped after step 3 of 5, as asked"
    );
    assert_eq!(
        seen,
        [(1, 5, sigmas[0]), (2, 5, sigmas[1]), (3, 5, sigmas[2])]
    );
}

#[test]
fn the_network_s_own_error_comes_through() {
    #[derive(Debug, thiserror::Error)]
    enum NetworkError {
        #[error("out of memory")]
        Memory,
        #[error(transparent)]
        Diffusion(#[from] Error),
    }
    let mut denoise = |_: &Tensor, _: f32| Err::<Tensor, _>(NetworkError::Memory);
    let found = heun(&mut denoise, numbers([3], 1), &[1.0, 0.0], &mut quiet);
    assert!(matches!(found, Err(NetworkError::Memory)));
}

#[test]
fn refuses_levels_that_do_not_fall() {
    for sigmas in [
        vec![],
        vec![1.0],
        vec![1.0, 1.0],
        vec![1.0, 2.0],
        vec![1.0, -1.0],
        vec![f32::NAN, 0.0],
    ] {
        let found = euler::<Error>(&mut gaussian, numbers([3], 1), &sigmas, &mut quiet);
        assert!(matches!(found, Err(Error::Schedule { .. })), "{sigmas:?}");
    }
}
