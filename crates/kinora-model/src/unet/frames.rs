//! Work on each frame by itself.

use crate::{Error, Result};
use kinora_tensor::Tensor;

/// `work` on all frames of all clips as so many pictures.
///
/// # Shapes
/// `x` `[b, t, h, w, c]`; `work` sees `[b·t, h, w, c]` and gives `[b·t, h', w', o]`; the result is
/// `[b, t, h', w', o]`.
pub(super) fn each_frame(
    x: &Tensor,
    work: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let &[b, t, h, w, c] = x.dims() else {
        return Err(Error::argument(
            "clips",
            format!("expected [b, t, h, w, c], found {:?}", x.dims()),
        ));
    };
    let y = work(&x.reshape([b * t, h, w, c])?)?;
    let &[_, h, w, o] = y.dims() else {
        return Err(Error::argument(
            "pictures",
            format!("expected [b·t, h, w, c], found {:?}", y.dims()),
        ));
    };
    Ok(y.reshape([b, t, h, w, o])?)
}
