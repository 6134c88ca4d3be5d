//! The order of a parameter's axes in published files and in memory.
//!
//! Legend: `o i` channels out and in, `kh kw kt` the kernel's rows, columns and frames.

use rayon::prelude::*;

/// How the axes of a parameter differ between a file, which follows PyTorch, and memory, where
/// channels come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// The same in both.
    Plain,
    /// File `[o, i, kh, kw]`, memory `[o, kh, kw, i]`.
    Conv2d,
    /// File `[o, i, kt, 1, 1]`, memory `[o, kt, i]`.
    TimeConv,
    /// A 1×1 convolution, which is a linear layer: file `[o, i, 1, 1]`, memory `[o, i]`.
    Point,
}

impl Layout {
    /// The extents in a file of a parameter whose extents in memory are given.
    ///
    /// # Panics
    /// When the number of axes is not the layout's: the layer that asks is wrong.
    pub fn file_dims(self, memory_dims: &[usize]) -> Vec<usize> {
        match (self, memory_dims) {
            (Layout::Plain, dims) => dims.to_vec(),
            (Layout::Conv2d, &[o, kh, kw, i]) => vec![o, i, kh, kw],
            (Layout::TimeConv, &[o, kt, i]) => vec![o, i, kt, 1, 1],
            (Layout::Point, &[o, i]) => vec![o, i, 1, 1],
            (layout, dims) => panic!("no parameter of layout {layout:?} has the extents {dims:?}"),
        }
    }

    /// Whether the values stand in the same order in both.
    pub fn keeps_order(self) -> bool {
        matches!(self, Layout::Plain | Layout::Point)
    }

    /// Values in a file's order, put into memory's order.
    ///
    /// # Panics
    /// When the values do not fill the extents.
    pub fn memory_from_file<T: Copy + Default + Send + Sync>(
        self,
        values: &[T],
        memory_dims: &[usize],
    ) -> Vec<T> {
        self.memory_from_stored(values, memory_dims, |value| value)
    }

    /// As [`Layout::memory_from_file`], each value read by `read` on its way.
    ///
    /// # Panics
    /// When the values do not fill the extents.
    pub(crate) fn memory_from_stored<T: Copy + Sync, R: Copy + Default + Send>(
        self,
        values: &[T],
        memory_dims: &[usize],
        read: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        let (kernel, i) = self.kernel_and_input(memory_dims);
        transpose_each(values, i, kernel, read) // [o, i, k] -> [o, k, i]
    }

    /// Values in memory's order, put into a file's order.
    ///
    /// # Panics
    /// When the values do not fill the extents.
    pub fn file_from_memory<T: Copy + Default + Send + Sync>(
        self,
        values: &[T],
        memory_dims: &[usize],
    ) -> Vec<T> {
        let (kernel, i) = self.kernel_and_input(memory_dims);
        transpose_each(values, kernel, i, |value| value) // [o, k, i] -> [o, i, k]
    }

    /// Both layouts that move values differ by the same thing: whether the kernel's positions or
    /// the input channels run fastest. The number of each; 1 and 1 where nothing moves.
    fn kernel_and_input(self, memory_dims: &[usize]) -> (usize, usize) {
        match (self, memory_dims) {
            (Layout::Conv2d, &[_, kh, kw, i]) => (kh * kw, i),
            (Layout::TimeConv, &[_, kt, i]) => (kt, i),
            _ => (1, 1),
        }
    }
}

/// Each stretch of `rows · columns` values, a matrix of `rows` rows, transposed, each value read by `read`
/// on its way: memory is written once, on all cores.
pub(crate) fn transpose_each<T: Copy + Sync, R: Copy + Default + Send>(
    values: &[T],
    rows: usize,
    columns: usize,
    read: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let size = rows * columns;
    if rows == 1 || columns == 1 || values.is_empty() {
        return values.iter().map(|value| read(*value)).collect();
    }
    assert!(
        values.len().is_multiple_of(size),
        "{} values are not whole matrices of {rows} × {columns}",
        values.len()
    );
    // Zeros are pages that the system hands out untouched.
    let mut out = vec![R::default(); values.len()];
    out.par_chunks_mut(size)
        .zip(values.par_chunks(size))
        .for_each(|(out, values)| {
            for (column, out) in out.chunks_exact_mut(rows).enumerate() {
                let values = values[column..].iter().step_by(columns);
                for (out, value) in out.iter_mut().zip(values) {
                    *out = read(*value);
                }
            }
        });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that spell their own place in the file.
    fn spelled(dims: &[usize]) -> Vec<u32> {
        (0..dims.iter().product::<usize>() as u32).collect()
    }

    #[test]
    fn a_picture_convolution_moves_its_input_channels_last() {
        let (o, i, kh, kw) = (2, 3, 5, 4);
        let file = spelled(&[o, i, kh, kw]);
        let memory = Layout::Conv2d.memory_from_file(&file, &[o, kh, kw, i]);
        for a in 0..o {
            for b in 0..i {
                for y in 0..kh {
                    for x in 0..kw {
                        assert_eq!(
                            memory[((a * kh + y) * kw + x) * i + b],
                            file[((a * i + b) * kh + y) * kw + x],
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_time_convolution_moves_its_input_channels_last() {
        let (o, i, kt) = (2, 4, 3);
        let file = spelled(&[o, i, kt, 1, 1]);
        let memory = Layout::TimeConv.memory_from_file(&file, &[o, kt, i]);
        for a in 0..o {
            for b in 0..i {
                for t in 0..kt {
                    assert_eq!(memory[(a * kt + t) * i + b], file[(a * i + b) * kt + t]);
                }
            }
        }
    }

    #[test]
    fn every_layout_goes_there_and_back() {
        for (layout, memory_dims) in [
            (Layout::Plain, vec![2, 3]),
            (Layout::Plain, vec![]),
            (Layout::Conv2d, vec![4, 3, 3, 2]),
            (Layout::TimeConv, vec![4, 3, 5]),
            (Layout::Point, vec![4, 5]),
        ] {
            let values = spelled(&memory_dims);
            let file = layout.file_from_memory(&values, &memory_dims);
            assert_eq!(layout.memory_from_file(&file, &memory_dims), values);
            assert_eq!(
                layout.file_dims(&memory_dims).iter().product::<usize>(),
                values.len()
            );
            if layout.keeps_order() {
                assert_eq!(file, values);
            }
        }
    }

    #[test]
    #[should_panic(expected = "no parameter of layout Conv2d has the extents [2, 3]")]
    fn a_layer_that_asks_for_the_wrong_rank_is_stopped() {
        Layout::Conv2d.file_dims(&[2, 3]);
    }
}
