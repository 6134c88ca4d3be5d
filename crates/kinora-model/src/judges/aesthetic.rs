//! How pleasing a picture is, from its CLIP embedding (LAION's heads; paper, §3.1).
//!
//! Two heads were published, both for OpenAI's ViT-L/14: a linear one (`sa_0_4_vit_l_14_linear`), and
//! five linear layers with dropout between them and no activation (`sac+logos+ava1-l14-linearMSE`).
//! Both give about 1 to 10.

use crate::layers::Linear;
use crate::params::Source;
use crate::weights::fingerprint::hex;
use crate::weights::{Opening, open_arrays};
use crate::{Error, Result};
use kinora_tensor::Tensor;
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// Linear layers that lead from an embedding of unit length to one number.
///
/// ```no_run
/// use kinora_model::judges::aesthetic::AestheticHead;
///
/// let head = AestheticHead::open("sac+logos+ava1-l14-linearMSE.safetensors")?;
/// assert_eq!(head.width(), 768);
/// # Ok::<(), kinora_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AestheticHead {
    layers: Vec<Linear>,
    width: usize,
    fingerprint: String,
}

impl AestheticHead {
    /// Opens a head: a safetensors file with the names PyTorch gave its arrays, `layers.0.weight` and
    /// so on, or `weight` and `bias` of the linear one.
    ///
    /// # Errors
    /// When the file is none (for a `.pth` the text says how to convert it), broken, or of another
    /// network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let source = open_arrays(path, &Opening::default())?;
        let mut head = match source.stored_dims("weight") {
            Some(dims) => Self::chained(path, &[(source.clone(), dims)])?,
            None => Self::chained(path, &numbered(&source))?,
        };
        source.check_unused()?;
        let mut hash = Sha256::new();
        for entry in &source.params() {
            hash.update(entry.param.get().to_le_bytes());
        }
        head.fingerprint = hex(&hash.finalize());
        Ok(head)
    }

    /// Layers one after the other, each with the extents of its weight.
    fn chained(path: &Path, layers: &[(Source, Vec<usize>)]) -> Result<Self> {
        let refuse = |found: String| {
            Err(Error::file(
                path,
                format!(
                    "expected an aesthetic head, linear layers that lead to one number, as \
                     `layers.0.weight`, `layers.0.bias` and so on or as `weight` and `bias`; found {found}"
                ),
            ))
        };
        let mut head = AestheticHead {
            layers: Vec::new(),
            width: 0,
            fingerprint: String::new(),
        };
        let mut before = None;
        for (source, dims) in layers {
            let &[o, i] = &dims[..] else {
                return refuse(format!("a weight of {dims:?}"));
            };
            if before.is_some_and(|before| before != i) {
                return refuse(format!(
                    "a weight of {dims:?} after a layer with another width"
                ));
            }
            head.width = if before.is_none() { i } else { head.width };
            before = Some(o);
            head.layers.push(Linear::new(source, i, o)?);
        }
        match before {
            Some(1) => Ok(head),
            Some(o) => refuse(format!("layers that lead to {o} numbers")),
            None => refuse("no layer".to_owned()),
        }
    }

    /// Width of the embeddings it judges: 768 for ViT-L/14.
    pub fn width(&self) -> usize {
        self.width
    }

    /// A name for the head by its values: 64 hexadecimal digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The score of each embedding.
    ///
    /// # Shapes
    /// `embeddings` `[n, p]`, each of unit length; n scores.
    ///
    /// # Errors
    /// When the embeddings come from another tower, told by their width.
    pub fn scores(&self, embeddings: &Tensor) -> Result<Vec<f32>> {
        if embeddings.shape().last() != self.width {
            return Err(Error::argument(
                "aesthetic head",
                format!(
                    "expected embeddings [n, {}], found {:?}; a head belongs to one CLIP, LAION's to \
                     OpenAI's ViT-L/14",
                    self.width,
                    embeddings.dims()
                ),
            ));
        }
        if embeddings.elements() == 0 {
            return Ok(Vec::new());
        }
        let mut x = embeddings.clone();
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        Ok(x.to_vec())
    }
}

/// The layers `layers.0`, `layers.2` and so on: the dropouts between them are counted too.
fn numbered(source: &Source) -> Vec<(Source, Vec<usize>)> {
    const MOST: usize = 64;
    let layers = (0..MOST).map(|k| source.at("layers").at(k));
    let with_dims = layers.map(|layer| (layer.stored_dims("weight"), layer));
    with_dims
        .filter_map(|(dims, layer)| Some((layer, dims?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::safetensors::{Entry, write};
    use kinora_tensor::DType;
    use kinora_tensor::testing::{assert_close, numbers};
    use std::path::PathBuf;

    /// Writes arrays of repeatable values with these names and extents.
    fn file(folder: &Path, arrays: &[(&str, &[usize])]) -> (PathBuf, Vec<Vec<f32>>) {
        let values: Vec<Vec<f32>> = (1..)
            .zip(arrays)
            .map(|(seed, (_, dims))| numbers(*dims, seed).to_vec())
            .collect();
        let entries = arrays
            .iter()
            .zip(&values)
            .map(|((name, dims), values)| Entry {
                name: (*name).to_owned(),
                dtype: DType::F32,
                dims: dims.to_vec(),
                values: Box::new(move || values.clone()),
            });
        let path = folder.join("head.safetensors");
        write(&path, entries.collect()).unwrap();
        (path, values)
    }

    #[test]
    fn the_published_chain_is_one_linear_map() {
        let folder = tempfile::tempdir().unwrap();
        let widths = [
            (0, 768, 1024),
            (2, 1024, 128),
            (4, 128, 64),
            (6, 64, 16),
            (7, 16, 1),
        ];
        let names: Vec<[String; 2]> = widths
            .iter()
            .map(|(k, ..)| [format!("layers.{k}.weight"), format!("layers.{k}.bias")])
            .collect();
        let dims: Vec<[Vec<usize>; 2]> = widths
            .iter()
            .map(|(_, i, o)| [vec![*o, *i], vec![*o]])
            .collect();
        let arrays: Vec<(&str, &[usize])> = names
            .iter()
            .zip(&dims)
            .flat_map(|(names, dims)| [0, 1].map(|k| (names[k].as_str(), &dims[k][..])))
            .collect();
        let (path, values) = file(folder.path(), &arrays);
        let head = AestheticHead::open(path).unwrap();
        assert_eq!(head.width(), 768);
        let embeddings = numbers([3, 768], 99);
        let mut expected = Vec::new();
        for row in embeddings.to_vec().chunks(768) {
            let mut x: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
            for layer in values.chunks(2) {
                let (weight, bias) = (&layer[0], &layer[1]);
                let rows = weight.chunks(x.len()).zip(bias);
                x = rows
                    .map(|(row, bias)| {
                        let products = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * x);
                        products.sum::<f64>() + f64::from(*bias)
                    })
                    .collect();
            }
            expected.push(x[0] as f32);
        }
        assert_close(&head.scores(&embeddings).unwrap(), &expected, 1e-5);
        let error = head.scores(&numbers([1, 1024], 1)).unwrap_err().to_string();
        assert!(
            error.contains("expected embeddings [n, 768], found [1, 1024]"),
            "{error}"
        );
    }

    #[test]
    fn the_linear_head_is_a_scalar_product() {
        let folder = tempfile::tempdir().unwrap();
        let (path, values) = file(folder.path(), &[("weight", &[1, 12]), ("bias", &[1])]);
        let head = AestheticHead::open(path).unwrap();
        let x = numbers([1, 12], 5);
        let products = x
            .to_vec()
            .iter()
            .zip(&values[0])
            .map(|(x, w)| x * w)
            .sum::<f32>();
        assert_close(&head.scores(&x).unwrap(), &[products + values[1][0]], 1e-6);
        assert!(head.scores(&Tensor::zeros([0, 12])).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = |arrays: &[(&str, &[usize])]| {
            let (path, _) = file(folder.path(), arrays);
            AestheticHead::open(path).unwrap_err().to_string()
        };
        let two: [(&str, &[usize]); 2] = [("weight", &[2, 12]), ("bias", &[2])];
        assert!(error(&two).contains("found layers that lead to 2 numbers"));
        assert!(error(&[("x", &[1])]).contains("found no layer"));
        let broken: [(&str, &[usize]); 4] = [
            ("layers.0.weight", &[4, 12]),
            ("layers.0.bias", &[4]),
            ("layers.2.weight", &[1, 5]),
            ("layers.2.bias", &[1]),
        ];
        assert!(error(&broken).contains("a weight of [1, 5] after a layer with another width"));
        let path = folder.path().join("head.pth");
        std::fs::write(&path, b"PK\x03\x04not weights").unwrap();
        let error = AestheticHead::open(path).unwrap_err().to_string();
        assert!(
            error.contains("PyTorch pickle") && error.contains("python3 -c"),
            "{error}"
        );
    }
}
