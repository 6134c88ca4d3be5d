//! Where a model is: a path on this machine, or an id on the hub.

use crate::progress::Reporter;
use anyhow::bail;
use kinora_model::weights::Variant;
use kinora_model::weights::hub::{Hub, HubId};
use kinora_train::checkpoint::model_inside;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The path of a model, downloaded first where `model` is an id on the hub and nothing on this
/// machine has that name.
///
/// # Errors
/// When the download cannot be done; the text says what to fetch by hand.
pub fn resolve(
    model: &str,
    variant: Option<Variant>,
    reporter: &Reporter,
    stop: &AtomicBool,
) -> anyhow::Result<PathBuf> {
    let path = Path::new(model);
    if path.exists() {
        return Ok(model_inside(path));
    }
    let Ok(id) = model.parse::<HubId>() else {
        bail!(
            "--model {model}: no such file or folder, and no hub id either (owner/name, as in \
             stabilityai/stable-video-diffusion-img2vid-xt)"
        );
    };
    const MIB: u64 = 1 << 20;
    let mut stage = None;
    let mut closed = Ok(());
    let mut told_mib = 0;
    let fetched = Hub::from_env()?.fetch(&id, variant, &mut |progress| {
        let stage = stage.get_or_insert_with(|| {
            reporter.stage("download MiB", (progress.total_bytes / MIB) as usize)
        });
        // A line a mebibyte is enough for anyone.
        if closed.is_ok() && progress.done_bytes / MIB > told_mib {
            told_mib = progress.done_bytes / MIB;
            closed = stage.at(told_mib as usize);
        }
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    closed?;
    if let Some(stage) = stage {
        stage.finish()?;
    }
    Ok(fetched)
}
