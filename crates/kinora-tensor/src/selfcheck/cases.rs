//! What is tried: each operation with extents that are one, odd, and longer than a block.

use crate::ops::{self, Activation, Conv2d, Moments};
use crate::testing::numbers;
use crate::{DType, Param, Result, Tensor, optim};

type Operation = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// One operation on operands of its own.
pub(super) struct Case {
    pub name: String,
    pub inputs: Vec<Tensor>,
    /// From this operand on they are parameters.
    pub parameters_from: usize,
    pub run: Operation,
}

struct Cases(Vec<Case>);

impl Cases {
    /// `run` on operands of these shapes; those from number `parameters_from` on are parameters.
    fn add(
        &mut self,
        name: &str,
        shapes: &[&[usize]],
        parameters_from: usize,
        run: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    ) {
        let seeds = (1..).zip(shapes);
        self.0.push(Case {
            name: format!("{name} {shapes:?}"),
            inputs: seeds.map(|(seed, shape)| numbers(*shape, seed)).collect(),
            parameters_from,
            run: Box::new(run),
        });
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    pointwise(&mut cases);
    pairs(&mut cases);
    layouts(&mut cases);
    norms(&mut cases);
    partial_norms(&mut cases);
    products(&mut cases);
    attentions(&mut cases);
    training(&mut cases);
    cases.0
}

fn pointwise(cases: &mut Cases) {
    type Function = fn(&Tensor) -> Result<Tensor>;
    let functions: [(&str, Function); 12] = [
        ("silu", ops::silu),
        ("gelu", ops::gelu),
        ("quick_gelu", ops::quick_gelu),
        ("sigmoid", ops::sigmoid),
        ("exp", ops::exp),
        ("square", ops::square),
        ("abs", ops::abs),
        ("clamp", |x| ops::clamp(x, -0.5, 0.25)),
        ("affine", |x| ops::affine(x, 3.0, 0.5)),
        ("scale", |x| ops::scale(x, -2.5)),
        ("sum", ops::sum),
        ("mean", ops::mean),
    ];
    for (name, function) in functions {
        cases.add(name, &[&[3, 701]], 1, move |x| function(&x[0]));
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        cases.add("convert", &[&[3, 701]], 1, move |x| {
            ops::convert(&ops::convert(&x[0], dtype)?, DType::F32)
        });
    }
    for shape in [&[1, 2][..], &[5, 6], &[3, 11, 74]] {
        cases.add("geglu", &[shape], 1, |x| ops::geglu(&x[0]));
    }
    cases.add("linear_geglu", &[&[2, 5, 3], &[8, 3], &[8]], 1, |x| {
        ops::linear_geglu(&x[0], &x[1], Some(&x[2]))
    });
}

fn pairs(cases: &mut Cases) {
    type Function = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let same: [(&str, Function); 5] = [
        ("add", ops::add),
        ("sub", ops::sub),
        ("mul", ops::mul),
        ("mse", ops::mse),
        ("l1", ops::l1),
    ];
    for (name, function) in same {
        let shape = &[7, 301][..];
        cases.add(name, &[shape, shape], 2, move |x| function(&x[0], &x[1]));
    }
    let repeated: [(&str, Function); 2] = [
        ("add_broadcast", ops::add_broadcast),
        ("mul_broadcast", ops::mul_broadcast),
    ];
    let shapes: [[&[usize]; 2]; 6] = [
        [&[2, 3, 5, 7], &[1, 1, 1, 7]],
        [&[2, 3, 5, 7], &[2, 1, 1, 7]],
        [&[2, 3, 5, 7], &[1, 3, 1, 7]],
        [&[2, 3, 5, 7], &[2, 1, 1, 1]],
        [&[2, 300, 40], &[1, 300, 40]],
        [&[3, 4], &[3, 4]],
    ];
    for (name, function) in repeated {
        for [large, small] in shapes {
            cases.add(name, &[large, small], 1, move |x| function(&x[0], &x[1]));
        }
    }
    let shape = &[2, 3, 401][..];
    cases.add("blend", &[shape, shape, &[1]], 2, |x| {
        ops::blend(&x[0], &x[1], &x[2])
    });
}

fn layouts(cases: &mut Cases) {
    for axis in 0..3 {
        let mut shapes = [[3, 4, 50]; 3];
        for (shape, extent) in shapes.iter_mut().zip([1, 7, 2]) {
            shape[axis] = extent;
        }
        let shapes: Vec<&[usize]> = shapes.iter().map(|shape| &shape[..]).collect();
        cases.add("concat", &shapes, 3, move |x| {
            ops::concat(&[&x[0], &x[1], &x[2]], axis)
        });
        cases.add("narrow", &[&[5, 6, 70]], 1, move |x| {
            ops::narrow(&x[0], axis, 1, 3)
        });
        cases.add("repeat", &[&[3, 4, 50]], 1, move |x| {
            ops::repeat(&x[0], axis, 3)
        });
    }
    for axes in [[0, 3, 1, 2], [3, 2, 1, 0], [2, 0, 1, 3]] {
        cases.add("permute", &[&[2, 3, 4, 50]], 1, move |x| {
            ops::permute(&x[0], &axes)
        });
    }
    for shape in [&[1, 1, 1, 1][..], &[2, 3, 5, 7]] {
        cases.add("upsample_nearest", &[shape], 1, |x| {
            ops::upsample_nearest(&x[0])
        });
    }
    cases.add("upsample_conv2d", &[&[2, 5, 7, 9], &[4, 3, 3, 9]], 1, |x| {
        ops::upsample_conv2d(&x[0], &x[1], None)
    });
    cases.add("embedding", &[&[9, 33]], 0, |x| {
        ops::embedding(&x[0], &[3, 0, 8, 3, 3, 1])
    });
    cases.add("reshape", &[&[6, 35]], 1, |x| {
        ops::square(&x[0].reshape([7, 30])?)
    });
}

fn norms(cases: &mut Cases) {
    let grouped: [(&[usize], usize); 6] = [
        (&[2, 3, 5, 6], 3),
        (&[1, 2, 3, 7, 4], 4),
        (&[3, 12], 2),
        (&[1, 300, 70], 35),
        (&[2, 11, 1], 1),
        (&[2, 3, 40, 24, 64], 32),
    ];
    for (shape, groups) in grouped {
        let c = &[shape[shape.len() - 1]][..];
        for activation in [Activation::None, Activation::Silu] {
            cases.add("group_norm", &[shape, c, c], 1, move |x| {
                ops::group_norm(&x[0], &x[1], &x[2], groups, 0.1, activation)
            });
        }
    }
    // A mean that is large beside the deviation, in the values as they are stored.
    cases.add(
        "group_norm far from 0",
        &[&[1, 400, 8], &[8], &[8]],
        1,
        |x| ops::group_norm(&x[0], &x[1], &x[2], 4, 0.1, Activation::None),
    );
    if let Some(case) = cases.0.last_mut() {
        let far = case.inputs[0].to_vec().iter().map(|x| x + 30.0).collect();
        case.inputs[0] = Tensor::from_vec(far, [1, 400, 8]).expect("the same number");
    }
    for shape in [&[1, 1, 5][..], &[2, 3, 33], &[3, 11, 320]] {
        let c = &[shape[shape.len() - 1]][..];
        cases.add("layer_norm", &[shape, c, c], 1, |x| {
            ops::layer_norm(&x[0], &x[1], &x[2], 0.1)
        });
    }
}

fn products(cases: &mut Cases) {
    for [rows, i, o] in [[1, 1, 1], [7, 5, 3], [130, 40, 72]] {
        let shapes: [&[usize]; 3] = [&[2, rows, i], &[o, i], &[o]];
        cases.add("linear", &shapes, 1, |x| {
            ops::linear(&x[0], &x[1], Some(&x[2]))
        });
        cases.add("linear", &shapes[..2], 1, |x| {
            ops::linear(&x[0], &x[1], None)
        });
        let onto: [&[usize]; 4] = [&[2 * rows, o], &[2, rows, i], &[o, i], &[o]];
        cases.add("linear_onto", &onto, 2, |x| {
            ops::linear_onto(&x[0], &x[1], &x[2], Some(&x[3]))
        });
        cases.add("linear_onto", &onto[..3], 2, |x| {
            ops::linear_onto(&x[0], &x[1], &x[2], None)
        });
    }
    let pictures: [(&[usize; 4], usize, usize, Conv2d); 6] = [
        (&[2, 5, 7, 3], 4, 3, Conv2d::same()),
        (&[1, 6, 9, 4], 3, 3, Conv2d::down()),
        (&[1, 6, 9, 4], 3, 3, Conv2d::down_asymmetric()),
        (&[2, 8, 8, 3], 5, 4, Conv2d::patch(4)),
        (&[2, 3, 4, 5], 6, 1, Conv2d::patch(1)),
        (&[1, 12, 10, 16], 16, 3, Conv2d::same()),
    ];
    for (shape, o, taps, conv) in pictures {
        let shapes: [&[usize]; 3] = [shape, &[o, taps, taps, shape[3]], &[o]];
        cases.add("conv2d", &shapes, 1, move |x| {
            ops::conv2d(&x[0], &x[1], Some(&x[2]), conv)
        });
    }
    let onto: [&[usize]; 3] = [&[2, 5, 7, 4], &[2, 5, 7, 3], &[4, 3, 3, 3]];
    cases.add("conv2d_onto", &onto, 2, |x| {
        ops::conv2d_onto(&x[0], &x[1], &x[2], None, Conv2d::same())
    });
    for (shape, o, taps) in [
        (&[2, 5, 3, 4, 6], 4, 3),
        (&[1, 1, 2, 2, 3], 2, 3),
        (&[1, 6, 1, 5, 4], 4, 5),
    ] {
        let shapes: [&[usize]; 3] = [shape, &[o, taps, shape[4]], &[o]];
        cases.add("time_conv", &shapes, 1, |x| {
            ops::time_conv(&x[0], &x[1], Some(&x[2]))
        });
    }
    let blended: [&[usize]; 4] = [&[2, 5, 3, 4], &[2, 5, 3, 6], &[4, 3, 6], &[1]];
    for weighed in [ops::Weighed::Spatial, ops::Weighed::Temporal] {
        cases.add("time_conv_blend", &blended, 2, move |x| {
            ops::time_conv_blend((&x[0], &x[1]), &x[2], None, (&x[3], weighed))
        });
    }
}

fn attentions(cases: &mut Cases) {
    for [b, n, m, heads, d] in [
        [1, 1, 1, 1, 1],
        [2, 37, 5, 3, 7],
        [1, 60, 300, 2, 64],
        [2, 130, 17, 1, 64],
    ] {
        let (q, k) = ([b, n, heads * d], [b, m, heads * d]);
        cases.add("attention", &[&q, &k, &k], 3, move |x| {
            ops::attention(&x[0], &x[1], &x[2], heads)
        });
    }
    for q in [&[2, 37, 2 * 9][..], &[1, 130, 2 * 64]] {
        cases.add("causal_attention", &[q, q, q], 3, |x| {
            ops::causal_attention(&x[0], &x[1], &x[2], 2)
        });
    }
    for [b, t, s, heads, d] in [
        [1, 1, 1, 1, 1],
        [2, 5, 11, 3, 9],
        [1, 25, 3, 2, 64],
        [1, 4, 3, 1, 80],
    ] {
        let q = &[b, t, s, heads * d][..];
        cases.add("time_attention", &[q, q, q], 3, move |x| {
            ops::time_attention(&x[0], &x[1], &x[2], heads)
        });
    }
}

/// Norms whose statistics come from a larger whole. Nothing is recorded for them.
fn partial_norms(cases: &mut Cases) {
    let shape = &[2, 5, 7, 6][..];
    cases.add("group_norm_with", &[shape, &[6], &[6]], 1, |x| {
        let mut moments = Moments::of_each(&x[0])?;
        for (moments, more) in moments.iter_mut().zip(Moments::of_each(&x[0])?) {
            moments.add(&more)?;
        }
        let (gamma, beta) = (&x[1], &x[2]);
        let y = ops::group_norm_with(&x[0], &moments, gamma, beta, 3, 0.1, Activation::Silu)?;
        // So that there is a gradient to compare.
        ops::add(&y, &x[0])
    });
}

/// A step of training has no way back; it is seen in a product with what has one.
fn training(cases: &mut Cases) {
    let wide = |x: &Tensor| x.to_dtype(DType::F32);
    cases.add("squared_norm", &[&[3, 23_000], &[5]], 2, move |x| {
        let norm = optim::squared_norm(&[&wide(&x[0])?, &wide(&x[1])?])?;
        ops::scale(&x[1], 1e-4 * norm as f32)
    });
    cases.add("adamw", &[&[20_000], &[20_000]], 1, move |x| {
        let param = Param::new(wide(&x[0])?);
        let gradient = wide(&x[1])?;
        let mut kept = [(); 3].map(|()| gradient.detach());
        let [m, v, average] = &mut kept;
        *v = ops::square(v)?;
        let one = optim::Trained {
            param: &param,
            gradient: Some(&gradient),
            m,
            v,
            average: Some(average),
        };
        let step = optim::AdamW {
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            learning_rate: 0.1,
            t: 3,
            gradient_scale: 0.5,
            average_decay: 0.5,
        };
        optim::adamw(&mut [one], &step)?;
        let [m, v, average] = kept;
        let all = [&param.get(), &m, &v, &average].map(|x| x.detach());
        let all = ops::concat(&all.iter().collect::<Vec<_>>(), 0)?;
        let tracked = ops::convert(&x[1], DType::F32)?;
        ops::mul(&all, &ops::concat(&[&tracked; 4], 0)?)
    });
}
