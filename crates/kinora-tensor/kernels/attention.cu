// Softmax over rows of scores, and attention over the frames of each place.

// Sums or maxima over a block, in every thread. `kept` has a place for each warp.
__device__ inline float block_sum(float x, float* kept) {
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % WARP == 0) kept[threadIdx.x / WARP] = x;
    __syncthreads();
    float total = 0.0f;
    for (int k = 0; k < THREADS / WARP; k++) total += kept[k];
    return total;
}
__device__ inline float block_max(float x, float* kept) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) kept[threadIdx.x / WARP] = x;
    __syncthreads();
    float largest = kept[0];
    for (int k = 1; k < THREADS / WARP; k++) largest = fmaxf(largest, kept[k]);
    return largest;
}

// weights = softmax(factor · scores) of each row of scores [heads, queries, keys]; a block takes a row.
// Where it is causal, query number first + i sees the keys up to its own number.
KERNEL(softmax, const float* scores, T* weights, Index queries, Index keys, Index first, int causal,
       float factor) {
    SHARED float kept[THREADS / WARP];
    const Index row = blockIdx.x;
    const Index seen = causal ? first + row % queries + 1 : keys;
    const float* from = &scores[row * keys];
    T* to = &weights[row * keys];
    float largest = -3.4e38f;
    for (Index k = threadIdx.x; k < seen; k += THREADS) largest = fmaxf(largest, from[k]);
    largest = block_max(largest, kept);
    float sum = 0.0f;
    for (Index k = threadIdx.x; k < seen; k += THREADS) sum += expf(factor * (from[k] - largest));
    const float rate = 1.0f / block_sum(sum, kept);
    for (Index k = threadIdx.x; k < keys; k += THREADS) {
        store(&to[k], k < seen ? expf(factor * (from[k] - largest)) * rate : 0.0f);
    }
}

// dscores = factor · weights · (dweights − Σ weights · dweights), row by row.
KERNEL(softmax_backward, const T* weights, const float* dweights, T* dscores, Index keys,
       float factor) {
    SHARED float kept[THREADS / WARP];
    const Index at = blockIdx.x * keys;
    float sum = 0.0f;
    for (Index k = threadIdx.x; k < keys; k += THREADS) {
        sum += widen(weights[at + k]) * dweights[at + k];
    }
    const float mean = block_sum(sum, kept);
    for (Index k = threadIdx.x; k < keys; k += THREADS) {
        store(&dscores[at + k], factor * widen(weights[at + k]) * (dweights[at + k] - mean));
    }
}

// Clips [b, t, s, heads · d]. A warp takes one frame of one place in one head; its lanes share the
// channels of the head, of which there are at most WARP · CHANNELS.
constexpr int CHANNELS = 8;

struct Frames {
    Index b, t, s, heads, d;
    float factor;
};

struct Spot {
    bool real;
    // The first channel of frame 0 of this place and head, and the distance of frames.
    Index start, step, frame;
    // The number of this row in arrays [b, s, heads, t].
    Index row;
};

__device__ inline Spot spot(const Frames& f) {
    const Index rows = f.b * f.s * f.heads * f.t;
    const Index row = (Index)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    Spot p;
    p.real = row < rows;
    p.row = p.real ? row : 0;
    p.frame = p.row % f.t;
    const Index head = p.row / f.t % f.heads, place = p.row / (f.t * f.heads) % f.s;
    const Index clip = p.row / (f.t * f.heads * f.s);
    p.step = f.s * f.heads * f.d;
    p.start = clip * f.t * p.step + place * f.heads * f.d + head * f.d;
    return p;
}

__device__ inline void load(float* to, const T* from, Index d) {
    for (int c = 0; c < CHANNELS; c++) {
        const Index channel = c * WARP + threadIdx.x % WARP;
        to[c] = channel < d ? widen(from[channel]) : 0.0f;
    }
}
__device__ inline void save(T* to, const float* from, float factor, Index d) {
    for (int c = 0; c < CHANNELS; c++) {
        const Index channel = c * WARP + threadIdx.x % WARP;
        if (channel < d) store(&to[channel], factor * from[c]);
    }
}
__device__ inline float dot(const float* x, const float* y) {
    float sum = 0.0f;
    for (int c = 0; c < CHANNELS; c++) sum += x[c] * y[c];
    return warp_sum(sum);
}

// The result, and for each row the logarithm of the sum of its exponentials.
KERNEL(time_attention, const T* q, const T* k, const T* v, T* out, float* log_sums, Frames f) {
    const Spot p = spot(f);
    float query[CHANNELS], other[CHANNELS], sums[CHANNELS];
    load(query, &q[p.start + p.frame * p.step], f.d);
    for (int c = 0; c < CHANNELS; c++) sums[c] = 0.0f;
    float largest = -3.4e38f, total = 0.0f;
    for (Index j = 0; j < f.t; j++) {
        load(other, &k[p.start + j * p.step], f.d);
        const float score = f.factor * dot(query, other);
        const float more = fmaxf(largest, score);
        const float kept = expf(largest - more), weight = expf(score - more);
        load(other, &v[p.start + j * p.step], f.d);
        for (int c = 0; c < CHANNELS; c++) sums[c] = kept * sums[c] + weight * other[c];
        total = kept * total + weight;
        largest = more;
    }
    if (!p.real) return;
    save(&out[p.start + p.frame * p.step], sums, 1.0f / total, f.d);
    if (threadIdx.x % WARP == 0) log_sums[p.row] = largest + logf(total);
}

// dq, and for each row Σ out · dout.
KERNEL(time_attention_queries, const T* q, const T* k, const T* v, const T* out, const T* dout,
       const float* log_sums, T* dq, float* means, Frames f) {
    const Spot p = spot(f);
    const Index own = p.start + p.frame * p.step;
    float query[CHANNELS], gradient[CHANNELS], other[CHANNELS], sums[CHANNELS];
    load(query, &q[own], f.d);
    load(gradient, &dout[own], f.d);
    load(other, &out[own], f.d);
    const float mean = dot(gradient, other);
    for (int c = 0; c < CHANNELS; c++) sums[c] = 0.0f;
    for (Index j = 0; j < f.t; j++) {
        load(other, &v[p.start + j * p.step], f.d);
        const float dweight = dot(gradient, other);
        load(other, &k[p.start + j * p.step], f.d);
        const float weight = expf(f.factor * dot(query, other) - log_sums[p.row]);
        const float slope = weight * (dweight - mean);
        for (int c = 0; c < CHANNELS; c++) sums[c] += slope * other[c];
    }
    if (!p.real) return;
    save(&dq[own], sums, f.factor, f.d);
    if (threadIdx.x % WARP == 0) means[p.row] = mean;
}

// dk and dv: a warp takes one frame of the keys and walks over the queries.
KERNEL(time_attention_keys, const T* q, const T* k, const T* v, const T* dout,
       const float* log_sums, const float* means, T* dk, T* dv, Frames f) {
    const Spot p = spot(f);
    const Index own = p.start + p.frame * p.step, first = p.row - p.frame;
    float key[CHANNELS], value[CHANNELS], query[CHANNELS], gradient[CHANNELS];
    float dkey[CHANNELS], dvalue[CHANNELS];
    load(key, &k[own], f.d);
    load(value, &v[own], f.d);
    for (int c = 0; c < CHANNELS; c++) dkey[c] = dvalue[c] = 0.0f;
    for (Index i = 0; i < f.t; i++) {
        load(query, &q[p.start + i * p.step], f.d);
        load(gradient, &dout[p.start + i * p.step], f.d);
        const float weight = expf(f.factor * dot(query, key) - log_sums[first + i]);
        const float slope = weight * (dot(gradient, value) - means[first + i]);
        for (int c = 0; c < CHANNELS; c++) {
            dkey[c] += slope * query[c];
            dvalue[c] += weight * gradient[c];
        }
    }
    if (!p.real) return;
    save(&dk[own], dkey, f.factor, f.d);
    save(&dv[own], dvalue, 1.0f, f.d);
}
