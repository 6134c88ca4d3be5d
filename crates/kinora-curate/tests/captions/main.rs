//! Captions from a server that speaks the chat protocol, and what becomes of its faults.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod server;

use kinora_curate::Result;
use kinora_curate::captions::{
    AnswerCache, Budget, Caption, Endpoint, EndpointSettings, NoCache, NoCaption, Question, Spent,
    Surroundings,
};
use kinora_media::Rgb8Image;
use server::{Reply, Request, Server};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

const FOX: &str = "A fox runs over fresh snow.";
const KEY: &str = "sk-secret-4711";

fn frame(level: u8) -> Rgb8Image {
    Rgb8Image::from_fn(32, 18, |_, _| [level; 3])
}

fn about(level: u8) -> Question {
    Question::Frames(vec![frame(level)])
}

fn settings(server: &Server) -> EndpointSettings {
    EndpointSettings {
        timeout_s: 20.0,
        ..EndpointSettings::image(server.url(), "m")
    }
}

fn open(settings: EndpointSettings) -> Endpoint {
    Endpoint::with_key(settings, None).unwrap()
}

/// Sleeps that only remember how long they were asked to be.
#[derive(Default)]
struct Waits(Mutex<Vec<Duration>>);

impl Waits {
    fn ask(&self, endpoint: &Endpoint, level: u8) -> Caption {
        self.ask_with(endpoint, level, &NoCache)
    }

    fn ask_with(&self, endpoint: &Endpoint, level: u8, cache: &dyn AnswerCache) -> Caption {
        let sleep = |wait| self.0.lock().unwrap().push(wait);
        let surroundings = Surroundings {
            cache,
            sleep: &sleep,
            seed: 1,
        };
        endpoint.caption(&about(level), &surroundings)
    }

    fn seconds(&self) -> Vec<f64> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(Duration::as_secs_f64)
            .collect()
    }
}

#[derive(Default)]
struct Kept(Mutex<BTreeMap<String, String>>);

impl AnswerCache for Kept {
    fn get(&self, key: &str) -> Option<String> {
        self.0.lock().unwrap().get(key).cloned()
    }

    fn put(&self, key: &str, answer: &str) -> Result<()> {
        self.0
            .lock()
            .unwrap()
            .insert(key.to_owned(), answer.to_owned());
        Ok(())
    }
}

/// What a caption is, or why there is none, after the replies given.
fn after(replies: Vec<Reply>) -> (Caption, Vec<f64>, usize) {
    let server = Server::with(replies);
    let waits = Waits::default();
    let caption = waits.ask(&open(settings(&server)), 7);
    (caption, waits.seconds(), server.asked().len())
}

#[test]
fn a_frame_is_shown_and_its_caption_comes_back() {
    let server = Server::with(vec![Reply::words(
        "Here is a caption: \"A fox runs over fresh snow.\"",
    )]);
    let endpoint = Endpoint::with_key(settings(&server), Some(KEY.to_owned())).unwrap();
    assert_eq!(Waits::default().ask(&endpoint, 7).as_deref(), Ok(FOX));
    assert_eq!(
        endpoint.spent(),
        Spent {
            requests: 1,
            tokens: 120
        }
    );
    let [asked]: [Request; 1] = server.asked().try_into().unwrap();
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.header("authorization"), Some("Bearer sk-secret-4711"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    let url = &asked.body["messages"][0]["content"][1]["image_url"]["url"];
    assert!(
        url.as_str()
            .unwrap()
            .starts_with("data:image/jpeg;base64,/9j/")
    );
}

#[test]
fn several_frames_are_shown_in_order_and_two_captions_are_merged() {
    let server = Server::with(vec![Reply::words(
        "A small red fox runs over fresh snow between dark trees, stops, and turns its head back.",
    )]);
    let surroundings = Surroundings {
        cache: &NoCache,
        sleep: &|_| {},
        seed: 1,
    };
    let video = open(EndpointSettings::video(server.url(), "m"));
    let frames = Question::Frames(vec![frame(0), frame(128), frame(255)]);
    assert!(video.caption(&frames, &surroundings).is_ok());
    let merged = open(EndpointSettings::merged(server.url(), "m"));
    let captions = Question::Captions {
        image: "a red fox".to_owned(),
        video: "it runs and stops".to_owned(),
    };
    assert!(merged.caption(&captions, &surroundings).is_ok());
    let asked = server.asked();
    let parts = asked[0].body["messages"][0]["content"].as_array().unwrap();
    assert_eq!(parts.len(), 4);
    assert_ne!(parts[1], parts[2]);
    let texts = asked[1].body["messages"][1]["content"].as_str().unwrap();
    assert!(texts.contains("a red fox") && texts.contains("it runs and stops"));
}

#[test]
fn a_fault_that_passes_is_waited_out() {
    for fault in [
        Reply::status(500, "oops"),
        Reply::status(503, r#"{"detail":"loading"}"#),
        Reply::status(408, ""),
        Reply::HangUp,
        Reply::Cut,
    ] {
        let (caption, waits, asked) = after(vec![fault.clone(), Reply::words(FOX)]);
        assert_eq!(caption.as_deref(), Ok(FOX), "{fault:?}");
        assert_eq!((waits.len(), asked), (1, 2));
        assert!((0.5..=1.0).contains(&waits[0]), "{waits:?}");
    }
}

#[test]
fn a_server_that_says_when_is_asked_then() {
    let busy = Reply::status(429, r#"{"error":{"message":"slow down"}}"#);
    let (caption, waits, _) = after(vec![
        busy.clone().with_header("retry-after", "7"),
        Reply::words(FOX),
    ]);
    assert_eq!(caption.as_deref(), Ok(FOX));
    assert!((7.0..=7.7).contains(&waits[0]), "{waits:?}");

    let dated = busy
        .clone()
        .with_header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .with_header("retry-after", "Sun, 06 Nov 1994 08:49:57 GMT");
    let (caption, waits, _) = after(vec![dated, Reply::words(FOX)]);
    assert_eq!(caption.as_deref(), Ok(FOX));
    assert!((20.0..=22.0).contains(&waits[0]), "{waits:?}");

    let (caption, waits, asked) = after(vec![busy.with_header("retry-after", "86400")]);
    let reason = caption.unwrap_err().to_string();
    assert!(
        reason.contains("86400 s") && reason.contains("slow down"),
        "{reason}"
    );
    assert_eq!((waits.len(), asked), (0, 1));
}

#[test]
fn waits_grow_and_end() {
    let (caption, waits, asked) = after(vec![Reply::status(502, "<html>Bad gateway</html>")]);
    let reason = caption.unwrap_err();
    assert!(matches!(reason, NoCaption::Unanswered(_)));
    assert!(
        reason.to_string().contains("502") && reason.to_string().contains("5 times"),
        "{reason}"
    );
    assert_eq!(asked, 5);
    for (attempt, wait) in waits.iter().enumerate() {
        let bound = 2f64.powi(attempt as i32);
        assert!((0.5 * bound..=bound).contains(wait), "{waits:?}");
    }
}

#[test]
fn a_server_that_is_too_slow_is_asked_again() {
    let slow = Reply::After(Duration::from_millis(700), Box::new(Reply::words(FOX)));
    let server = Server::with(vec![slow, Reply::words(FOX)]);
    let mut patience = settings(&server);
    patience.timeout_s = 0.3;
    patience.attempts = 1;
    let reason = Waits::default()
        .ask(&open(patience), 7)
        .unwrap_err()
        .to_string();
    assert!(reason.contains("longer than `timeout_s`"), "{reason}");
    let waits = Waits::default();
    assert_eq!(waits.ask(&open(settings(&server)), 7).as_deref(), Ok(FOX));
}

#[test]
fn an_answer_that_is_none_is_refused_with_the_reason() {
    let page =
        Reply::status(200, "<html>Please log in</html>").with_header("content-type", "text/html");
    for (reply, word) in [
        (
            Reply::status(200, "{\"choices\": [{]"),
            "expected a JSON answer",
        ),
        (page, "Please log in"),
        (
            Reply::json(serde_json::json!({ "choices": [] })),
            "`choices` is empty",
        ),
        (
            Reply::json(serde_json::json!({ "error": { "message": "out of memory" } })),
            "out of memory",
        ),
        (Reply::words(""), "expected words"),
        (
            Reply::words("I'm sorry, but I cannot help with that."),
            "declines",
        ),
        (
            Reply::status(400, r#"{"error":{"message":"image too small"}}"#),
            "image too small",
        ),
        (
            Reply::Whole(200, Vec::new(), vec![b' '; 5 << 20]),
            "larger than",
        ),
    ] {
        let (caption, waits, asked) = after(vec![reply]);
        let reason = caption.unwrap_err();
        assert!(matches!(reason, NoCaption::Refused(_)), "{reason}");
        assert!(reason.to_string().contains(word), "{word}: {reason}");
        assert_eq!((waits.len(), asked), (0, 1));
    }
}

#[test]
fn an_answer_under_another_content_type_is_an_answer() {
    let reply = Reply::words(FOX).with_header("content-type", "text/plain");
    assert_eq!(after(vec![reply]).0.as_deref(), Ok(FOX));
}

#[test]
fn an_endpoint_that_refuses_us_is_not_asked_again() {
    let quota = r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
    for (reply, word) in [
        (Reply::status(401, ""), "`key_env`"),
        (
            Reply::status(404, r#"{"message":"no model m"}"#),
            "no model m",
        ),
        (Reply::status(429, quota), "nothing left to spend"),
        (
            Reply::status(301, "").with_header("location", "http://elsewhere/"),
            "not followed",
        ),
    ] {
        let server = Server::with(vec![reply]);
        let (endpoint, waits) = (open(settings(&server)), Waits::default());
        for level in 0..3 {
            let reason = waits.ask(&endpoint, level).unwrap_err();
            assert!(matches!(reason, NoCaption::Closed(_)), "{reason}");
            assert!(reason.to_string().contains(word), "{word}: {reason}");
        }
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_server_that_is_gone_is_given_up() {
    let url = Server::with(vec![Reply::HangUp]).url(); // dropped at once
    let gone = EndpointSettings {
        attempts: 2,
        failures_in_a_row: 3,
        ..EndpointSettings::image(url, "m")
    };
    let (endpoint, waits) = (open(gone), Waits::default());
    for level in 0..3 {
        let reason = waits.ask(&endpoint, level).unwrap_err();
        assert!(matches!(reason, NoCaption::Unanswered(_)), "{reason}");
    }
    let reason = waits.ask(&endpoint, 3).unwrap_err();
    assert!(matches!(reason, NoCaption::Closed(_)), "{reason}");
    assert_eq!(waits.seconds().len(), 3);
}

#[test]
fn the_key_is_nowhere_to_be_read() {
    // Some servers repeat the key in their refusal.
    let echo = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}"}}}}"#);
    let server = Server::with(vec![Reply::words(FOX), Reply::status(401, &echo)]);
    let endpoint = Endpoint::with_key(settings(&server), Some(KEY.to_owned())).unwrap();
    let (kept, waits) = (Kept::default(), Waits::default());
    waits.ask_with(&endpoint, 1, &kept).unwrap();
    let reason = waits.ask_with(&endpoint, 2, &kept).unwrap_err();
    assert!(reason.to_string().contains("[key]"), "{reason}");
    let everything = format!(
        "{reason} {reason:?} {endpoint:?} {} {:?}",
        endpoint.params(),
        kept.0.lock().unwrap()
    );
    assert!(
        !everything.contains(KEY) && !everything.contains("4711"),
        "{everything}"
    );

    let broken = Endpoint::with_key(settings(&server), Some(format!("{KEY}\n{KEY}"))).unwrap_err();
    assert!(!broken.to_string().contains("4711"), "{broken}");
}

#[test]
fn a_key_that_is_not_in_the_environment_is_asked_for_by_name() {
    let server = Server::with(vec![Reply::words(FOX)]);
    let mut settings = settings(&server);
    settings.key_env = Some("KINORA_TEST_NO_SUCH_KEY".to_owned());
    let failure = Endpoint::open(settings).unwrap_err().to_string();
    assert!(failure.contains("KINORA_TEST_NO_SUCH_KEY"), "{failure}");
}

#[test]
fn a_second_run_asks_only_what_the_first_did_not_get() {
    let kept = Kept::default();
    let server = Server::start(|_, request| match request.body["temperature"].as_f64() {
        Some(_) => Reply::words(FOX),
        None => Reply::status(400, ""),
    });
    let waits = Waits::default();
    let first = EndpointSettings {
        budget: Budget {
            max_requests: Some(2),
            max_tokens: None,
        },
        ..settings(&server)
    };
    let endpoint = open(first);
    let got: Vec<bool> = (0..4)
        .map(|level| waits.ask_with(&endpoint, level, &kept).is_ok())
        .collect();
    assert_eq!(got, [true, true, false, false]);
    let reason = waits.ask_with(&endpoint, 3, &kept).unwrap_err();
    assert!(matches!(reason, NoCaption::Budget(_)), "{reason}");
    // What is kept costs nothing, even without a budget.
    assert!(waits.ask_with(&endpoint, 0, &kept).is_ok());

    let endpoint = open(settings(&server));
    assert!((0..4).all(|level| waits.ask_with(&endpoint, level, &kept).is_ok()));
    assert_eq!(endpoint.spent().requests, 2);
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn what_was_refused_is_asked_again_in_the_next_run() {
    let kept = Kept::default();
    let server = Server::with(vec![Reply::words("no"), Reply::words(FOX)]);
    let (endpoint, waits) = (open(settings(&server)), Waits::default());
    assert!(waits.ask_with(&endpoint, 1, &kept).is_err());
    assert_eq!(waits.ask_with(&endpoint, 1, &kept).as_deref(), Ok(FOX));
    assert_eq!(waits.ask_with(&endpoint, 1, &kept).as_deref(), Ok(FOX));
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn many_are_in_flight_and_come_back_in_order() {
    // Each of four requests waits until four have arrived (a server that never sees four lets go in the end).
    let arrived = std::sync::Arc::new((Mutex::new(0usize), std::sync::Condvar::new()));
    let server = Server::start(move |_, request| {
        let (count, changed) = &*arrived;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        let deadline = Duration::from_secs(20);
        let _ = changed
            .wait_timeout_while(count, deadline, |count| *count < 4)
            .unwrap();
        let shown = request.body["messages"][0]["content"][1]["image_url"]["url"].to_string();
        Reply::words(&format!(
            "A grey picture whose data are {} bytes and end {}",
            shown.len(),
            &shown[shown.len() - 60..]
        ))
    });
    let mut settings = settings(&server);
    settings.requests_in_flight = 4;
    let endpoint = open(settings);
    let surroundings = Surroundings {
        cache: &NoCache,
        sleep: &|_| {},
        seed: 1,
    };
    let question = |at: usize| match at {
        5 => Err("its middle frame cannot be decoded".to_owned()),
        _ => Ok(Question::Frames(vec![Rgb8Image::from_fn(
            40,
            30,
            |x, y| [(x * (at + 3)) as u8, (y * (at + 5)) as u8, (at * 30) as u8],
        )])),
    };
    let together = endpoint.captions(8, &question, &surroundings);
    assert_eq!(server.most_in_flight(), 4);
    for (at, caption) in together.iter().enumerate() {
        match question(at) {
            Ok(question) => assert_eq!(*caption, endpoint.caption(&question, &surroundings)),
            Err(reason) => assert_eq!(*caption, Err(NoCaption::Question(reason))),
        }
    }
    assert!(endpoint.captions(0, &question, &surroundings).is_empty());
}
