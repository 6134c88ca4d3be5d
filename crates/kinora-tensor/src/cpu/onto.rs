//! What a convolution is added to.

use super::elementwise;

/// What a result is joined with: these values plus a share of it, place by place.
#[derive(Clone, Copy)]
pub(crate) struct Onto<'a> {
    pub values: &'a [f32],
    pub share: f32,
}

impl Onto<'_> {
    /// Joins a result that was made by another way.
    pub(crate) fn join(&self, result: &mut [f32]) {
        let share = self.share;
        elementwise::zip_assign(
            result,
            self.values,
            #[inline(always)]
            |result, value| value + share * result,
        );
    }
}
