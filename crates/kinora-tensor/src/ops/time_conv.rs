//! Convolution along time, each place of the picture by itself.

use super::conv2d::conv_on_card;
use super::linear::{fill_rows, sum_rows, wide};
use super::{Conv2d, Pad, on_card};
use crate::cpu::matmul::{Cores, MatRef, matmul};
use crate::cpu::onto::Onto;
use crate::cpu::weight_gradient::WeightGradient;
use crate::cpu::winograd::{AlongTime, Direction, GradientAlongTime, Grid, Weight};
use crate::{Error, Result, Tensor, storage};
use std::ops::Range;

/// y\[b, t, s, o\] = Σ x\[b, t + k − kt/2, s, i\] · w\[o, k, i\] + b\[o\], frames outside the clip being
/// zero.
///
/// # Shapes
/// `x` `[b, t, .., i]`, `w` `[o, kt, i]` with odd kt in any element type, `b` `[o]`; the result is
/// `[b, t, .., o]`.
///
/// # Errors
/// When the channels do not agree or kt is even.
pub fn time_conv(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let g = Geometry::new(x, w, b)?;
    let dims = g.result_dims(x);
    let inputs: Vec<&Tensor> = [x, w].into_iter().chain(b).collect();
    if on_card("time_conv", &inputs)? {
        return conv_on_card(x, w, b, g.as_pictures(), dims);
    }
    let rules = if inputs.iter().any(|input| input.is_tracked()) {
        Rules::Finest
    } else {
        Rules::Fastest
    };
    let y = g.forward(x.as_f32()?, w, b.map(wide).as_deref(), (rules, None));
    let (x_kept, w_kept) = (x.clone(), w.clone());
    let has_bias = b.is_some();
    Ok(Tensor::recorded(y, dims, &inputs, move |dy, wanted| {
        let dy = dy.as_f32()?;
        let mut parts = vec![None, None];
        if wanted[0] {
            let dx = g.input_gradient(dy, &w_kept);
            parts[0] = Some(Tensor::from_vec(dx, x_kept.shape())?);
        }
        let mut db = (has_bias && wanted[2]).then(|| vec![0.0; g.o]);
        if wanted[1] {
            let dw = g.weight_gradient(x_kept.as_f32()?, dy, db.as_deref_mut());
            parts[1] = Some(Tensor::from_vec(dw, w_kept.shape())?);
        } else if let Some(db) = &mut db {
            *db = sum_rows(dy, g.o);
        }
        if has_bias {
            parts.push(db.map(|db| Tensor::from_vec(db, [g.o])).transpose()?);
        }
        Ok(parts)
    }))
}

/// Which of the rules with fewer multiplications may be taken. Where something is trained F(7, 3) is left out: it
/// rounds three times as much as F(4, 3), which sums that nearly cancel, such as gradients of mix factors, show. That
/// must not depend on whether this very call is recorded: a checkpoint computes it both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    Finest,
    Fastest,
}

/// The extents of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    clips: usize,
    frames: usize,
    places: usize,
    i: usize,
    o: usize,
    taps: usize,
}

impl Geometry {
    pub(super) fn new(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Self> {
        let &[o, taps, i] = w.dims() else {
            return Err(Error::shape("time_conv", "a weight [o, kt, i]", w.dims()));
        };
        if taps % 2 == 0 {
            return Err(Error::shape(
                "time_conv",
                "an odd number kt of taps",
                w.dims(),
            ));
        }
        let dims = x.dims();
        if dims.len() < 3 || dims.last() != Some(&i) {
            return Err(Error::shape(
                "time_conv",
                format!("x [b, t, .., {i}]"),
                dims,
            ));
        }
        if let Some(b) = b
            && b.dims() != [o]
        {
            return Err(Error::shape("time_conv", format!("a bias [{o}]"), b.dims()));
        }
        Ok(Geometry {
            clips: dims[0],
            frames: dims[1],
            places: dims[2..dims.len() - 1].iter().product(),
            i,
            o,
            taps,
        })
    }

    /// The extents of the result, for those of `x`.
    pub(super) fn result_dims(&self, x: &Tensor) -> Vec<usize> {
        let mut dims = x.dims().to_vec();
        *dims.last_mut().expect("checked") = self.o;
        dims
    }

    /// The same as a convolution of pictures whose rows are frames and whose columns are places.
    fn as_pictures(&self) -> super::Geometry {
        let half = self.taps / 2;
        super::Geometry {
            n: self.clips,
            h: self.frames,
            w: self.places,
            i: self.i,
            o: self.o,
            kh: self.taps,
            kw: 1,
            oh: self.frames,
            ow: self.places,
            conv: Conv2d {
                stride: 1,
                pad: Pad {
                    top: half,
                    bottom: half,
                    ..Pad::default()
                },
            },
        }
    }

    /// For each tap, in an order that begins with the centre, which reaches every frame: the frames of
    /// the result it reaches and the frames it reads there.
    fn taps(&self) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
        let (half, frames) = (self.taps / 2, self.frames);
        let others = (0..self.taps).filter(move |k| *k != half);
        std::iter::once(half).chain(others).filter_map(move |k| {
            let late = k.saturating_sub(half);
            let early = half.saturating_sub(k);
            let shared = frames.checked_sub(late + early).filter(|n| *n > 0)?;
            Some((k, early..early + shared, late..late + shared))
        })
    }

    /// The frames `range` of clip `clip`, as a range of rows of places.
    fn rows(&self, clip: usize, range: &Range<usize>) -> Range<usize> {
        let first = clip * self.frames;
        (first + range.start) * self.places..(first + range.end) * self.places
    }

    /// The result joined with another array, where nothing is trained.
    pub(super) fn forward_fastest(
        &self,
        x: &[f32],
        w: &Tensor,
        b: Option<&[f32]>,
        onto: Onto<'_>,
    ) -> Vec<f32> {
        self.forward(x, w, b, (Rules::Fastest, Some(onto)))
    }

    fn forward(
        &self,
        x: &[f32],
        w: &Tensor,
        b: Option<&[f32]>,
        (rules, onto): (Rules, Option<Onto<'_>>),
    ) -> Vec<f32> {
        let mut y = storage::scratch(self.clips * self.frames * self.places * self.o);
        if self.run_minimal(x, (w, b, onto), (Direction::Forward, rules), &mut y) {
            return y;
        }
        if let Some(b) = b {
            fill_rows(&mut y, b);
        }
        let w = &wide(w);
        for clip in 0..self.clips {
            for (tap, to, from) in self.taps() {
                let weight = self.weight(w, tap).t();
                let accumulate = b.is_some() || tap != self.taps / 2;
                self.add(&mut y, (clip, &to), x, &from, weight, accumulate);
            }
        }
        if let Some(onto) = onto {
            onto.join(&mut y);
        }
        y
    }

    fn input_gradient(&self, dy: &[f32], w: &Tensor) -> Vec<f32> {
        let mut dx = storage::scratch(self.clips * self.frames * self.places * self.i);
        if self.run_minimal(
            dy,
            (w, None, None),
            (Direction::Backward, Rules::Finest),
            &mut dx,
        ) {
            return dx;
        }
        let w = &wide(w);
        for clip in 0..self.clips {
            for (tap, to, from) in self.taps() {
                let accumulate = tap != self.taps / 2;
                let weight = self.weight(w, tap);
                self.add(&mut dx, (clip, &from), dy, &to, weight, accumulate);
            }
        }
        dx
    }

    /// Writes the result by a way with fewer multiplications, where there is one that pays.
    fn run_minimal(
        &self,
        pixels: &[f32],
        (w, bias, onto): (&Tensor, Option<&[f32]>, Option<Onto<'_>>),
        (direction, rules): (Direction, Rules),
        out: &mut [f32],
    ) -> bool {
        if self.taps != 3 {
            return false;
        }
        let (from, to) = match direction {
            Direction::Forward => (self.i, self.o),
            Direction::Backward => (self.o, self.i),
        };
        let job = AlongTime {
            grid: Grid::frames(self.clips, self.frames, self.places),
            pixels,
            weight: Weight::new(w, direction),
            bias,
            onto,
            from,
            to,
        };
        let seven = job.by_seven().filter(|_| rules == Rules::Fastest);
        match seven {
            Some(seven) if seven.pays() => seven.run(out),
            None if job.pays() => job.run(out),
            _ => return false,
        }
        true
    }

    fn weight_gradient(&self, x: &[f32], dy: &[f32], bias: Option<&mut [f32]>) -> Vec<f32> {
        let minimal = GradientAlongTime {
            grid: Grid::frames(self.clips, self.frames, self.places),
            pixels: x,
            gradient: dy,
            from: self.i,
            to: self.o,
        };
        let shared = WeightGradient {
            pixels: x,
            gradient: dy,
            n: self.clips,
            from: [self.frames, self.places],
            to: [self.frames, self.places],
            taps: [self.taps, 1],
            pad: [self.taps / 2, 0],
            i: self.i,
            o: self.o,
        };
        let mut dw = storage::scratch(self.o * self.taps * self.i);
        if self.taps == 3 && minimal.pays() {
            minimal.run(&mut dw);
        } else if shared.pays() {
            shared.run(&mut dw, bias);
            return dw;
        } else {
            self.weight_gradient_by_tap(&mut dw, x, dy);
        }
        if let Some(bias) = bias {
            bias.copy_from_slice(&sum_rows(dy, self.o));
        }
        dw
    }

    fn weight_gradient_by_tap(&self, dw: &mut [f32], x: &[f32], dy: &[f32]) {
        dw.fill(0.0);
        for clip in 0..self.clips {
            for (tap, to, from) in self.taps() {
                let (to, from) = (self.rows(clip, &to), self.rows(clip, &from));
                matmul(
                    &mut dw[tap * self.i..],
                    self.taps * self.i,
                    MatRef::new(&dy[to.start * self.o..], to.len(), self.o).t(),
                    MatRef::new(&x[from.start * self.i..], from.len(), self.i),
                    true,
                    Cores::All,
                );
            }
        }
    }

    /// One tap of the weight, `[o, i]`.
    fn weight<'a>(&self, w: &'a [f32], tap: usize) -> MatRef<'a> {
        MatRef::strided(&w[tap * self.i..], self.o, self.i, self.taps * self.i)
    }

    /// Frames `to` of the result += frames `from` of the operand · weight.
    fn add(
        &self,
        out: &mut [f32],
        (clip, to): (usize, &Range<usize>),
        operand: &[f32],
        from: &Range<usize>,
        weight: MatRef<'_>,
        accumulate: bool,
    ) {
        let (to, from) = (self.rows(clip, to), self.rows(clip, from));
        matmul(
            &mut out[to.start * weight.cols..],
            weight.cols,
            MatRef::new(
                &operand[from.start * weight.rows..],
                from.len(),
                weight.rows,
            ),
            weight,
            accumulate,
            Cores::All,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::testing::{assert_close, check_gradients, numbers};

    /// The definition, in f64.
    fn slow(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Vec<f32> {
        let (&[clips, frames], &[o, taps, i]) = (&x.dims()[..2], w.dims()) else {
            panic!("clips and a kernel");
        };
        let places = x.elements() / (clips * frames * i);
        let (x, w) = (x.to_vec(), w.to_vec());
        let mut out = Vec::new();
        for row in 0..clips * frames * places {
            let (clip, t, s) = (row / places / frames, row / places % frames, row % places);
            for f in 0..o {
                let mut sum = b.map_or(0.0, |b| f64::from(b.to_vec()[f]));
                for k in 0..taps {
                    let from = (t + k).wrapping_sub(taps / 2);
                    if from < frames {
                        for c in 0..i {
                            let value = x[((clip * frames + from) * places + s) * i + c];
                            sum += f64::from(value) * f64::from(w[(f * taps + k) * i + c]);
                        }
                    }
                }
                out.push(sum as f32);
            }
        }
        out
    }

    /// Clips nobody would choose: extents of x, channels out, taps.
    const AWKWARD: [(&[usize], usize, usize); 7] = [
        (&[1, 1, 1, 1], 1, 3),
        (&[2, 5, 3, 2, 3], 4, 3),
        (&[1, 1, 2, 3], 2, 3),
        (&[2, 2, 3], 2, 3),
        (&[1, 2, 3, 2], 3, 5),
        (&[2, 3, 2, 2], 3, 1),
        // Enough channels and places for the way with fewer multiplications.
        (&[1, 8, 7, 33], 34, 3),
    ];

    fn operands(dims: &[usize], o: usize, taps: usize) -> [Tensor; 3] {
        let i = dims[dims.len() - 1];
        [numbers(dims, 1), numbers([o, taps, i], 2), numbers([o], 3)]
    }

    #[test]
    fn agrees_with_the_definition() -> Result<()> {
        for (dims, o, taps) in AWKWARD {
            let [x, w, b] = operands(dims, o, taps);
            for b in [None, Some(&b)] {
                let y = time_conv(&x, &w, b)?;
                assert_eq!(y.dims()[..dims.len() - 1], dims[..dims.len() - 1]);
                assert_close(&y.to_vec(), &slow(&x, &w, b), 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        for (dims, o, taps) in AWKWARD {
            check_gradients(&operands(dims, o, taps), |inputs| {
                time_conv(&inputs[0], &inputs[1], Some(&inputs[2]))
            });
        }
    }

    #[test]
    fn what_is_trained_gives_the_same_whether_it_is_recorded_or_not() -> Result<()> {
        let [x, w, b] = operands(&[1, 7, 24, 64], 64, 3);
        let apart = time_conv(&x, &w, Some(&b))?.to_vec();
        let w = w.tracked();
        let recorded = time_conv(&x, &w, Some(&b))?.to_vec();
        let forgotten = crate::no_grad(|| time_conv(&x, &w, Some(&b)))?.to_vec();
        assert!(recorded == forgotten);
        assert!(recorded != apart, "F(7, 3) where nothing is trained");
        Ok(())
    }

    #[test]
    fn weights_in_sixteen_bits_are_widened() -> Result<()> {
        let [x, w, b] = operands(&[1, 4, 3, 5], 4, 3);
        for dtype in [DType::F16, DType::BF16] {
            let (w, b) = (w.cast(dtype), b.cast(dtype));
            let y = time_conv(&x, &w, Some(&b))?;
            assert_close(&y.to_vec(), &slow(&x, &w, Some(&b)), 1e-6);
        }
        Ok(())
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let text = |x: &[usize], w: &[usize], b: usize| {
            time_conv(&numbers(x, 1), &numbers(w, 2), Some(&numbers([b], 3)))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            text(&[1, 2, 3, 4], &[5, 3, 3], 5),
            "time_conv: expected x [b, t, .., 3], found [1, 2, 3, 4]"
        );
        assert_eq!(
            text(&[1, 2, 3, 4], &[5, 2, 4], 5),
            "time_conv: expected an odd number kt of taps, found [5, 2, 4]"
        );
        assert_eq!(
            text(&[1, 2, 3, 4], &[5, 3, 4], 4),
            "time_conv: expected a bias [5], found [4]"
        );
    }
}
