//! An object store on this machine that speaks as much of S3's protocol, which is GCS's XML protocol
//! too, as is asked of it: lists in pages, heads, gets with ranges. It fails as a test tells it to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Objects of a page of a list.
const PAGE: usize = 2;

pub const KEY_NAME: &str = "AKIAKINORA4711TEST";
pub const SECRET: &str = "a-secret-that-is-in-no-message";
pub const TOKEN: &str = "a-token-that-is-in-no-message";

/// A request as it arrived, its key decoded.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub bucket: String,
    pub key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn is_list(&self) -> bool {
        self.query.contains_key("list-type")
    }

    pub fn is_get(&self) -> bool {
        self.method == "GET" && !self.is_list()
    }
}

/// What goes wrong with an answer.
#[derive(Clone, Debug)]
pub enum Fault {
    None,
    /// A status with S3's word for it.
    Status(u16, &'static str),
    /// The connection is cut after so many bytes of the body.
    CutAfter(usize),
    /// Nothing comes for so long after half of the body.
    Silence(Duration),
    /// The answer does not tell its length.
    NoLength,
}

type Faults = dyn Fn(usize, &Request) -> Fault + Send + Sync;

struct Shared {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<Box<Faults>>,
    asked: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

/// The store, until it is dropped.
pub struct Store {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Store {
    /// A store in which nothing goes wrong; keys with their bucket, as `films/a.mp4`.
    pub fn with(objects: &[(&str, &[u8])]) -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let owned = objects
            .iter()
            .map(|(key, bytes)| ((*key).to_owned(), bytes.to_vec()));
        let shared = Arc::new(Shared {
            objects: Mutex::new(owned.collect()),
            faults: Mutex::new(Box::new(|_, _| Fault::None)),
            asked: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let store = Store {
            address: listener.local_addr().unwrap(),
            shared: shared.clone(),
        };
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                // A client that goes away in the middle is part of some tests.
                std::thread::spawn(move || connection.and_then(|stream| shared.serve(stream)));
            }
        });
        store
    }

    /// What goes wrong from now on; `faults` gets the number of the request, from zero, and the request.
    pub fn fail(&self, faults: impl Fn(usize, &Request) -> Fault + Send + Sync + 'static) {
        self.shared.asked.lock().unwrap().clear();
        *self.shared.faults.lock().unwrap() = Box::new(faults);
    }

    pub fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.shared.objects.lock().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests since the faults were told last.
    pub fn asked(&self) -> Vec<Request> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Those that were for bytes.
    pub fn gets(&self) -> Vec<Request> {
        self.asked().into_iter().filter(Request::is_get).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// An answer before anything goes wrong with it.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn error(status: u16, code: &str, more: &str) -> Answer {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message>{more}</Error>"
        );
        Answer {
            status,
            headers: Vec::new(),
            body: body.into_bytes(),
        }
    }
}

impl Shared {
    fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        let request = read(&mut BufReader::new(connection.try_clone()?))?;
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(request.clone());
            asked.len() - 1
        };
        let fault = (self.faults.lock().unwrap())(number, &request);
        let answer = match fault {
            Fault::Status(status, code) => Answer::error(status, code, ""),
            _ if !is_allowed(&request) => Answer::error(
                403,
                "SignatureDoesNotMatch",
                &format!(
                    "<AWSAccessKeyId>{KEY_NAME}</AWSAccessKeyId><StringToSign>{}</StringToSign>",
                    request.header("authorization").unwrap_or_default()
                ),
            ),
            _ if request.is_list() => self.list(&request),
            _ => self.object(&request),
        };
        send(connection, answer, &fault, request.method == "HEAD")
    }

    fn list(&self, request: &Request) -> Answer {
        let prefix = format!("{}/{}", request.bucket, asked_for(request, "prefix"));
        let objects = self.objects.lock().unwrap();
        let all: Vec<_> = objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .collect();
        let first = asked_for(request, "continuation-token")
            .parse()
            .unwrap_or(0);
        let mut body = "<?xml version=\"1.0\"?><ListBucketResult>".to_owned();
        for (key, bytes) in all.iter().skip(first).take(PAGE) {
            let key = key.split_once('/').unwrap().1;
            let key = key.replace('&', "&amp;").replace('<', "&lt;");
            body += &format!(
                "<Contents><Key>{key}</Key><LastModified>2024-02-29T08:49:37.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                tag(bytes).replace('"', "&quot;"),
                bytes.len()
            );
        }
        let more = first + PAGE < all.len();
        body += &format!("<IsTruncated>{more}</IsTruncated>");
        if more {
            body += &format!(
                "<NextContinuationToken>{}</NextContinuationToken>",
                first + PAGE
            );
        }
        Answer {
            status: 200,
            headers: Vec::new(),
            body: (body + "</ListBucketResult>").into_bytes(),
        }
    }

    fn object(&self, request: &Request) -> Answer {
        let objects = self.objects.lock().unwrap();
        let Some(bytes) = objects.get(&format!("{}/{}", request.bucket, request.key)) else {
            return Answer::error(404, "NoSuchKey", "");
        };
        if request
            .header("if-match")
            .is_some_and(|wanted| wanted != tag(bytes))
        {
            return Answer::error(412, "PreconditionFailed", "");
        }
        let mut answer = Answer {
            status: 200,
            headers: vec![
                ("etag", tag(bytes)),
                ("last-modified", "Thu, 29 Feb 2024 08:49:37 GMT".to_owned()),
            ],
            body: bytes.clone(),
        };
        let range = request
            .header("range")
            .and_then(|range| range.strip_prefix("bytes="));
        if let Some((first, last)) = range.and_then(|range| range.split_once('-')) {
            let first: usize = first.parse().unwrap();
            let end = last.parse().map_or(bytes.len(), |last: usize| last + 1);
            let told = format!("bytes {first}-{}/{}", end - 1, bytes.len());
            answer.status = 206;
            answer.headers.push(("content-range", told));
            answer.body = bytes[first..end].to_vec();
        }
        answer
    }
}

/// Whether a request is signed, or has the token, of one whom the store knows.
fn is_allowed(request: &Request) -> bool {
    let told = request.header("authorization").unwrap_or_default();
    told.starts_with(&format!("AWS4-HMAC-SHA256 Credential={KEY_NAME}/"))
        || told == format!("Bearer {TOKEN}")
}

fn asked_for(request: &Request, name: &str) -> String {
    request.query.get(name).cloned().unwrap_or_default()
}

/// What changes with the bytes.
pub fn tag(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(bytes.len() as u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    format!("\"{sum:016x}\"")
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let query = query.split('&').filter_map(|part| part.split_once('='));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    Ok(Request {
        method,
        bucket: bucket.to_owned(),
        key: decoded(key),
        query: query
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect(),
        headers,
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        rest = more;
        if first == b'%' {
            let digits = std::str::from_utf8(&rest[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &rest[2..];
        } else {
            bytes.push(if first == b'+' { b' ' } else { first });
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn send(
    mut connection: TcpStream,
    answer: Answer,
    fault: &Fault,
    head_only: bool,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Answer\r\nconnection: close\r\n", answer.status);
    if !matches!(fault, Fault::NoLength) {
        head += &format!("content-length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    connection.write_all(format!("{head}\r\n").as_bytes())?;
    if head_only {
        return Ok(());
    }
    match fault {
        Fault::CutAfter(bytes) => {
            connection.write_all(&answer.body[..answer.body.len().min(*bytes)])?;
        }
        Fault::Silence(wait) => {
            connection.write_all(&answer.body[..answer.body.len() / 2])?;
            connection.flush()?;
            std::thread::sleep(*wait);
        }
        _ => connection.write_all(&answer.body)?,
    }
    connection.flush()
}
