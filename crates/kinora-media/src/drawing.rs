//! Anti-aliased drawing in f32: shapes as signed distances, text from strokes. Serves the footage, the
//! contact sheets and the charts, so that none of them needs a font or a graphics library.

mod canvas;
mod color;
mod distance;
mod font;

pub(crate) use canvas::{Canvas, Place};
pub(crate) use color::{Color, mix, oklch};
pub(crate) use distance::{
    Point, circle, ellipse, intersection, polygon, rounded_box, segment, union,
};
pub(crate) use font::{Text, text_width};
