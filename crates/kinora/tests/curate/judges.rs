//! Judges of pictures and words: a tiny CLIP with real weights, and a chat server on this machine.

use crate::folder::{Folder, published};
use kinora_media::{ClipRow, Status, read_table};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server that speaks just enough of the protocol, for as long as the test runs.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let count = Arc::clone(&count);
                std::thread::spawn(move || answer(stream.unwrap(), &count));
            }
        });
        Server { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// What is said depends on what is shown: one frame, several, or none.
fn answer(mut stream: TcpStream, asked: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).unwrap() > 0 && line != "\r\n" {
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    asked.fetch_add(1, Ordering::SeqCst);
    let words = match String::from_utf8(body)
        .unwrap()
        .matches("data:image/jpeg")
        .count()
    {
        0 => {
            "A drawn thing stands in a plain place and then moves slowly along its way through it."
        }
        1 => "A drawn thing stands in a plain place.",
        _ => "The thing moves slowly along its way.",
    };
    let body = json!({
        "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": words } }],
        "usage": { "prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18 },
    })
    .to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    write!(
        stream,
        "{head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
}

/// The tiny CLIP of the fixtures, whose text tower knows 64 tokens and reads 12, with rows repeated until
/// it knows and reads as many as the tokenizer gives.
fn widened_clip(folder: &Folder) {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/clip_text/open_clip"
    );
    let read = |name: &str| std::fs::read(format!("{fixture}/{name}")).unwrap();
    let mut config: Value = serde_json::from_slice(&read("open_clip_config.json")).unwrap();
    config["model_cfg"]["text_cfg"]["vocab_size"] = 49_408.into();
    config["model_cfg"]["text_cfg"]["context_length"] = 77.into();

    let bytes = read("open_clip_model.safetensors");
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
    let (mut wide_header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for (name, about) in header.as_object().unwrap() {
        if name == "__metadata__" {
            continue;
        }
        let at = |place: usize| about["data_offsets"][place].as_u64().unwrap() as usize;
        let values = &bytes[8 + header_len..][at(0)..at(1)];
        let mut shape: Vec<usize> = serde_json::from_value(about["shape"].clone()).unwrap();
        let row_bytes = values.len() / shape.first().copied().unwrap_or(1);
        let rows = match name.as_str() {
            "token_embedding.weight" => 49_408,
            "positional_embedding" => 77,
            _ => values.len() / row_bytes,
        };
        if let Some(first) = shape.first_mut() {
            *first = rows;
        }
        let start = data.len();
        data.extend(values.iter().cycle().take(rows * row_bytes));
        wide_header.insert(
            name.clone(),
            json!({ "dtype": about["dtype"], "shape": shape, "data_offsets": [start, data.len()] }),
        );
    }
    let wide_header = Value::from(wide_header).to_string();
    let mut wide = (wide_header.len() as u64).to_le_bytes().to_vec();
    wide.extend(wide_header.bytes());
    wide.extend(data);
    std::fs::create_dir(folder.path("clip")).unwrap();
    std::fs::write(
        folder.path("clip/open_clip_config.json"),
        config.to_string(),
    )
    .unwrap();
    std::fs::write(folder.path("clip/open_clip_model.safetensors"), wide).unwrap();
}

/// A configuration with all judges, the words from a server at `address`.
fn with_judges(folder: &Folder, address: SocketAddr) {
    let weights = folder.path("clip");
    let endpoint = |column: &str, frames: usize| {
        format!(
            "[captions.{column}]\njudge = \"endpoint\"\nurl = \"http://{address}/v1\"\nmodel = \"m\"\n\
             prompt = \"What is it?\"\nframes = {frames}\nmin_words = 3\nmax_words = 60\nattempts = 1\n"
        )
    };
    let mut text = folder.config();
    for (old, new) in [
        (
            "[clip]\njudge = \"none\"",
            format!("[clip]\njudge = \"clip\"\nweights = {weights:?}"),
        ),
        ("[captions.image]\njudge = \"none\"", endpoint("image", 1)),
        ("[captions.video]\njudge = \"none\"", endpoint("video", 4)),
        ("[captions.merged]\njudge = \"none\"", endpoint("merged", 0)),
    ] {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, &new);
    }
    std::fs::write(folder.path("curate.toml"), text).unwrap();
}

#[test]
fn judges_fill_their_columns_and_nobody_is_asked_twice() {
    let folder = Folder::new();
    folder
        .kinora(&["footage", "videos", "--videos", "2"])
        .unwrap();
    widened_clip(&folder);
    let server = Server::start();
    with_judges(&folder, server.address);
    // One video at a time, so that equal pairs of captions are merged once.
    folder.curate("out", &["--workers", "1"]).unwrap();
    let clips: Vec<ClipRow> = read_table(&folder.path("out/clips.parquet")).unwrap();
    assert!(!clips.is_empty());
    for clip in &clips {
        assert_eq!(clip.status, Status::Ok, "{clip:?}");
        assert!(
            clip.caption_image.as_ref().unwrap().contains("stands"),
            "{clip:?}"
        );
        assert!(
            clip.caption_video
                .as_ref()
                .unwrap()
                .starts_with("The thing"),
            "{clip:?}"
        );
        assert!(
            clip.caption_merged.as_ref().unwrap().contains("and then"),
            "{clip:?}"
        );
        let embeddings = clip.embeddings.as_ref().unwrap();
        assert_eq!(embeddings.len() % 3, 0);
        let length: f32 = embeddings.iter().map(|value| value * value).sum();
        assert!(
            (length - 3.0).abs() < 1e-4,
            "three of unit length, found {length}"
        );
        let similarities = [
            clip.similarity_image,
            clip.similarity_video,
            clip.similarity_merged,
        ];
        let best = similarities
            .into_iter()
            .map(Option::unwrap)
            .fold(f32::MIN, f32::max);
        assert_eq!(clip.clip_similarity, Some(best));
        assert!(!clip.versions.clip.is_empty() && !clip.versions.caption_merged.is_empty());
    }
    assert!(
        server.asked() > 2 * clips.len(),
        "{} questions",
        server.asked()
    );

    // The results gone, the cache there: the same rows, and nobody is asked.
    let (before, asked) = (published(&folder.path("out")), server.asked());
    std::fs::remove_dir_all(folder.path("out/ledger/results")).unwrap();
    folder.curate("out", &[]).unwrap();
    assert_eq!(server.asked(), asked);
    assert!(before == published(&folder.path("out")));
}

#[test]
fn a_server_that_is_down_leaves_empty_columns_with_the_reason_until_it_is_up() {
    let folder = Folder::new();
    folder
        .kinora(&["footage", "videos", "--videos", "2"])
        .unwrap();
    widened_clip(&folder);
    let plain = folder.config();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    with_judges(&folder, closed);
    folder.curate("out", &[]).unwrap_err();
    let clips: Vec<ClipRow> = read_table(&folder.path("out/clips.parquet")).unwrap();
    for clip in &clips {
        assert_eq!(clip.status, Status::Partial);
        assert!(clip.caption_image.is_none() && clip.clip_similarity.is_none());
        assert!(
            clip.reason.as_ref().unwrap().contains("captions: "),
            "{clip:?}"
        );
        assert!(
            clip.embeddings.is_some() && clip.motion_score.is_some(),
            "{clip:?}"
        );
    }
    std::fs::write(folder.path("curate.toml"), plain).unwrap();
    let server = Server::start();
    with_judges(&folder, server.address);
    folder.curate("out", &[]).unwrap();
    let clips: Vec<ClipRow> = read_table(&folder.path("out/clips.parquet")).unwrap();
    assert!(
        clips
            .iter()
            .all(|clip| clip.status == Status::Ok && clip.clip_similarity.is_some())
    );
}
