//! A hub with one model, and the other host that large files come from, as the real one has it.

use crate::server::{Reply, Request, Server};
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, Mutex};

pub const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// Every file of the model.
pub type Files = Vec<(String, Vec<u8>)>;

/// Changes an answer before it is sent; counts what it likes by itself.
pub type Twist = Box<dyn FnMut(&Request, Reply) -> Reply + Send>;

/// The two hosts.
pub struct Site {
    pub hub: Server,
    pub host_of_large_files: Server,
}

/// The model as it is published, with contents that are no weights but differ.
pub fn published() -> Files {
    let small = [
        "model_index.json",
        "feature_extractor/preprocessor_config.json",
        "scheduler/scheduler_config.json",
        "image_encoder/config.json",
        "unet/config.json",
        "vae/config.json",
        "README.md",
    ];
    let large = [
        ("image_encoder/model.safetensors", 50_000),
        ("image_encoder/model.fp16.safetensors", 25_000),
        ("unet/diffusion_pytorch_model.safetensors", 900_000),
        ("unet/diffusion_pytorch_model.fp16.safetensors", 450_000),
        ("vae/diffusion_pytorch_model.safetensors", 70_000),
        ("vae/diffusion_pytorch_model.fp16.safetensors", 35_000),
        ("svd_xt.safetensors", 1_000_000),
    ];
    let text = |name: &&str| {
        (
            (*name).to_owned(),
            format!("{{\"I am\": \"{name}\"}}").into_bytes(),
        )
    };
    let bytes = |(name, length): &(&str, usize)| {
        let seed = name.len();
        (
            (*name).to_owned(),
            (0..*length)
                .map(|i| ((i * 31 + seed) % 251) as u8)
                .collect(),
        )
    };
    small
        .iter()
        .map(text)
        .chain(large.iter().map(bytes))
        .collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Site {
    pub fn new(files: Files) -> Site {
        Self::twisted(
            files,
            Box::new(|_, reply| reply),
            Box::new(|_, reply| reply),
        )
    }

    /// A site whose hub or whose host of large files does something else than it should.
    pub fn twisted(files: Files, mut hub: Twist, large: Twist) -> Site {
        let files = Arc::new(files);
        let large = Mutex::new(large);
        let (served, listed) = (files.clone(), files);
        let host_of_large_files = Server::start(move |request| {
            let digest = request
                .path
                .rsplit('/')
                .next()
                .unwrap()
                .split('?')
                .next()
                .unwrap();
            let found = served.iter().find(|(_, bytes)| sha256(bytes) == digest);
            let reply = found.map_or(Reply::status(404), |(_, bytes)| part_of(bytes, request));
            (large.lock().unwrap())(request, reply)
        });
        let elsewhere = host_of_large_files.url();
        let hub_answer = Mutex::new(move |request: &Request| {
            let reply = answer(&listed, &elsewhere, request);
            hub(request, reply)
        });
        Site {
            hub: Server::start(move |request| (hub_answer.lock().unwrap())(request)),
            host_of_large_files,
        }
    }
}

/// The bytes of a file from where the request wants them.
fn part_of(bytes: &[u8], request: &Request) -> Reply {
    match request.start() {
        Some(start) if start >= bytes.len() => Reply::status(416),
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::status(206)
                .header("content-range", range)
                .body(&bytes[start..])
        }
        None => Reply::status(200).body(bytes),
    }
}

/// What the real hub answers.
fn answer(files: &Files, elsewhere: &str, request: &Request) -> Reply {
    if request.path == "/api/models/owner/model/revision/main?blobs=true" {
        let siblings: Vec<_> = files
            .iter()
            .map(|(name, bytes)| serde_json::json!({"rfilename": name, "size": bytes.len()}))
            .collect();
        let listing = serde_json::json!({"sha": COMMIT, "siblings": siblings, "gated": "auto"});
        return Reply::status(200).body(listing.to_string());
    }
    // Small files are sent on to another path of the same host.
    let cached = request.path.strip_prefix("/api/resolve-cache/");
    if let Some((_, bytes)) = files.iter().find(|(name, _)| Some(name.as_str()) == cached) {
        let etag = format!("\"{}\"", &sha256(bytes)[..40]);
        return part_of(bytes, request)
            .header("etag", etag)
            .header("x-repo-commit", COMMIT);
    }
    let name = request
        .path
        .strip_prefix(&format!("/owner/model/resolve/{COMMIT}/"));
    let Some((name, bytes)) = files.iter().find(|(found, _)| Some(found.as_str()) == name) else {
        return Reply::status(404).header("x-error-code", "EntryNotFound");
    };
    if name.ends_with(".json") {
        return Reply::status(307).header("location", format!("/api/resolve-cache/{name}"));
    }
    let digest = sha256(bytes);
    Reply::status(302)
        .header(
            "location",
            format!("{elsewhere}/lfs/{digest}?signature=not-to-be-shown"),
        )
        .header("x-linked-etag", format!("\"{digest}\""))
        .header("x-linked-size", bytes.len())
        .header("x-repo-commit", COMMIT)
}
