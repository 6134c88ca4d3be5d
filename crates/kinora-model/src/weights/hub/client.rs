//! Requests to the hub. A redirect is followed by hand, because the token may go to the hub alone
//! and not to the host that a download is sent on to.

use super::cache::is_plain;
use super::{Hub, HubId, hub_error};
use crate::Error;
use crate::http::{self, authority, host};
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nobody answered, or only to say that they are busy: later it may be different.
    Unreachable(String),
    /// The answer was no.
    Told(Error),
}

/// The files of a model at one commit.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Listing {
    #[serde(rename = "sha")]
    pub(super) commit: String,
    #[serde(rename = "siblings")]
    files: Vec<Listed>,
}

#[derive(Debug, serde::Deserialize)]
struct Listed {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
}

impl Listing {
    pub(super) fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }

    /// The bytes of a file, 0 where the hub does not say.
    pub(super) fn size(&self, name: &str) -> u64 {
        let file = self.files.iter().find(|file| file.name == name);
        file.and_then(|file| file.size).unwrap_or(0)
    }
}

/// What the hub says of one file before it is downloaded.
#[derive(Debug)]
pub(super) struct Announced {
    /// Its name by content; the SHA-256 of a large file.
    pub(super) etag: String,
    pub(super) size_bytes: u64,
}

/// The hub, asked about one model.
#[derive(Debug)]
pub(super) struct Client<'a> {
    agent: Agent,
    hub: &'a Hub,
    id: &'a HubId,
}

/// More than any real chain, fewer than a loop.
const REDIRECTS: usize = 10;

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, id: &'a HubId) -> Self {
        // A connection over which nothing comes is given up; how long a file takes is not limited.
        let config = http::agent(&hub.endpoint)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)));
        Client {
            agent: config.build().new_agent(),
            hub,
            id,
        }
    }

    pub(super) fn id(&self) -> &HubId {
        self.id
    }

    /// The commit of the wanted revision and the files of the model there.
    pub(super) fn listing(&self) -> Result<Listing, Refusal> {
        let (endpoint, id) = (self.endpoint(), self.id);
        let url = format!(
            "{endpoint}/api/models/{}/revision/{}?blobs=true",
            id.repo, id.revision
        );
        let mut response = self.follow(Method::Get, url, None)?;
        self.check(&response, "")?;
        let unreadable = |error: String| {
            self.told(format!(
                "{endpoint} does not answer as a hub does: {error}; check HF_ENDPOINT"
            ))
        };
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|error| Refusal::Unreachable(error.to_string()))?;
        let listing: Listing =
            serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if !is_plain(&listing.commit) {
            return Err(unreadable("the commit is no file's name".to_owned()));
        }
        Ok(listing)
    }

    /// What the hub says of `file` at `commit`.
    pub(super) fn announced(&self, commit: &str, file: &str) -> Result<Announced, Refusal> {
        let response = self.follow(Method::Head, self.address(commit, file), None)?;
        if !response.status().is_redirection() {
            self.check(&response, file)?;
        }
        let header = |names: [&str; 2]| {
            let value = names
                .iter()
                .find_map(|name| response.headers().get(*name))?;
            Some(
                value
                    .to_str()
                    .ok()?
                    .trim_start_matches("W/")
                    .trim_matches('"')
                    .to_owned(),
            )
        };
        let etag = header(["x-linked-etag", "etag"]).filter(|etag| is_plain(etag));
        let size = header(["x-linked-size", "content-length"]).and_then(|size| size.parse().ok());
        match (etag, size) {
            (Some(etag), Some(size_bytes)) => Ok(Announced { etag, size_bytes }),
            _ => Err(self.told(format!(
                "{} does not say the size and the name by content of {file}, as a hub does; check \
                 HF_ENDPOINT",
                self.endpoint()
            ))),
        }
    }

    /// The bytes of `file` from the one at `start` on.
    pub(super) fn bytes(
        &self,
        commit: &str,
        file: &str,
        start: u64,
    ) -> Result<Response<Body>, Refusal> {
        let response = self.follow(Method::Get, self.address(commit, file), Some(start))?;
        if response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            self.check(&response, file)?;
        }
        Ok(response)
    }

    fn endpoint(&self) -> &str {
        self.hub.endpoint.trim_end_matches('/')
    }

    fn address(&self, commit: &str, file: &str) -> String {
        format!(
            "{}/{}/resolve/{commit}/{file}",
            self.endpoint(),
            self.id.repo
        )
    }

    /// Asks, and asks again where a redirect points. A HEAD stops where the hub has said of a file
    /// what the host of its bytes would not know.
    fn follow(
        &self,
        method: Method,
        mut url: String,
        start: Option<u64>,
    ) -> Result<Response<Body>, Refusal> {
        for _ in 0..REDIRECTS {
            let response = self.ask(method, &url, start)?;
            let known = method == Method::Head && response.headers().contains_key("x-linked-etag");
            if !response.status().is_redirection() || known {
                return Ok(response);
            }
            let location = response.headers().get("location");
            let next = location.and_then(|location| join(&url, location.to_str().ok()?));
            url = match next {
                Some(next) if url.starts_with("https:") && !next.starts_with("https:") => {
                    let host = host(&next);
                    return Err(self.told(format!(
                        "the download is sent on to {host} without encryption, which is refused"
                    )));
                }
                Some(next) => next,
                None => return Err(self.told("the hub redirects to nowhere; try again later")),
            };
        }
        Err(self.told(format!(
            "more than {REDIRECTS} redirects; check HF_ENDPOINT"
        )))
    }

    fn ask(
        &self,
        method: Method,
        url: &str,
        start: Option<u64>,
    ) -> Result<Response<Body>, Refusal> {
        if !cfg!(feature = "https") && url.starts_with("https:") {
            return Err(self.told(
                "this program was built without encryption (the feature `https`); build it with, or \
                 give a folder as --model",
            ));
        }
        let mut request = match method {
            Method::Get => self.agent.get(url),
            Method::Head => self.agent.head(url),
        };
        // A compressed answer would have another size than the file.
        request = request.header("accept-encoding", "identity");
        if let Some(start) = start {
            request = request.header("range", format!("bytes={start}-"));
        }
        if let Some(token) = &self.hub.token
            && origin(url) == origin(self.endpoint())
        {
            request = request.header("authorization", format!("Bearer {}", token.0));
        }
        request
            .call()
            .map_err(|error| Refusal::Unreachable(format!("{}: {error}", host(url))))
    }

    /// What the status of an answer means to the user.
    fn check(&self, response: &Response<Body>, file: &str) -> Result<(), Refusal> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Refusal::Unreachable(format!("the hub answers {status}")));
        }
        let code = response
            .headers()
            .get("x-error-code")
            .and_then(|code| code.to_str().ok());
        let page = format!("{}/{}", self.endpoint(), self.id.repo);
        let has_token = self.hub.token.is_some();
        Err(self.told(match (status.as_u16(), code) {
            (401 | 403, _) if !has_token => format!(
                "the hub asks who you are: the model is gated, private, or not there. Open {page}, \
                 accept its licence, make a token at {}/settings/tokens and set HF_TOKEN to it",
                self.endpoint()
            ),
            (401 | 403, _) => format!(
                "the hub does not let your token in ({status}): open {page} with the same account and \
                 accept the licence, and see that the token (HF_TOKEN) is still valid and may read \
                 gated models"
            ),
            (404, Some("EntryNotFound")) => format!("the model has no file {file}"),
            (404, Some("RevisionNotFound")) => {
                format!("the model has no revision `{}`", self.id.revision)
            }
            (404, _) => format!(
                "the hub has no such model{}; look for it at {}",
                if file.is_empty() { String::new() } else { format!(" or file ({file})") },
                self.endpoint()
            ),
            _ => format!("the hub answers {status}; try again later"),
        }))
    }

    fn told(&self, message: impl Into<String>) -> Refusal {
        Refusal::Told(hub_error(self.id, message))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Head,
}

/// Scheme, host and port: who is meant by an address.
fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    format!("{scheme}://{}", authority(rest)).to_ascii_lowercase()
}

/// Where `location` leads from `url`.
fn join(url: &str, location: &str) -> Option<String> {
    if location.starts_with("https://") || location.starts_with("http://") {
        return Some(location.to_owned());
    }
    let (scheme, rest) = url.split_once("://")?;
    if let Some(elsewhere) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{elsewhere}"));
    }
    location
        .starts_with('/')
        .then(|| format!("{scheme}://{}{location}", authority(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_meant_by_an_address() {
        let hub = origin("https://huggingface.co");
        assert_eq!(origin("https://HuggingFace.co/a/b?c"), hub);
        for url in [
            "http://huggingface.co/a",
            "https://huggingface.co:8443/a",
            "https://huggingface.co.example/a",
            "https://huggingface.co@example/a",
            "https://cdn.huggingface.co/a",
            "https://example/https://huggingface.co",
        ] {
            assert_ne!(origin(url), hub, "{url}");
        }
        assert_eq!(
            host("https://user:secret@example:1/a?signature=b"),
            "example:1"
        );
    }

    #[test]
    fn where_a_redirect_leads() {
        let from = "https://hub:1/a/resolve/b?c";
        let lead = |location| join(from, location);
        assert_eq!(lead("/x?y").as_deref(), Some("https://hub:1/x?y"));
        assert_eq!(lead("//cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(lead("http://cdn/x").as_deref(), Some("http://cdn/x"));
        assert_eq!(lead("file:///etc/passwd"), None);
        assert_eq!(lead(""), None);
    }
}
