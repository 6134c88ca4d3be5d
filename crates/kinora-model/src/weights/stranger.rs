//! Files that stand where weights should and are something else, each with what to do about it.

use crate::{Error, Result};
use std::path::Path;

/// Refuses a file that is known to be something else than safetensors.
///
/// # Errors
/// When it is, saying what it is.
pub(super) fn refuse_strangers(path: &Path, file: &[u8]) -> Result<()> {
    // Every safetensors header is a JSON object; the writer of the format leaves no space before it.
    if file.get(8) == Some(&b'{') {
        return Ok(());
    }
    let message = if file.is_empty() {
        "the file is empty; download it again"
    } else if file.starts_with(b"version https://git-lfs") {
        "this is a Git LFS pointer, a few lines that stand for the weights, not the weights \
         themselves; run `git lfs pull` in that repository, or download the file itself"
    } else if is_pickle(file) || has_pickle_name(path) {
        PICKLE
    } else if is_page(file) {
        "this is a web page, not weights; the download was answered by a page (a login, a licence or \
         an error): open the address in a browser, then download again"
    } else if file.starts_with(b"GGUF") {
        "this is a GGUF file; Kinora reads safetensors: download the model in that format"
    } else {
        return Ok(());
    };
    Err(Error::file(path, message))
}

/// What to say of a pickle wherever one is met.
pub(super) const PICKLE: &str = "this is a PyTorch pickle, which can run programs when it is read; \
     Kinora reads only safetensors. Convert it on a machine you trust it on: \
     python3 -c \"import sys, torch; from safetensors.torch import save_file; \
     d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); d = d.get('state_dict', d); \
     save_file({k: v.contiguous() for k, v in d.items()}, sys.argv[2])\" IN OUT.safetensors";

/// Whether the name is one that PyTorch gives pickles.
pub(super) fn has_pickle_name(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("bin" | "ckpt" | "pt" | "pth" | "pkl"))
}

/// A zip archive of pickles, or one by itself: the instruction PROTO, then the protocol's number.
fn is_pickle(file: &[u8]) -> bool {
    file.starts_with(b"PK\x03\x04") || (file[0] == 0x80 && matches!(file.get(1), Some(2..=5)))
}

fn is_page(file: &[u8]) -> bool {
    let start = &file[..file.len().min(64)];
    let start = start.trim_ascii_start().to_ascii_lowercase();
    start.starts_with(b"<!doctype") || start.starts_with(b"<html")
}
