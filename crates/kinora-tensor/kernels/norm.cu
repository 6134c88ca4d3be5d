// Group and layer normalisation, channels last. Statistics are f32 about a value of the group itself:
// a mean that is large beside the deviation does not drown the variance.

// Of each channel of each picture [n, rows, c], about the group's first value: Σ (x − pivot) and
// Σ (x − pivot)², into partial [n, chunks, 2, c].
KERNEL(group_moments, const T* x, float* partial, Index rows, Index columns, Index chunk_rows,
       int lanes, Index width) {
    column_sums<2>(
        [&](Index outer, Index row, Index column, float* sums) {
            const T* picture = &x[outer * rows * columns];
            const float pivot = widen(picture[column / width * width]);
            const float d = widen(picture[row * columns + column]) - pivot;
            sums[0] += d;
            sums[1] += d * d;
        },
        partial, rows, columns, chunk_rows, lanes);
}

// The mean and 1 / √(σ² + eps) of each group, [n, groups] each, from totals [n, 2, c].
KERNEL(group_statistics, const T* x, const float* totals, float* mean, float* rate, Index pictures,
       Index groups, Index rows, Index width, float eps) {
    const Index c = groups * width;
    for (Index k = first_element(); k < pictures * groups; k += element_step()) {
        const Index picture = k / groups, from = k % groups * width;
        const float* sums = &totals[picture * 2 * c + from];
        const float count = (float)(rows * width);
        float sum = 0.0f, squares = 0.0f;
        for (Index j = 0; j < width; j++) {
            sum += sums[j];
            squares += sums[c + j];
        }
        const float shift = sum / count;
        const float variance = squares / count - shift * shift;
        mean[k] = widen(x[picture * rows * c + from]) + shift;
        rate[k] = 1.0f / sqrtf((variance > 0.0f ? variance : 0.0f) + eps);
    }
}

struct GroupNorm {
    const float* mean;
    const float* rate;
    const float* gamma;
    const float* beta;
    Index rows, c, width;
    int silu;
};

struct Normalised {
    float value, rate, gamma, z;
};

__device__ inline Normalised normalised(const GroupNorm& g, Index k, float x) {
    const Index channel = k % g.c, picture = k / (g.rows * g.c);
    const Index group = picture * (g.c / g.width) + channel / g.width;
    Normalised n;
    n.rate = g.rate[group];
    n.value = (x - g.mean[group]) * n.rate;
    n.gamma = g.gamma[channel];
    n.z = n.value * n.gamma + g.beta[channel];
    return n;
}

// dy taken back through the activation, at z.
__device__ inline float before_activation(float dy, float z, int silu) {
    if (!silu) return dy;
    const float s = sigmoid(z);
    return dy * (s * (1.0f + z * (1.0f - s)));
}

KERNEL(group_norm, const T* x, T* y, Index count, GroupNorm g) {
    for (Index k = first_element(); k < count; k += element_step()) {
        const float z = normalised(g, k, widen(x[k])).z;
        store(&y[k], g.silu ? z * sigmoid(z) : z);
    }
}

// Of each channel of each picture: Σ dz and Σ dz · normalised.
KERNEL(group_gradient_sums, const T* x, const T* dy, float* partial, Index rows, Index columns,
       Index chunk_rows, int lanes, GroupNorm g) {
    column_sums<2>(
        [&](Index outer, Index row, Index column, float* sums) {
            const Index k = (outer * g.rows + row) * g.c + column;
            const Normalised n = normalised(g, k, widen(x[k]));
            const float dz = before_activation(widen(dy[k]), n.z, g.silu);
            sums[0] += dz;
            sums[1] += dz * n.value;
        },
        partial, rows, columns, chunk_rows, lanes);
}

// The means over a group of gamma dz and of gamma dz · normalised, [n, groups, 2], from [n, 2, c].
KERNEL(group_gradient_means, const float* totals, float* means, Index pictures, GroupNorm g) {
    const Index groups = g.c / g.width;
    for (Index k = first_element(); k < pictures * groups; k += element_step()) {
        const Index from = k % groups * g.width;
        const float* sums = &totals[k / groups * 2 * g.c + from];
        const float count = (float)(g.rows * g.width);
        float constant = 0.0f, slope = 0.0f;
        for (Index j = 0; j < g.width; j++) {
            constant += g.gamma[from + j] * sums[j];
            slope += g.gamma[from + j] * sums[g.c + j];
        }
        means[2 * k] = constant / count;
        means[2 * k + 1] = slope / count;
    }
}

// dx = rate · (gamma dz − mean(gamma dz) − normalised · mean(gamma dz · normalised)).
KERNEL(group_input_gradient, const T* x, const T* dy, const float* means, T* dx, Index count,
       GroupNorm g) {
    for (Index k = first_element(); k < count; k += element_step()) {
        const Normalised n = normalised(g, k, widen(x[k]));
        const float dz = before_activation(widen(dy[k]), n.z, g.silu);
        const Index group = k / (g.rows * g.c) * (g.c / g.width) + k % g.c / g.width;
        const float constant = means[2 * group], slope = means[2 * group + 1];
        store(&dx[k], n.rate * (n.gamma * dz - constant - n.value * slope));
    }
}

// One warp normalises one row; the row is read again rather than kept.
__device__ inline Index warp_row() {
    return (Index)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
}

KERNEL(layer_norm, const T* x, const float* gamma, const float* beta, T* y, float* statistics,
       Index rows, Index c, float eps) {
    const Index row = warp_row();
    const int lane = threadIdx.x % WARP;
    const bool real = row < rows;
    const T* from = &x[(real ? row : 0) * c];
    float sum = 0.0f;
    for (Index k = lane; k < c; k += WARP) sum += widen(from[k]);
    const float mean = warp_sum(sum) / (float)c;
    float squares = 0.0f;
    for (Index k = lane; k < c; k += WARP) {
        const float d = widen(from[k]) - mean;
        squares += d * d;
    }
    const float rate = 1.0f / sqrtf(warp_sum(squares) / (float)c + eps);
    if (!real) return;
    for (Index k = lane; k < c; k += WARP) {
        store(&y[row * c + k], (widen(from[k]) - mean) * rate * gamma[k] + beta[k]);
    }
    if (lane == 0) {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = rate;
    }
}

// dx = rate · (gamma dy − mean(gamma dy) − normalised · mean(gamma dy · normalised)).
KERNEL(layer_norm_input_gradient, const T* x, const T* dy, const float* gamma,
       const float* statistics, T* dx, Index rows, Index c) {
    const Index row = warp_row();
    const int lane = threadIdx.x % WARP;
    const bool real = row < rows;
    const Index at = (real ? row : 0) * c;
    const float mean = statistics[real ? 2 * row : 0], rate = statistics[real ? 2 * row + 1 : 1];
    float constant = 0.0f, slope = 0.0f;
    for (Index k = lane; k < c; k += WARP) {
        const float g = gamma[k] * widen(dy[at + k]);
        constant += g;
        slope += g * (widen(x[at + k]) - mean) * rate;
    }
    constant = warp_sum(constant) / (float)c;
    slope = warp_sum(slope) / (float)c;
    if (!real) return;
    for (Index k = lane; k < c; k += WARP) {
        const float value = (widen(x[at + k]) - mean) * rate;
        store(&dx[at + k], rate * (gamma[k] * widen(dy[at + k]) - constant - value * slope));
    }
}

// Of each channel: Σ dy and Σ dy · normalised.
KERNEL(layer_norm_gradient_sums, const T* x, const T* dy, const float* statistics, float* partial,
       Index rows, Index columns, Index chunk_rows, int lanes) {
    column_sums<2>(
        [&](Index, Index row, Index column, float* sums) {
            const Index k = row * columns + column;
            const float value = (widen(x[k]) - statistics[2 * row]) * statistics[2 * row + 1];
            sums[0] += widen(dy[k]);
            sums[1] += widen(dy[k]) * value;
        },
        partial, rows, columns, chunk_rows, lanes);
}
