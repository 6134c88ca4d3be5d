//! Where work begins.

/// Runs `work` on one of the threads that share the loops of the operations, and waits for it.
///
/// An operation that is called from any other thread hands its loop over and sleeps until it is
/// done, some ten microseconds each time; a small network has thousands of operations to a step.
/// Called on such a thread already, it just runs.
pub fn on_the_cores<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_runs_where_the_loops_run() {
        assert!(rayon::current_thread_index().is_none());
        let (outer, inner) = on_the_cores(|| {
            let outer = rayon::current_thread_index();
            (outer, on_the_cores(rayon::current_thread_index))
        });
        assert!(outer.is_some());
        assert_eq!(outer, inner);
    }
}
