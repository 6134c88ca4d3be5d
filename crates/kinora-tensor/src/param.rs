//! A named place in a network that holds an array, and can be given another.

use crate::residency::Streamed;
use crate::{DType, Device, Result, Tensor};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

/// A weight of a network. Cloning shares the place: a layer, an optimiser and a checkpoint writer
/// all hold the same one.
#[derive(Clone, Debug)]
pub struct Param {
    value: Arc<RwLock<Tensor>>,
    streamed: Arc<RwLock<Option<Number>>>,
}

/// Among weights that are brought to a card as they are used, the number of one.
type Number = (Arc<Streamed>, usize);

impl Param {
    /// A place that holds `value`, frozen unless `value` is tracked.
    pub fn new(value: Tensor) -> Self {
        Param {
            value: Arc::new(RwLock::new(value)),
            streamed: Arc::default(),
        }
    }

    /// What the place holds now, to look at or to keep. Operations take [`Param::for_work`].
    pub fn get(&self) -> Tensor {
        self.value
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What the place holds, on the device where it is worked with: brought there now where
    /// [`Residency`](crate::Residency) has it so. Hold it no longer than the operation takes.
    ///
    /// # Errors
    /// When it has to be brought and cannot be.
    pub fn for_work(&self) -> Result<Tensor> {
        match self.number() {
            Some((streamed, number)) => streamed.fetch(number),
            None => Ok(self.get()),
        }
    }

    /// Where the place is worked with.
    pub fn device(&self) -> Device {
        match self.number() {
            Some((streamed, _)) => streamed.device(),
            None => self.get().device(),
        }
    }

    fn number(&self) -> Option<Number> {
        let streamed = self.streamed.read().unwrap_or_else(PoisonError::into_inner);
        streamed.clone()
    }

    /// Lets the value be brought as it is used, or no longer.
    pub(crate) fn stream_from(&self, number: Option<Number>) {
        *self
            .streamed
            .write()
            .unwrap_or_else(PoisonError::into_inner) = number;
    }

    /// Puts another array there, keeping whether the place is trained.
    pub fn set(&self, value: Tensor) {
        self.stream_from(None);
        let mut place = self.value.write().unwrap_or_else(PoisonError::into_inner);
        *place = if place.is_tracked() {
            value.tracked()
        } else {
            value.detach()
        };
    }

    /// Lets the place be trained (its values are widened to f32) or freezes it.
    pub fn set_trainable(&self, trainable: bool) {
        if trainable {
            self.stream_from(None);
        }
        let mut place = self.value.write().unwrap_or_else(PoisonError::into_inner);
        *place = if trainable {
            place.cast(DType::F32).tracked()
        } else {
            place.detach()
        };
    }

    /// Whether gradients are wanted for the place.
    pub fn is_trainable(&self) -> bool {
        self.value
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_tracked()
    }

    /// Changes the f32 values, in place where nothing else holds them.
    ///
    /// # Errors
    /// When the values are stored in 16 bits.
    pub fn update(&self, change: impl FnOnce(&mut [f32])) -> Result<()> {
        self.stream_from(None);
        let mut place = self.value.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) = place.unshared_mut() {
            change(values);
            return Ok(());
        }
        place.as_f32()?;
        let mut values = place.to_vec();
        change(&mut values);
        let fresh = Tensor::from_vec(values, place.shape())?;
        *place = if place.is_tracked() {
            fresh.tracked()
        } else {
            fresh
        };
        Ok(())
    }

    /// Holds the place for writing, so that nobody reads it meanwhile.
    pub(crate) fn hold(&self) -> RwLockWriteGuard<'_, Tensor> {
        self.value.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same number for handles of the same place.
    pub(crate) fn place(&self) -> usize {
        Arc::as_ptr(&self.value) as usize
    }

    /// Whether two handles are the same place.
    pub fn is(&self, other: &Param) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }
}
