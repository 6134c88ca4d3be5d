//! How many bytes the activations of each network take, counted from the settings and the sizes.
//!
//! Counted are the arrays that are alive together at the worst moment, as the code of the networks
//! lets them go, and what the engine keeps beside them. The constants were read off that code and
//! then held against measured peaks: see the test, and `docs/numbers.md`.

use crate::clip::ClipVisionConfig;
use crate::compute::Compute;
use crate::layers::feed_forward_values;
use crate::unet::{LevelKind, UNetConfig};
use crate::vae::VaeConfig;

const F32: usize = size_of::<f32>();

/// Rows and columns at each level, the finest first: halving rounds up.
fn level_sizes(levels: usize, h: usize, w: usize) -> Vec<[usize; 2]> {
    let halve = |[h, w]: &[usize; 2]| Some([h.div_ceil(2), w.div_ceil(2)]);
    let sizes = std::iter::successors(Some([h, w]), halve);
    sizes.take(levels).collect()
}

/// Looking at a picture, in f32 on any device.
pub(super) fn clip_bytes(config: &ClipVisionConfig, compute: Compute) -> usize {
    let tokens = config.tokens();
    // Tokens, norm, queries, keys, values, attended, projected, sum; or the widened ones twice.
    let widest =
        (8 * config.hidden_size).max(3 * config.hidden_size + 2 * config.intermediate_size);
    let picture = 3 * config.image_size.pow(2);
    compute.held_bytes(F32 * (tokens * widest + 3 * picture))
}

/// Encoding one picture to `h` × `w` latents, in f32 on any device.
pub(super) fn encode_bytes(config: &VaeConfig, [h, w]: [usize; 2], compute: Compute) -> usize {
    let finest = h * w * config.downscale().pow(2);
    let widths = config.block_out_channels.iter().enumerate();
    // Input, norm, convolution, shortcut and sum of a block.
    let widest = widths.map(|(level, c)| 5 * c * (finest >> (2 * level)));
    let picture = 4 * config.in_channels * finest;
    compute.held_bytes(F32 * (picture + widest.max().unwrap_or(0)))
}

/// Denoising a clip of `t` frames of `h` × `w` latents.
pub(super) fn denoise_bytes(
    config: &UNetConfig,
    [t, h, w]: [usize; 3],
    branches: usize,
    together: bool,
    compute: Compute,
) -> usize {
    let clips = if together { branches } else { 1 };
    let walk = Walk::through(config, [clips * t, h, w]);
    let latents = t * h * w * config.out_channels;
    // The state, two estimates, the outputs of both branches and what becomes of them.
    let sampler = 10 * latents;
    // The still's part of the first convolution, one frame of it for each branch.
    let still = branches * h * w * config.block_out_channels[0];
    let network = compute.value_bytes() * (walk.peak + still);
    compute.held_bytes(network + F32 * sampler)
}

/// The values of the largest array of encoding the still and of denoising `frames` frames together.
pub(super) fn largest_values(
    vae: &VaeConfig,
    unet: &UNetConfig,
    [frames, h, w]: [usize; 3],
) -> usize {
    let finest = h * w * vae.downscale().pow(2);
    let widths = vae.block_out_channels.iter().enumerate();
    let encoded = widths.map(|(level, c)| c * (finest >> (2 * level))).max();
    let denoised = Walk::through(unet, [frames, h, w]).largest;
    denoised.max(encoded.unwrap_or(0))
}

/// A pass through the network that counts values instead of computing them.
struct Walk<'a> {
    config: &'a UNetConfig,
    /// Pixels of all frames at each level.
    pixels: Vec<usize>,
    /// The values of each array that waits for the way up.
    skips: Vec<usize>,
    peak: usize,
    /// The values of the largest single array.
    largest: usize,
}

impl<'a> Walk<'a> {
    /// Of `frames` frames of all clips together.
    fn through(config: &'a UNetConfig, [frames, h, w]: [usize; 3]) -> Self {
        let sizes = level_sizes(config.levels(), h, w);
        let mut walk = Walk {
            config,
            pixels: sizes.iter().map(|[h, w]| frames * h * w).collect(),
            skips: Vec::new(),
            peak: 0,
            largest: 0,
        };
        walk.run();
        walk
    }

    fn run(&mut self) {
        let widths = &self.config.block_out_channels;
        let (levels, coarsest) = (widths.len(), widths.len() - 1);
        self.skips.push(self.pixels[0] * widths[0]);
        let mut x = widths[0];
        for level in 0..levels {
            for _ in 0..self.config.layers_per_block[level] {
                self.stage(level, x, 0, self.config.down_block_types[level]);
                x = widths[level];
                self.skips.push(self.pixels[level] * x);
            }
            if level < coarsest {
                self.skips.push(self.pixels[level + 1] * x);
            }
        }
        for kind in [LevelKind::Attends, LevelKind::Plain] {
            self.stage(coarsest, x, self.pixels[coarsest] * x, kind);
        }
        for level in (0..levels).rev() {
            let kind = self.config.up_block_types[coarsest - level];
            for _ in 0..=self.config.layers_per_block[level] {
                let skip = self.skips.pop().unwrap_or(0);
                let before = self.pixels[level] * x + skip;
                self.stage(level, before / self.pixels[level].max(1), before, kind);
                x = widths[level];
            }
            if level > 0 {
                // Coarse, doubled, cropped, convolved.
                let alive = (self.pixels[level] + 3 * self.pixels[level - 1]) * x;
                self.meet(alive);
                self.largest = self.largest.max(self.pixels[level - 1] * x);
            }
        }
    }

    /// A residual block from `i` channels, and perhaps a transformer. `held` are the values its
    /// callers keep beside the skips; where there are any on the way up, they are joined first.
    fn stage(&mut self, level: usize, i: usize, held: usize, kind: LevelKind) {
        let (pixels, o) = (self.pixels[level], self.config.block_out_channels[level]);
        let joined = if held > 0 { i } else { 0 };
        self.largest = self.largest.max(pixels * i.max(o));
        // Norm and first convolution; or convolution, shortcut and sum; or the three of a blend.
        let residual = joined + (i + o).max(3 * o);
        let mut widest = pixels * residual;
        if kind == LevelKind::Attends {
            let run = feed_forward_values(pixels) * o;
            // Input, tokens and placed tokens, their sum, norm, queries, keys, values, attended and
            // projected; a feed-forward layer comes after and holds as many.
            widest = widest.max(10 * pixels * o + run);
        }
        self.meet(held + widest);
    }

    /// So many values are alive beside the skips.
    fn meet(&mut self, values: usize) {
        let skips: usize = self.skips.iter().sum();
        self.peak = self.peak.max(skips + values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::{DType, Device};

    #[test]
    fn denoising_grows_with_frames_and_pixels_and_branches() {
        let config = UNetConfig::image_to_video(25);
        let bytes = |size, together| denoise_bytes(&config, size, 2, together, Compute::PROCESSOR);
        let one = bytes([25, 72, 128], false);
        assert!(bytes([14, 72, 128], false) < one);
        assert!(bytes([25, 40, 72], false) < one);
        assert!(bytes([25, 72, 128], true) > one);
    }

    #[test]
    fn the_largest_array_is_the_widest_at_the_finest_level() {
        let (vae, unet) = (VaeConfig::svd(), UNetConfig::image_to_video(25));
        // On the way up 640 channels and a skip of 320 are joined at every pixel.
        let found = largest_values(&vae, &unet, [25, 72, 128]);
        assert_eq!(found, 25 * 72 * 128 * 960);
        // One frame's pixels, each of 128 channels, are more than the latents of one frame.
        let found = largest_values(&vae, &unet, [1, 72, 128]);
        assert_eq!(found, 576 * 1024 * 128);
    }

    #[test]
    fn sixteen_bits_take_a_little_more_than_half_on_a_card() {
        let config = UNetConfig::image_to_video(25);
        let bytes = |dtype| {
            let compute = Compute::new(Device::Cuda(0), dtype).unwrap();
            denoise_bytes(&config, [25, 72, 128], 2, false, compute)
        };
        let share = bytes(DType::BF16) as f64 / bytes(DType::F32) as f64;
        assert!(share > 0.5 && share < 0.52, "{share}");
    }
}
