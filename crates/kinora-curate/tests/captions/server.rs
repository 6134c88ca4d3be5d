//! A chat server on this machine that answers as a test tells it to, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: serde_json::Value,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .find(same)
            .map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status, headers, body.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The connection is cut after the headers promised more.
    Cut,
    /// The connection is cut before anything.
    HangUp,
    /// Nothing for so long, then another reply.
    After(Duration, Box<Reply>),
}

impl Reply {
    /// An answer of the chat protocol.
    pub fn words(text: &str) -> Reply {
        Self::json(serde_json::json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text },
                "finish_reason": "stop",
            }],
            "usage": { "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120 },
        }))
    }

    pub fn json(value: serde_json::Value) -> Reply {
        Reply::Whole(200, Vec::new(), value.to_string().into_bytes())
    }

    pub fn status(status: u16, body: &str) -> Reply {
        Reply::Whole(status, Vec::new(), body.as_bytes().to_vec())
    }

    pub fn with_header(self, name: &'static str, value: &str) -> Reply {
        match self {
            Reply::Whole(status, mut headers, body) => {
                headers.push((name, value.to_owned()));
                Reply::Whole(status, headers, body)
            }
            other => other,
        }
    }
}

type Answer = dyn Fn(usize, &Request) -> Reply + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    asked: Mutex<Vec<Request>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    stopped: AtomicBool,
}

/// The server, until it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// `answer` gets the number of the request, from zero, and the request.
    pub fn start(answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            asked: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let server = Server {
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
        server
    }

    /// Answers the first requests with `replies` in turn, and all further ones with the last.
    pub fn with(replies: Vec<Reply>) -> Server {
        Self::start(move |number, _| replies[number.min(replies.len() - 1)].clone())
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn asked(&self) -> Vec<Request> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(connection.try_clone()?);
        let request = read(&mut reader)?;
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(request.clone());
            asked.len() - 1
        };
        let reply = (self.answer)(number, &request);
        // Before the answer, so that no later request can overlap by chance.
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        send(connection, reply)
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let mut request = Request {
        path,
        headers,
        body: serde_json::Value::Null,
    };
    let length = request
        .header("content-length")
        .and_then(|value| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    request.body = serde_json::from_slice(&body).unwrap_or_default();
    Ok(request)
}

fn send(mut connection: TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::HangUp => Ok(()),
        Reply::After(wait, reply) => {
            std::thread::sleep(wait);
            send(connection, *reply)
        }
        Reply::Cut => connection
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"choices\":[{\"mess"),
        Reply::Whole(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Reply\r\nconnection: close\r\n");
            head.push_str(&format!("content-length: {}\r\n", body.len()));
            for (name, value) in &headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            connection.write_all(format!("{head}\r\n").as_bytes())?;
            connection.write_all(&body)?;
            connection.flush()
        }
    }
}
