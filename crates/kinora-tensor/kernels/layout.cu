// Moving values: stretches of rows, other orders of the axes, copies, rows of tables, larger pictures.

// `to` [outer, to_row], from its column `to_start` on, takes `len` values of each row of `from`
// [outer, from_row], from the column `from_start` on.
KERNEL(copy_rows, const T* from, T* to, Index outer, Index len, Index from_row, Index from_start,
       Index to_row, Index to_start) {
    for (Index k = first_element(); k < outer * len; k += element_step()) {
        const Index row = k / len, column = k % len;
        to[row * to_row + to_start + column] = from[row * from_row + from_start + column];
    }
}

// Extents of the result and steps in the operand, slowest axis first.
struct Order {
    Index extents[8];
    Index steps[8];
};

KERNEL(permute, const T* x, T* y, Index count, Order order) {
    for (Index k = first_element(); k < count; k += element_step()) {
        Index rest = k, place = 0;
        for (int axis = 7; axis >= 0; axis--) {
            place += rest % order.extents[axis] * order.steps[axis];
            rest /= order.extents[axis];
        }
        y[k] = x[place];
    }
}

// Each entry [run] `times` in a row.
KERNEL(repeat, const T* x, T* y, Index count, Index run, Index times) {
    for (Index k = first_element(); k < count; k += element_step()) {
        y[k] = x[k / (run * times) * run + k % run];
    }
}

// Every pixel of [n, h, w, c] becomes a square of four.
KERNEL(upsample, const T* x, T* y, Index count, Index h, Index w, Index c) {
    for (Index k = first_element(); k < count; k += element_step()) {
        const Index channel = k % c, column = k / c % (2 * w), row = k / (c * 2 * w) % (2 * h);
        const Index picture = k / (c * 2 * w * 2 * h);
        y[k] = x[((picture * h + row / 2) * w + column / 2) * c + channel];
    }
}

KERNEL(upsample_backward, const T* dy, T* dx, Index count, Index h, Index w, Index c) {
    for (Index k = first_element(); k < count; k += element_step()) {
        const Index channel = k % c, column = k / c % w, row = k / (c * w);
        // Rows of all pictures are counted through: the first of the two is 2 · row either way.
        const Index first = (2 * row * 2 * w + 2 * column) * c + channel;
        const Index second = first + 2 * w * c;
        store(&dx[k], (widen(dy[first]) + widen(dy[first + c])) +
                          (widen(dy[second]) + widen(dy[second + c])));
    }
}

// The rows `ids` of `table` [.., c].
KERNEL(embedding, const T* table, const Index* ids, T* y, Index count, Index c) {
    for (Index k = first_element(); k < count; k += element_step()) {
        y[k] = table[ids[k / c] * c + k % c];
    }
}

// For each of `rows` rows asked for, its number in the table and which entries of dy asked:
// places[starts[k] .. starts[k + 1]]. The rest of dtable is zero already.
KERNEL(embedding_backward, const T* dy, const Index* rows, const Index* starts, const Index* places,
       T* dtable, Index row_count, Index c) {
    for (Index k = first_element(); k < row_count * c; k += element_step()) {
        const Index row = k / c, channel = k % c;
        float sum = 0.0f;
        for (Index p = starts[row]; p < starts[row + 1]; p++) {
            sum += widen(dy[places[p] * c + channel]);
        }
        store(&dtable[rows[row] * c + channel], sum);
    }
}

// Pictures [n, h, w, c] with zeros around them, `top` rows above and `left` columns before.
KERNEL(pad, const T* x, T* y, Index count, Index h, Index w, Index c, Index top, Index left,
       Index padded_h, Index padded_w) {
    for (Index k = first_element(); k < count; k += element_step()) {
        const Index channel = k % c, column = k / c % padded_w - left;
        const Index row = k / (c * padded_w) % padded_h - top;
        const Index picture = k / (c * padded_w * padded_h);
        const bool inside = row >= 0 && row < h && column >= 0 && column < w;
        if (inside) {
            y[k] = x[((picture * h + row) * w + column) * c + channel];
        } else {
            store(&y[k], 0.0f);
        }
    }
}

// The picture inside the zeros: the way back of `pad`.
KERNEL(crop, const T* x, T* y, Index count, Index h, Index w, Index c, Index top, Index left,
       Index padded_h, Index padded_w) {
    for (Index k = first_element(); k < count; k += element_step()) {
        const Index channel = k % c, column = k / c % w, row = k / (c * w) % h;
        const Index picture = k / (c * w * h);
        y[k] = x[((picture * padded_h + row + top) * padded_w + column + left) * c + channel];
    }
}
