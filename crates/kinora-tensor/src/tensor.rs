//! The array itself.

use crate::cuda::{self, Array};
use crate::grad::Derivative;
use crate::storage::{self, Buffer, Mapped, Stored, Values};
use crate::{DType, Device, Error, Gradients, Result, Shape, grad};
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt as _;
use half::{bf16, f16};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A dense, row-major, immutable array. Cloning shares the values.
///
/// An array is *tracked* when it is a parameter being trained, or was computed from one while
/// recording; only tracked arrays keep the graph that led to them.
#[derive(Clone)]
pub struct Tensor {
    node: Arc<Node>,
}

pub(crate) struct Node {
    id: u64,
    shape: Shape,
    values: Arc<Values>,
    tracked: bool,
    derivative: Option<Derivative>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Tensor {
    fn new(
        values: Arc<Values>,
        shape: Shape,
        tracked: bool,
        derivative: Option<Derivative>,
    ) -> Self {
        debug_assert_eq!(values.len(), shape.elements());
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Tensor {
            node: Arc::new(Node {
                id,
                shape,
                values,
                tracked,
                derivative,
            }),
        }
    }

    /// An f32 array of the given values in row-major order.
    ///
    /// # Errors
    /// When the values do not fill the shape.
    pub fn from_vec(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        check_length(&shape, values.len())?;
        Ok(Self::new(Arc::new(values.into()), shape, false, None))
    }

    /// A copy of `values` as an f32 array.
    ///
    /// # Errors
    /// When the values do not fill the shape.
    pub fn from_slice(values: &[f32], shape: impl Into<Shape>) -> Result<Self> {
        Self::from_vec(values.to_vec(), shape)
    }

    /// An array of 16-bit values given as bit patterns.
    ///
    /// # Errors
    /// When the values do not fill the shape, or `dtype` is not of 16 bits.
    pub fn from_bits16(bits: Vec<u16>, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        check_length(&shape, bits.len())?;
        let values = match dtype {
            DType::F16 => Values::F16(Buffer::Owned(bits.reinterpret_into())),
            DType::BF16 => Values::BF16(Buffer::Owned(bits.reinterpret_into())),
            DType::F32 => {
                return Err(Error::argument("from_bits16", "f32 values have 32 bits"));
            }
        };
        Ok(Self::new(Arc::new(values), shape, false, None))
    }

    /// An array read in place from a mapped file.
    ///
    /// # Errors
    /// When the stretch does not hold exactly the elements of the shape.
    pub fn from_mapped(mapped: Mapped, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        let values = Values::from_mapped(mapped, dtype);
        check_length(&shape, values.len())?;
        Ok(Self::new(Arc::new(values), shape, false, None))
    }

    /// Zeros.
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let values = storage::zeros(shape.elements());
        Self::new(Arc::new(values.into()), shape, false, None)
    }

    /// An array filled with one value.
    pub fn full(value: f32, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let mut values = storage::scratch(shape.elements());
        values.fill(value);
        Self::new(Arc::new(values.into()), shape, false, None)
    }

    /// An array whose values `fill` writes, in memory that a dropped array may have left: what `fill`
    /// does not write is unspecified.
    ///
    /// # Errors
    /// What `fill` returns.
    pub fn filled_by<E>(
        shape: impl Into<Shape>,
        fill: impl FnOnce(&mut [f32]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        let shape = shape.into();
        let mut values = storage::scratch(shape.elements());
        fill(&mut values)?;
        Ok(Self::new(Arc::new(values.into()), shape, false, None))
    }

    /// Values of any kind, which must fill the shape.
    pub(crate) fn from_values(values: impl Into<Values>, shape: impl Into<Shape>) -> Result<Self> {
        let (values, shape) = (values.into(), shape.into());
        check_length(&shape, values.len())?;
        Ok(Self::new(Arc::new(values), shape, false, None))
    }

    /// The result of an operation on `inputs`. The derivative is kept only while recording and when
    /// one of the inputs is tracked.
    ///
    /// `derivative` takes the gradient of the result and, for each input, whether its gradient is
    /// wanted; it gives one entry for each input.
    pub(crate) fn recorded<D>(
        values: impl Into<Values>,
        shape: impl Into<Shape>,
        inputs: &[&Tensor],
        derivative: D,
    ) -> Self
    where
        D: Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    {
        Self::recorded_sharing(Arc::new(values.into()), shape.into(), inputs, derivative)
    }

    /// The values of `made` as the result of an operation on `input`.
    pub(crate) fn recorded_as<D>(made: &Tensor, input: &Tensor, derivative: D) -> Self
    where
        D: Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    {
        let (values, shape) = (made.node.values.clone(), made.node.shape.clone());
        Self::recorded_sharing(values, shape, &[input], derivative)
    }

    fn recorded_sharing<D>(
        values: Arc<Values>,
        shape: Shape,
        inputs: &[&Tensor],
        derivative: D,
    ) -> Self
    where
        D: Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    {
        let tracked = grad::is_recording() && inputs.iter().any(|input| input.is_tracked());
        let derivative = tracked.then(|| Derivative::new(inputs, derivative));
        Self::new(values, shape, tracked, derivative)
    }

    /// The extents, slowest axis first.
    pub fn dims(&self) -> &[usize] {
        self.node.shape.dims()
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.node.shape
    }

    /// How many elements there are.
    pub fn elements(&self) -> usize {
        self.node.values.len()
    }

    /// How the elements are stored.
    pub fn dtype(&self) -> DType {
        self.node.values.dtype()
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        self.node.values.device()
    }

    /// The same values on another device: shared where they are there already. Not recorded.
    ///
    /// # Errors
    /// When the device cannot be used, or has no memory left.
    pub fn to_device(&self, device: Device) -> Result<Tensor> {
        if device == self.device() {
            return Ok(self.detach());
        }
        let values = self.node.values.copied_to(device)?;
        Self::from_values(values, self.shape())
    }

    /// The array in the card's memory.
    ///
    /// # Errors
    /// When the values are on the processor.
    pub(crate) fn array(&self) -> Result<&Array> {
        match &*self.node.values {
            Values::Card(array) => Ok(array),
            _ => Err(Error::Device {
                device: Device::Cpu,
                message: "an operation on a card needs its operands there; use `to_device`".into(),
            }),
        }
    }

    /// One value everywhere, of the shape and type and on the device of `self`.
    pub(crate) fn full_like(&self, value: f32) -> Result<Tensor> {
        match &*self.node.values {
            Values::Card(array) => {
                let values = cuda::fill(array.board(), array.len(), array.dtype(), value)?;
                Self::from_values(values, self.shape())
            }
            _ => Ok(Self::full(value, self.shape())),
        }
    }

    /// The f32 values, in place.
    ///
    /// # Errors
    /// When the elements are stored in 16 bits; `to_vec` widens them.
    pub fn as_f32(&self) -> Result<&[f32]> {
        match &*self.node.values {
            Values::F32(values) => Ok(values),
            Values::Card(array) => Err(Error::Device {
                device: array.device(),
                message: "this needs values on the processor; bring them with `to_device`".into(),
            }),
            other => Err(Error::DType {
                op: "as_f32",
                expected: DType::F32,
                found: other.dtype(),
            }),
        }
    }

    /// The values in the type they are stored in, in place.
    pub(crate) fn stored(&self) -> Stored<'_> {
        match &*self.node.values {
            Values::F32(values) => Stored::F32(values),
            Values::F16(values) => Stored::F16(values),
            Values::BF16(values) => Stored::BF16(values),
            Values::Card(array) => panic!("values on {}, asked for in place", array.device()),
        }
    }

    /// The values as f32, copied.
    ///
    /// # Panics
    /// When a card fails while they are copied from it; `to_device` gives the error instead.
    pub fn to_vec(&self) -> Vec<f32> {
        if self.device() != Device::Cpu {
            let here = self.to_device(Device::Cpu);
            return here.unwrap_or_else(|error| panic!("{error}")).to_vec();
        }
        let mut out = storage::scratch(self.elements());
        self.widen_into(0, &mut out);
        out
    }

    /// Writes the elements `start .. start + out.len()` into `out` as f32.
    pub(crate) fn widen_into(&self, start: usize, out: &mut [f32]) {
        let end = start + out.len();
        match &*self.node.values {
            Values::F32(values) => out.copy_from_slice(&values[start..end]),
            Values::F16(values) => widen(&values[start..end], out),
            Values::BF16(values) => widen(&values[start..end], out),
            Values::Card(array) => panic!("values on {}, asked for in place", array.device()),
        }
    }

    /// The little-endian bytes of the values in their own type.
    ///
    /// # Panics
    /// When a card fails while they are copied from it; `to_device` gives the error instead.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let bytes = self.node.values.le_bytes();
        bytes.unwrap_or_else(|error| panic!("{error}")).into_owned()
    }

    /// Values given as their little-endian bytes, on a device.
    ///
    /// # Errors
    /// When they do not fill the shape, the device cannot be used, or it has no memory left.
    pub fn from_le_bytes(
        bytes: &[u8],
        dtype: DType,
        shape: impl Into<Shape>,
        device: Device,
    ) -> Result<Self> {
        let shape = shape.into();
        check_length(&shape, bytes.len() / dtype.size_bytes())?;
        Self::from_values(Values::placed(bytes, dtype, device)?, shape)
    }

    /// Those bytes, where they lie if they lie so.
    ///
    /// # Errors
    /// When a card fails while they are copied from it.
    pub(crate) fn le_bytes(&self) -> Result<Cow<'_, [u8]>> {
        self.node.values.le_bytes()
    }

    /// Whether anyone else holds these values.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.node) > 1 || Arc::strong_count(&self.node.values) > 1
    }

    /// The same values stored in another type, rounded to nearest even. Not recorded.
    ///
    /// # Panics
    /// When a card fails or has no memory left; [`Tensor::to_dtype`] gives the error instead.
    pub fn cast(&self, dtype: DType) -> Tensor {
        let cast = self.to_dtype(dtype);
        cast.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same values stored in another type, rounded to nearest even. Not recorded.
    ///
    /// # Errors
    /// When a card fails or has no memory left.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        if dtype == self.dtype() {
            return Ok(self.detach());
        }
        if let Values::Card(array) = &*self.node.values {
            return Self::from_values(cuda::cast(array, dtype)?, self.shape());
        }
        let wide = self.to_vec();
        let values = match dtype {
            DType::F32 => wide.into(),
            DType::F16 => Values::F16(Buffer::Owned(
                wide.iter().map(|v| f16::from_f32(*v)).collect(),
            )),
            DType::BF16 => Values::BF16(Buffer::Owned(
                wide.iter().map(|v| bf16::from_f32(*v)).collect(),
            )),
        };
        Self::from_values(values, self.shape())
    }

    /// The same values under another shape; nothing is copied.
    ///
    /// # Errors
    /// When the two shapes hold different numbers of elements.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        check_length(&shape, self.elements())?;
        let before = self.node.shape.clone();
        Ok(Self::recorded_sharing(
            self.node.values.clone(),
            shape,
            &[self],
            move |gradient, _| Ok(vec![Some(gradient.reshape(&before)?)]),
        ))
    }

    /// The same values as a leaf whose gradient is wanted.
    pub fn tracked(&self) -> Tensor {
        Self::new(
            self.node.values.clone(),
            self.node.shape.clone(),
            true,
            None,
        )
    }

    /// The same values without the graph behind them.
    pub fn detach(&self) -> Tensor {
        Self::new(
            self.node.values.clone(),
            self.node.shape.clone(),
            false,
            None,
        )
    }

    /// Whether `backward` can reach this array.
    pub fn is_tracked(&self) -> bool {
        self.node.tracked
    }

    /// Gradients of this array, taken as the sum of its elements, with respect to every tracked leaf
    /// that led to it. The graph is freed on the way.
    ///
    /// # Errors
    /// When nothing tracked led here.
    pub fn backward(self) -> Result<Gradients> {
        grad::backward(self, None)
    }

    pub(crate) fn id(&self) -> u64 {
        self.node.id
    }

    pub(crate) fn derivative(&self) -> Option<&Derivative> {
        self.node.derivative.as_ref()
    }

    /// The same values, tracked through `derivative`.
    pub(crate) fn with_derivative(self, derivative: Derivative) -> Tensor {
        Self::new(
            self.node.values.clone(),
            self.node.shape.clone(),
            true,
            Some(derivative),
        )
    }

    /// The f32 values for writing, if nothing else shares them.
    pub(crate) fn unshared_mut(&mut self) -> Option<&mut [f32]> {
        match Arc::get_mut(&mut Arc::get_mut(&mut self.node)?.values)? {
            Values::F32(Buffer::Owned(values)) => Some(values),
            _ => None,
        }
    }

    /// Makes the values its own, copying them where something else shares them: what writes into a
    /// card's memory must not be seen by others.
    ///
    /// # Errors
    /// When a card has no memory left.
    pub(crate) fn make_array_unshared(&mut self) -> Result<()> {
        let alone = Arc::get_mut(&mut self.node)
            .is_some_and(|node| Arc::get_mut(&mut node.values).is_some());
        if !alone {
            let array = self.array()?;
            let copy = cuda::cast(array, array.dtype())?;
            let copy = Self::from_values(copy, self.shape())?;
            *self = match self.is_tracked() {
                true => copy.tracked(),
                false => copy,
            };
        }
        Ok(())
    }

    /// Frees the buffers that dropped arrays left for reuse.
    pub fn release_scratch_memory() {
        storage::release();
    }
}

fn check_length(shape: &Shape, found: usize) -> Result<()> {
    let expected = shape
        .iter()
        .try_fold(1usize, |product, d| product.checked_mul(*d));
    if expected == Some(found) {
        return Ok(());
    }
    Err(Error::Length {
        shape: shape.to_vec(),
        expected: expected.unwrap_or(usize::MAX),
        found,
    })
}

/// Whole slices at a time, for which `half` has vector instructions.
fn widen<T: Sync>(values: &[T], out: &mut [f32])
where
    [T]: HalfFloatSliceExt,
{
    const BLOCK: usize = 1 << 16;
    if values.len() <= BLOCK {
        return values.convert_to_f32_slice(out);
    }
    out.par_chunks_mut(BLOCK)
        .zip(values.par_chunks(BLOCK))
        .for_each(|(out, values)| values.convert_to_f32_slice(out));
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {:?})", self.dtype(), self.dims())
    }
}
