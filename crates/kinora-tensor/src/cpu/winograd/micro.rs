//! The innermost multiplication.

use pulp::Simd;

/// Tiles multiplied together: with two or four vectors of channels, their sums fill the registers.
pub(super) const TILES: usize = 6;

/// Vectors in a panel of weights, where a pass takes so many channels out: four, whose sums fill 32 registers,
/// or two.
#[inline(always)]
pub(super) const fn panel_vectors<S: Simd>(channels: usize) -> usize {
    if S::REGISTER_COUNT >= 32 && channels >= 4 * S::F32_LANES {
        4
    } else {
        2
    }
}

/// `sums[r][n] += Σ_c tiles[r][c] · panel[c][n]` for the six tiles r and the channels n of one panel, or
/// `=` where nothing was summed `before`; rows of `sums` are `stride` apart, rows of `tiles` as long as the panel.
#[inline(always)]
pub(super) fn multiply<S: Simd, const VECTORS: usize>(
    simd: S,
    (sums, stride): (&mut [f32], usize),
    tiles: &[f32],
    panel: &[[S::f32s; VECTORS]],
    before: bool,
) {
    let depth = panel.len();
    let rows: [&[f32]; TILES] = std::array::from_fn(|r| &tiles[r * depth..][..depth]);
    let mut totals = [[simd.splat_f32s(0.0); VECTORS]; TILES];
    for (c, weights) in panel.iter().enumerate() {
        for r in 0..TILES {
            // SAFETY: c is below the length of `panel`, which is that of every row. A check for each
            // row is dear here: their pointers would no longer all fit in registers.
            #[allow(unsafe_code)]
            let value = simd.splat_f32s(unsafe { *rows[r].get_unchecked(c) });
            for v in 0..VECTORS {
                totals[r][v] = simd.mul_add_f32s(value, weights[v], totals[r][v]);
            }
        }
    }
    for (r, totals) in totals.iter().enumerate() {
        let row = &mut sums[r * stride..][..VECTORS * S::F32_LANES];
        for (sum, total) in S::as_mut_simd_f32s(row).0.iter_mut().zip(totals) {
            *sum = match before {
                true => simd.add_f32s(*sum, *total),
                false => *total,
            };
        }
    }
}
