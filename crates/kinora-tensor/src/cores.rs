//! Where work begins.

use crate::grad;

/// Runs `work` on one of the threads that share the loops of the operations, and waits for it.
///
/// An operation that is called from any other thread hands its loop over and sleeps until it is
/// done, some ten microseconds each time; a small network has thousands of operations to a step.
/// Called on such a thread already, it just runs. What is recorded there is what would be here: a thread that
/// waits for its own loop may take up this work meanwhile, in the middle of something that records nothing.
pub fn on_the_cores<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let recording = grad::is_recording();
    rayon::scope(|_| grad::handed_over(recording, work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{is_recording, no_grad};
    use std::sync::atomic::{AtomicBool, Ordering};

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

    #[test]
    fn work_records_what_its_own_caller_records() {
        assert!(!no_grad(|| on_the_cores(is_recording)));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // A thread that waits in the middle of a backward pass takes up whatever comes.
            scope.spawn(|| {
                on_the_cores(|| {
                    no_grad(|| {
                        while !done.load(Ordering::Relaxed) {
                            rayon::yield_now();
                        }
                        assert!(!is_recording());
                    });
                });
            });
            let recorded = (0..2000).all(|_| on_the_cores(is_recording));
            done.store(true, Ordering::Relaxed);
            assert!(recorded, "the step of another thread was not recorded");
        });
    }
}
