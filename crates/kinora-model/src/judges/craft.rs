//! Where letters stand on a picture: CRAFT, Baek et al. 2019 (paper, App. C).
//!
//! A network gives two maps of half the picture's size: how likely each place is the middle of a
//! character (region), and how likely it lies between two characters of one word (affinity). Places
//! above thresholds that hang together are words. Weights are the public `craft_mlt_25k`, converted
//! to safetensors; the user brings them.

mod boxes;
mod canvas;
mod layers;
mod network;
mod rectangle;

use self::network::Network;
use crate::Result;
use crate::params::Source;
use crate::pixels::Picture;
use crate::weights::fingerprint::hash_of_file;
use crate::weights::{Opening, open_arrays};
use std::path::Path;

/// Channels of the first layer in the public weights; all other widths are multiples of it.
pub const PUBLIC_WIDTH: usize = 64;

/// How a picture is shown to the network, and what in its maps counts. The defaults are those of the
/// public program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CraftSettings {
    /// The most pixels on the longer side of what the network sees.
    pub canvas_pixels: usize,
    /// How many times larger than the picture that is, where it fits.
    pub magnification: f32,
    /// A word must reach this on the region map.
    pub text_threshold: f32,
    /// Above this on the affinity map two characters belong together.
    pub link_threshold: f32,
    /// Above this on the region map a place belongs to a character.
    pub low_text: f32,
}

impl Default for CraftSettings {
    fn default() -> Self {
        CraftSettings {
            canvas_pixels: 1280,
            magnification: 1.5,
            text_threshold: 0.7,
            link_threshold: 0.4,
            low_text: 0.4,
        }
    }
}

/// The two maps of a picture, rows from the top.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreMaps {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// How likely each place is the middle of a character, [height, width].
    pub region: Vec<f32>,
    /// How likely each place lies between two characters of one word, [height, width].
    pub affinity: Vec<f32>,
}

/// The network with its weights.
#[derive(Debug)]
pub struct Craft {
    network: Network,
    fingerprint: String,
}

impl Craft {
    /// Opens weights: the public state dict as safetensors, its names with or without `module.` in
    /// front.
    ///
    /// # Errors
    /// When the file is a pickle (the text says how to convert it), is broken, or belongs to another
    /// network.
    pub fn open(path: &Path) -> Result<Craft> {
        Self::open_of_width(path, PUBLIC_WIDTH)
    }

    /// [`open`](Self::open) for a network whose first layer has `width` channels.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when `width` is not a multiple of 4.
    pub fn open_of_width(path: &Path, width: usize) -> Result<Craft> {
        let source = open_arrays(path, &Opening::default())?;
        let scope = match source.has("module.basenet.slice1.0.weight") {
            true => source.at("module"),
            false => source.clone(),
        };
        let network = Network::new(&scope, width)?;
        source.check_unused()?;
        Ok(Craft {
            network,
            fingerprint: hash_of_file(path)?,
        })
    }

    /// A network of parameters from `source`, whose first layer has `width` channels.
    ///
    /// # Errors
    /// When the source does not hold them, or `width` is not a multiple of 4.
    pub fn from_source(source: &Source, width: usize, fingerprint: String) -> Result<Craft> {
        Ok(Craft {
            network: Network::new(source, width)?,
            fingerprint,
        })
    }

    /// A name of the weights by their content.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The boxes around words on `picture`, in its pixels: four corners (x, y) each, clockwise from
    /// the one nearest to the upper left.
    ///
    /// # Errors
    /// When a setting makes no sense.
    pub fn boxes(
        &self,
        picture: Picture<'_>,
        settings: &CraftSettings,
    ) -> Result<Vec<[[f32; 2]; 4]>> {
        let (canvas, ratio) = canvas::canvas_of(picture, settings)?;
        let maps = self.maps_of(&canvas)?;
        let mut found = word_boxes(&maps, settings);
        // The maps have half the canvas's size, and the canvas `ratio` times the picture's.
        for corner in found.iter_mut().flatten() {
            *corner = corner.map(|at| at * 2.0 / ratio);
        }
        Ok(found)
    }

    /// The maps of `picture` as the settings show it, padded below and on the right.
    ///
    /// # Errors
    /// When a setting makes no sense.
    pub fn maps(&self, picture: Picture<'_>, settings: &CraftSettings) -> Result<ScoreMaps> {
        self.maps_of(&canvas::canvas_of(picture, settings)?.0)
    }

    fn maps_of(&self, canvas: &kinora_tensor::Tensor) -> Result<ScoreMaps> {
        let maps = self.network.forward(canvas)?;
        let &[1, height, width, 2] = maps.dims() else {
            unreachable!("two maps of one picture, found {:?}", maps.dims());
        };
        let values = maps.as_f32()?;
        let map = |at: usize| values.iter().skip(at).step_by(2).copied().collect();
        Ok(ScoreMaps {
            height,
            width,
            region: map(0),
            affinity: map(1),
        })
    }
}

/// The boxes around words, in places of the maps: four corners (x, y) each, clockwise from the one
/// nearest to the upper left.
///
/// # Panics
/// When the maps do not have their size.
pub fn word_boxes(maps: &ScoreMaps, settings: &CraftSettings) -> Vec<[[f32; 2]; 4]> {
    assert_eq!(maps.region.len(), maps.height * maps.width);
    assert_eq!(maps.affinity.len(), maps.height * maps.width);
    boxes::word_boxes(maps, settings)
}
