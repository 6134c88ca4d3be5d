// Attention over tokens for heads of 64 channels in 16 bits, on tensor cores, as FlashAttention-2
// does it (Dao 2023): scores live in registers, a softmax goes on from tile to tile, and the way back
// makes the weights again from the logarithm of each row's sum. Every value of a result is summed by
// one thread in a fixed order, so results repeat to the bit.
//
// A warp holds 16 rows of its own as left operands: queries, or keys on the way back to keys and
// values. The rows of the other side pass by in tiles of 64, two of them in shared memory: while one
// is used, the next is on its way.
//
// Budget of a block of 8 warps: shared memory 36,864 bytes, 37,888 in `fused_attention_keys`.
// Registers of a thread: forward 16 for its rows, 32 scores and 32 sums; queries back 32, 16 and 32;
// keys back 32, 16 and 64; the rest is addresses and operands on their way. The first two are held to
// 128, so that a multiprocessor takes two blocks.
#ifndef STORE_F32

// Channels of a head, rows of a warp and of a block, rows of a tile.
constexpr int HEAD = 64;
constexpr int WARP_ROWS = 16;
constexpr int BLOCK_ROWS = WARP_ROWS * (THREADS / WARP);
constexpr int TILE_ROWS = 64;
constexpr int STRIPS = TILE_ROWS / WARP_ROWS;
// Eight values more than a head: the 16-byte pieces of eight rows below one another then lie in
// different banks.
constexpr int STRIDE = HEAD + 8;
typedef T Tile[TILE_ROWS][STRIDE];

// A score of a key that is not seen. Its exponential is zero, and unlike infinities two of them
// differ by 0.
constexpr float NOTHING = -1e30f;

#ifndef ON_HOST
#define UNROLL _Pragma("unroll")
#ifdef STORE_F16
#define STORED "f16"
#else
#define STORED "bf16"
#endif

// sums += left · right, [16, 16] · [16, 8]. Lane l holds, with g = l / 4 and i = 2 (l % 4), pairs of
// neighbours: of the left one rows g and g + 8 at columns i, then the same rows at i + 8; of the right
// one column g at rows i and i + 8; of the sums columns i and i + 1 in rows g and g + 8.
__device__ inline void mma(float (&sums)[4], const unsigned (&left)[4], unsigned upper,
                           unsigned lower) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32." STORED "." STORED ".f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(upper), "r"(lower));
}
__device__ inline unsigned shared_address(const void* place) {
    unsigned address;
    asm("{ .reg .u64 wide; cvta.to.shared.u64 wide, %1; cvt.u32.u64 %0, wide; }"
        : "=r"(address)
        : "l"(place));
    return address;
}
// Four matrices [8, 8]: lanes 8k to 8k + 7 name the rows of number k, and each lane gets the pair i,
// i + 1 of row g of each.
__device__ inline void load_matrices(unsigned (&to)[4], const T* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// The same of their transposes.
__device__ inline void load_matrices_turned(unsigned (&to)[4], const T* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
// 16 bytes to shared memory, or zeros; there once this thread has waited for their group.
__device__ inline void copy_async(void* to, const void* from, bool real) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(real ? 16 : 0)
                 : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all groups of copies but the last N.
template <int N>
__device__ inline void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
// Two values rounded to T, the first in the lower half.
__device__ inline unsigned pack(float first, float second) {
    unsigned pair;
    asm("cvt.rn." STORED "x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}
__device__ inline unsigned load_pair(const T* from) { return *(const unsigned*)from; }
__device__ inline void store_pair(T* to, unsigned pair) { *(unsigned*)to = pair; }
// 2^x.
__device__ inline float power_of_two(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}
#endif

__device__ inline float first_of(unsigned pair) {
    T value;
    value.bits = (unsigned short)pair;
    return widen(value);
}
__device__ inline float second_of(unsigned pair) { return first_of(pair >> 16); }

// Sequences of n queries against m keys, in heads side by side in rows. Rows are counted in 32 bits,
// which saves registers.
struct Tokens {
    int n, m, heads;
    // Query i sees the keys 0 to i only.
    int causal;
    // On the products of queries and keys, and the same times log₂ e: weights are powers of two.
    float factor, rate;
};

// The rows of one head of one sequence; they are `stride` apart.
template <class V>
struct Rows {
    V* start;
    int count, stride;
};
// Those of the head number `head`, counted through all sequences.
template <class V>
__device__ inline Rows<V> rows_of(V* array, int count, int head, const Tokens& a) {
    const int stride = a.heads * HEAD;
    const Index sequence = head / a.heads, column = head % a.heads * HEAD;
    return {&array[sequence * count * stride + column], count, stride};
}

// What a warp works on.
struct Part {
    // The head, counted through all sequences.
    int head;
    // The first row of the block, and of the warp.
    int block, first;
    // Where this lane is in fragments: its first row is first + g.
    int g, i;
};
__device__ inline Part part(int rows) {
    const int blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const int lane = threadIdx.x % WARP;
    Part p;
    p.head = blockIdx.x / blocks;
    p.block = blockIdx.x % blocks * BLOCK_ROWS;
    p.first = p.block + threadIdx.x / WARP * WARP_ROWS;
    p.g = lane / 4;
    p.i = lane % 4 * 2;
    return p;
}

// 16 rows as left operands, 16 channels after 16 channels.
struct Left {
    unsigned of[HEAD / 16][4];
};
__device__ inline Left load_left(const Rows<const T>& from, const Part& p) {
    Left left;
    UNROLL for (int c = 0; c < HEAD / 16; c++) {
        UNROLL for (int k = 0; k < 4; k++) {
            const int row = p.first + p.g + k % 2 * 8;
            const int channel = 16 * c + p.i + k / 2 * 8;
            const bool real = row < from.count;
            left.of[c][k] = real ? load_pair(&from.start[(Index)row * from.stride + channel]) : 0u;
        }
    }
    return left;
}

// Starts to bring the rows from `first` on to shared memory, zeros where there are none.
__device__ inline void fetch(Tile& to, const Rows<const T>& from, int first) {
    constexpr int PIECE = 8, PIECES = HEAD / PIECE;
    for (int k = threadIdx.x; k < TILE_ROWS * PIECES; k += THREADS) {
        const int row = k / PIECES, channel = k % PIECES * PIECE;
        const bool real = first + row < from.count;
        const Index at = real ? (Index)(first + row) * from.stride : 0;
        copy_async(&to[row][channel], &from.start[at + channel], real);
    }
}

// Starts to bring a tile of each of two arrays, if the rows from `first` on come before `end`: a group of
// its own in any case, so that waiting for all groups but the last is waiting for the tiles before.
__device__ inline void bring(Tile& one, const Rows<const T>& all_ones, Tile& other,
                             const Rows<const T>& all_others, int first, int end) {
    if (first < end) {
        fetch(one, all_ones, first);
        fetch(other, all_others, first);
    }
    commit_copies();
}
// Waits for the tiles brought before the last.
__device__ inline void wait_for_tiles() {
    wait_copies<1>();
    __syncthreads();
}

// Products of the left rows with the 16 rows of a tile from `first` on: [16, 16], 8 columns after 8.
__device__ inline void times_rows(float (&products)[2][4], const Left& left, const Tile& tile,
                                  int first) {
    const int lane = threadIdx.x % WARP, row = first + lane % 8 + lane / 16 * 8;
    UNROLL for (int k = 0; k < 4; k++) products[0][k] = products[1][k] = 0.0f;
    UNROLL for (int c = 0; c < HEAD / 16; c++) {
        unsigned right[4];
        load_matrices(right, &tile[row][16 * c + lane / 8 % 2 * 8]);
        mma(products[0], left.of[c], right[0], right[1]);
        mma(products[1], left.of[c], right[2], right[3]);
    }
}

// sums += weights · the 16 rows of a tile from `first` on, weights [16, 16] as products come: where
// products stand in a lane, left operands are wanted.
__device__ inline void add_rows(float (&sums)[HEAD / 8][4], const float (&weights)[2][4],
                                const Tile& tile, int first) {
    const int lane = threadIdx.x % WARP, row = first + lane % 8 + lane / 8 % 2 * 8;
    const unsigned left[4] = {
        pack(weights[0][0], weights[0][1]), pack(weights[0][2], weights[0][3]),
        pack(weights[1][0], weights[1][1]), pack(weights[1][2], weights[1][3])};
    UNROLL for (int c = 0; c < HEAD / 16; c++) {
        unsigned right[4];
        load_matrices_turned(right, &tile[row][16 * c + lane / 16 * 8]);
        mma(sums[2 * c], left, right[0], right[1]);
        mma(sums[2 * c + 1], left, right[2], right[3]);
    }
}

__device__ inline void clear(float (&sums)[HEAD / 8][4]) {
    UNROLL for (int c = 0; c < HEAD / 8; c++) {
        UNROLL for (int k = 0; k < 4; k++) sums[c][k] = 0.0f;
    }
}

// rate · sums to the rows of the warp that there are.
__device__ inline void store_rows(const Rows<T>& to, const Part& p, const float (&sums)[HEAD / 8][4],
                                  const float (&rates)[2]) {
    UNROLL for (int r = 0; r < 2; r++) {
        const int row = p.first + p.g + 8 * r;
        if (row >= to.count) continue;
        UNROLL for (int c = 0; c < HEAD / 8; c++) {
            const unsigned pair = pack(rates[r] * sums[c][2 * r], rates[r] * sums[c][2 * r + 1]);
            store_pair(&to.start[(Index)row * to.stride + 8 * c + p.i], pair);
        }
    }
}

// Over the four lanes that share rows of fragments.
__device__ inline float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ inline float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ inline int least(int a, int b) { return a < b ? a : b; }

// The softmax of a row so far, two rows to a lane; totals are those of the lane's own columns.
struct Softmax {
    float largest[2], totals[2];
};

// Scores become weights, and what was summed before is brought to the same scale.
__device__ inline void go_on(Softmax& so_far, float (&sums)[HEAD / 8][4],
                             float (&scores)[STRIPS][2][4], float rate) {
    UNROLL for (int r = 0; r < 2; r++) {
        float largest = so_far.largest[r];
        UNROLL for (int k = 0; k < STRIPS * 4; k++) {
            largest = fmaxf(largest, scores[k / 4][k / 2 % 2][2 * r + k % 2]);
        }
        largest = quad_max(largest);
        const float kept = power_of_two(rate * (so_far.largest[r] - largest));
        so_far.largest[r] = largest;
        so_far.totals[r] *= kept;
        UNROLL for (int k = 0; k < HEAD / 4; k++) sums[k / 2][2 * r + k % 2] *= kept;
        UNROLL for (int k = 0; k < STRIPS * 4; k++) {
            float& score = scores[k / 4][k / 2 % 2][2 * r + k % 2];
            score = power_of_two(rate * (score - largest));
            so_far.totals[r] += score;
        }
    }
}

// The scores of a tile of keys from `first` on; only where the tile holds keys that not all see are
// they looked at one by one.
__device__ inline void score(float (&scores)[STRIPS][2][4], const Left& query, const Tile& keys,
                             int first, const Part& p, const Tokens& a) {
    UNROLL for (int s = 0; s < STRIPS; s++) times_rows(scores[s], query, keys, WARP_ROWS * s);
    const int end = first + TILE_ROWS;
    if (end <= a.m && !(a.causal && end > p.first + 1)) return;
    UNROLL for (int k = 0; k < STRIPS * 8; k++) {
        const int s = k / 8, half = k / 4 % 2, e = k % 4;
        const int key = first + WARP_ROWS * s + 8 * half + p.i + e % 2;
        const int query = p.first + p.g + e / 2 * 8;
        if (key >= a.m || (a.causal && key > query)) scores[s][half][e] = NOTHING;
    }
}

// The result, and for each row, [sequences, heads, n], the logarithm to base 2 of the sum of its
// exponentials. Grid: x = sequences · heads · ceil(n / BLOCK_ROWS).
KERNEL_OF_TWO(fused_attention, const T* q, const T* k, const T* v, T* out, float* log_sums, Tokens a) {
    alignas(16) SHARED Tile keys[2];
    alignas(16) SHARED Tile values[2];
    const Part p = part(a.n);
    const Rows<const T> all_keys = rows_of(k, a.m, p.head, a);
    const Rows<const T> all_values = rows_of(v, a.m, p.head, a);
    const Left query = load_left(rows_of(q, a.n, p.head, a), p);
    Softmax so_far = {{NOTHING, NOTHING}, {0.0f, 0.0f}};
    float sums[HEAD / 8][4];
    clear(sums);
    const int end = a.causal ? least(a.m, p.block + BLOCK_ROWS) : a.m;
    bring(keys[0], all_keys, values[0], all_values, 0, end);
    int turn = 0;
    for (int first = 0; first < end; first += TILE_ROWS, turn ^= 1) {
        const int next = turn ^ 1, beyond = first + TILE_ROWS;
        bring(keys[next], all_keys, values[next], all_values, beyond, end);
        wait_for_tiles();
        float scores[STRIPS][2][4];
        score(scores, query, keys[turn], first, p, a);
        go_on(so_far, sums, scores, a.rate);
        UNROLL for (int s = 0; s < STRIPS; s++) {
            add_rows(sums, scores[s], values[turn], WARP_ROWS * s);
        }
        __syncthreads();
    }
    float rates[2];
    UNROLL for (int r = 0; r < 2; r++) {
        const int row = p.first + p.g + 8 * r;
        const float total = quad_sum(so_far.totals[r]);
        rates[r] = 1.0f / total;
        if (p.i == 0 && row < a.n) {
            log_sums[(Index)p.head * a.n + row] = a.rate * so_far.largest[r] + log2f(total);
        }
    }
    store_rows(rows_of(out, a.n, p.head, a), p, sums, rates);
}

// Of each of the lane's two rows Σ x · y.
__device__ inline void dots(float (&sums)[2], const Left& x, const Left& y) {
    UNROLL for (int r = 0; r < 2; r++) {
        float sum = 0.0f;
        UNROLL for (int k = 0; k < HEAD / 8; k++) {
            const unsigned one = x.of[k / 2][k % 2 * 2 + r], other = y.of[k / 2][k % 2 * 2 + r];
            sum += first_of(one) * first_of(other) + second_of(one) * second_of(other);
        }
        sums[r] = quad_sum(sum);
    }
}

// The slopes of scores of 16 keys from `first` on, from dout · valueᵀ and the scores.
__device__ inline void slopes_of_queries(float (&slopes)[2][4], const float (&scores)[2][4],
                                         const float (&log_sum)[2], const float (&mean)[2],
                                         int first, const Part& p, const Tokens& a) {
    UNROLL for (int n = 0; n < 8; n++) {
        const int half = n / 4, e = n % 4;
        const int key = first + 8 * half + p.i + e % 2;
        const bool seen = key < a.m && !(a.causal && key > p.first + p.g + e / 2 * 8);
        const float weight = power_of_two(a.rate * scores[half][e] - log_sum[e / 2]);
        slopes[half][e] = seen ? weight * (slopes[half][e] - mean[e / 2]) : 0.0f;
    }
}

// dq, and for each row, [sequences, heads, n], Σ out · dout. Grid as forward.
KERNEL_OF_TWO(fused_attention_queries, const T* q, const T* k, const T* v, const T* out, const T* dout,
       const float* log_sums, T* dq, float* means, Tokens a) {
    alignas(16) SHARED Tile keys[2];
    alignas(16) SHARED Tile values[2];
    const Part p = part(a.n);
    const Rows<const T> all_keys = rows_of(k, a.m, p.head, a);
    const Rows<const T> all_values = rows_of(v, a.m, p.head, a);
    const Left gradient = load_left(rows_of(dout, a.n, p.head, a), p);
    float log_sum[2], mean[2];
    dots(mean, load_left(rows_of(out, a.n, p.head, a), p), gradient);
    UNROLL for (int r = 0; r < 2; r++) {
        const int row = p.first + p.g + 8 * r;
        const Index at = (Index)p.head * a.n + row;
        log_sum[r] = row < a.n ? log_sums[at] : 0.0f;
        if (p.i == 0 && row < a.n) means[at] = mean[r];
    }
    const Left query = load_left(rows_of(q, a.n, p.head, a), p);
    float sums[HEAD / 8][4];
    clear(sums);
    const int end = a.causal ? least(a.m, p.block + BLOCK_ROWS) : a.m;
    bring(keys[0], all_keys, values[0], all_values, 0, end);
    int turn = 0;
    for (int first = 0; first < end; first += TILE_ROWS, turn ^= 1) {
        const int next = turn ^ 1, beyond = first + TILE_ROWS;
        bring(keys[next], all_keys, values[next], all_values, beyond, end);
        wait_for_tiles();
        for (int strip = 0; strip < TILE_ROWS; strip += WARP_ROWS) {
            float scores[2][4], slopes[2][4];
            times_rows(scores, query, keys[turn], strip);
            times_rows(slopes, gradient, values[turn], strip);
            slopes_of_queries(slopes, scores, log_sum, mean, first + strip, p, a);
            add_rows(sums, slopes, keys[turn], strip);
        }
        __syncthreads();
    }
    const float rates[2] = {a.factor, a.factor};
    store_rows(rows_of(dq, a.n, p.head, a), p, sums, rates);
}

// Of the queries of a tile the logarithms of their sums, and their means.
typedef float Kept[2][TILE_ROWS];
__device__ inline void keep(Kept& to, const float* log_sums, const float* means, int first,
                            const Part& p, const Tokens& a) {
    const int row = threadIdx.x % TILE_ROWS, which = threadIdx.x / TILE_ROWS;
    if (which >= 2 || first + row >= a.n) return;
    to[which][row] = (which == 0 ? log_sums : means)[(Index)p.head * a.n + first + row];
}

// Scores of the warp's keys with 16 queries of a tile, from row `strip` on, become weights, and
// value · doutᵀ becomes the slopes of the scores.
__device__ inline void slopes_of_keys(float (&slopes)[2][4], float (&weights)[2][4],
                                      const Kept& kept, int first, int strip, const Part& p,
                                      const Tokens& a) {
    UNROLL for (int n = 0; n < 8; n++) {
        const int half = n / 4, e = n % 4, row = strip + 8 * half + p.i + e % 2;
        const int query = first + row;
        const bool seen = query < a.n && !(a.causal && p.first + p.g + e / 2 * 8 > query);
        const float weight = power_of_two(a.rate * weights[half][e] - kept[0][row]);
        weights[half][e] = seen ? weight : 0.0f;
        slopes[half][e] = seen ? weight * (slopes[half][e] - kept[1][row]) : 0.0f;
    }
}

// dk and dv: here the warp's own rows are keys, and queries pass by, with what the way back to the
// queries left of them. Grid: x = sequences · heads · ceil(m / BLOCK_ROWS).
KERNEL(fused_attention_keys, const T* q, const T* k, const T* v, const T* dout, const float* log_sums,
       const float* means, T* dk, T* dv, Tokens a) {
    alignas(16) SHARED Tile queries[2];
    alignas(16) SHARED Tile gradients[2];
    SHARED Kept kept[2];
    const Part p = part(a.m);
    const Rows<const T> all_queries = rows_of(q, a.n, p.head, a);
    const Rows<const T> all_gradients = rows_of(dout, a.n, p.head, a);
    const Left key = load_left(rows_of(k, a.m, p.head, a), p);
    const Left value = load_left(rows_of(v, a.m, p.head, a), p);
    float dkey[HEAD / 8][4], dvalue[HEAD / 8][4];
    clear(dkey);
    clear(dvalue);
    // No query before the block's first key sees any of its keys.
    const int start = a.causal ? p.block / TILE_ROWS * TILE_ROWS : 0;
    bring(queries[0], all_queries, gradients[0], all_gradients, start, a.n);
    keep(kept[0], log_sums, means, start, p, a);
    int turn = 0;
    for (int first = start; first < a.n; first += TILE_ROWS, turn ^= 1) {
        const int next = turn ^ 1, beyond = first + TILE_ROWS;
        bring(queries[next], all_queries, gradients[next], all_gradients, beyond, a.n);
        keep(kept[next], log_sums, means, beyond, p, a);
        wait_for_tiles();
        for (int strip = 0; strip < TILE_ROWS; strip += WARP_ROWS) {
            float weights[2][4], slopes[2][4];
            times_rows(weights, key, queries[turn], strip);
            times_rows(slopes, value, gradients[turn], strip);
            slopes_of_keys(slopes, weights, kept[turn], first, strip, p, a);
            add_rows(dvalue, weights, gradients[turn], strip);
            add_rows(dkey, slopes, queries[turn], strip);
        }
        __syncthreads();
    }
    const float rates[2] = {a.factor, a.factor}, ones[2] = {1.0f, 1.0f};
    store_rows(rows_of(dk, a.m, p.head, a), p, dkey, rates);
    store_rows(rows_of(dv, a.m, p.head, a), p, dvalue, ones);
}

#endif
