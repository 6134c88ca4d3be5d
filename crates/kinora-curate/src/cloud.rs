//! Videos in an object store: listed by their prefix, and copied here one at a time while they are
//! worked on. Keys and regions come from the environment, as the stores' own tools take them.

use crate::{Error, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _};
use std::io::Write as _;
use url::Url;

/// The addresses of an object, or of all objects below a prefix, hidden ones excepted.
///
/// # Errors
/// When the address is none, or the store cannot be reached or refuses.
pub fn list(address: &str) -> Result<Vec<String>> {
    let (url, store, prefix) = open(address)?;
    let root = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    let found = wait(async {
        if let Ok(one) = store.head(&prefix).await {
            return Ok(vec![one]);
        }
        store.list(Some(&prefix)).try_collect::<Vec<_>>().await
    })
    .map_err(refused(address))?;
    let names = found.into_iter().map(|object| object.location);
    let shown = names.filter(|key| !key.parts().any(|part| part.as_ref().starts_with('.')));
    Ok(shown.map(|key| format!("{root}/{key}")).collect())
}

/// A copy of an object in a temporary file, with the ending of its name.
///
/// # Errors
/// When the store cannot be reached or refuses, or the copy cannot be written.
pub fn fetch(address: &str) -> Result<tempfile::TempPath> {
    let (_, store, key) = open(address)?;
    let ending = key.extension().map(|ending| format!(".{ending}"));
    let file = tempfile::Builder::new()
        .prefix("kinora-")
        .suffix(&ending.unwrap_or_default())
        .tempfile();
    let mut file = file.map_err(Error::file(&std::env::temp_dir()))?;
    wait(async {
        let mut blocks = store
            .get(&key)
            .await
            .map_err(refused(address))?
            .into_stream();
        while let Some(block) = blocks.next().await {
            let block = block.map_err(refused(address))?;
            file.write_all(&block).map_err(Error::file(file.path()))?;
        }
        Ok(())
    })
    .map(|()| file.into_temp_path())
}

fn open(address: &str) -> Result<(Url, Box<dyn ObjectStore>, Key)> {
    // It may be installed once, and a second attempt changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = Url::parse(address).map_err(|failure| {
        Error::Setting(format!(
            "{address}: expected an address such as s3://bucket/films, found {failure}"
        ))
    })?;
    let (store, key) =
        object_store::parse_url_opts(&url, std::env::vars()).map_err(refused(address))?;
    Ok((url, store, key))
}

fn refused(address: &str) -> impl FnOnce(object_store::Error) -> Error {
    let address = address.to_owned();
    move |failure| Error::Setting(format!("{address}: {failure}"))
}

/// Waits for an answer on this thread.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime on one thread needs nothing from outside")
        .block_on(answer)
}
