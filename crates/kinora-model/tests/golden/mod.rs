//! Arrays made by the reference code, by name.

#![allow(clippy::unwrap_used)] // A golden that cannot be read fails its test.

use kinora_tensor::Tensor;
use safetensors::SafeTensors;
use std::path::PathBuf;

/// A path under `fixtures/`.
pub fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(path)
}

/// A file of arrays in f32.
pub struct Golden(Vec<u8>);

impl Golden {
    /// Opens the file at this path under `fixtures/`.
    pub fn open(path: &str) -> Self {
        Golden(std::fs::read(fixture(path)).unwrap())
    }

    /// The file as it is.
    pub fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    /// One array.
    pub fn get(&self, name: &str) -> Tensor {
        let file = self.file();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let values = view.data().as_chunks::<4>().0;
        let values = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Tensor::from_vec(values, view.shape()).unwrap()
    }
}
