//! Ctrl-C and polite termination. Work that has a safe point is asked to stop there, and ends at once
//! when asked again; all else ends at once. Either way no half-written file stays behind.

use anyhow::Context as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the user's wish to stop does.
pub struct Interrupt {
    /// Becomes true when the user asks to stop.
    pub stop: Arc<AtomicBool>,
    patient: Arc<AtomicBool>,
}

impl Interrupt {
    /// Ends the process at once when the user asks to stop.
    ///
    /// # Errors
    /// When the handler cannot be installed (it may be installed once).
    pub fn at_once() -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let patient = Arc::new(AtomicBool::new(false));
        let (raised, waits) = (stop.clone(), patient.clone());
        ctrlc::set_handler(move || {
            if raised.swap(true, Ordering::SeqCst) || !waits.load(Ordering::SeqCst) {
                leave();
            }
            // `eprintln` would panic where standard error is closed.
            let words = "kinora: stopping at the next safe point; once more to stop at once";
            let _ = writeln!(std::io::stderr(), "\n{words}");
        })
        .context("installing the Ctrl-C handler")?;
        Ok(Interrupt { stop, patient })
    }

    /// From now on the work looks at `stop` and ends by itself; the second wish ends it at once.
    pub fn wait_for_safe_points(&self) {
        self.patient.store(true, Ordering::SeqCst);
    }
}

/// Ends the process, half-written files removed first.
fn leave() -> ! {
    kinora_media::remove_unfinished();
    std::process::exit(130)
}
