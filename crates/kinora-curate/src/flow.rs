//! Dense optical flow by Farnebäck's polynomial expansion (paper, App. C).
//!
//! G. Farnebäck, *Two-Frame Motion Estimation Based on Polynomial Expansion*, SCIA 2003. Around every
//! pixel both pictures are taken for quadratic polynomials; if one is the other moved, the difference
//! of their slopes says by how much. A weighted mean over a window makes the answer firm, a few
//! rounds at each of several sizes make it reach far. Where the article leaves a choice, it is made
//! as OpenCV's `calcOpticalFlowFarneback` makes it, so that equal settings give equal flow.

mod displacement;
mod expansion;
mod lanes;
mod resample;
mod window;

use crate::{Error, Result};
use displacement::{PLANES, Pair, trust};
use expansion::{Expander, Expansion};
use lanes::padded;
use resample::Resample;
use serde::{Deserialize, Serialize};
use window::Window;

/// Pyramid levels whose width or height would be below this are left out.
const SMALLEST_SIDE: f64 = 32.0;

/// Longest side, in pixels: places are computed in f32.
const LONGEST_SIDE: usize = 1 << 15;

/// How the equations of neighbouring pixels are brought together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Averaging {
    /// With equal weights: the fastest.
    #[default]
    Box,
    /// With Gaussian weights of sigma 0.3 times the window's reach.
    Gaussian,
}

/// What Farnebäck's method leaves open. The default is what OpenCV's own examples use, since the
/// paper does not give its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowSettings {
    /// Size of each level of the pyramid over the size of the level before it, between 0 and 1.
    pub pyramid_scale: f64,
    /// Levels beside the picture itself; fewer where a side would fall below 32 pixels.
    pub levels: usize,
    /// Width of the window in pixels.
    pub window: usize,
    /// Rounds at each level.
    pub iterations: usize,
    /// How many pixels a polynomial reaches to every side.
    pub neighbourhood: usize,
    /// Sigma in pixels of the weight under which a polynomial is fitted.
    pub sigma: f64,
    /// Weights in the window.
    pub averaging: Averaging,
}

impl Default for FlowSettings {
    fn default() -> Self {
        FlowSettings {
            pyramid_scale: 0.5,
            levels: 3,
            window: 15,
            iterations: 3,
            neighbourhood: 5,
            sigma: 1.2,
            averaging: Averaging::Box,
        }
    }
}

impl FlowSettings {
    /// Says which setting makes no sense, if one does.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Setting(format!("flow: {what}")));
        if !(self.pyramid_scale > 0.0 && self.pyramid_scale < 1.0) {
            let found = self.pyramid_scale;
            return wrong(format!(
                "expected pyramid_scale between 0 and 1, found {found}; 0.5 halves the picture at each level"
            ));
        }
        if !(self.sigma > 0.0 && self.sigma.is_finite()) {
            let found = self.sigma;
            return wrong(format!(
                "expected sigma above 0, found {found}; 1.2 goes with a neighbourhood of 5"
            ));
        }
        for (name, found, most) in [
            ("window", self.window, 512),
            ("iterations", self.iterations, 1000),
            ("neighbourhood", self.neighbourhood, 64),
        ] {
            if found == 0 || found > most {
                return wrong(format!("expected {name} from 1 to {most}, found {found}"));
            }
        }
        Ok(())
    }
}

/// A displacement for every pixel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowField {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// How many pixels to the right each pixel has gone, row by row, `[height, width]`.
    pub x: Vec<f32>,
    /// How many pixels down, likewise.
    pub y: Vec<f32>,
}

/// Flow from each picture of a sequence to the next, all of one size. Memory is reused from pair to
/// pair, and each picture is expanded once.
pub struct Farneback {
    iterations: usize,
    expander: Expander,
    window: Window,
    /// From the picture itself to the smallest.
    levels: Vec<Level>,
    /// The newest picture as it came.
    luma: Vec<u8>,
    /// The same, `[height, padded width]`.
    picture: Vec<f32>,
    /// The same at the size of a level.
    small: Vec<f32>,
    scratch: Vec<Vec<f32>>,
    pictures: u64,
    field: FlowField,
}

struct Level {
    size: (usize, usize),
    /// From the picture to this level.
    reduce: Resample,
    /// The displacements of the next smaller level made larger; none for the smallest.
    enlarge: Option<Resample>,
    trust_of_column: Vec<f32>,
    trust_of_row: Vec<f32>,
    before: Expansion,
    now: Expansion,
    /// `[height, 2, padded width]`.
    flow: Vec<f32>,
    refined: Vec<f32>,
}

impl Farneback {
    /// Room for pictures of `width` by `height` pixels.
    ///
    /// # Errors
    /// [`Error::Setting`] if a setting makes no sense or a side of the picture is 0 or above 2¹⁵ pixels.
    pub fn new(settings: &FlowSettings, width: usize, height: usize) -> Result<Self> {
        settings.check()?;
        let sides = 1..=LONGEST_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(Error::Setting(format!(
                "flow: expected pictures with sides of 1 to {LONGEST_SIDE} pixels, found {width}×{height}"
            )));
        }
        let levels = levels(settings, (width, height));
        let largest = padded(width) * height;
        Ok(Farneback {
            iterations: settings.iterations,
            expander: Expander::new(settings.neighbourhood, settings.sigma),
            window: match settings.averaging {
                Averaging::Box => Window::even(settings.window),
                Averaging::Gaussian => Window::gaussian(settings.window),
            },
            levels,
            luma: vec![0; width * height],
            picture: vec![0.0; largest],
            small: vec![0.0; largest],
            scratch: Vec::new(),
            pictures: 0,
            field: FlowField {
                width,
                height,
                x: vec![0.0; width * height],
                y: vec![0.0; width * height],
            },
        })
    }

    /// Takes the next picture, and gives the flow from the one before to it; none for the first.
    ///
    /// # Shapes
    /// `luma` `[height, width]`.
    ///
    /// # Errors
    /// [`Error::Setting`] if `luma` is of another length.
    pub fn push(&mut self, luma: &[u8]) -> Result<Option<&FlowField>> {
        let (width, height) = self.levels[0].size;
        if luma.len() != width * height {
            return Err(Error::Setting(format!(
                "flow: expected a picture of {width}×{height} = {} pixels, found {}",
                width * height,
                luma.len()
            )));
        }
        if self.pictures > 0 && self.luma == luma {
            // Nothing moves between equal pictures, although at the edges the equations, which there
            // compare with nothing, would say otherwise; and the picture is expanded already.
            self.field.x.fill(0.0);
            self.field.y.fill(0.0);
            return Ok(Some(&self.field));
        }
        self.luma.copy_from_slice(luma);
        self.expand();
        self.pictures += 1;
        if self.pictures == 1 {
            return Ok(None);
        }
        self.refine();
        self.publish();
        Ok(Some(&self.field))
    }

    /// Forgets the picture before: the next one begins a new sequence.
    pub fn restart(&mut self) {
        self.pictures = 0;
    }

    /// Expands the newest picture at every level.
    fn expand(&mut self) {
        let (width, _) = self.levels[0].size;
        let rows = self.picture.chunks_exact_mut(padded(width));
        for (row, luma) in rows.zip(self.luma.chunks_exact(width)) {
            // Only differences matter, and they are more exact about zero.
            for (value, luma) in row.iter_mut().zip(luma) {
                *value = f32::from(*luma) - 128.0;
            }
        }
        for level in &mut self.levels {
            let (width, height) = level.size;
            let small = &mut self.small[..padded(width) * height];
            level.reduce.run(1, &self.picture, small, &mut self.scratch);
            std::mem::swap(&mut level.before, &mut level.now);
            self.expander
                .expand(small, level.size, &mut level.now, &mut self.scratch);
        }
    }

    /// From the smallest level to the picture: a first belief, then round after round.
    fn refine(&mut self) {
        for number in (0..self.levels.len()).rev() {
            let (finer, coarser) = self.levels.split_at_mut(number + 1);
            let level = &mut finer[number];
            match (&level.enlarge, coarser.first()) {
                (Some(enlarge), Some(coarser)) => {
                    enlarge.run(PLANES, &coarser.flow, &mut level.flow, &mut self.scratch);
                }
                _ => level.flow.fill(0.0),
            }
            for _ in 0..self.iterations {
                let pair = Pair {
                    size: level.size,
                    first: &level.before,
                    second: &level.now,
                    trust_of_column: &level.trust_of_column,
                    trust_of_row: &level.trust_of_row,
                    window: &self.window,
                };
                pair.refine(&level.flow, &mut level.refined, &mut self.scratch);
                std::mem::swap(&mut level.flow, &mut level.refined);
            }
        }
    }

    /// Copies the displacements of the picture without their padding.
    fn publish(&mut self) {
        let stride = padded(self.field.width);
        let width = self.field.width;
        let rows = self.levels[0].flow.chunks_exact(PLANES * stride);
        let x = self.field.x.chunks_exact_mut(width);
        let y = self.field.y.chunks_exact_mut(width);
        for (row, (x, y)) in rows.zip(x.zip(y)) {
            x.copy_from_slice(&row[..width]);
            y.copy_from_slice(&row[stride..][..width]);
        }
    }
}

/// The flow from one picture to another.
///
/// # Shapes
/// Both `[height, width]`.
///
/// # Errors
/// As [`Farneback::new`] and [`Farneback::push`].
pub fn flow_between(
    settings: &FlowSettings,
    (width, height): (usize, usize),
    first: &[u8],
    second: &[u8],
) -> Result<FlowField> {
    let mut farneback = Farneback::new(settings, width, height)?;
    farneback.push(first)?;
    farneback.push(second)?;
    Ok(farneback.field)
}

/// The pyramid over a picture.
fn levels(settings: &FlowSettings, (width, height): (usize, usize)) -> Vec<Level> {
    let at = |side: usize, scale: f64| ((side as f64 * scale).round_ties_even() as usize).max(1);
    let mut scale = 1.0;
    let mut levels: Vec<Level> = Vec::new();
    loop {
        let size = (at(width, scale), at(height, scale));
        if let Some(finer) = levels.last_mut() {
            let gain = (1.0 / settings.pyramid_scale) as f32;
            finer.enlarge = Some(Resample::new(size, finer.size, &[1.0]).with_gain(gain));
        }
        let len = PLANES * padded(size.0) * size.1;
        levels.push(Level {
            size,
            reduce: Resample::new((width, height), size, &blur(scale)),
            enlarge: None,
            trust_of_column: trust(size.0),
            trust_of_row: trust(size.1),
            before: Expansion::default(),
            now: Expansion::default(),
            flow: vec![0.0; len],
            refined: vec![0.0; len],
        });
        scale *= settings.pyramid_scale;
        let least = width.min(height) as f64 * scale;
        if levels.len() > settings.levels || least < SMALLEST_SIDE {
            return levels;
        }
    }
}

/// The blur before a picture is made `scale` times as large: a Gaussian whose sigma grows with the
/// reduction, and a least blur for the picture itself.
fn blur(scale: f64) -> Vec<f64> {
    let sigma = (1.0 / scale - 1.0) * 0.5;
    if sigma == 0.0 {
        return vec![0.25, 0.5, 0.25];
    }
    let radius = ((sigma * 5.0).round_ties_even() as usize / 2).max(1);
    let weight = |k: usize| {
        let x = k as f64 - radius as f64;
        (-x * x / (2.0 * sigma * sigma)).exp()
    };
    let total: f64 = (0..=2 * radius).map(weight).sum();
    (0..=2 * radius).map(|k| weight(k) / total).collect()
}

#[cfg(test)]
mod tests;
