//! The list of a network's parameters, and its writing.

use super::Layout;
use crate::Result;
use crate::weights::safetensors::{Entry, write};
use kinora_tensor::{DType, Device, Param, Residency};
use std::path::Path;

/// One parameter of a network.
#[derive(Clone, Debug)]
pub struct NamedParam {
    /// Its full name, `down_blocks.0.resnets.1.conv1.weight`, as diffusers spells it.
    pub name: String,
    /// The place that holds it.
    pub param: Param,
    /// How a file orders its axes.
    pub layout: Layout,
}

/// The parameters of a network, in the order in which its layers took them.
#[derive(Clone, Debug, Default)]
pub struct Params {
    entries: Vec<NamedParam>,
}

impl Params {
    pub(crate) fn new(entries: Vec<NamedParam>) -> Self {
        Params { entries }
    }

    /// Every parameter, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, NamedParam> {
        self.entries.iter()
    }

    /// How many parameters there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many values they hold together.
    pub fn values(&self) -> usize {
        self.iter().map(|entry| entry.param.get().elements()).sum()
    }

    /// The parameter of that full name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.iter()
            .find(|entry| entry.name == name)
            .map(|entry| &entry.param)
    }

    /// Those whose names begin with `prefix`, in order, under their full names.
    pub fn with(&self, prefix: &str) -> Params {
        self.filter(|entry| entry.name.starts_with(prefix))
    }

    /// Those that `keep` chooses, in order.
    pub fn filter(&self, mut keep: impl FnMut(&NamedParam) -> bool) -> Params {
        let kept = self.iter().filter(|entry| keep(entry));
        Params::new(kept.cloned().collect())
    }

    /// Puts them on `device`, with at most `budget_bytes` bytes of its memory: where that is less than
    /// they take, some are brought there as they are used, ahead of the work, and leave again. The
    /// network's results are the same. See [`Residency::place`].
    ///
    /// # Errors
    /// When there is not even room for the two largest, or the device cannot be used or has no memory
    /// left.
    pub fn place(&self, device: Device, budget_bytes: usize) -> Result<Residency> {
        let params: Vec<Param> = self.iter().map(|entry| entry.param.clone()).collect();
        Ok(Residency::place(&params, device, budget_bytes)?)
    }

    /// Writes all of them as a safetensors file in the published order of axes, every value rounded
    /// to `dtype`. The file appears whole or not at all: it is written beside its place and then
    /// renamed, so a network that has the old file mapped keeps reading the old one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>, dtype: DType) -> Result<()> {
        let entries = self.iter().map(
            |NamedParam {
                 name,
                 param,
                 layout,
             }| {
                let value = param.get();
                let dims = value.dims().to_vec();
                let layout = *layout;
                Entry {
                    name: name.clone(),
                    dtype,
                    dims: layout.file_dims(&dims),
                    values: Box::new(move || layout.file_from_memory(&value.to_vec(), &dims)),
                }
            },
        );
        write(path.as_ref(), entries.collect())
    }
}

impl<'a> IntoIterator for &'a Params {
    type Item = &'a NamedParam;
    type IntoIter = std::slice::Iter<'a, NamedParam>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
