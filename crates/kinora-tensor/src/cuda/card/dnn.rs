//! Convolutions on a card, by cuDNN: channels last, one plan for each shape.

use super::super::Array;
use super::super::conv::Pass;
use crate::DType;
use crate::ops::Geometry;
use cudarc::cudnn::CudnnError;
use cudarc::cudnn::result;
use cudarc::cudnn::sys;
use std::collections::HashMap;
use std::ffi::c_void;

/// An algorithm that wants more working memory than this is passed over.
pub(super) const MOST_WORKSPACE_BYTES: usize = 1 << 30;

pub(super) struct Dnn {
    handle: sys::cudnnHandle_t,
    plans: HashMap<(Pass, Geometry, DType), Plan>,
}

/// Descriptors and algorithm, kept until the program ends.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    algorithm: Algorithm,
    pub workspace_bytes: usize,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Input(sys::cudnnConvolutionBwdDataAlgo_t),
    Weight(sys::cudnnConvolutionBwdFilterAlgo_t),
}

fn type_of(dtype: DType) -> sys::cudnnDataType_t {
    match dtype {
        DType::F32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        DType::F16 => sys::cudnnDataType_t::CUDNN_DATA_HALF,
        DType::BF16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    }
}

impl Dnn {
    /// On this stream.
    pub(super) fn new(stream: *mut c_void) -> Result<Self, CudnnError> {
        let handle = result::create_handle()?;
        // SAFETY: the handle was just created, and the stream lives as long as the program.
        #[allow(unsafe_code)]
        unsafe { result::set_stream(handle, stream.cast()) }?;
        Ok(Dnn {
            handle,
            plans: HashMap::new(),
        })
    }

    /// The way to make one product, found at first use.
    pub(super) fn plan(
        &mut self,
        pass: Pass,
        geometry: &Geometry,
        dtype: DType,
    ) -> Result<Plan, CudnnError> {
        let key = (pass, *geometry, dtype);
        if let Some(plan) = self.plans.get(&key) {
            return Ok(*plan);
        }
        let plan = Plan::new(self.handle, pass, geometry, dtype)?;
        self.plans.insert(key, plan);
        Ok(plan)
    }

    /// Makes the product, with working memory of `plan.workspace_bytes`.
    pub(super) fn run(
        &self,
        plan: &Plan,
        [first, second]: [&Array; 2],
        out: &Array,
        workspace: u64,
    ) -> Result<(), CudnnError> {
        let pointer = |address: u64| address as usize as *mut c_void;
        let [first, second, out] = [first, second, out].map(|array| pointer(array.address()));
        let (space, bytes) = (pointer(workspace), plan.workspace_bytes);
        let (one, zero) = (1.0f32, 0.0f32);
        let (one, zero) = ((&raw const one).cast(), (&raw const zero).cast());
        let (handle, conv) = (self.handle, plan.convolution);
        let (x, w, y) = (plan.x, plan.w, plan.y);
        // SAFETY: the arrays have the extents of the descriptors, which the caller derived from the
        // same geometry, and live until what reads them is queued.
        #[allow(unsafe_code)]
        unsafe {
            match plan.algorithm {
                Algorithm::Forward(algorithm) => result::convolution_forward(
                    handle, one, x, first, w, second, conv, algorithm, space, bytes, zero, y, out,
                ),
                Algorithm::Input(algorithm) => result::convolution_backward_data(
                    handle, one, w, second, y, first, conv, algorithm, space, bytes, zero, x, out,
                ),
                Algorithm::Weight(algorithm) => result::convolution_backward_filter(
                    handle, one, x, first, y, second, conv, algorithm, space, bytes, zero, w, out,
                ),
            }
        }
    }
}

impl Plan {
    fn new(
        handle: sys::cudnnHandle_t,
        pass: Pass,
        g: &Geometry,
        dtype: DType,
    ) -> Result<Self, CudnnError> {
        let stored = type_of(dtype);
        let last = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let x = result::create_tensor_descriptor()?;
        let y = result::create_tensor_descriptor()?;
        let w = result::create_filter_descriptor()?;
        let convolution = result::create_convolution_descriptor()?;
        let whole = |extents: [usize; 4]| extents.map(|extent| extent as i32);
        let (pad, stride) = (g.conv.pad, g.conv.stride as i32);
        // Tensor cores where the type has them; f32 stays f32 and is not rounded to 19 bits.
        let math = match dtype {
            DType::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            _ => sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        // SAFETY: the descriptors were just created and are never destroyed.
        #[allow(unsafe_code)]
        unsafe {
            result::set_tensor4d_descriptor(x, last, stored, whole([g.n, g.i, g.h, g.w]))?;
            result::set_tensor4d_descriptor(y, last, stored, whole([g.n, g.o, g.oh, g.ow]))?;
            result::set_filter4d_descriptor(w, stored, last, whole([g.o, g.i, g.kh, g.kw]))?;
            result::set_convolution2d_descriptor(
                convolution,
                pad.top as i32,
                pad.left as i32,
                stride,
                stride,
                1,
                1,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
            )?;
            result::set_convolution_math_type(convolution, math)?;
        }
        let (algorithm, workspace_bytes) = choose(handle, pass, [x, y], w, convolution)?;
        Ok(Plan {
            x,
            w,
            y,
            convolution,
            algorithm,
            workspace_bytes,
        })
    }
}

/// The fastest algorithm by the library's own judgement that fits, and its working memory.
fn choose(
    handle: sys::cudnnHandle_t,
    pass: Pass,
    [x, y]: [sys::cudnnTensorDescriptor_t; 2],
    w: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
) -> Result<(Algorithm, usize), CudnnError> {
    const MOST: usize = 8;
    let mut count = 0;
    // One block for each pass: the library has three types of answer, alike but not the same.
    macro_rules! fastest {
        ($answer:ty, $ask:path, $variant:path, [$($operand:expr),*]) => {{
            let mut answers = [const { std::mem::MaybeUninit::<$answer>::uninit() }; MOST];
            // SAFETY: the descriptors are set, and as many answers are read as were written.
            #[allow(unsafe_code)]
            unsafe {
                let place = answers.as_mut_ptr().cast();
                $ask(handle, $($operand),*, MOST as i32, &mut count, place)?;
                answers[..(count as usize).min(MOST)]
                    .iter()
                    .map(|answer| answer.assume_init_read())
                    .find(|answer| {
                        answer.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                            && answer.memory <= MOST_WORKSPACE_BYTES
                    })
                    .map(|answer| ($variant(answer.algo), answer.memory))
            }
        }};
    }
    let found = match pass {
        Pass::Forward => fastest!(
            sys::cudnnConvolutionFwdAlgoPerf_t,
            result::get_convolution_forward_algorithm,
            Algorithm::Forward,
            [x, w, convolution, y]
        ),
        Pass::Input => fastest!(
            sys::cudnnConvolutionBwdDataAlgoPerf_t,
            result::get_convolution_backward_data_algorithm,
            Algorithm::Input,
            [w, y, convolution, x]
        ),
        Pass::Weight => fastest!(
            sys::cudnnConvolutionBwdFilterAlgoPerf_t,
            result::get_convolution_backward_filter_algorithm,
            Algorithm::Weight,
            [x, y, convolution, w]
        ),
    };
    found.ok_or(CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED))
}
