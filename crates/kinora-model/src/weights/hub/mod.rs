//! Models by their name on the Hugging Face hub: found in the cache that all of the hub's programs
//! share, or downloaded into it.
//!
//! The crate `hf-hub` is not used. Its small client (0.5) sends the user's token to whatever host a
//! download is redirected to and does not check what arrived; its new one (1.0) brings an
//! asynchronous runtime and some two hundred crates. What is needed here is a few requests.

mod cache;
mod client;
mod download;
mod plan;

use super::part::Variant;
use crate::{Error, Result};
use cache::Cache;
use client::Client;
use plan::{Plan, Wanted};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

/// The name of a model on the hub: `owner/name`, and a revision of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// `owner/name`
    pub repo: String,
    /// A branch, a tag or a commit; `main` where none is given.
    pub revision: String,
}

impl std::str::FromStr for HubId {
    type Err = Error;

    /// Reads `owner/name` or `owner/name@revision`.
    fn from_str(text: &str) -> Result<Self> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let good = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && !part.contains("..")
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        match repo.split_once('/') {
            Some((owner, name)) if good(owner) && good(name) && good(revision) => Ok(HubId {
                repo: repo.to_owned(),
                revision: revision.to_owned(),
            }),
            _ => Err(Error::Hub {
                id: text.to_owned(),
                message:
                    "expected owner/name, as in stabilityai/stable-video-diffusion-img2vid-xt, \
                          with @revision after it if wanted"
                        .to_owned(),
            }),
        }
    }
}

impl std::fmt::Display for HubId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.revision.as_str() {
            "main" => f.write_str(&self.repo),
            revision => write!(f, "{}@{revision}", self.repo),
        }
    }
}

/// How far a download is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The file that is being downloaded.
    pub file: &'a str,
    /// Bytes of the model that are here, those of earlier runs among them.
    pub done_bytes: u64,
    /// Bytes of the model altogether.
    pub total_bytes: u64,
}

/// What is told about a download, and may stop it. What has arrived is kept, and the next call goes
/// on from there.
pub type Report<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// A secret that opens gated models. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The secret, without the blanks that copying leaves around it; nothing where it is empty.
    pub fn new(secret: &str) -> Option<Token> {
        let secret = secret.trim();
        // Anything else could not be sent in a header.
        let sendable = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        sendable.then(|| Token(secret.to_owned()))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(not shown)")
    }
}

/// The hub, and where its files are kept on this machine.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Where the hub is: `https://huggingface.co`, or a mirror of it.
    pub endpoint: String,
    /// The folder of downloaded models, laid out as all of the hub's programs lay it out.
    pub cache: PathBuf,
    /// The user's token, where there is one.
    pub token: Option<Token>,
    /// Whether to use only what is in the cache.
    pub offline: bool,
    /// How long to wait before a broken download is taken up again; it doubles each time nothing
    /// arrives.
    pub retry_wait: Duration,
}

impl Hub {
    /// The hub as the user's other programs see it: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`,
    /// `HF_TOKEN` or the file of the token that logging in wrote, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// When no folder can be found for the cache.
    pub fn from_env() -> Result<Hub> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = cache::home(&variable).ok_or_else(|| {
            Error::argument(
                "hub",
                "no folder for downloaded models: neither HF_HOME nor HOME is set; set HF_HOME",
            )
        })?;
        let endpoint = variable("HF_ENDPOINT");
        Ok(Hub {
            endpoint: endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned()),
            cache: cache::folder(&variable, &home),
            token: cache::token(&variable, &home),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0"),
            retry_wait: Duration::from_secs(1),
        })
    }

    /// A folder that holds the model `id`, downloading what is not in the cache. Where the hub has a
    /// single file instead of a folder, that file.
    ///
    /// # Errors
    /// When the hub cannot be reached and the cache does not hold the model (the text lists what to
    /// fetch by hand and where to put it), when it does not let the user in, has no such model, or
    /// what arrives is not what was announced.
    pub fn fetch(
        &self,
        id: &HubId,
        variant: Option<Variant>,
        report: &mut Report,
    ) -> Result<PathBuf> {
        self.fetch_wanted(id, Wanted::Pipeline(variant), report)
    }

    /// A folder that holds one network that judges or captions, CLIP or CoCa, as transformers or
    /// open_clip publish them. Where the hub has a single file instead, that file.
    ///
    /// # Errors
    /// As [`Hub::fetch`].
    pub fn fetch_judge(&self, id: &HubId, report: &mut Report) -> Result<PathBuf> {
        self.fetch_wanted(id, Wanted::Judge, report)
    }

    fn fetch_wanted(&self, id: &HubId, wanted: Wanted, report: &mut Report) -> Result<PathBuf> {
        let cache = Cache::new(&self.cache, &id.repo);
        if self.offline {
            return self.cached(&cache, id, wanted, "HF_HUB_OFFLINE is set");
        }
        let client = Client::new(self, id);
        let listing = match client.listing() {
            Ok(listing) => listing,
            Err(client::Refusal::Unreachable(reason)) => {
                return self.cached(&cache, id, wanted, &reason);
            }
            Err(client::Refusal::Told(error)) => return Err(error),
        };
        let plan = Plan::of(&listing.names(), wanted);
        let plan = plan.map_err(|message| hub_error(id, message))?;
        let mut download = download::Download {
            client: &client,
            cache: &cache,
            listing: &listing,
            retry_wait: self.retry_wait,
            report,
            done_bytes: 0,
            total_bytes: 0,
        };
        // An index names the shards, so it comes first.
        download.all(&plan.indexes)?;
        let snapshot = cache.snapshot(&listing.commit);
        download.all(&plan.files_and_shards(&snapshot)?)?;
        cache.set_commit(&id.revision, &listing.commit)?;
        Ok(plan.path(snapshot))
    }

    /// The model as an earlier download left it, if that came to an end.
    fn cached(&self, cache: &Cache, id: &HubId, wanted: Wanted, reason: &str) -> Result<PathBuf> {
        let absent = || self.fetch_by_hand(id, wanted, reason);
        let snapshot = cache.snapshot(&cache.commit(&id.revision).ok_or_else(absent)?);
        let names = cache::files_in(&snapshot);
        let plan = Plan::of(&names, wanted).map_err(|_| absent())?;
        let files = plan.files_and_shards(&snapshot)?;
        if !files.iter().all(|file| snapshot.join(file).exists()) {
            return Err(absent());
        }
        Ok(plan.path(snapshot))
    }

    /// What to do where there is no network.
    fn fetch_by_hand(&self, id: &HubId, wanted: Wanted, reason: &str) -> Error {
        let folder = id.repo.rsplit('/').next().unwrap_or(&id.repo);
        let resolve = format!("{}/{}/resolve/{}", self.endpoint, id.repo, id.revision);
        let files: Vec<String> = plan::published(wanted)
            .map(|file| format!("  {resolve}/{file}\n    -> {folder}/{file}"))
            .collect();
        hub_error(
            id,
            format!(
                "the hub could not be asked ({reason}), and the model is not in {}. Where there is a \
                 network, accept the licence at {}/{} and download these files, keeping the folders:\
                 \n{}\nThen give that folder{}{folder}",
                self.cache.display(),
                self.endpoint,
                id.repo,
                files.join("\n"),
                match wanted {
                    Wanted::Pipeline(_) => ": --model ",
                    Wanted::Judge => " instead of the id: ",
                },
            ),
        )
    }
}

fn hub_error(id: &HubId, message: impl Into<String>) -> Error {
    Error::Hub {
        id: id.to_string(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_hub_are_told_from_paths() {
        let id: HubId = "stabilityai/stable-video-diffusion-img2vid-xt"
            .parse()
            .unwrap();
        assert_eq!(id.revision, "main");
        assert_eq!(
            id.to_string(),
            "stabilityai/stable-video-diffusion-img2vid-xt"
        );
        let id: HubId = "a/b@refs-1".parse().unwrap();
        assert_eq!((id.repo.as_str(), id.revision.as_str()), ("a/b", "refs-1"));
        for text in [
            "svd",
            "/models/svd",
            "a/b/c",
            "../b",
            "a/..",
            "a/b@",
            "./a",
            "a/b@../c",
            "",
        ] {
            assert!(text.parse::<HubId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_not_shown_and_blanks_around_it_are_dropped() {
        let token = Token::new(" hf_secret\n").unwrap();
        assert_eq!(token, Token("hf_secret".to_owned()));
        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(Token::new(" \n"), None);
        assert_eq!(Token::new("two\r\nlines"), None);
    }
}
