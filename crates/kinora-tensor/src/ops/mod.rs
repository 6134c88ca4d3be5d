//! The closed list of operations. One file each: forward, derivative, and two tests (a finite
//! difference and a slow, obvious reference).
//!
//! Legend of the shapes: `b` clips, `t` frames, `n` pictures, `h w` rows and columns, `s` places,
//! `c` channels, `i o` channels in and out.

mod elementwise;
mod linear;
mod reduce;

pub use elementwise::{add, add_broadcast, affine, mul, mul_broadcast, scale, sub};
pub use linear::linear;
pub use reduce::{mean, sum};
