use super::*;
use crate::testing::numbers;
use crate::{host_device, ops};

const STEP: AdamW = AdamW {
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weight_decay: 0.01,
    learning_rate: 1e-2,
    t: 1,
    gradient_scale: 0.7,
    average_decay: 0.75,
};

/// Lengths around a warp, a block of threads and a stretch of the kernel, and one of nothing.
const LENGTHS: [usize; 9] = [1, 3, 0, 255, 1023, 16_384, 16_385, 70_001, 2];

/// Weights, moments and averages of arrays of these lengths; every third is without a gradient, every
/// fourth without an average.
struct Model {
    params: Vec<Param>,
    m: Vec<Tensor>,
    v: Vec<Tensor>,
    averages: Vec<Tensor>,
}

impl Model {
    fn new(device: Device) -> Result<Model> {
        let make = |seed: u64| -> Result<Vec<Tensor>> {
            let seeds = (seed..).zip(LENGTHS);
            let made = seeds.map(|(seed, len)| numbers([len], seed).to_device(device));
            made.collect()
        };
        let squares = make(300)?.iter().map(ops::square).collect::<Result<_>>()?;
        Ok(Model {
            params: make(100)?.iter().map(|w| Param::new(w.tracked())).collect(),
            m: make(200)?,
            v: squares,
            averages: make(400)?,
        })
    }

    fn steps(&mut self, device: Device, count: u64) -> Result<()> {
        for t in 1..=count {
            let gradients: Vec<Tensor> = (t * 1000..)
                .zip(LENGTHS)
                .map(|(seed, len)| numbers([len], seed).to_device(device))
                .collect::<Result<_>>()?;
            let state = self.m.iter_mut().zip(&mut self.v).zip(&mut self.averages);
            let all = self.params.iter().zip(state).zip(&gradients).enumerate();
            let mut trained: Vec<Trained<'_>> = all
                .map(|(k, ((param, ((m, v), average)), gradient))| Trained {
                    param,
                    gradient: (k % 3 != 2).then_some(gradient),
                    m,
                    v,
                    average: (k % 4 != 3).then_some(average),
                })
                .collect();
            adamw(&mut trained, &AdamW { t, ..STEP })?;
        }
        Ok(())
    }

    fn values(&self) -> Vec<Vec<f32>> {
        let weights = self.params.iter().map(|param| param.get().to_vec());
        let kept = [&self.m, &self.v, &self.averages].into_iter().flatten();
        weights.chain(kept.map(Tensor::to_vec)).collect()
    }
}

#[test]
fn steps_on_a_card_are_the_processors_to_the_bit() -> Result<()> {
    // On a real card products and sums are fused, which is one rounding less.
    let Some(device) = host_device(1 << 26) else {
        return Ok(());
    };
    let (mut here, mut there) = (Model::new(Device::Cpu)?, Model::new(device)?);
    here.steps(Device::Cpu, 3)?;
    there.steps(device, 3)?;
    assert_eq!(here.values(), there.values());
    for param in &there.params {
        assert_eq!(param.get().device(), device);
        assert!(param.is_trainable());
    }
    Ok(())
}

#[test]
fn what_has_no_gradient_stays_and_its_average_comes_nearer() -> Result<()> {
    let devices = [Some(Device::Cpu), host_device(1 << 26)];
    for device in devices.into_iter().flatten() {
        let (before, mut after) = (Model::new(device)?, Model::new(device)?);
        after.steps(device, 1)?;
        let k = 5; // Neither a gradient at 5 nor a missing average.
        for (one, other) in [
            (before.params[k].get(), after.params[k].get()),
            (before.m[k].clone(), after.m[k].clone()),
            (before.v[k].clone(), after.v[k].clone()),
            (before.averages[3].clone(), after.averages[3].clone()),
        ] {
            assert_eq!(one.to_vec(), other.to_vec());
        }
        let (a, w) = (
            before.averages[k].to_vec()[0],
            before.params[k].get().to_vec()[0],
        );
        assert_eq!(after.averages[k].to_vec()[0], a + 0.25 * (w - a));
        assert_ne!(
            before.params[0].get().to_vec(),
            after.params[0].get().to_vec()
        );
    }
    Ok(())
}

#[test]
fn whoever_holds_the_weights_keeps_the_old_ones() -> Result<()> {
    let devices = [Some(Device::Cpu), host_device(1 << 26)];
    for device in devices.into_iter().flatten() {
        let mut model = Model::new(device)?;
        let (held, m) = (model.params[4].get(), model.m[4].clone());
        let before = [held.to_vec(), m.to_vec()];
        model.steps(device, 1)?;
        assert_eq!([held.to_vec(), m.to_vec()], before);
        assert_ne!(model.params[4].get().to_vec(), before[0]);
    }
    Ok(())
}

#[test]
fn the_squared_norm_is_that_of_all_arrays_as_one() -> Result<()> {
    let devices = [Some(Device::Cpu), host_device(1 << 26)];
    for device in devices.into_iter().flatten() {
        let arrays = [
            Tensor::full(3.0, [40_000]),
            Tensor::zeros([0]),
            Tensor::full(-4.0, [10_001]),
            // Its square is no f32.
            Tensor::full(1e25, [1]),
        ];
        let arrays: Vec<Tensor> = arrays
            .iter()
            .map(|x| x.to_device(device))
            .collect::<Result<_>>()?;
        let arrays: Vec<&Tensor> = arrays.iter().collect();
        let found = squared_norm(&arrays[..3])?;
        assert_eq!(found, 9.0 * 40_000.0 + 16.0 * 10_001.0);
        assert!((squared_norm(&arrays)? / f64::from(1e25_f32).powi(2) - 1.0).abs() < 1e-12);
        assert_eq!(squared_norm(&[])?, 0.0);
        let broken = numbers([300], 1).to_device(device)?;
        let broken = ops::scale(&broken, f32::INFINITY)?;
        assert!(!squared_norm(&[arrays[0], &broken])?.is_finite());
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let (param, gradient) = (Param::new(numbers([4], 1).tracked()), numbers([5], 2));
    let (mut m, mut v) = (Tensor::zeros([4]), Tensor::zeros([4]));
    let mut one = [Trained {
        param: &param,
        gradient: Some(&gradient),
        m: &mut m,
        v: &mut v,
        average: None,
    }];
    assert_eq!(
        adamw(&mut one, &STEP).unwrap_err().to_string(),
        "adamw: expected 4 values beside the weights, found [5]"
    );
    let halves = gradient.to_dtype(DType::BF16)?;
    assert!(squared_norm(&[&halves]).is_err());
    let (mut m2, mut v2) = (Tensor::zeros([4]), Tensor::zeros([4]));
    let entry = |m, v| Trained {
        param: &param,
        gradient: None,
        m,
        v,
        average: None,
    };
    let mut twice = [entry(&mut m, &mut v), entry(&mut m2, &mut v2)];
    assert_eq!(
        adamw(&mut twice, &STEP).unwrap_err().to_string(),
        "adamw: a parameter was given twice"
    );
    let Some(device) = host_device(1 << 20) else {
        return Ok(());
    };
    let there = Param::new(numbers([4], 1).to_device(device)?.tracked());
    let mut apart = [Trained {
        param: &there,
        gradient: None,
        m: &mut m,
        v: &mut v,
        average: None,
    }];
    assert!(adamw(&mut apart, &STEP).is_err());
    Ok(())
}
