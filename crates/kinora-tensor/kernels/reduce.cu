// Sums along one axis of arrays seen as [outer, rows, columns], into partial [outer, chunks, columns].

KERNEL(sum_rows, const T* x, float* partial, Index rows, Index columns, Index chunk_rows, int lanes) {
    column_sums<1>(
        [&](Index outer, Index row, Index column, float* sums) {
            sums[0] += widen(x[(outer * rows + row) * columns + column]);
        },
        partial, rows, columns, chunk_rows, lanes);
}

// Σ |x − y|^p with p = 1 or 2.
KERNEL(sum_distance, const T* x, const T* y, float* partial, Index rows, Index columns,
       Index chunk_rows, int lanes, int squared) {
    column_sums<1>(
        [&](Index outer, Index row, Index column, float* sums) {
            const Index k = (outer * rows + row) * columns + column;
            const float d = widen(x[k]) - widen(y[k]);
            sums[0] += squared ? d * d : fabsf(d);
        },
        partial, rows, columns, chunk_rows, lanes);
}

// Σ dy · (a − b).
KERNEL(sum_product_of_difference, const T* a, const T* b, const T* dy, float* partial, Index rows,
       Index columns, Index chunk_rows, int lanes) {
    column_sums<1>(
        [&](Index outer, Index row, Index column, float* sums) {
            const Index k = (outer * rows + row) * columns + column;
            sums[0] += widen(dy[k]) * (widen(a[k]) - widen(b[k]));
        },
        partial, rows, columns, chunk_rows, lanes);
}
