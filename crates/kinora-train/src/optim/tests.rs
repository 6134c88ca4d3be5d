use super::*;
use kinora_tensor::testing::{assert_close, numbers};

const PLAIN: AdamW = AdamW {
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 0.0,
    weight_decay: 0.0,
};

fn moved(optimiser: AdamW, start: &[f32], gradients: &[&[f32]], rate: f64) -> Vec<f32> {
    let param = Param::new(
        Tensor::from_slice(start, [start.len()])
            .expect("fills")
            .tracked(),
    );
    let mut moments = Moments::zeros(start.len());
    for (k, gradient) in gradients.iter().enumerate() {
        let gradient = Tensor::from_slice(gradient, [start.len()]).expect("fills");
        optimiser
            .step(&param, &mut moments, &gradient, 1.0, rate, k as u64 + 1)
            .expect("one step");
    }
    param.get().to_vec()
}

#[test]
fn the_first_step_is_the_sign_of_the_gradient() {
    // m̂ = g and v̂ = g² at t = 1, whatever the betas.
    let found = moved(PLAIN, &[1.0, 1.0, 1.0], &[&[3.0, -0.001, 70.0]], 0.1);
    assert_close(&found, &[0.9, 1.1, 0.9], 1e-6);
}

#[test]
fn a_steady_gradient_moves_by_the_learning_rate_at_every_step() {
    let gradient: &[f32] = &[2.0, -5.0];
    let found = moved(PLAIN, &[0.0, 0.0], &[gradient; 7], 0.01);
    assert_close(&found, &[-0.07, 0.07], 1e-5);
}

#[test]
fn decay_without_a_gradient_is_a_geometric_fall() {
    let optimiser = AdamW {
        weight_decay: 0.5,
        epsilon: 1e-8,
        ..PLAIN
    };
    let found = moved(optimiser, &[8.0], &[&[0.0_f32] as &[f32]; 3], 0.1);
    assert_close(&found, &[8.0 * 0.95_f32.powi(3)], 1e-6);
}

#[test]
fn agrees_with_torch() {
    // fixtures/train_adamw/make.py wrote these.
    let text = include_str!("../../../../fixtures/train_adamw/adamw.json");
    let golden: serde_json::Value = serde_json::from_str(text).expect("json");
    let list = |value: &serde_json::Value| -> Vec<f32> {
        serde_json::from_value(value.clone()).expect("a list of numbers")
    };
    let number = |key: &str| golden[key].as_f64().expect("a number");
    let optimiser = AdamW {
        beta1: number("beta1"),
        beta2: number("beta2"),
        epsilon: number("epsilon"),
        weight_decay: number("weight_decay"),
    };
    let gradients: Vec<Vec<f32>> = golden["gradients"]
        .as_array()
        .expect("a list")
        .iter()
        .map(list)
        .collect();
    let gradients: Vec<&[f32]> = gradients.iter().map(Vec::as_slice).collect();
    let found = moved(
        optimiser,
        &list(&golden["start"]),
        &gradients,
        number("learning_rate"),
    );
    assert_close(&found, &list(&golden["end"]), 1e-6);
}

#[test]
fn clipping_by_the_scale_is_clipping_the_gradient() -> Result<()> {
    let gradient = numbers([50], 1);
    let norm = global_norm([&gradient])?;
    let scale = clip_scale(norm, 0.25);
    let clipped: Vec<f32> = gradient.to_vec().iter().map(|g| g * scale).collect();
    let length = global_norm([&Tensor::from_vec(clipped, [50])?])?;
    assert!((length - 0.25).abs() < 1e-6);
    assert_eq!(clip_scale(norm, norm * 1.01), 1.0);
    Ok(())
}

#[test]
fn the_norm_of_many_is_the_norm_of_one() -> Result<()> {
    let parts = [
        Tensor::full(3.0, [40_000]),
        Tensor::full(-4.0, [10_000]),
        Tensor::zeros([3]),
    ];
    let expected = (9.0 * 40_000.0 + 16.0 * 10_000.0_f64).sqrt();
    assert!((global_norm(&parts)? - expected).abs() < 1e-9);
    Ok(())
}

#[test]
fn the_learning_rate_rises_in_a_line_and_falls_along_a_cosine() {
    let mut law = LearningRate {
        highest: 2.0,
        warm_up_steps: 10,
        decay: Decay::Cosine { last_share: 0.1 },
        steps: 110,
    };
    assert_eq!((law.at(1), law.at(5), law.at(10)), (0.2, 1.0, 2.0));
    assert!((law.at(60) - 1.1).abs() < 1e-12); // half way: the middle of 2 and 0.2
    assert!((law.at(110) - 0.2).abs() < 1e-12);
    law.decay = Decay::Constant;
    assert_eq!((law.at(10), law.at(110)), (2.0, 2.0));
}

#[test]
fn a_gradient_that_is_not_finite_is_named() -> Result<()> {
    check_finite(3, "unet.conv_in.weight", &numbers([4], 1))?;
    let broken = Tensor::from_vec(vec![1.0, f32::NAN], [2])?;
    let error = check_finite(3, "unet.conv_in.weight", &broken).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("step 3: the gradient of `unet.conv_in.weight` is NaN; the run stopped")
    );
    Ok(())
}

#[test]
fn after_n_steps_at_one_place_the_first_average_has_faded_to_decay_to_the_n() -> Result<()> {
    let weights = [Weight {
        name: "w".to_owned(),
        param: Param::new(Tensor::full(1.0, [2]).tracked()),
    }];
    let mut average = Average::new(&weights);
    weights[0].param.set(Tensor::full(5.0, [2]));
    let mut optimiser = Optimiser {
        adam: PLAIN,
        longest: f64::INFINITY,
        moments: vec![Some(Moments::zeros(2))],
    };
    for t in 1..=6 {
        let pace = Pace {
            learning_rate: 0.1,
            average_decay: 0.9,
            t,
        };
        // Without a gradient the weights stay; their average does not.
        optimiser.step(&weights, &[None], &mut average, pace, t)?;
    }
    let expected = 5.0 + (1.0 - 5.0) * 0.9_f32.powi(6);
    assert_close(&average.values()[0].to_vec(), &[expected; 2], 1e-6);
    assert_eq!(weights[0].param.get().to_vec(), [5.0, 5.0]);
    Ok(())
}
