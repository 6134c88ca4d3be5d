// What every kernel shares. Each source is compiled once for each storage type T, with one of
// STORE_F32, STORE_F16 and STORE_BF16 defined; arithmetic is in f32 always. No header is included, so
// the run-time compiler needs nothing but its own library.

// Extents and places: a clip at full size has more than 2^31 elements.
typedef long long Index;

// Threads of every block.
constexpr int THREADS = 256;
constexpr int WARP = 32;

struct Half {
    unsigned short bits;
};
struct BFloat {
    unsigned short bits;
};

#ifdef ON_HOST
// The test machine's stand-ins for what the card's compiler knows stand in host.hpp, before this file.
#else
#define KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(THREADS) name(__VA_ARGS__)
// The same where a multiprocessor is to hold two blocks at least, so 128 registers are all a thread gets.
#define KERNEL_OF_TWO(name, ...)                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) name(__VA_ARGS__)
#define SHARED __shared__

__device__ inline float widen_half(unsigned short bits) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}
__device__ inline unsigned short narrow_half(float wide) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(wide));
    return bits;
}
__device__ inline float widen_bfloat(unsigned short bits) {
    return __uint_as_float((unsigned)bits << 16);
}
__device__ inline unsigned short narrow_bfloat(float wide) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(wide));
    return bits;
}
#endif

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(Half x) { return widen_half(x.bits); }
__device__ inline float widen(BFloat x) { return widen_bfloat(x.bits); }

__device__ inline void store(float* to, float x) { *to = x; }
__device__ inline void store(Half* to, float x) { to->bits = narrow_half(x); }
__device__ inline void store(BFloat* to, float x) { to->bits = narrow_bfloat(x); }

#if defined(STORE_F32)
typedef float T;
#elif defined(STORE_F16)
typedef Half T;
#elif defined(STORE_BF16)
typedef BFloat T;
#endif

// The first element of this thread, and how far it is to its next: every element has one thread.
__device__ inline Index first_element() { return (Index)blockIdx.x * THREADS + threadIdx.x; }
__device__ inline Index element_step() { return (Index)gridDim.x * THREADS; }

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
// The normal distribution function and its density.
__device__ inline float normal_cdf(float x) { return 0.5f + 0.5f * erff(x * 0.70710678f); }
__device__ inline float normal_density(float x) { return 0.3989423f * expf(-0.5f * x * x); }
__device__ inline float gelu_value(float x) { return x * normal_cdf(x); }
__device__ inline float gelu_slope(float x) { return normal_cdf(x) + x * normal_density(x); }

// The sum over a warp, in every lane.
__device__ inline float warp_sum(float x) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    }
    return x;
}

// Sums over rows, K for each column, of arrays [outer, rows, columns]. A block takes `lanes`
// neighbouring columns (a power of two) of one outer entry, and one chunk of its rows; it writes
// partial [outer, chunks, K, columns]. `terms(outer, row, column, sums)` adds what one place gives.
// Grid: x = outer · ceil(columns / lanes), y = chunks.
template <int K, class Terms>
__device__ inline void column_sums(Terms terms, float* partial, Index rows, Index columns,
                                   Index chunk_rows, int lanes) {
    SHARED float kept[K][THREADS];
    const Index column_blocks = (columns + lanes - 1) / lanes;
    const Index outer = blockIdx.x / column_blocks;
    const int thread = threadIdx.x, lane = thread % lanes, line = thread / lanes;
    const Index column = blockIdx.x % column_blocks * lanes + lane;
    const Index start = blockIdx.y * chunk_rows;
    const Index end = start + chunk_rows < rows ? start + chunk_rows : rows;
    float sums[K];
    for (int k = 0; k < K; k++) sums[k] = 0.0f;
    if (column < columns) {
        for (Index row = start + line; row < end; row += THREADS / lanes) {
            terms(outer, row, column, sums);
        }
    }
    for (int k = 0; k < K; k++) kept[k][thread] = sums[k];
    __syncthreads();
    for (int half = THREADS / lanes / 2; half > 0; half /= 2) {
        if (line < half) {
            for (int k = 0; k < K; k++) kept[k][thread] += kept[k][thread + half * lanes];
        }
        __syncthreads();
    }
    if (line == 0 && column < columns) {
        for (int k = 0; k < K; k++) {
            partial[((outer * gridDim.y + blockIdx.y) * K + k) * columns + column] = kept[k][lane];
        }
    }
}
