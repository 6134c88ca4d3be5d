//! Ctrl-C and polite termination: the first asks the work to stop at a safe point, the second ends
//! the process at once.

use anyhow::Context as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that becomes true when the user asks to stop.
///
/// # Errors
/// When the handler cannot be installed (it may be installed once).
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = stop.clone();
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nkinora: stopping at the next safe point; once more to stop at once");
    })
    .context("installing the Ctrl-C handler")?;
    Ok(stop)
}
