//! Where a network's parameters come from.

use super::init::draw;
use super::{Init, Layout, NamedParam, Params};
use crate::compute::Compute;
use crate::weights::archive::Archive;
use crate::{Error, Result};
use kinora_tensor::Param;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a network's parameters come from: a weights file, or fresh draws.
///
/// Cloning shares the origin and the list of what was handed out. A source is scoped: a layer built
/// from `source.at("mid_block").at("norm")` asks for `weight` and gets `mid_block.norm.weight`.
///
/// ```
/// use kinora_model::params::{Init, Layout, Source};
///
/// let source = Source::fresh(7);
/// let weight = source.at("proj").param("weight", &[4, 3], Layout::Plain, Init::FanIn)?;
/// assert_eq!(source.params().iter().next().unwrap().name, "proj.weight");
/// assert_eq!(weight.get().dims(), [4, 3]);
/// # Ok::<(), kinora_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Source {
    root: Arc<Root>,
    scope: String,
    compute: Compute,
    keeps_variance: bool,
}

#[derive(Debug)]
struct Root {
    origin: Origin,
    handed_out: Mutex<Vec<NamedParam>>,
}

#[derive(Debug)]
enum Origin {
    Fresh { seed: u64 },
    Stored(Arc<Archive>),
}

impl Source {
    /// Fresh draws. What a parameter gets depends on the seed and on its full name alone, so a
    /// network keeps its other values when a layer is added to it.
    pub fn fresh(seed: u64) -> Source {
        Self::from_origin(Origin::Fresh { seed })
    }

    pub(crate) fn stored(archive: Arc<Archive>) -> Source {
        Self::from_origin(Origin::Stored(archive))
    }

    fn from_origin(origin: Origin) -> Source {
        let handed_out = Mutex::new(Vec::new());
        Source {
            root: Arc::new(Root { origin, handed_out }),
            scope: String::new(),
            compute: Compute::PROCESSOR,
            keeps_variance: false,
        }
    }

    /// The same source, whose fresh weights are so wide that what goes through them keeps its variance:
    /// [`Init::KeepVariance`] where a layer asks for [`Init::FanIn`], by which a third of it is left.
    pub fn keeping_variance(self) -> Source {
        Source {
            keeps_variance: true,
            ..self
        }
    }

    /// The same source, whose parameters lie where `compute` says: on a card in the type it computes
    /// in, each brought there in the type it is stored in and rounded there, one after the other, so
    /// that main memory never holds a second copy of the whole.
    pub fn on(self, compute: Compute) -> Source {
        Source { compute, ..self }
    }

    /// The same source one level deeper: names asked of it are taken under `name.`.
    pub fn at(&self, name: impl Display) -> Source {
        Source {
            root: self.root.clone(),
            scope: format!("{}{name}.", self.scope),
            compute: self.compute,
            keeps_variance: self.keeps_variance,
        }
    }

    /// The parameter `name` of this scope. A file gives its values as they are, in the type they are
    /// stored in and in place where no axis moves; `init` says what a fresh source draws.
    ///
    /// # Shapes
    /// `memory_dims` are the extents in memory's order, see [`Layout`].
    ///
    /// # Errors
    /// When the file does not hold it, holds it with other extents, or it was taken before.
    pub fn param(
        &self,
        name: &str,
        memory_dims: &[usize],
        layout: Layout,
        init: Init,
    ) -> Result<Param> {
        let name = self.full_name(name);
        let init = match init {
            Init::FanIn if self.keeps_variance => Init::KeepVariance,
            init => init,
        };
        let value = match &self.root.origin {
            Origin::Fresh { seed } => draw(*seed, &name, memory_dims, init)?,
            Origin::Stored(archive) => archive.load(&name, memory_dims, layout)?,
        };
        let value = match self.compute.is_on_card() {
            false => value,
            true => self.compute.there(&value)?,
        };
        let param = Param::new(value);
        let mut handed_out = self.handed_out();
        if handed_out.iter().any(|entry| entry.name == name) {
            return Err(Error::argument(
                "Source::param",
                format!(
                    "`{name}` was taken before: build a second network from a second source, and \
                     give each layer its own scope"
                ),
            ));
        }
        handed_out.push(NamedParam {
            name,
            param: param.clone(),
            layout,
        });
        Ok(param)
    }

    /// The parameter `name` of this scope where the file holds it. A fresh source always has it.
    ///
    /// # Errors
    /// As [`Source::param`], except that nothing is missing.
    pub fn optional(
        &self,
        name: &str,
        memory_dims: &[usize],
        layout: Layout,
        init: Init,
    ) -> Result<Option<Param>> {
        if !self.has(name) {
            return Ok(None);
        }
        self.param(name, memory_dims, layout, init).map(Some)
    }

    /// Whether `name` of this scope can be had. A fresh source has everything.
    pub fn has(&self, name: &str) -> bool {
        match &self.root.origin {
            Origin::Fresh { .. } => true,
            Origin::Stored(archive) => archive.has(&self.full_name(name)),
        }
    }

    /// The extents a file has for `name` of this scope, in the file's order of axes: for a network
    /// whose sizes only its arrays tell. A fresh source has none.
    pub fn stored_dims(&self, name: &str) -> Option<Vec<usize>> {
        match &self.root.origin {
            Origin::Fresh { .. } => None,
            Origin::Stored(archive) => {
                let stored = archive.arrays.get(&self.full_name(name))?;
                Some(stored.dims.clone())
            }
        }
    }

    /// Every parameter handed out so far in this scope, in order, under its full name.
    pub fn params(&self) -> Params {
        let handed_out = Params::new(self.handed_out().clone());
        handed_out.with(&self.scope)
    }

    /// Refuses arrays that the file holds in this scope and no layer took: the network that was
    /// built is not the one the file was made from.
    ///
    /// # Errors
    /// When one is left, naming it.
    pub fn check_unused(&self) -> Result<()> {
        let Origin::Stored(archive) = &self.root.origin else {
            return Ok(());
        };
        let params = self.params();
        let taken: std::collections::HashSet<&str> =
            params.iter().map(|entry| entry.name.as_str()).collect();
        let mut unused = archive
            .arrays
            .iter()
            .filter(|(name, _)| name.starts_with(&self.scope) && !taken.contains(name.as_str()));
        match unused.next() {
            None => Ok(()),
            Some((_, first)) => Err(Error::Unused {
                name: first.file_name.clone(),
                count: 1 + unused.count(),
                file: first.file.path.clone(),
                remedy: archive.remedy.clone(),
            }),
        }
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.scope)
    }

    fn handed_out(&self) -> MutexGuard<'_, Vec<NamedParam>> {
        // A panic elsewhere cannot leave the list half changed.
        self.root
            .handed_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norm(source: &Source) -> Result<Param> {
        source.param("weight", &[4], Layout::Plain, Init::Normal(1.0))
    }

    #[test]
    fn variance_is_kept_where_it_is_asked_for() -> Result<()> {
        let weight = |source: Source| {
            let weight = source
                .at("conv")
                .param("weight", &[8, 9], Layout::Plain, Init::FanIn)?;
            Ok::<_, Error>(weight.get().to_vec())
        };
        let usual = weight(Source::fresh(1))?;
        let kept = weight(Source::fresh(1).keeping_variance())?;
        for (usual, kept) in usual.iter().zip(kept) {
            assert!((kept - 3f32.sqrt() * usual).abs() < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn names_grow_with_the_scope_and_the_list_keeps_the_order() -> Result<()> {
        let source = Source::fresh(1);
        let block = source.at("blocks").at(3);
        norm(&block.at("second"))?;
        norm(&block.at("first"))?;
        norm(&source.at("out"))?;
        let names = |params: Params| -> Vec<String> {
            params.iter().map(|entry| entry.name.clone()).collect()
        };
        let (second, first) = ("blocks.3.second.weight", "blocks.3.first.weight");
        assert_eq!(names(source.params()), [second, first, "out.weight"]);
        assert_eq!(names(block.params()), [second, first]);
        assert_eq!(source.params().values(), 12);
        assert!(source.params().get(first).is_some());
        Ok(())
    }

    #[test]
    fn a_layer_added_before_leaves_the_others_as_they_were() -> Result<()> {
        let (alone, after) = (Source::fresh(1), Source::fresh(1));
        norm(&after.at("a"))?;
        assert_eq!(
            norm(&alone.at("b"))?.get().to_vec(),
            norm(&after.at("b"))?.get().to_vec()
        );
        Ok(())
    }

    #[test]
    fn parameters_lie_on_a_card_in_the_type_it_computes_in() -> Result<()> {
        let Some(device) = kinora_tensor::host_device(1 << 20) else {
            return Ok(());
        };
        let compute = Compute::new(device, kinora_tensor::DType::BF16)?;
        let found = norm(&Source::fresh(1).on(compute).at("a"))?.get();
        assert_eq!((found.device(), found.dtype()), (device, compute.dtype()));
        let expected = norm(&Source::fresh(1).at("a"))?.get().cast(compute.dtype());
        assert_eq!(found.to_vec(), expected.to_vec());
        Ok(())
    }

    #[test]
    fn a_name_is_handed_out_once() -> Result<()> {
        let source = Source::fresh(1);
        norm(&source)?;
        let error = norm(&source).unwrap_err().to_string();
        assert!(error.contains("`weight` was taken before"), "{error}");
        Ok(())
    }
}
