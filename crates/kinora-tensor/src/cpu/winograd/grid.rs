//! Where a convolution reads and where it writes.

/// A grid of pixels read and a grid of places written, `outer` times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(super) outer: usize,
    pub(super) from: Axes,
    pub(super) to: Axes,
    /// Rows and columns of results, which tiles are cut from.
    pub(super) results: [usize; 2],
    /// Places from one result to the next, along both axes: 2 where pictures are doubled on the way.
    stretch: usize,
    /// Rows and columns of zeros before the first.
    pub(super) pad: [usize; 2],
}

/// Rows and columns, and how many pixels lie from one to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axes {
    pub(super) extent: [usize; 2],
    stride: [usize; 2],
}

impl Axes {
    pub(super) fn len(&self) -> usize {
        self.extent[0] * self.extent[1]
    }

    /// Where a row and a column meet; `None` outside.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, column: usize) -> Option<usize> {
        (row < self.extent[0] && column < self.extent[1])
            .then(|| row * self.stride[0] + column * self.stride[1])
    }

    /// The channels of each pixel of a window whose corner is at a row and a column of one of the outer
    /// ones; none of those outside. The corner may lie before the first (a number that wrapped around).
    #[inline(always)]
    pub(super) fn window<'a, const R: usize, const C: usize>(
        &self,
        (values, channels): (&'a [f32], usize),
        [outer, row, column]: [usize; 3],
    ) -> [[&'a [f32]; C]; R] {
        let mut window: [[&[f32]; C]; R] = [[&[]; C]; R];
        for r in 0..R {
            for k in 0..C {
                if let Some(at) = self.at(row.wrapping_add(r), column.wrapping_add(k)) {
                    let at = (outer * self.len() + at) * channels;
                    window[r][k] = &values[at..][..channels];
                }
            }
        }
        window
    }
}

impl Grid {
    /// The corner of the pixels that lead to the places from `corner` on; it may wrap around.
    #[inline(always)]
    pub(super) fn reads(&self, [outer, row, column]: [usize; 3]) -> [usize; 3] {
        let [above, before] = self.pad;
        [outer, row.wrapping_sub(above), column.wrapping_sub(before)]
    }

    /// Pictures of `from` [height, width] that give pictures of `to`.
    pub(crate) fn pictures(n: usize, from: [usize; 2], to: [usize; 2], pad: [usize; 2]) -> Self {
        let axes = |extent: [usize; 2]| Axes {
            extent,
            stride: [extent[1], 1],
        };
        Grid {
            outer: n,
            from: axes(from),
            to: axes(to),
            results: to,
            stretch: 1,
            pad,
        }
    }

    /// Pictures [height, width] that give pictures of twice the height and width, three taps of which see two pixels
    /// each. Result i of phase p is place 2i − p: of both phases result i sees the pixels i − 1 and i.
    pub(crate) fn doubled(n: usize, [height, width]: [usize; 2]) -> Self {
        let pictures = Self::pictures(n, [height, width], [2 * height, 2 * width], [1, 1]);
        Grid {
            results: [height + 1, width + 1],
            stretch: 2,
            ..pictures
        }
    }

    /// Clips of frames of places, one frame of zeros at either end. Time is the column.
    pub(crate) fn frames(clips: usize, frames: usize, places: usize) -> Self {
        let axes = Axes {
            extent: [places, frames],
            stride: [1, places],
        };
        Grid {
            outer: clips,
            from: axes,
            to: axes,
            results: axes.extent,
            stretch: 1,
            pad: [0, 1],
        }
    }

    /// How many convolutions there are with the same pixels, each for some of the places.
    pub(super) fn phases(&self) -> usize {
        self.stretch * self.stretch
    }

    /// The phases along both axes of one of these; `None` where there is but one.
    #[inline(always)]
    pub(super) fn phase(&self, number: usize) -> Option<[usize; 2]> {
        (self.stretch > 1).then(|| [number / self.stretch, number % self.stretch])
    }

    /// The place of a result; `None` outside.
    #[inline(always)]
    pub(super) fn place(&self, [row, column]: [usize; 2], number: usize) -> Option<usize> {
        let [above, before] = self.phase(number).unwrap_or_default();
        let row = (self.stretch * row).wrapping_sub(above);
        let column = (self.stretch * column).wrapping_sub(before);
        self.to.at(row, column)
    }
}
