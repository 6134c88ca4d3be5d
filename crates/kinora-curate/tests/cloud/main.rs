//! Videos in object stores, and what becomes of the stores' faults. Needs the feature `cloud`, and no
//! network: the store is on this machine.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod curated;
mod store;

use kinora_curate::cloud::{fetch_as, list_as};
use kinora_curate::sources::{self, Patience, Stores};
use kinora_curate::{Error, Result};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::{Fault, KEY_NAME, Request, SECRET, Store, TOKEN, tag};

/// How often the tests' stores are asked again.
const RETRIES: usize = 3;

/// The variables by which the store on this machine is reached by both of its names.
pub fn stores(store: &Store) -> Stores {
    let url = store.url();
    let variables = [
        ("AWS_ENDPOINT", url.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", KEY_NAME),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        // An address decides what it names.
        ("AWS_BUCKET", "another"),
        ("GOOGLE_BASE_URL", url.as_str()),
        ("GOOGLE_BEARER_TOKEN", TOKEN),
        ("GOOGLE_BUCKET", "another"),
    ];
    let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Stores {
        variables: owned.into(),
        patience: Patience {
            retries: RETRIES,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(4),
            silence: Duration::from_secs(10),
        },
    }
}

/// Bytes of which no two neighbours of a block are alike.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

/// The bytes that come of an address, or why none do; in either case nothing is left behind.
fn fetched(stores: &Stores, address: &str) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let copy = fetch_as(stores, address, folder.path(), &AtomicBool::new(false));
    let found = copy.map(|copy| {
        let name = copy.path().file_name().unwrap().to_string_lossy();
        assert!(!name.starts_with('.') && name.ends_with(".mp4"), "{name}");
        std::fs::read(copy.path()).unwrap()
    });
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    found
}

fn refusal(stores: &Stores, address: &str) -> String {
    let text = fetched(stores, address).unwrap_err().to_string();
    for secret in [KEY_NAME, SECRET, TOKEN, "StringToSign", "Credential"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(text.starts_with(address), "{text}");
    text
}

#[test]
fn every_page_of_a_prefix_is_listed_in_both_protocols() {
    let objects: Vec<(String, Vec<u8>)> =
        ["a.mp4", "b/1.mp4", "b/2 ?#%20.mp4", "b/ü&<.mp4", "c.mp4"]
            .iter()
            .map(|name| (format!("films/x/{name}"), bytes(9)))
            .collect();
    let mut all: Vec<(&str, &[u8])> = objects
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    all.extend([
        ("films/x/.hidden.mp4", b"h".as_slice()),
        ("films/x/.trash/d.mp4", b"h"),
        ("films/xx/e.mp4", b"other prefix"),
        ("another/x/f.mp4", b"other bucket"),
    ]);
    let store = Store::with(&all);
    let stores = stores(&store);
    for scheme in ["s3", "gs"] {
        store.fail(|_, _| Fault::None);
        let found = list_as(&stores, &format!("{scheme}://films/x")).unwrap();
        let expected = [
            "a.mp4",
            "b/1.mp4",
            "b/2%20%3F%23%2520.mp4",
            "b/ü&<.mp4",
            "c.mp4",
        ];
        assert_eq!(
            found,
            expected.map(|name| format!("{scheme}://films/x/{name}"))
        );
        // Seven of this prefix, two a page.
        assert_eq!(
            store.asked().iter().filter(|asked| asked.is_list()).count(),
            4
        );
        // What is listed can be fetched, and is what it was.
        for address in &found {
            assert_eq!(fetched(&stores, address).unwrap(), bytes(9), "{address}");
        }
        let one = format!("{scheme}://films/x/a.mp4");
        assert_eq!(list_as(&stores, &one).unwrap(), [one]);
        let whole = list_as(&stores, &format!("{scheme}://films")).unwrap();
        assert_eq!(whole.len(), 6);
        let none = sources::find(&[format!("{scheme}://films/y")], Path::new("out"), &stores);
        assert!(none.unwrap_err().to_string().contains("found no file"));
    }
}

#[test]
fn a_page_that_fails_is_asked_for_again_and_no_list_is_taken_for_whole_without_it() {
    let store = Store::with(&[
        ("films/a.mp4", b"a"),
        ("films/b.mp4", b"b"),
        ("films/c.mp4", b"c"),
    ]);
    let stores = stores(&store);
    store.fail(|number, _| match number {
        1 | 2 => Fault::Status(503, "SlowDown"),
        _ => Fault::None,
    });
    assert_eq!(list_as(&stores, "s3://films").unwrap().len(), 3);
    assert_eq!(store.asked().len(), 4);
    store.fail(|number, _| match number {
        0 => Fault::None,
        _ => Fault::Status(500, "InternalError"),
    });
    let text = list_as(&stores, "s3://films").unwrap_err().to_string();
    assert!(
        text.contains("500 InternalError") && text.contains("asked 4 times"),
        "{text}"
    );
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let film = bytes(300_000);
    let store = Store::with(&[("films/a.mp4", &film)]);
    for scheme in ["s3", "gs"] {
        store.fail(|number, _| match number {
            0 => Fault::CutAfter(100_000),
            1 => Fault::Status(503, "SlowDown"),
            2 => Fault::CutAfter(50_000),
            _ => Fault::None,
        });
        let found = fetched(&stores(&store), &format!("{scheme}://films/a.mp4"));
        assert!(found.unwrap() == film);
        let gets = store.gets();
        let firsts: Vec<u64> = gets.iter().map(first_byte).collect();
        assert_eq!(gets.len(), 4);
        assert!(
            firsts[0] == 0 && firsts[1] > 0 && firsts[2] == firsts[1],
            "{firsts:?}"
        );
        assert!(firsts[3] > firsts[2] && firsts[3] <= 150_000, "{firsts:?}");
    }
}

/// The first byte that a request asks for.
fn first_byte(request: &Request) -> u64 {
    let range = request.header("range").unwrap_or("bytes=0-");
    let first = range.trim_start_matches("bytes=").split('-').next();
    first.unwrap().parse().unwrap()
}

#[test]
fn a_long_download_may_break_off_more_often_than_a_request_is_made_again() {
    let film = bytes(9 << 20);
    let store = Store::with(&[("films/a.mp4", &film)]);
    store.fail(|_, _| Fault::CutAfter((3 << 20) / 2));
    let mut stores = stores(&store);
    stores.patience.retries = 0;
    assert!(fetched(&stores, "s3://films/a.mp4").unwrap() == film);
    let gets = store.gets();
    assert!(gets.len() >= 6, "{}", gets.len());
    // Each goes on with the same object or not at all.
    let sure = |get: &Request| get.header("if-match") == Some(&tag(&film));
    assert!(gets[1..].iter().all(sure));
}

#[test]
fn an_object_that_changes_on_the_way_is_no_file() {
    let store = std::sync::Arc::new(Store::with(&[("films/a.mp4", &bytes(4 << 20))]));
    let mut stores = stores(&store);
    stores.patience.retries = 0;
    store.fail(|_, _| Fault::CutAfter(2 << 20));
    let changing = store.clone();
    store.fail(move |number, _| {
        if number > 0 {
            changing
                .objects()
                .insert("films/a.mp4".to_owned(), vec![7; 4 << 20]);
        }
        Fault::CutAfter(2 << 20)
    });
    let text = refusal(&stores, "s3://films/a.mp4");
    assert!(text.contains("it changed in the store"), "{text}");
    store.fail(|_, _| Fault::None);
}

#[test]
fn a_part_is_never_a_file() {
    let store = Store::with(&[("films/a.mp4", &bytes(100_000))]);
    let stores = stores(&store);
    store.fail(|_, _| Fault::CutAfter(1000));
    let text = refusal(&stores, "s3://films/a.mp4");
    assert!(
        text.contains("broke off") && text.contains("asked 4 times"),
        "{text}"
    );
    assert_eq!(store.asked().len(), 1 + RETRIES);
    // Without a length the end of a connection could be the end of the film.
    store.fail(|_, _| Fault::NoLength);
    let text = refusal(&stores, "s3://films/a.mp4");
    assert!(text.contains("Content-Length"), "{text}");
}

#[test]
fn a_store_that_falls_silent_is_asked_again() {
    let film = bytes(100_000);
    let store = Store::with(&[("films/a.mp4", &film)]);
    let mut stores = stores(&store);
    stores.patience.silence = Duration::from_secs(1);
    store.fail(|number, _| match number {
        0 | 1 => Fault::Silence(Duration::from_secs(4)),
        _ => Fault::None,
    });
    assert!(fetched(&stores, "s3://films/a.mp4").unwrap() == film);
    store.fail(|_, _| Fault::Silence(Duration::from_secs(4)));
    let text = refusal(&stores, "s3://films/a.mp4");
    assert!(text.contains("fell silent"), "{text}");
}

#[test]
fn refusals_are_told_in_words_and_only_those_that_may_pass_are_tried_again() {
    let store = Store::with(&[]);
    let stores = stores(&store);
    for (status, code, times, expected) in [
        (
            403,
            "AccessDenied",
            1,
            "the store refuses (403 AccessDenied)",
        ),
        (404, "NoSuchKey", 1, "nothing of this name (404 NoSuchKey)"),
        (
            400,
            "InvalidRequest",
            1,
            "did not understand (400 InvalidRequest)",
        ),
        (
            500,
            "InternalError",
            4,
            "could not answer (500 InternalError), asked 4 times",
        ),
        (
            503,
            "SlowDown",
            4,
            "could not answer (503 SlowDown), asked 4 times",
        ),
    ] {
        for scheme in ["s3", "gs"] {
            store.fail(move |_, _| Fault::Status(status, code));
            let text = refusal(&stores, &format!("{scheme}://films/a.mp4"));
            assert!(text.contains(expected), "{text}");
            assert_eq!(store.asked().len(), times, "{status} {scheme}");
        }
    }
    let mut nobody = stores.clone();
    let nowhere = "http://127.0.0.1:1".to_owned();
    nobody.variables.insert("AWS_ENDPOINT".to_owned(), nowhere);
    let text = refusal(&nobody, "s3://films/a.mp4");
    assert!(text.contains("cannot be reached"), "{text}");
}

#[test]
fn keys_sign_and_are_never_said() {
    let store = Store::with(&[("films/a.mp4", &bytes(10))]);
    let mut stores = stores(&store);
    assert_eq!(fetched(&stores, "s3://films/a.mp4").unwrap(), bytes(10));
    let [signed]: [Request; 1] = store.asked().try_into().unwrap();
    let told = signed.header("authorization").unwrap();
    assert!(
        told.contains(KEY_NAME) && told.contains("Signature="),
        "{told}"
    );
    assert!(!format!("{signed:?}").contains(SECRET));
    // The store repeats the name of the key and what was signed; a message does not.
    let (other, wrong) = ("AWS_ACCESS_KEY_ID", "AKIAWRONG4711WRONG");
    stores.variables.insert(other.to_owned(), wrong.to_owned());
    let text = refusal(&stores, "s3://films/a.mp4");
    assert!(text.contains("403 SignatureDoesNotMatch"), "{text}");
    assert!(!text.contains(wrong), "{text}");
    // Neither does one about keys that are none.
    let no_json = "{\"private_key\": very-private-4711";
    stores.variables.remove("GOOGLE_BEARER_TOKEN");
    let name = "GOOGLE_SERVICE_ACCOUNT_KEY".to_owned();
    stores.variables.insert(name, no_json.to_owned());
    let text = refusal(&stores, "gs://films/a.mp4");
    assert!(!text.contains("4711"), "{text}");
}

#[test]
fn a_copy_stops_when_asked() {
    let store = Store::with(&[("films/a.mp4", &bytes(1000))]);
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    stop.store(true, Ordering::SeqCst);
    let stopped = fetch_as(&stores(&store), "s3://films/a.mp4", folder.path(), &stop);
    assert!(matches!(stopped.unwrap_err(), Error::Stopped));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
