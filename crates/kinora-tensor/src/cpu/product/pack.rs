//! Operands, laid out as the innermost loop reads them.

use super::TERMS;
use crate::cpu::matmul::MatRef;
use crate::cpu::transpose::{SIDE, transpose};
use crate::storage;
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use pulp::Simd;
use std::ops::Range;

/// A stored value that becomes an f32 exactly.
pub(crate) trait Widen: Copy + Send + Sync {
    /// One value.
    fn wide(self) -> f32;
    /// Neighbouring values.
    fn widen(values: &[Self], out: &mut [f32]);
    /// The values themselves, where they are f32 already.
    #[inline(always)]
    fn as_wide(values: &[Self]) -> Option<&[f32]> {
        let _ = values;
        None
    }
}

impl Widen for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widen(values: &[f32], out: &mut [f32]) {
        out.copy_from_slice(values);
    }

    #[inline(always)]
    fn as_wide(values: &[f32]) -> Option<&[f32]> {
        Some(values)
    }
}

impl Widen for f16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn widen(values: &[f16], out: &mut [f32]) {
        values.convert_to_f32_slice(out);
    }
}

impl Widen for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn widen(values: &[bf16], out: &mut [f32]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = value.wide();
        }
    }
}

/// Room for the terms of a line of a strip, and a cache line more: lines a power of two apart would
/// fall on the same places of the cache.
const PITCH: usize = TERMS + 16;

/// Some lines of an operand over one stretch of the inner extent, with room for those that do not lie so.
pub(super) struct Strip<const J: usize>(Vec<f32>);

impl<const J: usize> Strip<J> {
    pub fn new() -> Self {
        Strip(Vec::new())
    }

    /// `lines` of `from` over `terms`, in place where they lie there as f32; lines beyond the last are
    /// zero.
    #[inline(always)]
    pub fn take<'a, T: Widen>(
        &'a mut self,
        from: MatRef<'a, T>,
        lines: Range<usize>,
        terms: Range<usize>,
    ) -> [&'a [f32]; J] {
        const ZERO: &[f32] = &[0.0; TERMS];
        let (first, count, len) = (lines.start, lines.len(), terms.len());
        if let (Some(values), 1) = (T::as_wide(from.data), from.col_stride) {
            let at = |j: usize| (first + j) * from.row_stride + terms.start;
            return std::array::from_fn(|j| {
                if j < count {
                    &values[at(j)..][..len]
                } else {
                    &ZERO[..len]
                }
            });
        }
        if self.0.is_empty() {
            self.0 = storage::scratch(J * PITCH);
        }
        let (copied, beyond) = self.0.split_at_mut(count * PITCH);
        if from.row_stride == 1 && from.col_stride != 1 {
            for (k, term) in terms.enumerate() {
                let values = &from.data[first + term * from.col_stride..][..count];
                for (line, value) in copied.chunks_exact_mut(PITCH).zip(values) {
                    line[k] = value.wide();
                }
            }
        } else {
            for (j, line) in copied.chunks_exact_mut(PITCH).enumerate() {
                take_line(from, first + j, terms.clone(), &mut line[..len]);
            }
        }
        beyond
            .chunks_exact_mut(PITCH)
            .for_each(|line| line[..len].fill(0.0));
        std::array::from_fn(|j| &self.0[j * PITCH..][..len])
    }
}

impl<const J: usize> Drop for Strip<J> {
    fn drop(&mut self) {
        storage::recycle(std::mem::take(&mut self.0));
    }
}

/// Copies one line of `from` over `terms`.
#[inline(always)]
pub(super) fn take_line<T: Widen>(
    from: MatRef<'_, T>,
    line: usize,
    terms: Range<usize>,
    out: &mut [f32],
) {
    let at = line * from.row_stride + terms.start * from.col_stride;
    if from.col_stride == 1 {
        return T::widen(&from.data[at..][..terms.len()], out);
    }
    let values = from.data[at..].iter().step_by(from.col_stride);
    out.iter_mut()
        .zip(values)
        .for_each(|(out, value)| *out = value.wide());
}

/// Bytes that come from memory together.
pub(super) const LINE_BYTES: usize = 64;

/// Longer lines are not asked for: the processor sees for itself where they lead, and asking costs it as much as
/// it brings.
const MOST_TERMS_AHEAD: usize = 512;

/// Asks for the lines of the next strip, part by part, while this one is worked on: they come from far
/// away, and in stretches too short for the processor to see where they lead.
pub(super) struct Ahead<'a, T> {
    from: MatRef<'a, T>,
    lines: Range<usize>,
    terms: Range<usize>,
    /// The first term of the first line that has not been asked for.
    term: usize,
}

impl<'a, T> Ahead<'a, T> {
    pub fn new(from: MatRef<'a, T>, mut lines: Range<usize>, terms: Range<usize>) -> Self {
        if from.col_stride != 1 || terms.len() > MOST_TERMS_AHEAD {
            lines.end = lines.start;
        }
        Ahead {
            from,
            lines,
            term: terms.start,
            terms,
        }
    }

    /// Asks for one of `parts` shares, in whole lines of the cache.
    #[inline(always)]
    pub fn fetch_share(&mut self, parts: usize, lines: usize) {
        let step = LINE_BYTES / size_of::<T>();
        let mut share = (self.terms.len().div_ceil(step) * lines).div_ceil(parts);
        while share > 0 && !self.lines.is_empty() {
            let at = self.lines.start * self.from.row_stride + self.term;
            if let Some(value) = self.from.data.get(at) {
                fetch(value);
            }
            self.term += step;
            if self.term >= self.terms.end {
                self.term = self.terms.start;
                self.lines.start += 1;
            }
            share -= 1;
        }
    }
}

/// Asks for some terms of a line.
#[inline(always)]
fn fetch_line<T>(from: MatRef<'_, T>, line: usize, terms: Range<usize>) {
    if from.col_stride == 1 {
        for term in terms.step_by(LINE_BYTES / size_of::<T>()) {
            if let Some(value) = from.data.get(line * from.row_stride + term) {
                fetch(value);
            }
        }
    }
}

#[inline(always)]
#[allow(unsafe_code)]
fn fetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing and cannot fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Asks for a value's line of the cache, which is to be written.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn fetch_to_write<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing and cannot fault; processors that do not know it pass over it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Lays `lines` of `from` out as `[term][width]`; lines beyond the last are zero.
pub(super) fn pack_panel<S: Simd, T: Widen>(
    packed: &mut [f32],
    from: MatRef<'_, T>,
    lines: Range<usize>,
    width: usize,
) {
    let (first, count) = (lines.start, lines.len());
    if from.row_stride == 1 {
        for (term, out) in packed.chunks_exact_mut(width).enumerate() {
            let at = first + term * from.col_stride;
            T::widen(&from.data[at..][..count], &mut out[..count]);
            out[count..].fill(0.0);
        }
        return;
    }
    // Blocks of terms that stay in the first-level cache while line after line is spread over them.
    const BLOCK: usize = 64;
    let mut wide = [[0.0; BLOCK]; SIDE];
    for (block, packed) in packed.chunks_mut(width * BLOCK).enumerate() {
        let terms = block * BLOCK..block * BLOCK + packed.len() / width;
        for place in (0..width).step_by(SIDE) {
            for (n, wide) in wide.iter_mut().enumerate() {
                let wide = &mut wide[..terms.len()];
                if place + n < count {
                    let line = first + place + n;
                    fetch_line(from, line, terms.end..terms.end + BLOCK);
                    take_line(from, line, terms.clone(), wide);
                } else {
                    wide.fill(0.0);
                }
            }
            let lines = std::array::from_fn(|n| &wide[n][..terms.len()]);
            if width - place >= SIDE {
                transpose::<S>(&lines, &mut packed[place..], width);
            } else {
                for (k, out) in packed.chunks_exact_mut(width).enumerate() {
                    for (out, line) in out[place..].iter_mut().zip(&lines) {
                        *out = line[k];
                    }
                }
            }
        }
    }
}
