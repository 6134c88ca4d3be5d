//! Arrays at rest in memory-mapped files, under the names a network knows them by.

use crate::params::Layout;
use crate::{Error, Result};
use kinora_tensor::{DType, Mapped, Tensor};
use memmap2::Mmap;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file whose bytes are read where they lie.
#[derive(Debug)]
pub(crate) struct MappedFile {
    pub(crate) path: PathBuf,
    pub(crate) map: Arc<Mmap>,
}

/// One array in a mapped file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) file: Arc<MappedFile>,
    /// What the file calls it.
    pub(crate) file_name: String,
    pub(crate) dtype: DType,
    /// The extents the network's own layout of files would give it, which a rename may have changed
    /// from the file's.
    pub(crate) dims: Vec<usize>,
    /// Whether the file holds this matrix with its axes exchanged.
    pub(crate) transposed: bool,
    /// Where the values begin in the file.
    pub(crate) offset: usize,
}

impl Stored {
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.elements() * self.dtype.size_bytes()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.file.map[self.offset..self.offset + self.size_bytes()]
    }

    /// Whether memory has its axes in another order than the file, so that loading copies it.
    pub(crate) fn is_moved(&self) -> bool {
        self.transposed || self.dims.iter().skip(2).product::<usize>() > 1
    }

    /// Tells the system that the pages of its values are not needed for now: what reads them next has
    /// them from the file again. Where the system takes no such hint nothing happens.
    pub(crate) fn let_go(&self) {
        #[cfg(unix)]
        #[allow(unsafe_code)]
        // SAFETY: the map was made for reading alone and nobody writes through it, so that pages which
        // come again hold what they held; see `map` for files that change.
        let _refused = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            let map = &self.file.map;
            map.unchecked_advise_range(advice, self.offset, self.size_bytes())
        };
    }

    /// The matrix that the file holds with its axes exchanged.
    ///
    /// # Errors
    /// When it is no matrix.
    pub(crate) fn with_axes_exchanged(mut self) -> Result<Stored> {
        let [rows, columns] = self.dims[..] else {
            return Err(self.misshapen("a matrix"));
        };
        self.dims = vec![columns, rows];
        self.transposed = true;
        Ok(self)
    }

    /// Queries, keys and values, which the file holds as one array, one after the other.
    ///
    /// # Errors
    /// When the rows are not three equal parts.
    pub(crate) fn into_thirds(mut self) -> Result<[Stored; 3]> {
        if !self.dims.first().is_some_and(|rows| rows.is_multiple_of(3)) {
            return Err(self.misshapen("queries, keys and values one after the other"));
        }
        self.dims[0] /= 3;
        Ok([0, 1, 2].map(|k| Stored {
            offset: self.offset + k * self.size_bytes(),
            ..self.clone()
        }))
    }

    pub(crate) fn misshapen(&self, expected: &str) -> Error {
        Error::file(
            &self.file.path,
            format!(
                "`{}`: expected {expected}, found {:?}; download the file again",
                self.file_name, self.dims
            ),
        )
    }

    /// The array in memory's order of axes, in place where no value has to move.
    ///
    /// # Errors
    /// When the extents are not those asked for.
    fn load(&self, memory_dims: &[usize], layout: Layout, remedy: &str) -> Result<Tensor> {
        let expected = layout.file_dims(memory_dims);
        if self.dims != expected {
            return Err(Error::WrongShape {
                name: self.file_name.clone(),
                file: self.file.path.clone(),
                expected,
                found: self.dims.clone(),
                remedy: remedy.to_owned(),
            });
        }
        if layout.keeps_order() && !self.transposed {
            let mapped = Mapped::new(self.file.map.clone(), self.offset, self.size_bytes())?;
            return Ok(Tensor::from_mapped(mapped, self.dtype, memory_dims)?);
        }
        let bytes = self.bytes();
        Ok(match self.dtype {
            DType::F32 => {
                let bits = bytes.as_chunks::<4>().0;
                let values = self.moved(bits, memory_dims, layout, f32::from_le_bytes);
                Tensor::from_vec(values, memory_dims)?
            }
            DType::F16 | DType::BF16 => {
                let bits = bytes.as_chunks::<2>().0;
                let bits = self.moved(bits, memory_dims, layout, u16::from_le_bytes);
                Tensor::from_bits16(bits, self.dtype, memory_dims)?
            }
        })
    }

    fn moved<T: Copy + Sync, R: Copy + Default + Send>(
        &self,
        values: &[T],
        memory_dims: &[usize],
        layout: Layout,
        read: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        match (self.transposed, &self.dims[..]) {
            (true, &[rows, columns]) => {
                // The file holds [columns, rows].
                crate::params::transpose_each(values, columns, rows, read)
            }
            _ => layout.memory_from_stored(values, memory_dims, read),
        }
    }
}

/// All the arrays of one network.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The file, or the folder of files, it was read from.
    pub(crate) path: PathBuf,
    pub(crate) arrays: BTreeMap<String, Stored>,
    /// What to do when the network and the file do not fit.
    pub(crate) remedy: String,
}

impl Archive {
    /// Whether the file holds an array of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    /// The array `name`.
    ///
    /// # Errors
    /// When there is none, or it has other extents.
    pub(crate) fn load(&self, name: &str, memory_dims: &[usize], layout: Layout) -> Result<Tensor> {
        match self.arrays.get(name) {
            Some(stored) => stored.load(memory_dims, layout, &self.remedy),
            None => Err(Error::Missing {
                name: name.to_owned(),
                file: self.path.clone(),
                remedy: self.remedy.clone(),
            }),
        }
    }

    /// The path as the errors give it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
