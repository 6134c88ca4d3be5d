//! What follows a normalisation, and its derivative.

use crate::cpu::sigmoid::sigmoid;
use pulp::Simd;

pub(super) trait Curve: Copy + Send + Sync {
    /// f(z).
    fn value<S: Simd>(self, simd: S, z: S::f32s) -> S::f32s;
    /// dy · df/dz.
    fn back<S: Simd>(self, simd: S, dy: S::f32s, z: S::f32s) -> S::f32s;
}

/// z.
#[derive(Clone, Copy)]
pub(super) struct Identity;

impl Curve for Identity {
    #[inline(always)]
    fn value<S: Simd>(self, _: S, z: S::f32s) -> S::f32s {
        z
    }

    #[inline(always)]
    fn back<S: Simd>(self, _: S, dy: S::f32s, _: S::f32s) -> S::f32s {
        dy
    }
}

/// z · σ(z), whose derivative is σ(z) · (1 + z · (1 − σ(z))).
#[derive(Clone, Copy)]
pub(super) struct Silu;

impl Curve for Silu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, z: S::f32s) -> S::f32s {
        simd.mul_f32s(z, sigmoid(simd, z))
    }

    #[inline(always)]
    fn back<S: Simd>(self, simd: S, dy: S::f32s, z: S::f32s) -> S::f32s {
        let one = simd.splat_f32s(1.0);
        let s = sigmoid(simd, z);
        let slope = simd.mul_add_f32s(z, simd.sub_f32s(one, s), one);
        simd.mul_f32s(dy, simd.mul_f32s(s, slope))
    }
}
