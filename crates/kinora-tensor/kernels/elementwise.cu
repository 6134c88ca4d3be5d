// Functions of one element, of two, and of one element with a smaller array repeated along it.

#define MAP(name, value, slope)                                                                    \
    KERNEL(name, const T* x, T* y, Index count, float a, float b) {                                \
        for (Index k = first_element(); k < count; k += element_step()) {                          \
            const float v = widen(x[k]);                                                           \
            store(&y[k], value);                                                                   \
        }                                                                                          \
    }                                                                                              \
    KERNEL(name##_backward, const T* x, const T* dy, T* dx, Index count, float a, float b) {       \
        for (Index k = first_element(); k < count; k += element_step()) {                          \
            const float v = widen(x[k]);                                                           \
            store(&dx[k], widen(dy[k]) * (slope));                                                 \
        }                                                                                          \
    }

__device__ inline float silu_slope(float v) {
    const float s = sigmoid(v);
    return s * (1.0f + v * (1.0f - s));
}
__device__ inline float quick_gelu_slope(float v) {
    const float s = sigmoid(1.702f * v);
    return s * (1.0f + 1.702f * v * (1.0f - s));
}
// Comparisons rather than fminf and fmaxf, so that a NaN stays one.
__device__ inline float clamped(float v, float low, float high) {
    return v < low ? low : v > high ? high : v;
}

MAP(silu, v * sigmoid(v), silu_slope(v))
MAP(gelu, gelu_value(v), gelu_slope(v))
MAP(quick_gelu, v * sigmoid(1.702f * v), quick_gelu_slope(v))
MAP(sigmoid_map, sigmoid(v), sigmoid(v) * (1.0f - sigmoid(v)))
MAP(exp_map, expf(v), expf(v))
MAP(square, v * v, 2.0f * v)
MAP(abs_map, fabsf(v), (float)(v > 0.0f) - (float)(v < 0.0f))
MAP(clamp, clamped(v, a, b), (float)(v >= a && v <= b))

KERNEL(affine, const T* x, T* y, Index count, float a, float b) {
    for (Index k = first_element(); k < count; k += element_step()) {
        store(&y[k], a * widen(x[k]) + b);
    }
}

KERNEL(fill, T* y, Index count, float value) {
    for (Index k = first_element(); k < count; k += element_step()) store(&y[k], value);
}

#define ZIP(name, value)                                                                           \
    KERNEL(name, const T* x, const T* y, T* z, Index count) {                                      \
        for (Index k = first_element(); k < count; k += element_step()) {                          \
            const float v = widen(x[k]), w = widen(y[k]);                                          \
            store(&z[k], value);                                                                   \
        }                                                                                          \
    }

ZIP(add, v + w)
ZIP(sub, v - w)
ZIP(mul, v * w)

// Extents of the large array and steps in the small one (0 where it is repeated), slowest axis first.
struct Broadcast {
    Index extents[6];
    Index steps[6];
};

__device__ inline Index place_in_small(Index k, const Broadcast& b) {
    Index place = 0;
    for (int axis = 5; axis >= 0; axis--) {
        place += k % b.extents[axis] * b.steps[axis];
        k /= b.extents[axis];
    }
    return place;
}

#define ZIP_BROADCAST(name, value)                                                                 \
    KERNEL(name, const T* x, const T* y, T* z, Index count, Broadcast b) {                         \
        for (Index k = first_element(); k < count; k += element_step()) {                          \
            const float v = widen(x[k]), w = widen(y[place_in_small(k, b)]);                       \
            store(&z[k], value);                                                                   \
        }                                                                                          \
    }

ZIP_BROADCAST(add_broadcast, v + w)
ZIP_BROADCAST(mul_broadcast, v * w)

// share · a + (1 − share) · b with share = σ(mix).
KERNEL(blend, const T* a, const T* b, const float* mix, T* y, Index count) {
    const float share = sigmoid(mix[0]);
    for (Index k = first_element(); k < count; k += element_step()) {
        store(&y[k], share * widen(a[k]) + (1.0f - share) * widen(b[k]));
    }
}

// Gradients of a (first) and of b: dy times their share.
KERNEL(blend_backward, const T* dy, const float* mix, T* da, T* db, Index count) {
    const float share = sigmoid(mix[0]);
    for (Index k = first_element(); k < count; k += element_step()) {
        const float v = widen(dy[k]);
        store(&da[k], share * v);
        store(&db[k], (1.0f - share) * v);
    }
}

// total · dσ/dmix, where total is Σ dy (a − b).
KERNEL(blend_mix_gradient, const float* total, const float* mix, float* dmix) {
    const float share = sigmoid(mix[0]);
    if (first_element() == 0) dmix[0] = total[0] * share * (1.0f - share);
}

// values · GELU(gates); a row of x holds d values, then d gates.
KERNEL(geglu, const T* x, T* y, Index rows, Index d) {
    for (Index k = first_element(); k < rows * d; k += element_step()) {
        const T* row = &x[k / d * 2 * d];
        store(&y[k], widen(row[k % d]) * gelu_value(widen(row[d + k % d])));
    }
}

KERNEL(geglu_backward, const T* x, const T* dy, T* dx, Index rows, Index d) {
    for (Index k = first_element(); k < rows * d; k += element_step()) {
        const Index at = k / d * 2 * d + k % d;
        const float value = widen(x[at]), gate = widen(x[at + d]), g = widen(dy[k]);
        store(&dx[at], g * gelu_value(gate));
        store(&dx[at + d], g * value * gelu_slope(gate));
    }
}

// The difference's slope for the mean of its squares (`squared`) or of its sizes, times dy / count.
KERNEL(distance_backward, const T* x, const T* y, const float* dy, T* dx, Index count, int squared,
       float sign) {
    const float factor = sign * dy[0] / (float)count;
    for (Index k = first_element(); k < count; k += element_step()) {
        const float d = widen(x[k]) - widen(y[k]);
        store(&dx[k], factor * (squared ? 2.0f * d : (float)(d > 0.0f) - (float)(d < 0.0f)));
    }
}

// x · factor[0] everywhere: the gradient of a sum.
KERNEL(fill_from, const float* value, float factor, T* y, Index count) {
    for (Index k = first_element(); k < count; k += element_step()) {
        store(&y[k], value[0] * factor);
    }
}

// The same values in another type.
KERNEL(cast_to_f32, const T* x, float* y, Index count) {
    for (Index k = first_element(); k < count; k += element_step()) store(&y[k], widen(x[k]));
}
KERNEL(cast_to_f16, const T* x, Half* y, Index count) {
    for (Index k = first_element(); k < count; k += element_step()) store(&y[k], widen(x[k]));
}
KERNEL(cast_to_bf16, const T* x, BFloat* y, Index count) {
    for (Index k = first_element(); k < count; k += element_step()) store(&y[k], widen(x[k]));
}
