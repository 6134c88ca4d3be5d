//! The innermost loop: for one tap, a few channels out against two vectors of channels in.

use pulp::Simd;

/// Vectors across a tile at most.
pub(super) const VECTORS: usize = 2;

/// Channels out of a tile: sixteen sums where the registers hold them, since more would leave none for what
/// is multiplied.
#[inline(always)]
pub(super) const fn lines<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 8 } else { 4 }
}

/// Places whose pixels lie in lines, with a gap from each line to the next; their gradients have none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    /// The first place among the pixels, and among the gradients.
    pub pixel: usize,
    pub gradient: usize,
    pub count: usize,
    /// Places of a line.
    pub len: usize,
    /// Pixels from the beginning of a line to that of the next.
    pub apart: usize,
}

/// What a tile is summed from.
pub(crate) struct Operands<'a> {
    /// `[pixels, width]`.
    pub pixels: &'a [f32],
    /// Rows and columns from a place's corner to the pixel it looks at.
    pub tap: [usize; 2],
    /// `[places, lines]`.
    pub gradient: &'a [f32],
    pub places: &'a [Lines],
    pub width: usize,
}

/// tile\[o\]\[i\] += Σ gradient\[place\]\[o\] · pixels\[place\]\[i\]; or = where it is the `first` sum.
#[inline(always)]
pub(crate) fn add<S: Simd>(simd: S, operands: Operands<'_>, tile: &mut [f32], first: bool) {
    match (lines::<S>(), operands.width / S::F32_LANES) {
        (8, 1) => add_as::<S, 8, 1>(simd, &operands, tile, first),
        (8, _) => add_as::<S, 8, 2>(simd, &operands, tile, first),
        (_, 1) => add_as::<S, 4, 1>(simd, &operands, tile, first),
        _ => add_as::<S, 4, 2>(simd, &operands, tile, first),
    }
}

#[inline(always)]
fn add_as<S: Simd, const R: usize, const C: usize>(
    simd: S,
    operands: &Operands<'_>,
    tile: &mut [f32],
    first: bool,
) {
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    let (pixels, _) = S::as_simd_f32s(operands.pixels).0.as_chunks::<C>();
    let (gradients, _) = operands.gradient.as_chunks::<R>();
    let [down, across] = operands.tap;
    for lines in operands.places {
        for line in 0..lines.count {
            let first = lines.pixel + (line + down) * lines.apart + across;
            let pixels = &pixels[first..][..lines.len];
            let gradients = &gradients[lines.gradient + line * lines.len..][..lines.len];
            for (pixel, gradient) in pixels.iter().zip(gradients) {
                for r in 0..R {
                    let factor = simd.splat_f32s(gradient[r]);
                    for c in 0..C {
                        sums[r][c] = simd.mul_add_f32s(factor, pixel[c], sums[r][c]);
                    }
                }
            }
        }
    }
    let (tile, _) = S::as_mut_simd_f32s(tile).0.as_chunks_mut::<C>();
    for (out, sums) in tile.iter_mut().zip(sums) {
        for c in 0..C {
            out[c] = if first {
                sums[c]
            } else {
                simd.add_f32s(out[c], sums[c])
            };
        }
    }
}
