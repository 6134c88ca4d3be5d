//! Compiled kernels on disk: compiling all of them takes seconds, at every start but the first in vain.

use super::nvrtc::{Compiler, options};
use super::sources::Source;
use crate::DType;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The machine code of one source for one storage type, compiled if it is not in the cache. A cache
/// that cannot be read or written costs time and nothing else.
pub(super) fn compiled(
    compiler: &Compiler,
    source: Source,
    dtype: DType,
    sm: u32,
) -> Result<Vec<u8>, String> {
    let text = source.whole(dtype);
    let mut hasher = DefaultHasher::new();
    (&text, options(sm), compiler.version()?).hash(&mut hasher);
    let name = format!(
        "{}-{dtype}-sm_{sm}-{:016x}.cubin",
        source.name(),
        hasher.finish()
    );
    let file = folder().map(|folder| folder.join(name));
    if let Some(code) = file.as_deref().and_then(|file| std::fs::read(file).ok()) {
        return Ok(code);
    }
    let code = compiler
        .compile(&text, &format!("{}.cu", source.name()), sm)
        .map_err(|log| format!("the kernels of `{}` do not compile: {log}", source.name()))?;
    if let Some(file) = file {
        keep(&file, &code);
    }
    Ok(code)
}

fn keep(file: &Path, code: &[u8]) {
    let own = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = file
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&own, code))
        .and_then(|()| std::fs::rename(&own, file));
    if written.is_err() {
        let _ = std::fs::remove_file(&own);
    }
}

/// `kinora/kernels` in the user's cache.
fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")))?;
    Some(cache.join("kinora/kernels"))
}
