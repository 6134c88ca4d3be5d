// AdamW with the average of the weights, and the length of gradients, over all arrays of a model in one
// launch: a table tells where the arrays lie, and each block takes one stretch of one of them.

// Values a block takes; `CHUNK` in src/cuda/optim.rs.
constexpr Index CHUNK = 16384;

// One array of the model. Without a gradient its weights and moments stay; without an average none is
// kept.
struct Trained {
    float* weights;
    const float* gradient;
    float* m;
    float* v;
    float* average;
    Index count;
    // The number of its first stretch, counted through all arrays.
    Index first_chunk;
};

struct Numbers {
    float keep, rate, root, beta1, beta2, rest1, rest2, epsilon, gradient_scale, average_rest;
};

// The last array whose first stretch is not after this block's.
__device__ inline Trained trained_of_block(const Trained* table, Index arrays) {
    Index low = 0, high = arrays;
    while (high - low > 1) {
        const Index middle = (low + high) / 2;
        if (table[middle].first_chunk <= blockIdx.x) low = middle;
        else high = middle;
    }
    return table[low];
}

// w ← keep · w − rate · m / (√v / root + ε), then a ← a + rest · (w − a).
KERNEL(adamw, const Trained* table, Index arrays, Numbers n) {
    const Trained t = trained_of_block(table, arrays);
    const Index start = (blockIdx.x - t.first_chunk) * CHUNK;
    const Index end = start + CHUNK < t.count ? start + CHUNK : t.count;
    for (Index k = start + threadIdx.x; k < end; k += THREADS) {
        float w = t.weights[k];
        if (t.gradient) {
            const float g = t.gradient[k] * n.gradient_scale;
            const float m = n.beta1 * t.m[k] + n.rest1 * g;
            const float v = n.beta2 * t.v[k] + n.rest2 * g * g;
            w = n.keep * w - n.rate * m / (sqrtf(v) / n.root + n.epsilon);
            t.m[k] = m;
            t.v[k] = v;
            t.weights[k] = w;
        }
        if (t.average) t.average[k] += n.average_rest * (w - t.average[k]);
    }
}

// Σ g² of each stretch, in f64: squares of large gradients are no f32, and the sum is then finite
// where all gradients are. Grid: one block a stretch.
KERNEL(sum_of_squares, const Trained* table, Index arrays, double* partial) {
    SHARED double kept[THREADS];
    const Trained t = trained_of_block(table, arrays);
    const Index start = (blockIdx.x - t.first_chunk) * CHUNK;
    const Index end = start + CHUNK < t.count ? start + CHUNK : t.count;
    double sum = 0.0;
    for (Index k = start + threadIdx.x; k < end; k += THREADS) {
        const double g = t.gradient[k];
        sum += g * g;
    }
    kept[threadIdx.x] = sum;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) kept[threadIdx.x] += kept[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) partial[blockIdx.x] = kept[0];
}
