//! Safetensors files as the tests write them: by the format's own library, or by hand where the
//! file is to be broken.

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::path::Path;

/// An array to be written.
#[derive(Clone, Debug)]
pub struct Array {
    pub name: String,
    pub dtype: Dtype,
    pub dims: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Array {
    pub fn f32(name: &str, dims: &[usize], values: &[f32]) -> Self {
        Array {
            name: name.to_owned(),
            dtype: Dtype::F32,
            dims: dims.to_vec(),
            bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    pub fn zeros(name: &str, dims: &[usize]) -> Self {
        Self::f32(name, dims, &vec![0.0; dims.iter().product()])
    }
}

/// Writes arrays with the format's own library.
pub fn write(path: &Path, arrays: &[Array]) {
    let views: Vec<(&str, TensorView)> = arrays
        .iter()
        .map(|array| {
            let view = TensorView::new(array.dtype, array.dims.clone(), &array.bytes);
            (
                array.name.as_str(),
                view.expect("the bytes fill the extents"),
            )
        })
        .collect();
    safetensors::serialize_to_file(views, None, path).expect("write");
}

/// Reads arrays with the format's own library.
pub fn read(path: &Path) -> Vec<Array> {
    let bytes = std::fs::read(path).expect("read");
    let arrays = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut arrays: Vec<Array> = arrays
        .iter()
        .map(|(name, view)| Array {
            name: name.to_owned(),
            dtype: view.dtype(),
            dims: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        })
        .collect();
    arrays.sort_by(|a, b| a.name.cmp(&b.name));
    arrays
}

/// A file of this header and this many bytes of zeros.
pub fn by_hand(path: &Path, header: &str, data_bytes: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    std::fs::write(path, bytes).expect("write");
}
