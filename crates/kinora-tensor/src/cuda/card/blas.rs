//! Products on a card, by cuBLASLt. What it finds out about a shape is kept: asking again costs more
//! than a small product.

use super::super::product::{Matrix, Product};
use crate::DType;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use std::collections::HashMap;
use std::ffi::c_void;

/// Working memory of a product; more than this brings nothing on any card so far.
pub(super) const WORKSPACE_BYTES: usize = 64 << 20;

pub(super) struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: u64,
    plans: HashMap<Key, Plan>,
}

/// What the choice of an algorithm depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    extents: [usize; 3],
    batch: usize,
    a: Layout,
    b: Layout,
    out: Layout,
    bias: Option<DType>,
    /// The alignment of what is added instead of what was in `out`.
    onto: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Layout {
    dtype: DType,
    stride: usize,
    next: usize,
    turned: bool,
    /// The largest power of two up to 256 that divides the address.
    alignment: u32,
}

impl Layout {
    fn of(matrix: &Matrix<'_>) -> Self {
        Layout {
            dtype: matrix.array.dtype(),
            stride: matrix.stride,
            next: matrix.next,
            turned: matrix.turned,
            alignment: alignment(address(matrix)),
        }
    }
}

fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(8)
}

fn address(matrix: &Matrix<'_>) -> u64 {
    matrix.array.address() + (matrix.start * matrix.array.dtype().size_bytes()) as u64
}

fn pointer(address: u64) -> *mut c_void {
    address as usize as *mut c_void
}

/// Descriptors and algorithm, kept until the program ends.
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

fn type_of(dtype: DType) -> sys::cudaDataType {
    match dtype {
        DType::F32 => sys::cudaDataType::CUDA_R_32F,
        DType::F16 => sys::cudaDataType::CUDA_R_16F,
        DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
    }
}

impl Blas {
    /// With working memory of [`WORKSPACE_BYTES`] at `workspace`.
    pub(super) fn new(workspace: u64) -> Result<Self, CublasError> {
        Ok(Blas {
            handle: result::create_handle()?,
            workspace,
            plans: HashMap::new(),
        })
    }

    pub(super) fn multiply(
        &mut self,
        product: &Product<'_>,
        stream: sys::cudaStream_t,
    ) -> Result<(), CublasError> {
        let key = Key {
            extents: product.extents(),
            batch: product.batch,
            a: Layout::of(&product.a),
            b: Layout::of(&product.b),
            out: Layout::of(&product.out),
            bias: product.bias.map(|bias| bias.dtype()),
            onto: product.onto.map(|onto| alignment(onto.address())),
        };
        if !self.plans.contains_key(&key) {
            let plan = Plan::new(self.handle, key, product)?;
            self.plans.insert(key, plan);
        }
        let plan = &self.plans[&key];
        if let Some(bias) = product.bias {
            plan.set_bias(bias.address())?;
        }
        let adds = product.accumulate || product.onto.is_some();
        let beta = if adds { 1.0f32 } else { 0.0 };
        let [a, b, out] = [&product.a, &product.b, &product.out].map(|m| pointer(address(m)));
        let before = product.onto.map_or(out, |onto| pointer(onto.address()));
        // SAFETY: `Product::run` bounded every element; the arrays live until what reads them is
        // queued, and the descriptors as long as the program. Columns come first to this library, so
        // the transposed product is asked for: outᵀ = bᵀ · aᵀ.
        #[allow(unsafe_code)]
        unsafe {
            result::matmul(
                self.handle,
                plan.operation,
                (&raw const product.factor).cast(),
                (&raw const beta).cast(),
                b,
                plan.b,
                a,
                plan.a,
                before,
                plan.out,
                out,
                plan.out,
                &raw const plan.algorithm,
                pointer(self.workspace),
                WORKSPACE_BYTES,
                stream,
            )
        }
    }
}

impl Plan {
    fn new(
        handle: sys::cublasLtHandle_t,
        key: Key,
        product: &Product<'_>,
    ) -> Result<Self, CublasError> {
        let f32 = sys::cudaDataType::CUDA_R_32F;
        // Strict f32 for f32, and accumulation in f32 for the others.
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let operation = result::create_matmul_desc(compute, f32)?;
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let first = i32::from(key.b.turned);
        let second = i32::from(key.a.turned);
        set_operation(operation, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &first)?;
        set_operation(operation, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &second)?;
        if let Some(dtype) = key.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            let bias_type = type_of(dtype);
            set_operation(
                operation,
                Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE,
                &epilogue,
            )?;
            let attribute = Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE;
            set_operation(operation, attribute, &bias_type)?;
        }
        let mut plan = Plan {
            operation,
            a: layout(&product.a, key.batch)?,
            b: layout(&product.b, key.batch)?,
            out: layout(&product.out, key.batch)?,
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        plan.algorithm = plan.choose(handle, key)?;
        Ok(plan)
    }

    fn choose(
        &self,
        handle: sys::cublasLtHandle_t,
        key: Key,
    ) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let wishes = result::create_matmul_pref()?;
        let limit = WORKSPACE_BYTES as u64;
        let out = key.out.alignment;
        let before = key.onto.unwrap_or(out);
        let aligned = [key.b.alignment, key.a.alignment, before, out];
        // SAFETY: the preference was just created and ends here; attributes are read by their size.
        #[allow(unsafe_code)]
        unsafe {
            let attribute = Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            result::set_matmul_pref_attribute(wishes, attribute, (&raw const limit).cast(), 8)?;
            for (attribute, alignment) in [
                (
                    Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                    aligned[0],
                ),
                (
                    Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                    aligned[1],
                ),
                (
                    Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                    aligned[2],
                ),
                (
                    Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                    aligned[3],
                ),
            ] {
                let value = (&raw const alignment).cast();
                result::set_matmul_pref_attribute(wishes, attribute, value, 4)?;
            }
            let found = result::get_matmul_algo_heuristic(
                handle,
                self.operation,
                self.b,
                self.a,
                self.out,
                self.out,
                wishes,
            );
            result::destroy_matmul_pref(wishes)?;
            Ok(found?.algo)
        }
    }

    fn set_bias(&self, address: u64) -> Result<(), CublasError> {
        let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
        set_operation(self.operation, attribute, &address)
    }
}

fn set_operation<V>(
    operation: sys::cublasLtMatmulDesc_t,
    attribute: sys::cublasLtMatmulDescAttributes_t,
    value: &V,
) -> Result<(), CublasError> {
    let place = std::ptr::from_ref(value).cast();
    // SAFETY: the descriptor is alive, and the value is read by its size before this returns.
    #[allow(unsafe_code)]
    unsafe {
        result::set_matmul_desc_attribute(operation, attribute, place, size_of::<V>())
    }
}

/// Rows of neighbours are this library's columns.
fn layout(matrix: &Matrix<'_>, batch: usize) -> Result<sys::cublasLtMatrixLayout_t, CublasError> {
    use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
    let dtype = type_of(matrix.array.dtype());
    let (rows, columns) = (matrix.columns as u64, matrix.rows as u64);
    let made = result::create_matrix_layout(dtype, rows, columns, matrix.stride as i64)?;
    let (count, next) = (batch as i32, matrix.next as i64);
    // SAFETY: the layout was just created, and the values are read by their sizes.
    #[allow(unsafe_code)]
    unsafe {
        let attribute = Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
        result::set_matrix_layout_attribute(made, attribute, (&raw const count).cast(), 4)?;
        let attribute = Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
        result::set_matrix_layout_attribute(made, attribute, (&raw const next).cast(), 8)?;
    }
    Ok(made)
}
