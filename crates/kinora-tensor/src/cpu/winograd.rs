//! Three-tap convolutions by Winograd's minimal filtering: over pictures F(4, 3) along both axes, four times fewer
//! multiplications; along time F(4, 3), two times fewer, or F(7, 3), 2.33 times, whichever cuts the frames better.
//!
//! The result is cut into tiles of 4×4 places (or 4 or 7 frames). A block of tiles is taken to the points of the
//! rule (`rule`, `tiles`); then every pass (`pass`) over 32 or 64 channels out takes its share of the weight
//! there too (`weight`), multiplies point by point (`micro`), and brings its sums back to places. The
//! weight is transformed where it is used, in cache, once for each block of tiles, so nothing as large
//! as a transformed weight (four times the weight) is ever stored; a block holds enough tiles to make
//! that cheap. Where channels are few, that block would leave the cache only to come back: there each core
//! takes a few groups of tiles all the way (`groups_in_cache`), with the weight at the points (`panels`) made once.

mod gradient;
mod grid;
mod micro;
mod panels;
mod pass;
mod points;
mod rule;
mod tiles;
mod weight;

use crate::cpu::{onto::Onto, shared::Shared};
use crate::storage;
pub(crate) use gradient::{GradientAlongTime, GradientOverPictures};
pub(crate) use grid::Grid;
use micro::TILES;
use panels::Panels;
use pulp::{Arch, Simd};
use rayon::prelude::*;
use rule::{POINTS, RESULTS, TAPS, row_taps};
use std::ops::Range;
pub(crate) use weight::{Direction, Weight};

/// The rule over the two axes of a picture.
pub(crate) type OverPictures<'a> = Winograd<'a, { POINTS }, { POINTS }, { RESULTS }>;
/// The rule along one axis: the columns of the grid.
pub(crate) type AlongTime<'a> = Winograd<'a, 1, { POINTS }, { RESULTS }>;
/// F(5, 2) over the two axes of a picture that is doubled on the way: there three taps meet two pixels, in one of two
/// ways (phases) along each axis.
pub(crate) type OverDoubled<'a> = Winograd<'a, { POINTS }, { POINTS }, 5>;
/// F(7, 3) along one axis.
pub(crate) type SevenAlongTime<'a> = Winograd<'a, 1, 9, 7>;

/// One convolution, from pixels `[outer, .., from]` to places `[outer, .., to]`.
///
/// R and P are the rows and the columns of points, Q the columns of results. Where R is 1 the rule goes along the
/// columns only; otherwise the rows are cut as the columns are.
pub(crate) struct Winograd<'a, const R: usize, const P: usize, const Q: usize> {
    pub grid: Grid,
    pub pixels: &'a [f32],
    pub weight: Weight<'a>,
    pub bias: Option<&'a [f32]>,
    pub onto: Option<Onto<'a>>,
    pub from: usize,
    pub to: usize,
}

/// Values of transformed pixels in one block, per row of points: 8 MB over pictures, a third-level
/// cache's part, and less along time.
const BLOCK_VALUES_PER_ROW: usize = 350 << 10;
/// Groups of tiles that a block has at least, as long as they are no more than `LARGEST_BLOCK_VALUES`: for fewer,
/// taking the weights to the points costs more than pixels from memory do.
const LEAST_GROUPS: usize = 64;
/// 48 MB.
const LARGEST_BLOCK_VALUES: usize = 12 << 20;

impl<const R: usize, const P: usize, const Q: usize> Winograd<'_, R, P, Q> {
    const ROW_RESULTS: usize = if R == 1 { 1 } else { Q };
    const ALL_TAPS: usize = row_taps(R) * TAPS;

    /// Whether this way is expected to be faster than multiplying gathered rows: in multiplications
    /// of one channel by one channel, with the transforms and the gathering counted at an estimate of
    /// what they take.
    pub(crate) fn pays(&self) -> bool {
        const GATHERED: usize = 64; // of one value of a gathered row
        const VECTOR: usize = 16;
        let rows = self.grid.outer * self.grid.to.len() * Self::ALL_TAPS;
        let direct = rows * self.from * (self.to.next_multiple_of(VECTOR) + GATHERED);
        self.cost() < direct
    }

    fn cost(&self) -> usize {
        const WEIGHT: usize = 10; // of one channel in and one out, at one point
        const VALUE: usize = 50; // of one value at one point
        let (from, to) = (self.from, self.to.next_multiple_of(NARROW));
        let tiles = self.tiles().next_multiple_of(TILES);
        let phases = self.grid.phases();
        let products = phases * from * to;
        let values = VALUE * (from + phases * to);
        R * P * (tiles * (products + values) + WEIGHT * products)
    }

    /// How many groups of tiles one core takes from pixels to places by itself, where that pays: the groups at the
    /// points and their sums stay in its second-level cache, and all panels of the weight, made once, come by from
    /// the next. `None` where the channels are too many for it, or the groups too few.
    fn groups_in_cache(&self, groups: usize) -> Option<usize> {
        const VALUES: usize = 160 << 10;
        const LARGEST_WEIGHT: usize = 768 << 10;
        let width = self.width(true);
        let per_group = R * P * TILES * (self.from + width);
        let weight = R * P * self.from * self.to.next_multiple_of(width);
        let share = groups.div_ceil(2 * rayon::current_num_threads());
        let fit = (VALUES / per_group.max(1)).min(share);
        let pays = fit >= 3 && self.from > 0 && weight <= LARGEST_WEIGHT;
        (pays && self.grid.phases() == 1).then_some(fit)
    }

    /// How many groups of tiles are at the points at once.
    fn groups_per_block(&self) -> usize {
        let row = P * TILES * self.from.max(1);
        let least = (LARGEST_BLOCK_VALUES / (R * row)).min(LEAST_GROUPS);
        (BLOCK_VALUES_PER_ROW / row).max(least).max(4)
    }

    /// Channels out of one pass.
    fn width(&self, wide: bool) -> usize {
        if wide && self.to.is_multiple_of(WIDE) {
            WIDE
        } else {
            NARROW
        }
    }

    fn plan(&self, groups: usize, wide: bool) -> Plan {
        let stretches = self.from.div_ceil(DEPTH).max(1);
        Plan {
            points: R * P,
            groups,
            channels: self.from,
            depth: self.from.div_ceil(stretches).max(1),
            width: self.width(wide),
        }
    }

    fn tiles(&self) -> usize {
        Self::tiles_of(&self.grid)
    }

    fn corner(&self, tile: usize) -> [usize; 3] {
        Self::corner_of(&self.grid, tile)
    }

    /// Rows and columns of tiles.
    fn tile_extent(grid: &Grid) -> [usize; 2] {
        let [rows, columns] = grid.results;
        [rows.div_ceil(Self::ROW_RESULTS), columns.div_ceil(Q)]
    }

    fn tiles_of(grid: &Grid) -> usize {
        grid.outer * Self::tile_extent(grid).iter().product::<usize>()
    }

    /// The corner of a tile: which of the outer ones, and its first row and column.
    fn corner_of(grid: &Grid, tile: usize) -> [usize; 3] {
        let [rows, columns] = Self::tile_extent(grid);
        let (rest, column) = (tile / columns, tile % columns);
        [rest / rows, rest % rows * Self::ROW_RESULTS, column * Q]
    }

    /// Writes the result, every place of it.
    pub(crate) fn run(&self, out: &mut [f32]) {
        let grid = &self.grid;
        assert_eq!(self.pixels.len(), grid.outer * grid.from.len() * self.from);
        assert_eq!(out.len(), grid.outer * grid.to.len() * self.to);
        if let Some(onto) = self.onto {
            assert_eq!(onto.values.len(), out.len());
        }
        let groups = self.tiles().div_ceil(TILES);
        if groups == 0 || self.to == 0 {
            return;
        }
        let out = &Shared::new(out);
        match self.groups_in_cache(groups) {
            Some(per_task) => self.in_cache(groups, per_task, out),
            None => self.in_blocks(groups, out),
        }
    }

    /// All groups, a block after the other, each with all cores.
    fn in_blocks(&self, groups: usize, out: &Shared<'_>) {
        let blocks = groups.div_ceil(self.groups_per_block());
        let per_block = groups.div_ceil(blocks);
        let plan = |groups| self.plan(groups, groups >= 16);
        let mut points = storage::scratch(plan(per_block).len());
        for first in (0..groups).step_by(per_block) {
            let plan = plan(per_block.min(groups - first));
            self.block(plan, first, &mut points, out);
        }
        storage::recycle(points);
    }

    /// All groups, each core with its own.
    fn in_cache(&self, groups: usize, per_task: usize, out: &Shared<'_>) {
        let panels = Panels::new(self, self.plan(per_task, true));
        let tasks = (0..groups).into_par_iter().step_by(per_task);
        tasks.for_each(|first| {
            let plan = self.plan(per_task.min(groups - first), true);
            let mut points = storage::scratch(plan.len());
            let shared = &Shared::new(&mut points);
            for group in 0..plan.groups {
                self.to_points((plan, first), group, shared);
            }
            for channel in (0..self.to).step_by(plan.width) {
                let part = (0, channel, 0..plan.groups);
                self.pass((plan, first), part, &points, Some(&panels), out);
            }
            storage::recycle(points);
        });
    }

    fn to_points(&self, (plan, first): (Plan, usize), group: usize, points: &Shared<'_>) {
        Arch::new().dispatch(tiles::ToPoints {
            job: self,
            plan,
            first,
            group,
            points,
        });
    }

    /// The channels out from `channel` of some groups, in one phase.
    fn pass(
        &self,
        (plan, first): (Plan, usize),
        (phase, channel, groups): (usize, usize, Range<usize>),
        points: &[f32],
        panels: Option<&Panels>,
        out: &Shared<'_>,
    ) {
        Arch::new().dispatch(pass::Pass {
            job: self,
            plan,
            first,
            groups,
            phase,
            points,
            panels,
            channels: channel..(channel + plan.width).min(self.to),
            out,
        });
    }

    /// The groups of tiles `first ..`, from pixels to places.
    fn block(&self, plan: Plan, first: usize, points: &mut [f32], out: &Shared<'_>) {
        assert!(points.len() >= plan.len());
        let shared = &Shared::new(&mut *points);
        (0..plan.groups)
            .into_par_iter()
            .for_each(|group| self.to_points((plan, first), group, shared));
        let across = self.to.div_ceil(plan.width);
        // Each core wants a few tasks; cutting the tiles too costs another transform of the weights.
        let phases = self.grid.phases();
        let along = (3 * rayon::current_num_threads()).div_ceil(across * phases);
        let along = along.min(plan.groups / 8).max(1);
        let per_task = plan.groups.div_ceil(along);
        let points = &*points;
        let tasks = phases * across * along;
        (0..tasks).into_par_iter().for_each(|task| {
            let (pass, part) = (task / along, task % along);
            let (phase, channel) = (pass % phases, pass / phases * plan.width);
            let groups = part * per_task..((part + 1) * per_task).min(plan.groups);
            if !groups.is_empty() {
                self.pass((plan, first), (phase, channel, groups), points, None, out);
            }
        });
    }
}

impl<'a, const R: usize, const P: usize, const Q: usize> Winograd<'a, R, P, Q> {
    /// The same operands on a grid, by another rule.
    fn by_rule<const R2: usize, const P2: usize, const Q2: usize>(
        &self,
        grid: Grid,
    ) -> Winograd<'a, R2, P2, Q2> {
        Winograd {
            grid,
            pixels: self.pixels,
            weight: self.weight,
            bias: self.bias,
            onto: self.onto,
            from: self.from,
            to: self.to,
        }
    }
}

impl OverDoubled<'_> {
    /// Whether this is expected to be faster than to double the pictures first.
    pub(crate) fn pays_undoubled(&self) -> bool {
        let size = self.grid.to.extent;
        let pictures = Grid::pictures(self.grid.outer, size, size, [1, 1]);
        let doubled: OverPictures<'_> = self.by_rule(pictures);
        self.pays() && self.cost() < doubled.cost()
    }
}

impl<'a> AlongTime<'a> {
    /// The same convolution by F(7, 3), where that is expected to be faster.
    pub(crate) fn by_seven(&self) -> Option<SevenAlongTime<'a>> {
        let seven: SevenAlongTime<'_> = self.by_rule(self.grid);
        (seven.cost() < self.cost()).then_some(seven)
    }
}

/// Channels out of one pass: where there are tiles enough to make up for a fuller cache, a wide one reads them
/// half as often.
const WIDE: usize = 64;
const NARROW: usize = 32;

/// Channels in that are multiplied at a time: a panel of them and six tiles fill half of a first-level
/// cache, and sums in short stretches round less.
const DEPTH: usize = 64;

/// How a block of tiles at the points lies in memory: `[stretch of channels][point][group][tile]
/// [channel]`, so that one multiplication after the other reads on where the last one stopped.
#[derive(Clone, Copy)]
struct Plan {
    points: usize,
    groups: usize,
    channels: usize,
    /// Channels of a stretch; the last may have fewer.
    depth: usize,
    /// Channels out of one pass.
    width: usize,
}

impl Plan {
    fn depth_at(&self, start: usize) -> usize {
        self.depth.min(self.channels - start)
    }

    fn point_stride(&self) -> usize {
        odd_lines(self.groups * TILES * self.depth)
    }

    fn len(&self) -> usize {
        self.channels.div_ceil(self.depth) * self.points * self.point_stride()
    }

    /// Where a tile of a group has its channels from `start`, the first of a stretch.
    #[inline(always)]
    fn at(&self, start: usize, point: usize, group: usize, tile: usize) -> usize {
        (start / self.depth * self.points + point) * self.point_stride()
            + (group * TILES + tile) * self.depth_at(start)
    }
}

/// `len` rounded up to an odd number of cache lines: the same place of neighbouring points then never
/// shares a set of the cache.
fn odd_lines(len: usize) -> usize {
    const LINE: usize = 16;
    len.div_ceil(LINE) / 2 * 2 * LINE + LINE
}

/// A vector, zero beyond the end of `values`.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    match S::as_simd_f32s(values).0 {
        [vector] => *vector,
        _ => simd.partial_load_f32s(values),
    }
}

/// Writes a vector as far as `out` goes.
#[inline(always)]
fn store<S: Simd>(simd: S, out: &mut [f32], value: S::f32s) {
    match S::as_mut_simd_f32s(out).0 {
        [vector] => *vector = value,
        _ => simd.partial_store_f32s(out, value),
    }
}

#[cfg(test)]
mod tests;
