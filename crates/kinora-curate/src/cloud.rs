//! Videos in an object store: listed by their prefix, and copied here one at a time while they are
//! worked on.
//!
//! Requests are made again with growing waits. A download that breaks off goes on where it was, as long
//! as the object is still the same one, and is a file only when all its bytes are here.

mod copy;
mod refusal;

pub use copy::Copied;

use crate::cache::key;
use crate::sources::Stores;
use crate::{Error, Result};
use futures_util::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use refusal::refused;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use url::Url;

/// The addresses of an object, or of all objects below a prefix, hidden ones excepted, as far as
/// [`fetch_as`] understands them: what a URL would take for something else is written as `%3F`.
///
/// # Errors
/// When the address is none, or the store cannot be reached or refuses.
pub fn list_as(stores: &Stores, address: &str) -> Result<Vec<String>> {
    let object = Object::open(stores, address)?;
    let found = wait(async {
        let single = match object.key.as_ref().is_empty() {
            true => None,
            false => match object.store.head(&object.key).await {
                Ok(one) => Some(one),
                // A folder; and who may not look at it may still be allowed to list it.
                Err(object_store::Error::NotFound { .. }) => None,
                Err(object_store::Error::PermissionDenied { .. }) => None,
                Err(failure) => return Err(failure),
            },
        };
        match single {
            Some(one) => Ok(vec![one]),
            None => object.store.list(Some(&object.key)).try_collect().await,
        }
    });
    let found: Vec<ObjectMeta> = found.map_err(refused(address, stores))?;
    let names = found.into_iter().map(|found| found.location);
    let shown = names.filter(|key| !key.parts().any(|part| part.as_ref().starts_with('.')));
    Ok(shown
        .map(|key| format!("{}/{}", object.root, plain(key.as_ref())))
        .collect())
}

/// What tells the object at an address from every other state of it, as a key of a cache; none where
/// the store does not say.
///
/// # Errors
/// When the address is none, or the store cannot be reached or refuses.
pub fn identity_as(stores: &Stores, address: &str) -> Result<Option<String>> {
    let object = Object::open(stores, address)?;
    let about = wait(object.store.head(&object.key)).map_err(refused(address, stores))?;
    Ok(state_of(address, &about))
}

fn state_of(address: &str, about: &ObjectMeta) -> Option<String> {
    let size = about.size.to_string();
    let changed = about.last_modified.timestamp_micros().to_string();
    let tag = about.e_tag.as_ref();
    tag.map(|tag| key(&[address, &size, &changed, tag]))
}

/// A copy of an object in `folder`, with the ending of its name, removed when dropped.
///
/// # Errors
/// When the store cannot be reached or refuses, the object changes meanwhile, the copy cannot be
/// written, or `stop` is raised.
pub fn fetch_as(
    stores: &Stores,
    address: &str,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Copied> {
    let object = Object::open(stores, address)?;
    wait(copy::copied(&object, stores, address, folder, stop))
}

/// An object, or a prefix, of a store.
struct Object {
    /// Scheme and bucket.
    root: String,
    store: Box<dyn ObjectStore>,
    key: Key,
}

impl Object {
    fn open(stores: &Stores, address: &str) -> Result<Object> {
        // It may be installed once, and a second attempt changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = Url::parse(address).map_err(|failure| {
            Error::Setting(format!(
                "{address}: expected an address such as s3://bucket/films, found {failure}"
            ))
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            // What stands there would go into tables and messages: it is not said again.
            return Err(Error::Setting(format!(
                "an address of {}://: expected no name or key before the bucket, found one; keys come from the environment",
                url.scheme()
            )));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Error::Setting(format!(
                "{}: expected an address without ? and #, found one with more; write %3F and %23 where they are in the object's name",
                address.split(['?', '#']).next().unwrap_or_default()
            )));
        }
        let key = Key::from_url_path(url.path()).map_err(|failure| {
            Error::Setting(format!(
                "{address}: expected the name of an object, found {failure}"
            ))
        })?;
        Ok(Object {
            root: format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()),
            store: store_of(&url, stores).map_err(refused(address, stores))?,
            key,
        })
    }
}

fn store_of(
    url: &Url,
    stores: &Stores,
) -> std::result::Result<Box<dyn ObjectStore>, object_store::Error> {
    let (retry, client) = (retry_of(stores), client_of(stores));
    let variables = || {
        let all = stores.variables.iter();
        all.map(|(name, value)| (name.to_ascii_lowercase(), value))
    };
    // The address is put in last, so that no variable decides what it names.
    if url.scheme() == "gs" {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_retry(retry)
            // Keys of a machine in that cloud come from a place of its own, without encryption.
            .with_client_options(client.with_allow_http(true));
        for (name, value) in variables() {
            if let Ok(known) = name.parse() {
                builder = builder.with_config(known, value);
            }
        }
        return Ok(Box::new(builder.with_url(url.as_str()).build()?));
    }
    let mut builder = AmazonS3Builder::new()
        .with_retry(retry)
        .with_client_options(client);
    for (name, value) in variables() {
        if let Ok(known) = name.parse() {
            builder = builder.with_config(known, value);
        }
    }
    Ok(Box::new(builder.with_url(url.as_str()).build()?))
}

fn retry_of(stores: &Stores) -> RetryConfig {
    let patience = stores.patience;
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: patience.first_wait,
            max_backoff: patience.longest_wait,
            base: 2.0,
        },
        max_retries: patience.retries,
        // Keys are valid for so long; a download that goes on asks anew.
        retry_timeout: Duration::from_secs(3 * 60),
    }
}

/// A film may take hours as long as something comes.
fn client_of(stores: &Stores) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(stores.patience.silence)
}

/// A key as a part of an address: what a URL would take away or read as something else is encoded.
fn plain(key: &str) -> String {
    let mut plain = String::with_capacity(key.len());
    for letter in key.chars() {
        match letter {
            '%' | '?' | '#' | '\\' | ' ' => plain += &format!("%{:02X}", u32::from(letter)),
            _ => plain.push(letter),
        }
    }
    plain
}

/// Waits for an answer on this thread.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime on one thread needs nothing from outside")
        .block_on(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_address() {
        for key in ["films/a.mp4", "a b?c#d%20e\\f.mp4", "ünï/ヾ.mp4"] {
            let url = Url::parse(&format!("s3://bucket/{}", plain(key))).unwrap();
            let back = Key::from_url_path(url.path()).unwrap();
            assert_eq!(back, Key::parse(key).unwrap(), "{key}");
            assert_eq!((url.query(), url.fragment()), (None, None));
        }
    }

    #[test]
    fn an_address_with_a_key_is_refused_and_not_said_again() {
        for address in ["s3://AKIA4711:topsecret@films/a", "gs://topsecret@films/a"] {
            let refusal = list_as(&Stores::default(), address).unwrap_err();
            let text = refusal.to_string();
            assert!(text.contains("environment"), "{text}");
            assert!(!text.contains("topsecret") && !text.contains("4711"));
        }
        let signed = "s3://films/a?X-Amz-Signature=topsecret";
        let text = list_as(&Stores::default(), signed).unwrap_err().to_string();
        assert!(text.contains("s3://films/a") && !text.contains("topsecret"));
    }
}
