//! Hostile input and what each gets, which is also docs/hostile-input.md: the table there is written by this test
//! (`PILOTLIGHT_UPDATE_DOCS=1`) and compared with what the server answers in every other run.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Server, other_model};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hostile-input.md");
const BEGIN: &str = "<!-- the table: written by model-runtime/tests/server/hostile.rs (PILOTLIGHT_UPDATE_DOCS=1), compared by every other run -->\n";
const END: &str = "<!-- end of the table -->\n";
const JSON: &str = "application/json";

/// What is sent, for people, and how.
struct Attack {
    name: &'static str,
    sent: Sent,
}

enum Sent {
    /// `POST /predict` with this content type and body.
    Body(&'static str, Vec<u8>),
    /// Bytes on a connection of their own.
    Raw(Vec<u8>),
}

fn attacks() -> Vec<Attack> {
    let attack = |name, sent| Attack { name, sent };
    let json = |name, body: &str| attack(name, Sent::Body(JSON, body.as_bytes().to_vec()));
    let of = |name, body: Value| attack(name, Sent::Body(JSON, body.to_string().into_bytes()));
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let raw = |name, text: String| attack(name, Sent::Raw(text.into_bytes()));
    let chunks = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{}",
        format!("10000\r\n{}\r\n", "a".repeat(65_536)).repeat(40)
    );
    vec![
        raw("a body of 50 MB, announced", format!("{head}content-length: 50000000\r\n\r\n{{")),
        raw("a body without end, in chunks", chunks),
        json("no body", ""),
        json("JSON 100,000 levels deep", &"[".repeat(100_000)),
        json("an object 100,000 levels deep", &"{\"inputs\":".repeat(100_000)),
        json("`NaN`", "{\"inputs\": NaN}"),
        json("a number of 100,000 digits", &format!("{{\"inputs\": {}}}", "9".repeat(100_000))),
        json("half a surrogate pair", "{\"inputs\": \"\\ud800\"}"),
        attack("bad UTF-8", Sent::Body(JSON, b"{\"inputs\": \"\xff\xfe\"}".to_vec())),
        json("the same key twice", "{\"inputs\": \"a\", \"inputs\": \"b\"}"),
        of("a key of 1 MB", json!({"inputs": "a", "k".repeat(1_000_000): 1})),
        of("a number where a text belongs", json!({"inputs": 7})),
        of("no text at all", json!({"inputs": []})),
        of("100,000 texts", json!({"inputs": vec!["a"; 100_000]})),
        of("an empty text", json!({"inputs": ""})),
        of("characters that are no text", json!({"inputs": "\u{0}\u{200b}\u{feff}\u{fffd}"})),
        of("a text of 100,000 characters", json!({"inputs": "Zoë Müller ".repeat(9_091)})),
        of(
            "the same, not to be cut",
            json!({"inputs": "Zoë Müller ".repeat(9_091), "parameters": {"truncate": false}}),
        ),
        of("a word of 100,000 letters", json!({"inputs": "a".repeat(100_000)})),
        of(
            "100,000 combining marks on one letter",
            json!({"inputs": format!("a{}", "\u{301}".repeat(100_000))}),
        ),
        of("an unknown parameter", json!({"inputs": "a", "parameters": {"__proto__": {}}})),
        attack("another content type", Sent::Body("text/html", b"<p>".to_vec())),
        attack("a form", Sent::Body("multipart/form-data; boundary=x", b"--x--".to_vec())),
        raw("a head of 100 KB", format!("{head}x-large: {}\r\n\r\n", "a".repeat(100_000))),
        raw("what is no HTTP", "\x16\x03\x01\x02\x00 hello\r\n\r\n".to_owned()),
        raw("two lengths", format!("{head}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}}}")),
        raw(
            "a path out of the tree",
            "GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
        ),
    ]
}

/// What came back: the status and the type of the error, or that the text was cut.
async fn answer(server: &Server, sent: &Sent) -> String {
    let (status, head, body) = match sent {
        Sent::Body(content_type, body) => {
            let request = reqwest::Client::new()
                .post(format!("{}/predict", server.url))
                .header("content-type", *content_type);
            let response = request.body(body.clone()).send().await.unwrap();
            let cut = response.headers().contains_key("x-truncated");
            (
                response.status().as_u16(),
                if cut { "cut, and said so in `x-truncated`" } else { "" },
                response.text().await.unwrap(),
            )
        }
        Sent::Raw(bytes) => {
            let mut stream = TcpStream::connect(&server.address).await.unwrap();
            // The server may answer, and close, before it has everything.
            let _ = stream.write_all(bytes).await;
            let mut start = [0; 12];
            stream.read_exact(&mut start).await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            let rest = String::from_utf8_lossy(&rest).into_owned();
            let body = rest.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
            (String::from_utf8_lossy(&start[9..]).parse().unwrap(), "", body)
        }
    };
    let error: Value = serde_json::from_str(&body).unwrap_or_default();
    assert!(status == 200 || body.len() < 3_000, "an error of {} bytes", body.len());
    let said = error["error_type"].as_str().map_or_else(|| head.to_owned(), |kind| format!("`{kind}`"));
    format!("{status} {said}").trim().to_owned()
}

#[tokio::test]
async fn each_hostile_input_gets_its_documented_answer_and_harms_nobody() {
    let server = Server::of(&other_model("tiny"), &["--read-timeout", "5s"]);
    let mut table = String::from("| Input | Answer |\n|---|---|\n");
    for Attack { name, sent } in attacks() {
        writeln!(table, "| {name} | {} |", answer(&server, &sent).await).unwrap();
        let next = server.predict(&json!({"inputs": "Zoë"})).await;
        assert_eq!(next.status(), 200, "after {name}");
    }
    let (status, health) = server.get("/health").await;
    assert_eq!(
        (status, &health["last_error"], &health["queue_depth"]),
        (200, &Value::Null, &json!(0)),
        "{health}"
    );

    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os("PILOTLIGHT_UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(found, table, "run this test with PILOTLIGHT_UPDATE_DOCS=1, and look at what changed");
    }
}
