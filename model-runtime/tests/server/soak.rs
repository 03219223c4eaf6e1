//! Many requests of all kinds, good and bad, from several clients at once: each gets its answer, and the memory stays what it was.
//!
//! As a test it takes seconds. `SOAK_REQUESTS=100000 cargo test --release -p model-runtime --test server soak -- --nocapture` is the long run,
//! which prints the memory as it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Server, other_model, resident_kib};

const CLIENTS: usize = 16;
/// Some hundred of each kind.
const REQUESTS: usize = 6_000;
/// What a heap that is used by twenty threads, each with its own cache, may still grow by when nothing leaks. In the long run this is half a KiB a
/// request, in the short one 8 KiB.
const GROWTH_KIB: u64 = 24 << 10;

/// A repeatable stream of numbers (splitmix64), so that a failure can be had again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap() % below
    }

    fn text(&mut self, longest: usize) -> String {
        let words = [
            "Zoë",
            "Ada Lovelace",
            "wrote",
            "to",
            "東京",
            "Berlin,",
            "👩‍🚀",
            "+1 (415) 555-0134",
            "a\u{301}",
            "x.y@example.org",
        ];
        let count = 1 + self.next(longest);
        (0..count).map(|_| words[self.next(words.len())]).collect::<Vec<_>>().join(" ")
    }
}

struct Client {
    http: reqwest::Client,
    url: String,
    address: String,
    numbers: Numbers,
}

impl Client {
    /// One request of some kind, and whether it was answered as such a request is.
    async fn ask(&mut self) {
        match self.numbers.next(16) {
            0..=5 => {
                let text = self.numbers.text(40);
                let answer = self.predict(&json!({"inputs": text})).await;
                assert_eq!(answer.0, 200, "{}", answer.1);
            }
            6 | 7 => {
                let count = 1 + self.numbers.next(20);
                let texts: Vec<String> = (0..count).map(|_| self.numbers.text(60)).collect();
                let (status, answer) = self
                    .predict(&json!({"inputs": texts, "parameters": {"aggregation_strategy": "max"}}))
                    .await;
                assert_eq!((status, answer.as_array().map(Vec::len)), (200, Some(count)));
            }
            8 => {
                let long = self.numbers.text(3_000);
                assert_eq!(self.predict(&json!({"inputs": long})).await.0, 200);
            }
            9 => assert_eq!(self.post("application/json", "{\"inputs\": NaN}".to_owned()).await.0, 400),
            10 => assert_eq!(self.post("application/json", "[".repeat(20_000)).await.0, 400),
            11 => assert_eq!(self.predict(&json!({"inputs": "a", "parameters": {"stride": 1}})).await.0, 422),
            12 => assert_eq!(self.post("image/gif", "GIF89a".to_owned()).await.0, 415),
            13 => self.leave_early().await,
            14 => {
                let path = ["/health", "/metrics", "/info", "/readyz"][self.numbers.next(4)];
                assert_eq!(self.http.get(format!("{}{path}", self.url)).send().await.unwrap().status(), 200);
            }
            _ => assert_eq!(self.announce_too_much().await, "HTTP/1.1 413"),
        }
    }

    async fn predict(&self, body: &Value) -> (u16, Value) {
        self.post("application/json", body.to_string()).await
    }

    async fn post(&self, content_type: &str, body: String) -> (u16, Value) {
        let request = self.http.post(format!("{}/predict", self.url)).header("content-type", content_type);
        let response = request.body(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Asks and goes: with half of the request, or without waiting for the answer.
    async fn leave_early(&mut self) {
        let body = json!({"inputs": self.numbers.text(200)}).to_string();
        let head = format!(
            "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let whole = format!("{head}{body}");
        let sent = if self.numbers.next(2) == 0 { whole.len() } else { 1 + self.numbers.next(head.len()) };
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(&whole.as_bytes()[..sent]).await.unwrap();
    }

    async fn announce_too_much(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50000000\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        String::from_utf8_lossy(&start).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_flat_under_requests_of_all_kinds() {
    let requests = std::env::var("SOAK_REQUESTS").map_or(REQUESTS, |count| count.parse().expect("a number"));
    // Everybody waits for an answer, so nobody need be refused.
    let server = Server::of(&other_model("tiny"), &["--max-queue", "4096"]);
    let done = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for seed in 0..CLIENTS {
        let (done, pid) = (Arc::clone(&done), server.pid());
        let (url, address) = (server.url.clone(), server.address.clone());
        clients.spawn(async move {
            let numbers = Numbers(u64::try_from(seed).unwrap());
            let mut client = Client { http: reqwest::Client::new(), url, address, numbers };
            let mut memory = Vec::new();
            while done.fetch_add(1, Ordering::Relaxed) < requests {
                client.ask().await;
                let now = done.load(Ordering::Relaxed);
                if seed == 0 && now >= (memory.len() + 1) * requests / 20 {
                    memory.push(resident_kib(pid));
                    println!("{now:>8} requests  {:>8} KiB", memory[memory.len() - 1]);
                }
            }
            memory
        });
    }
    let memory: Vec<u64> = clients.join_all().await.into_iter().flatten().collect();
    // The first half of the requests fills the heap; then it must stay.
    let (warm, end) = (memory[9], memory[memory.len() - 1]);
    assert!(end <= warm + GROWTH_KIB, "from {warm} to {end} KiB: {memory:?}");
    let (status, health) = server.get("/health").await;
    assert_eq!(
        (status, &health["queue_depth"], &health["last_error"]),
        (200, &json!(0), &Value::Null),
        "{health}"
    );
}
