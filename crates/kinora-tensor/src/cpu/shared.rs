//! An array that several tasks write at once.

use std::marker::PhantomData;

/// An array written by tasks that each own some of its elements, though not a stretch of it.
pub(crate) struct Shared<'a> {
    first: *mut f32,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

#[allow(unsafe_code)]
// SAFETY: all access is through `slice`, whose callers promise that no two tasks share an element.
unsafe impl Sync for Shared<'_> {}
#[allow(unsafe_code)]
// SAFETY: likewise; the borrow keeps the array where it is.
unsafe impl Send for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Shared {
            first: values.as_mut_ptr(),
            len: values.len(),
            borrow: PhantomData,
        }
    }

    /// The elements `start .. start + len`.
    ///
    /// # Safety
    /// No one else may hold any of them while the result lives.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    #[inline(always)]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [f32] {
        assert!(start + len <= self.len, "elements outside the array");
        // SAFETY: they lie inside the array, which is borrowed; that they are not shared is the
        // caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), len) }
    }
}
