//! The network: VGG-16 with batch norms going down, and four steps up again (Baek et al. 2019,
//! Fig. 2). Names are those of the public state dict.

use super::layers::{Convolution, max_pool, relu, upsampled};
use crate::params::Source;
use crate::{Error, Result};
use kinora_tensor::{Tensor, ops};

/// A convolution of the backbone.
struct Step {
    /// Its number in torchvision's list of VGG's layers; its norm has the next.
    number: usize,
    /// Channels in and out, in multiples of the width; `None` for the three colours.
    from: Option<usize>,
    to: usize,
    /// Whether the picture is halved before it.
    halves: bool,
}

const fn step(number: usize, from: Option<usize>, to: usize, halves: bool) -> Step {
    Step {
        number,
        from,
        to,
        halves,
    }
}

/// The four slices of the backbone.
const SLICES: [&[Step]; 4] = [
    &[
        step(0, None, 1, false),
        step(3, Some(1), 1, false),
        step(7, Some(1), 2, true),
        step(10, Some(2), 2, false),
    ],
    &[step(14, Some(2), 4, true), step(17, Some(4), 4, false)],
    &[
        step(20, Some(4), 4, false),
        step(24, Some(4), 8, true),
        step(27, Some(8), 8, false),
    ],
    &[
        step(30, Some(8), 8, false),
        step(34, Some(8), 8, true),
        step(37, Some(8), 8, false),
    ],
];

/// The rate of the dilated convolution that stands for VGG's first fully connected layer.
const DILATION: usize = 6;

#[derive(Debug)]
pub(super) struct Network {
    slices: Vec<Vec<(Convolution, bool)>>,
    fc6: Convolution,
    fc7: Convolution,
    upward: Vec<[Convolution; 2]>,
    head: Vec<Convolution>,
}

impl Network {
    /// # Errors
    /// When the source does not hold the parameters, or the widths are not whole.
    pub(super) fn new(source: &Source, width: usize) -> Result<Network> {
        if width == 0 || !width.is_multiple_of(4) {
            return Err(Error::config(
                "CRAFT",
                format!("its width is a multiple of 4 (64 in the public weights), found {width}"),
            ));
        }
        let base = source.at("basenet");
        let slices = SLICES.iter().enumerate().map(|(at, steps)| {
            let slice = base.at(format!("slice{}", at + 1));
            let layer = |step: &Step| -> Result<(Convolution, bool)> {
                let (conv, norm) = (slice.at(step.number), slice.at(step.number + 1));
                let i = step.from.map_or(3, |from| from * width);
                let o = step.to * width;
                Ok((Convolution::normed(&conv, &norm, i, o, 3)?, step.halves))
            };
            steps.iter().map(layer).collect::<Result<Vec<_>>>()
        });
        let slices = slices.collect::<Result<Vec<_>>>()?;
        let last = base.at("slice5");
        Ok(Network {
            slices,
            fc6: Convolution::new(&last.at(1), 8 * width, 16 * width, 3)?,
            fc7: Convolution::new(&last.at(2), 16 * width, 16 * width, 1)?,
            upward: upward(source, width)?,
            head: head(source, width)?,
        })
    }

    /// The region and the affinity map.
    ///
    /// # Shapes
    /// `x` [1, h, w, 3] with h and w multiples of 16; the result is [1, h/2, w/2, 2].
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        let mut sources = Vec::new();
        for (slice, layers) in self.slices.iter().enumerate() {
            for (at, (layer, halves)) in layers.iter().enumerate() {
                // The first layer of a slice gets what the slice before it gave, already clipped.
                if at > 0 {
                    x = relu(&x)?;
                }
                if *halves {
                    x = max_pool(&x, 2, 2, 0)?;
                }
                x = layer.forward(&x)?;
            }
            // Slices end before their last ReLU. The next slice's first layer clips in place in the
            // public code, so three of the four values handed across to the way up are clipped too;
            // the fourth goes into a pool first and is not.
            if slice < 3 {
                x = relu(&x)?;
            }
            sources.push(x.clone());
        }
        let pooled = max_pool(&x, 3, 1, 1)?;
        let fc6 = self.fc6.forward_dilated(&pooled, DILATION)?;
        let mut y = self.fc7.forward(&fc6)?;
        for (step, [first, second]) in self.upward.iter().enumerate() {
            let across = sources.pop().expect("four slices, four steps up");
            if step > 0 {
                y = upsampled(&y, across.dims()[1], across.dims()[2])?;
            }
            y = ops::concat(&[&y, &across], 3)?;
            y = relu(&first.forward(&y)?)?;
            y = relu(&second.forward(&y)?)?;
        }
        let (last, before) = self.head.split_last().expect("the head has five layers");
        for layer in before {
            y = relu(&layer.forward(&y)?)?;
        }
        last.forward(&y)
    }
}

/// The four steps up: what came from below and from across, narrowed, then convolved.
fn upward(source: &Source, width: usize) -> Result<Vec<[Convolution; 2]>> {
    // Channels from below, from across, and after; the second step's middle is as wide as its
    // input from across, and so on.
    let widths = [
        (16 * width + 8 * width, 8 * width, 4 * width),
        (4 * width + 8 * width, 4 * width, 2 * width),
        (2 * width + 4 * width, 2 * width, width),
        (width + 2 * width, width, width / 2),
    ];
    let steps = widths.iter().enumerate().map(|(at, &(i, middle, o))| {
        let step = source.at(format!("upconv{}", at + 1)).at("conv");
        Ok([
            Convolution::normed(&step.at(0), &step.at(1), i, middle, 1)?,
            Convolution::normed(&step.at(3), &step.at(4), middle, o, 3)?,
        ])
    });
    steps.collect()
}

/// The convolutions that make two maps of the last features.
fn head(source: &Source, width: usize) -> Result<Vec<Convolution>> {
    let head = source.at("conv_cls");
    let layers = [
        (0, width / 2, width / 2, 3),
        (2, width / 2, width / 2, 3),
        (4, width / 2, width / 4, 3),
        (6, width / 4, width / 4, 1),
        (8, width / 4, 2, 1),
    ];
    let layer = |&(number, i, o, kernel): &(usize, usize, usize, usize)| {
        Convolution::new(&head.at(number), i, o, kernel)
    };
    layers.iter().map(layer).collect()
}
