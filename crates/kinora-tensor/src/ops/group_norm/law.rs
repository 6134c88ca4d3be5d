//! What happens to a few channels at a time.

/// Channels computed together, from and to arrays of their own: slices that might overlap would keep
/// the compiler from vector instructions. (Each array is taken by its name: the `map` of an array of slices is
/// not always inlined, and then half the time is spent in it.)
pub(super) const LANES: usize = 16;

/// z = (x − mean) · scale + beta for the channels of one picture.
#[derive(Clone, Copy)]
pub(super) struct Law<'a> {
    pub mean: &'a [f32],
    pub scale: &'a [f32],
    pub beta: &'a [f32],
}

impl Law<'_> {
    /// out = f(z) for the channels `k..k + N` of one row.
    #[inline(always)]
    pub fn apply<const N: usize>(
        &self,
        x: &[f32],
        k: usize,
        out: &mut [f32],
        f: impl Fn(f32) -> f32 + Copy,
    ) {
        let (x, mean) = (lanes::<N>(x, k), lanes::<N>(self.mean, k));
        let (scale, beta) = (lanes::<N>(self.scale, k), lanes::<N>(self.beta, k));
        let mut found = [0.0; N];
        for lane in 0..N {
            found[lane] = f((x[lane] - mean[lane]) * scale[lane] + beta[lane]);
        }
        out[k..k + N].copy_from_slice(&found);
    }

    /// For the channels `k..k + N`, over the few rows of `x` and `dy`: Σ dz and Σ dz · (x − mean).
    #[inline(always)]
    pub fn gradient_sums<const N: usize>(
        &self,
        x: &[f32],
        dy: &[f32],
        k: usize,
        before: impl Fn(f32, f32) -> f32 + Copy,
    ) -> [(f32, f32); N] {
        let c = self.mean.len();
        let mean = lanes::<N>(self.mean, k);
        let (scale, beta) = (lanes::<N>(self.scale, k), lanes::<N>(self.beta, k));
        let (mut sums, mut products) = ([0.0; N], [0.0; N]);
        for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
            let (x, dy) = (lanes::<N>(x, k), lanes::<N>(dy, k));
            for lane in 0..N {
                let centred = x[lane] - mean[lane];
                let dz = before(dy[lane], centred * scale[lane] + beta[lane]);
                sums[lane] += dz;
                products[lane] += dz * centred;
            }
        }
        std::array::from_fn(
            #[inline(always)]
            |lane| (sums[lane], products[lane]),
        )
    }

    /// out = scale · dz − constant − (x − mean) · slope, for the channels `k..k + N` of one row.
    #[inline(always)]
    pub fn gradient<const N: usize>(
        &self,
        x: &[f32],
        dy: &[f32],
        k: usize,
        [constant, slope]: [&[f32]; 2],
        out: &mut [f32],
        before: impl Fn(f32, f32) -> f32 + Copy,
    ) {
        let (x, dy) = (lanes::<N>(x, k), lanes::<N>(dy, k));
        let mean = lanes::<N>(self.mean, k);
        let (scale, beta) = (lanes::<N>(self.scale, k), lanes::<N>(self.beta, k));
        let (constant, slope) = (lanes::<N>(constant, k), lanes::<N>(slope, k));
        let mut found = [0.0; N];
        for lane in 0..N {
            let centred = x[lane] - mean[lane];
            let dz = before(dy[lane], centred * scale[lane] + beta[lane]);
            found[lane] = scale[lane] * dz - constant[lane] - centred * slope[lane];
        }
        out[k..k + N].copy_from_slice(&found);
    }
}

#[inline(always)]
fn lanes<const N: usize>(values: &[f32], k: usize) -> [f32; N] {
    let mut lanes = [0.0; N];
    lanes.copy_from_slice(&values[k..k + N]);
    lanes
}
