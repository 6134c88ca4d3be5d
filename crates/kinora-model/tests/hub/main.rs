//! Models from the hub, held against a server on this machine that answers as the hub does.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod server;
mod site;

use kinora_model::weights::Variant;
use kinora_model::weights::hub::{Hub, HubId, Token};
use server::{Reply, Request, Server};
use site::{COMMIT, Site, Twist, published, sha256};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SECRET: &str = "hf_secret_of_the_user";
const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

fn hub(endpoint: String, cache: &Path) -> Hub {
    Hub {
        endpoint,
        cache: cache.to_owned(),
        token: None,
        offline: false,
        retry_wait: Duration::from_millis(1),
    }
}

fn id() -> HubId {
    "owner/model".parse().unwrap()
}

fn fetch(hub: &Hub) -> kinora_model::Result<PathBuf> {
    hub.fetch(&id(), None, &mut |_| ControlFlow::Continue(()))
}

fn refusal(hub: &Hub) -> String {
    let error = fetch(hub).unwrap_err().to_string();
    assert!(!error.contains(SECRET), "{error}");
    assert!(!error.contains("signature"), "{error}");
    error
}

fn bytes_of(name: &str) -> Vec<u8> {
    published()
        .into_iter()
        .find(|(found, _)| found == name)
        .unwrap()
        .1
}

/// Twists the answer to every request that gets bytes of the denoiser.
fn on_unet(mut twist: impl FnMut(usize, &Request, Reply) -> Reply + Send + 'static) -> Twist {
    let (digest, mut count) = (sha256(&bytes_of(UNET)), 0);
    Box::new(move |request, reply| {
        if request.method == "GET" && request.path.contains(&digest) {
            count += 1;
            twist(count, request, reply)
        } else {
            reply
        }
    })
}

fn straight() -> Twist {
    Box::new(|_, reply| reply)
}

#[test]
fn a_model_is_downloaded_once_into_the_shared_layout() {
    let (site, cache) = (Site::new(published()), tempfile::tempdir().unwrap());
    let hub = hub(site.hub.url(), cache.path());
    let mut told = Vec::new();
    let folder = hub
        .fetch(&id(), None, &mut |progress| {
            assert!(progress.done_bytes <= progress.total_bytes);
            told.push((
                progress.file.to_owned(),
                progress.done_bytes,
                progress.total_bytes,
            ));
            ControlFlow::Continue(())
        })
        .unwrap();
    let model = cache.path().join("models--owner--model");
    assert_eq!(folder, model.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    for (name, bytes) in published() {
        let wanted = !name.contains("fp16") && name != "README.md" && name != "svd_xt.safetensors";
        assert_eq!(folder.join(&name).exists(), wanted, "{name}");
        if wanted {
            assert_eq!(fs::read(folder.join(&name)).unwrap(), bytes, "{name}");
        }
    }
    let blob = model.join("blobs").join(sha256(&bytes_of(UNET)));
    assert_eq!(
        fs::read_link(folder.join(UNET)).unwrap(),
        Path::new("../../../blobs").join(blob.file_name().unwrap())
    );
    assert!(
        told.windows(2)
            .all(|pair| pair[0].1 <= pair[1].1 && pair[0].2 <= pair[1].2)
    );
    let (_, done, total) = told.last().unwrap();
    assert_eq!(done, total);

    let before = site.host_of_large_files.asked().len();
    assert_eq!(fetch(&hub).unwrap(), folder);
    assert_eq!(
        site.host_of_large_files.asked().len(),
        before,
        "nothing is downloaded twice"
    );
}

#[test]
fn the_wanted_precision_is_downloaded() {
    let (site, cache) = (Site::new(published()), tempfile::tempdir().unwrap());
    let hub = hub(site.hub.url(), cache.path());
    let mut keep_on = |_: kinora_model::weights::hub::Progress| ControlFlow::Continue(());
    let folder = hub.fetch(&id(), Some(Variant::Fp16), &mut keep_on).unwrap();
    assert!(
        folder
            .join("unet/diffusion_pytorch_model.fp16.safetensors")
            .exists()
    );
    assert!(!folder.join(UNET).exists());
    let error = hub
        .fetch(&id(), Some(Variant::Bf16), &mut keep_on)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the model has none of image_encoder/model.bf16.safetensors"),
        "{error}"
    );
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let (site, cache) = (Site::new(published()), tempfile::tempdir().unwrap());
    let mut hub = hub(site.hub.url(), cache.path());
    hub.token = Token::new(SECRET);
    assert!(!format!("{hub:?}").contains(SECRET));
    fetch(&hub).unwrap();
    let bearer = format!("Bearer {SECRET}");
    for request in site.hub.asked() {
        assert_eq!(
            request.header("authorization"),
            Some(bearer.as_str()),
            "{request:?}"
        );
    }
    let elsewhere = site.host_of_large_files.asked();
    assert_eq!(elsewhere.len(), 3);
    for request in elsewhere {
        assert_eq!(request.header("authorization"), None, "{request:?}");
        assert!(!format!("{request:?}").contains(SECRET));
    }
    // Nor is it left lying about.
    let mut folders = vec![cache.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if entry.is_dir() {
                folders.push(entry);
            } else if let Ok(bytes) = fs::read(&entry) {
                assert!(
                    !bytes
                        .windows(SECRET.len())
                        .any(|part| part == SECRET.as_bytes())
                );
            }
        }
    }
}

#[test]
fn a_connection_cut_in_the_middle_is_taken_up_where_it_broke() {
    let large = on_unet(|count, _, reply| match count {
        1 => reply.cut(300_000),
        2 => reply.cut(1),
        3 => Reply::status(503),
        4 => reply.cut(0),
        _ => reply,
    });
    let site = Site::twisted(published(), straight(), large);
    let cache = tempfile::tempdir().unwrap();
    let folder = fetch(&hub(site.hub.url(), cache.path())).unwrap();
    assert_eq!(fs::read(folder.join(UNET)).unwrap(), bytes_of(UNET));
    let digest = sha256(&bytes_of(UNET));
    let asked = site.host_of_large_files.asked();
    let starts: Vec<usize> = asked
        .iter()
        .filter(|request| request.path.contains(&digest))
        .filter_map(Request::start)
        .collect();
    assert_eq!(starts, [0, 300_000, 300_001, 300_001, 300_001]);
}

#[test]
fn a_download_goes_on_in_the_next_run() {
    let large = on_unet(|count, _, reply| {
        if count == 1 {
            reply.cut(400_000)
        } else {
            Reply::status(503)
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let site = Site::twisted(published(), straight(), large);
    let error = refusal(&hub(site.hub.url(), cache.path()));
    assert!(
        error.contains(UNET) && error.contains("tried 5 times"),
        "{error}"
    );
    assert!(error.contains("run the same command again"), "{error}");
    let digest = sha256(&bytes_of(UNET));
    let blobs = cache.path().join("models--owner--model/blobs");
    let incomplete = blobs.join(format!("{digest}.incomplete"));
    assert_eq!(fs::metadata(&incomplete).unwrap().len(), 400_000);

    let site = Site::new(published());
    let folder = fetch(&hub(site.hub.url(), cache.path())).unwrap();
    assert_eq!(fs::read(folder.join(UNET)).unwrap(), bytes_of(UNET));
    let asked = site.host_of_large_files.asked();
    let unet: Vec<_> = asked
        .iter()
        .filter(|request| request.path.contains(&digest))
        .collect();
    assert_eq!(unet.len(), 1);
    assert_eq!(unet[0].start(), Some(400_000));
    assert!(!incomplete.exists());
}

#[test]
fn a_download_that_is_stopped_keeps_what_has_arrived() {
    let (site, cache) = (Site::new(published()), tempfile::tempdir().unwrap());
    let hub = hub(site.hub.url(), cache.path());
    let stopped = hub.fetch(&id(), None, &mut |progress| {
        if progress.file == UNET && progress.done_bytes > 200_000 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(
        matches!(stopped, Err(kinora_model::Error::Stopped { .. })),
        "{stopped:?}"
    );
    assert!(!cache.path().join("models--owner--model/refs/main").exists());
    let folder = fetch(&hub).unwrap();
    assert_eq!(fs::read(folder.join(UNET)).unwrap(), bytes_of(UNET));
}

#[test]
fn a_server_that_does_not_know_parts_begins_again() {
    let whole = bytes_of(UNET);
    let large = on_unet(move |count, _, _| {
        let reply = Reply::status(200).body(whole.clone());
        if count == 1 {
            reply.cut(500_000)
        } else {
            reply
        }
    });
    let site = Site::twisted(published(), straight(), large);
    let cache = tempfile::tempdir().unwrap();
    let folder = fetch(&hub(site.hub.url(), cache.path())).unwrap();
    assert_eq!(fs::read(folder.join(UNET)).unwrap(), bytes_of(UNET));
}

#[test]
fn a_wrong_size_is_refused() {
    for (twist, expected) in [
        // Another size than announced, from the first byte on.
        (
            Reply::status(200).body(vec![0; 899_999]),
            "899999 bytes, announced were 900000",
        ),
        (
            Reply::status(200).body(vec![0; 900_001]),
            "900001 bytes, announced were 900000",
        ),
        (
            Reply::status(206)
                .header("content-range", "bytes 0-9/10")
                .body(vec![0; 10]),
            "10 bytes, announced were 900000",
        ),
        (
            Reply::status(206)
                .header("content-range", "bytes 5-899999/900000")
                .body(vec![0; 10]),
            "another part than was asked for",
        ),
        (
            Reply::status(206).body(vec![0; 10]),
            "another part than was asked for",
        ),
    ] {
        let large = on_unet(move |_, _, _| twist.clone());
        let site = Site::twisted(published(), straight(), large);
        let cache = tempfile::tempdir().unwrap();
        let error = refusal(&hub(site.hub.url(), cache.path()));
        assert!(error.contains(expected), "{error}");
        let model = cache.path().join("models--owner--model");
        assert!(!model.join("snapshots").join(COMMIT).join(UNET).exists());
    }
}

#[test]
fn more_bytes_than_announced_do_not_fill_the_disk() {
    // A body without a length that goes on beyond the end.
    let large = on_unet(|_, _, _| {
        Reply::status(200)
            .header("transfer-encoding", "chunked")
            .header("content-length", "900000")
            .body(
                [
                    b"F4240\r\n".to_vec(),
                    vec![7; 1_000_000],
                    b"\r\n0\r\n\r\n".to_vec(),
                ]
                .concat(),
            )
    });
    let site = Site::twisted(published(), straight(), large);
    let cache = tempfile::tempdir().unwrap();
    let error = refusal(&hub(site.hub.url(), cache.path()));
    assert!(
        error.contains("more than the 900000 bytes announced"),
        "{error}"
    );
    let blobs = fs::read_dir(cache.path().join("models--owner--model/blobs")).unwrap();
    for blob in blobs.map(|blob| blob.unwrap()) {
        assert!(blob.metadata().unwrap().len() <= 900_000);
    }
}

#[test]
fn bytes_that_are_not_those_announced_are_thrown_away() {
    let large = on_unet(|count, _, mut reply| {
        if count == 1 {
            reply.body[123_456] ^= 1;
        }
        reply
    });
    let site = Site::twisted(published(), straight(), large);
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(site.hub.url(), cache.path());
    let error = refusal(&hub);
    assert!(
        error.contains("is not what the hub announced (SHA-256"),
        "{error}"
    );
    let folder = fetch(&hub).unwrap();
    assert_eq!(fs::read(folder.join(UNET)).unwrap(), bytes_of(UNET));
}

/// A hub that lists the model and answers everything else with `reply`.
fn answers(reply: Reply) -> (Site, tempfile::TempDir) {
    let twist = move |request: &Request, good: Reply| {
        if request.path.starts_with("/api/models") {
            good
        } else {
            reply.clone()
        }
    };
    let site = Site::twisted(published(), Box::new(twist), straight());
    (site, tempfile::tempdir().unwrap())
}

#[test]
fn a_gated_model_says_to_accept_the_licence_and_to_set_the_token() {
    for status in [401, 403] {
        let (site, cache) = answers(Reply::status(status).header("x-error-code", "GatedRepo"));
        let mut hub = hub(site.hub.url(), cache.path());
        let error = refusal(&hub);
        assert!(
            error.contains(&format!("Open {}/owner/model", hub.endpoint)),
            "{error}"
        );
        assert!(error.contains("accept its licence"), "{error}");
        assert!(
            error.contains("/settings/tokens and set HF_TOKEN"),
            "{error}"
        );
        hub.token = Token::new(SECRET);
        let error = refusal(&hub);
        assert!(error.contains("does not let your token in"), "{error}");
        assert!(error.contains("accept the licence"), "{error}");
    }
}

#[test]
fn a_model_or_a_file_that_is_not_there_is_named() {
    let (site, cache) = answers(Reply::status(404).header("x-error-code", "EntryNotFound"));
    let error = refusal(&hub(site.hub.url(), cache.path()));
    assert!(
        error.contains("owner/model: the model has no file model_index.json"),
        "{error}"
    );
    let nothing = Server::start(|_| Reply::status(404).header("x-error-code", "RepoNotFound"));
    let error = refusal(&hub(nothing.url(), cache.path()));
    assert!(
        error.contains("owner/model: the hub has no such model"),
        "{error}"
    );
    let nothing = Server::start(|_| Reply::status(404).header("x-error-code", "RevisionNotFound"));
    let error = refusal(&hub(nothing.url(), cache.path()));
    assert!(
        error.contains("the model has no revision `main`"),
        "{error}"
    );
}

#[test]
fn a_server_that_is_no_hub_is_told_for_what_it_is() {
    let cache = tempfile::tempdir().unwrap();
    let page = Server::start(|_| Reply::status(200).body("<html>Welcome</html>"));
    assert!(refusal(&hub(page.url(), cache.path())).contains("does not answer as a hub does"));
    let sly = Server::start(|_| Reply::status(200).body(r#"{"sha": "../../x", "siblings": []}"#));
    assert!(refusal(&hub(sly.url(), cache.path())).contains("does not answer as a hub does"));
    let (site, cache) = answers(Reply::status(200).header("etag", "\"../../x\""));
    assert!(refusal(&hub(site.hub.url(), cache.path())).contains("as a hub does"));
    let circle = Server::start(|request| Reply::status(302).header("location", &request.path));
    assert!(refusal(&hub(circle.url(), cache.path())).contains("more than 10 redirects"));
    let nowhere = Server::start(|_| Reply::status(302));
    assert!(refusal(&hub(nowhere.url(), cache.path())).contains("redirects to nowhere"));
}

#[test]
fn offline_says_what_to_fetch_by_hand_and_where_to_put_it() {
    let cache = tempfile::tempdir().unwrap();
    let gone = {
        let server = Server::start(|_| Reply::status(200));
        server.url() // Nobody listens there any more.
    };
    let mut hub = hub(gone, cache.path());
    let error = refusal(&hub);
    let address = format!("{}/owner/model/resolve/main/{UNET}", hub.endpoint);
    assert!(
        error.contains(&format!("{address}\n    -> model/{UNET}")),
        "{error}"
    );
    assert!(error.contains("model/model_index.json"), "{error}");
    assert!(error.contains("--model model"), "{error}");
    assert!(error.contains(cache.path().to_str().unwrap()), "{error}");
    hub.offline = true;
    assert!(refusal(&hub).contains("HF_HUB_OFFLINE is set"));
}

#[test]
fn offline_uses_what_is_in_the_cache_if_it_is_whole() {
    let (site, cache) = (Site::new(published()), tempfile::tempdir().unwrap());
    let mut hub = hub(site.hub.url(), cache.path());
    let folder = fetch(&hub).unwrap();
    let asked = site.hub.asked().len();
    hub.offline = true;
    assert_eq!(fetch(&hub).unwrap(), folder);
    assert_eq!(site.hub.asked().len(), asked);
    hub.offline = false;
    drop(site);
    assert_eq!(fetch(&hub).unwrap(), folder);
    fs::remove_file(folder.join(UNET)).unwrap();
    assert!(refusal(&hub).contains("the hub could not be asked"));
}

#[test]
fn a_busy_hub_counts_as_one_that_cannot_be_reached() {
    let cache = tempfile::tempdir().unwrap();
    let busy = Server::start(|_| Reply::status(429));
    assert!(refusal(&hub(busy.url(), cache.path())).contains("the hub answers 429"));
}

#[test]
fn shards_are_found_through_their_index() {
    let mut files = published();
    files.retain(|(name, _)| name != UNET);
    let index = format!("{UNET}.index.json");
    let shards = [
        "diffusion-00001-of-00002.safetensors",
        "diffusion-00002-of-00002.safetensors",
    ];
    let map = format!(
        r#"{{"weight_map": {{"a": "{}", "b": "{}"}}}}"#,
        shards[0], shards[1]
    );
    files.push((index.clone(), map.into_bytes()));
    for (number, shard) in shards.iter().enumerate() {
        files.push((format!("unet/{shard}"), vec![number as u8; 1000 + number]));
    }
    let (site, cache) = (Site::new(files), tempfile::tempdir().unwrap());
    let mut hub = hub(site.hub.url(), cache.path());
    let folder = fetch(&hub).unwrap();
    assert!(folder.join(index).exists());
    assert_eq!(
        fs::read(folder.join("unet").join(shards[1])).unwrap(),
        vec![1; 1001]
    );
    hub.offline = true;
    assert_eq!(fetch(&hub).unwrap(), folder);
}

#[test]
fn a_model_that_is_a_single_file_is_that_file() {
    let files = vec![
        ("svd.safetensors".to_owned(), vec![5; 12_345]),
        ("README.md".to_owned(), b"hello".to_vec()),
    ];
    let (site, cache) = (Site::new(files), tempfile::tempdir().unwrap());
    let file = fetch(&hub(site.hub.url(), cache.path())).unwrap();
    assert!(file.ends_with("svd.safetensors"));
    assert_eq!(fs::read(file).unwrap(), vec![5; 12_345]);
}
