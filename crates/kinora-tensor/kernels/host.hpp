// A machine for tests that runs the kernels' own sources without a card: the C++ compiler's view of
// what the card's compiler knows by itself. The threads of a block are fibres of one thread of the
// processor; a barrier that only some of them reach is an error, as is an argument of the wrong size.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ucontext.h>
#include <vector>

#define ON_HOST
#define __device__
#define __global__
#define SHARED static thread_local

struct Place {
    unsigned x, y, z;
};
static thread_local Place threadIdx, blockIdx, gridDim;

static inline float bits_to_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline uint32_t float_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
static inline float widen_half(unsigned short bits) {
    const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, part = bits & 1023u;
    if (exponent == 31) return bits_to_float(sign | 0x7f800000u | part << 13);
    if (exponent == 0) return bits_to_float(sign | float_to_bits(part * 0x1p-24f));
    return bits_to_float(sign | (exponent + 112) << 23 | part << 13);
}
static inline unsigned short narrow_half(float wide) {
    const uint32_t bits = float_to_bits(wide), sign = bits >> 16 & 0x8000u;
    const float size = std::fabs(wide);
    if (std::isnan(wide)) return sign | 0x7e00u;
    if (size >= 65520.0f) return sign | 0x7c00u;
    // Below the smallest normal number the step is 2^-24; nearbyint rounds to even.
    if (size < 0x1p-14f) return sign | (unsigned short)std::nearbyint(size * 0x1p24f);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return sign | (unsigned short)((rounded >> 13) - (112u << 10));
}
static inline float widen_bfloat(unsigned short bits) { return bits_to_float((uint32_t)bits << 16); }
static inline unsigned short narrow_bfloat(float wide) {
    const uint32_t bits = float_to_bits(wide);
    if (std::isnan(wide)) return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

enum State { READY, AT_BARRIER, AT_WARP, DONE };

struct Fibre {
    ucontext_t context;
    std::vector<char> stack;
    State state;
};

static thread_local std::vector<Fibre> fibres;
static thread_local ucontext_t scheduler;
static thread_local unsigned current;
static thread_local void (*body)(void*);
static thread_local void* body_argument;
static thread_local uint32_t exchanged[1024];

// What a thread throws that waits though the first of its block did not.
struct Alone {};
static thread_local bool in_fibre;
// Whether an instruction that takes 16 bytes was given an address that is no multiple of 16.
static thread_local bool misaligned;

static void wait_for(State what) {
    if (!in_fibre) throw Alone();
    fibres[current].state = what;
    swapcontext(&fibres[current].context, &scheduler);
}
static void __syncthreads() { wait_for(AT_BARRIER); }

template <class V>
static V __shfl_xor_sync(unsigned, V value, int distance) {
    static_assert(sizeof(V) == 4, "32-bit values only");
    memcpy(&exchanged[current], &value, 4);
    wait_for(AT_WARP);
    V other;
    memcpy(&other, &exchanged[current ^ distance], 4);
    wait_for(AT_WARP);
    return other;
}

#ifndef STORE_F32
// The instructions of tensor cores and of copies to shared memory, as the PTX manual tells them.
#define UNROLL

static inline float widen_stored(uint32_t bits) {
#ifdef STORE_F16
    return widen_half((unsigned short)bits);
#else
    return widen_bfloat((unsigned short)bits);
#endif
}
static inline unsigned pack(float first, float second) {
#ifdef STORE_F16
    return narrow_half(first) | (unsigned)narrow_half(second) << 16;
#else
    return narrow_bfloat(first) | (unsigned)narrow_bfloat(second) << 16;
#endif
}
static inline unsigned load_pair(const void* from) {
    unsigned pair;
    memcpy(&pair, from, 4);
    return pair;
}
static inline void store_pair(void* to, unsigned pair) { memcpy(to, &pair, 4); }
static inline float power_of_two(float x) { return exp2f(x); }

// What each lane shows its warp. There are two places in turn, so that one wait is enough: who writes a
// place again has waited in between, and so have all that read it.
struct Shown {
    const unsigned short* row;
    unsigned left[4], right[2];
};
static thread_local Shown shown[2][1024];
static thread_local unsigned shown_turn[1024];
static const Shown* show(const Shown& own) {
    const unsigned turn = shown_turn[current] ^= 1;
    shown[turn][current] = own;
    wait_for(AT_WARP);
    return &shown[turn][current / 32 * 32];
}

// mma.sync.m16n8k16: element (row, k) of the left matrix is in lane row % 8 * 4 + k % 8 / 2, in register
// row / 8 + k / 8 * 2; (k, column) of the right one in lane column * 4 + k % 8 / 2, in register k / 8;
// (row, column) of the sums in lane row % 8 * 4 + column / 2, in register row / 8 * 2 + column % 2.
static void mma(float (&sums)[4], const unsigned (&left)[4], unsigned upper, unsigned lower) {
    Shown own = {nullptr, {left[0], left[1], left[2], left[3]}, {upper, lower}};
    const Shown* lanes = show(own);
    const unsigned lane = current % 32;
    for (unsigned e = 0; e < 4; e++) {
        const unsigned row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
        for (unsigned k = 0; k < 16; k++) {
            const unsigned one = lanes[row % 8 * 4 + k % 8 / 2].left[row / 8 + k / 8 * 2];
            const unsigned other = lanes[column * 4 + k % 8 / 2].right[k / 8];
            sums[e] += widen_stored(one >> k % 2 * 16) * widen_stored(other >> k % 2 * 16);
        }
    }
}

// ldmatrix.x4: lanes 8k to 8k + 7 name the rows of matrix k; element (row, column) goes to register k of
// lane row * 4 + column / 2, in half column % 2.
template <class V>
static const Shown* show_rows(const V* row) {
    misaligned |= (uintptr_t)row % 16 != 0;
    return show({(const unsigned short*)row, {}, {}});
}
template <class V>
static void load_matrices(unsigned (&to)[4], const V* row) {
    const Shown* lanes = show_rows(row);
    const unsigned lane = current % 32;
    for (unsigned k = 0; k < 4; k++) to[k] = load_pair(lanes[8 * k + lane / 4].row + lane % 4 * 2);
}
template <class V>
static void load_matrices_turned(unsigned (&to)[4], const V* row) {
    const Shown* lanes = show_rows(row);
    const unsigned lane = current % 32;
    for (unsigned k = 0; k < 4; k++) {
        const Shown* rows = &lanes[8 * k + lane % 4 * 2];
        to[k] = rows[0].row[lane / 4] | (unsigned)rows[1].row[lane / 4] << 16;
    }
}

// cp.async: what is copied is NaN until its thread has waited for it.
struct Copy {
    void* to;
    const void* from;
    unsigned group;
};
static thread_local std::vector<Copy> copies[1024];
static thread_local unsigned copy_groups[1024];
static void copy_async(void* to, const void* from, bool real) {
    misaligned |= ((uintptr_t)to | (uintptr_t)from) % 16 != 0;
    memset(to, 0xff, 16);
    copies[current].push_back({to, real ? from : nullptr, copy_groups[current]});
}
static void commit_copies() { copy_groups[current]++; }
template <int N>
static void wait_copies() {
    std::vector<Copy> waiting;
    for (const Copy& copy : copies[current]) {
        if (copy.group + N >= copy_groups[current]) {
            waiting.push_back(copy);
        } else if (copy.from) {
            memcpy(copy.to, copy.from, 16);
        } else {
            memset(copy.to, 0, 16);
        }
    }
    copies[current].swap(waiting);
}
static void forget_copies(unsigned thread) {
    copies[thread].clear();
    copy_groups[thread] = 0;
}
#else
static void forget_copies(unsigned) {}
#endif

static void fibre_entry() {
    body(body_argument);
    fibres[current].state = DONE;
    swapcontext(&fibres[current].context, &scheduler);
}

static void start_fibres(unsigned threads) {
    const size_t stack_bytes = 64 << 10;
    fibres.resize(threads);
    for (Fibre& fibre : fibres) {
        if (fibre.stack.empty()) fibre.stack.resize(stack_bytes);
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.data();
        fibre.context.uc_stack.ss_size = stack_bytes;
        fibre.context.uc_link = nullptr;
        makecontext(&fibre.context, fibre_entry, 0);
        fibre.state = READY;
    }
    for (unsigned k = 0; k < threads; k++) forget_copies(k);
}

// Lets a group of threads go on if all of them wait for the same thing.
static bool release(unsigned from, unsigned to, State what) {
    for (unsigned k = from; k < to; k++) {
        if (fibres[k].state != what) return false;
    }
    for (unsigned k = from; k < to; k++) fibres[k].state = READY;
    return true;
}

// Runs the threads of a block one after the other: a kernel without barriers needs no more, and this
// is a hundred times faster. True when they all came through.
static bool run_plain(unsigned threads, bool backwards) {
    in_fibre = false;
    try {
        for (unsigned k = 0; k < threads; k++) {
            current = backwards ? threads - 1 - k : k;
            threadIdx = {current, 0, 0};
            body(body_argument);
        }
    } catch (Alone) {
        return false;
    }
    return true;
}

// Runs one block; says false when some threads wait for others that never come. Every second block
// starts from its last thread, so that what holds only in one order is found out.
static bool run_block(unsigned threads, bool backwards) {
    start_fibres(threads);
    in_fibre = true;
    for (;;) {
        unsigned done = 0;
        for (unsigned k = 0; k < threads; k++) {
            current = backwards ? threads - 1 - k : k;
            if (fibres[current].state == READY) {
                threadIdx = {current, 0, 0};
                swapcontext(&scheduler, &fibres[current].context);
            }
            done += fibres[current].state == DONE;
        }
        if (done == threads) return true;
        bool moved = release(0, threads, AT_BARRIER);
        for (unsigned warp = 0; warp < threads; warp += 32) {
            moved |= release(warp, warp + 32 < threads ? warp + 32 : threads, AT_WARP);
        }
        if (!moved) return false;
    }
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*(A*)arguments[I]...);
}

// 0, or the number of the argument whose size is wrong, from 1 on; -1 when their number is wrong, -2
// when a barrier was not reached by all, -3 when 16 bytes do not lie at a multiple of 16.
template <class... A>
static int run(void (*kernel)(A...), const unsigned* grid, unsigned threads, void** arguments,
               const size_t* sizes, size_t count) {
    const size_t expected[] = {sizeof(A)...};
    if (count != sizeof...(A)) return -1;
    for (size_t k = 0; k < count; k++) {
        if (sizes[k] != expected[k]) return (int)k + 1;
    }
    struct Bound {
        void (*kernel)(A...);
        void** arguments;
    } bound = {kernel, arguments};
    body = [](void* pointer) {
        Bound* bound = (Bound*)pointer;
        call(bound->kernel, bound->arguments, std::index_sequence_for<A...>{});
    };
    body_argument = &bound;
    gridDim = {grid[0], grid[1], 1};
    misaligned = false;
    // The first block shows which kind of kernel this is: one that waits does so before it writes.
    blockIdx = {0, 0, 0};
    const bool waits = !run_plain(threads, false);
    for (unsigned y = 0; y < grid[1]; y++) {
        for (unsigned x = 0; x < grid[0]; x++) {
            if (!waits && x + y == 0) continue;
            blockIdx = {x, y, 0};
            const bool backwards = (x + y) % 2;
            if (!(waits ? run_block(threads, backwards) : run_plain(threads, backwards))) {
                body_argument = nullptr;
                return -2;
            }
        }
    }
    body_argument = nullptr;
    return misaligned ? -3 : 0;
}

#define KERNEL(name, ...)                                                                          \
    static void name(__VA_ARGS__);                                                                 \
    extern "C" int launch_##name(const unsigned* grid, unsigned threads, void** arguments,         \
                                 const size_t* sizes, size_t count) {                              \
        return run(name, grid, threads, arguments, sizes, count);                                  \
    }                                                                                              \
    static void name(__VA_ARGS__)
#define KERNEL_OF_TWO KERNEL
