//! Clients in a closed loop: each keeps one connection and asks again as soon as it has its answer.
//!
//! All of them are tasks of one thread, so that they cost the servers, which share the machine with them, as little as possible; what
//! they cost is measured and printed. Answers are kept and looked at when the turn is over.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use tokio::net::TcpStream;

use crate::figures::Figures;

/// Until a connection and its thread are warm.
const WARM_UP: Duration = Duration::from_millis(500);
/// Nobody takes so long for a text.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where to ask, and what.
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) path: &'static str,
    /// The bodies of the requests, asked in this order, again and again.
    pub(crate) bodies: Vec<Bytes>,
}

/// The answer to the body of this number.
pub(crate) struct Answer {
    pub(crate) number: usize,
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// What came of a turn. Only answers that arrived within it count.
pub(crate) struct Turn {
    pub(crate) answers: Vec<Answer>,
    /// In nanoseconds.
    pub(crate) latencies: Figures,
    pub(crate) length: Duration,
    /// What the server used meanwhile, as `cpu` says.
    pub(crate) server_cpu: f64,
    /// What the clients used meanwhile, in seconds.
    pub(crate) own_cpu: f64,
}

impl Turn {
    pub(crate) fn per_second(&self) -> f64 {
        count(self.answers.len()) / self.length.as_secs_f64()
    }

    /// The server's CPU milliseconds for each request.
    pub(crate) fn cost(&self) -> f64 {
        1e3 * self.server_cpu / count(self.answers.len().max(1))
    }

    /// The clients' CPU milliseconds for each request.
    pub(crate) fn own_cost(&self) -> f64 {
        1e3 * self.own_cpu / count(self.answers.len().max(1))
    }
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Who asks what next, and until when.
struct Shared {
    next: Cell<usize>,
    counting: Cell<bool>,
    over: Cell<bool>,
}

/// Lets so many clients ask for so long. `cpu` gives the CPU seconds that the server has used so far.
pub(crate) fn turn(
    target: &Target,
    clients: usize,
    length: Duration,
    cpu: impl Fn() -> anyhow::Result<f64>,
) -> anyhow::Result<Turn> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Rc::new(Shared { next: Cell::new(0), counting: Cell::new(false), over: Cell::new(false) });
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut tasks = Vec::new();
        for _ in 0..clients {
            let mut connection = Connection::open(target.port, target.path).await?;
            let (bodies, shared) = (target.bodies.clone(), Rc::clone(&shared));
            tasks.push(tokio::task::spawn_local(async move { connection.ask_on(&bodies, &shared).await }));
        }
        tokio::time::sleep(WARM_UP).await;
        let (server_before, own_before) = (cpu()?, own_cpu()?);
        let began = Instant::now();
        shared.counting.set(true);
        tokio::time::sleep(length).await;
        shared.counting.set(false);
        shared.over.set(true);
        let length = began.elapsed();
        let (server_cpu, own_cpu) = (cpu()? - server_before, own_cpu()? - own_before);
        let (mut answers, mut latencies) = (Vec::new(), Figures::default());
        for task in tasks {
            for (answer, latency) in task.await?? {
                answers.push(answer);
                latencies.add(latency);
            }
        }
        Ok(Turn { answers, latencies, length, server_cpu, own_cpu })
    })
}

/// One client's connection.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    path: &'static str,
}

impl Connection {
    pub(crate) async fn open(port: u16, path: &'static str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends when the sender is dropped; what went wrong is the sender's to say.
        tokio::task::spawn(async move { drop(connection.await) });
        Ok(Self { sender, path })
    }

    pub(crate) async fn ask(&mut self, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::post(self.path)
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let whole = async {
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, whole).await.with_context(|| format!("no answer for {PATIENCE:?}"))?
    }

    async fn ask_on(&mut self, bodies: &[Bytes], shared: &Shared) -> anyhow::Result<Vec<(Answer, u64)>> {
        let mut answers = Vec::new();
        while !shared.over.get() {
            let number = shared.next.get() % bodies.len();
            shared.next.set(number + 1);
            let body = bodies.get(number).cloned().unwrap_or_default();
            let asked = Instant::now();
            let (status, body) = self.ask(body).await?;
            // An answer of the warm-up, or one that came too late, is nobody's.
            if shared.counting.get() {
                let latency = u64::try_from(asked.elapsed().as_nanos())?;
                answers.push((Answer { number, status, body }, latency));
            }
        }
        Ok(answers)
    }
}

fn own_cpu() -> anyhow::Result<f64> {
    let used = getrusage(UsageWho::RUSAGE_THREAD)?;
    let microseconds = used.user_time().num_microseconds() + used.system_time().num_microseconds();
    #[expect(clippy::cast_precision_loss, reason = "seconds of CPU in microseconds")]
    Ok(microseconds as f64 / 1e6)
}
