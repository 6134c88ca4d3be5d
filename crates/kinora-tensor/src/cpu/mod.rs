//! The kernels of the hot operations on the processor's cores.
//!
//! Every parallel loop cuts its work by size alone, never by timing, so a result depends on nothing
//! but its operands.

pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod elementwise;
pub(crate) mod exp;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod onto;
pub(crate) mod product;
pub(crate) mod shared;
pub(crate) mod small_matmul;
pub(crate) mod softmax;
pub(crate) mod time_attention;
pub(crate) mod transpose;
pub(crate) mod weight_gradient;
pub(crate) mod winograd;

use pulp::Arch;

/// Runs `kernel` with the widest vector instructions this processor has. The closure and all it
/// calls must be inlined (`#[inline(always)]`) to profit.
#[inline(always)]
pub(crate) fn vectorised<T>(kernel: impl FnOnce() -> T) -> T {
    Arch::new().dispatch(kernel)
}
