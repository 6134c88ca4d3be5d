//! How servers are spoken to: the hub's for weights, others' for captions.

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

/// The beginnings of a client of the server at `url`; who asks for one adds the times to wait. Every
/// status is an answer, and a redirect is not followed: it would carry what is sent to a host that
/// nobody named.
pub fn agent(url: &str) -> ConfigBuilder<AgentScope> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("kinora/", env!("CARGO_PKG_VERSION")));
    if is_loopback(url) {
        // A proxy would look for the server on its own machine.
        config = config.proxy(None);
    }
    #[cfg(feature = "https")]
    if let Some(roots) = own_roots() {
        config = config.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
    }
    config
}

/// The certificates the user trusts, where the machine has its own list: behind a company's proxy
/// the built-in one does not do.
#[cfg(feature = "https")]
fn own_roots() -> Option<ureq::tls::RootCerts> {
    let text = std::fs::read(std::env::var_os("SSL_CERT_FILE")?).ok()?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&text)
        .filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate.to_owned()),
            _ => None,
        })
        .collect();
    (!certificates.is_empty()).then(|| certificates.into())
}

/// What stands before the path of an address whose scheme is off.
pub(crate) fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest)
}

/// The host and port of an address, for messages: what follows may be a signature.
pub(crate) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority(rest);
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

/// Whether the address is this machine's own.
fn is_loopback(url: &str) -> bool {
    let host = host(url);
    let name = host.split(':').next().unwrap_or(host);
    name == "localhost" || name.starts_with("127.") || host.starts_with("[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others() {
        for url in [
            "http://localhost/v1",
            "http://localhost:8000/v1",
            "http://127.0.0.1:1",
            "http://[::1]:8000/v1?x",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "https://huggingface.co",
            "http://localhost.example/v1",
            "http://example/localhost",
            "http://[::2]:8000/v1",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
