//! The supervisor's side of the control socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Event, Role};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::ControlSocket;
use super::admission;
use super::places::{Place, Places};
use super::protocol::{ControlReply, ControlRequest, LINE_MAX, ReloadReport, Restartable};
use crate::status::Status;

/// A client that takes longer to ask or to listen is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many clients may be asking at once; then the one that has taken longest makes room.
const CLIENTS_MAX: usize = 64;
/// How many may watch at once; more are refused.
const WATCHERS_MAX: usize = 16;
/// A watcher hears something this often, so that it can tell "nothing new" from "hung".
const HEARTBEAT: Duration = Duration::from_secs(1);
/// For a reload: the reading's own limit twice over, since one may be under way already.
const RELOAD: Duration = Duration::from_secs(22);

/// What the clients' requests reach.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The published snapshot.
    pub status: watch::Receiver<Status>,
    /// The event loop.
    pub events: mpsc::Sender<Event>,
    /// Whoever reads the configuration again.
    pub reloads: mpsc::Sender<oneshot::Sender<ReloadReport>>,
}

impl ControlSocket {
    /// Serves clients until the event loop is gone.
    pub async fn serve(self, reach: Reach) {
        let (places, watchers) = (Places::default(), Arc::new(Semaphore::new(WATCHERS_MAX)));
        let mut failing = false;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    failing = false;
                    let place = places.take(CLIENTS_MAX);
                    let client = Client { reach: reach.clone(), watchers: Arc::clone(&watchers) };
                    // Whatever goes wrong with one client is over with it.
                    tokio::spawn(async move { client.serve(stream, place).await.ok() });
                    // So that whoever has asked already is heard before the next one takes a place.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    // Most likely no descriptors left: that passes, and trying at once would spin.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "control socket: accept failed; tried again until it works");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

struct Client {
    reach: Reach,
    watchers: Arc<Semaphore>,
}

impl Client {
    async fn serve(self, mut stream: UnixStream, mut place: Place) -> io::Result<()> {
        let uid = stream.peer_cred()?.uid();
        let (reading, mut writing) = stream.split();
        let request = if is_served(uid) {
            tokio::select! {
                request = timeout(PATIENCE, read_request(reading)) => request.unwrap_or_else(|_| {
                    Err(format!("no request within {} s", PATIENCE.as_secs()))
                }),
                _ = &mut place.evicted => {
                    Err("too many clients, and this one had not asked for anything yet".to_owned())
                }
            }
        } else {
            Err(format!("only root and the supervisor's own user are served, and this is user {uid}"))
        };
        let reply = match request {
            Ok(ControlRequest::Watch) => match self.watchers.try_acquire() {
                Ok(_watching) => {
                    drop(place);
                    return watch(self.reach.status.clone(), &mut writing).await;
                }
                Err(_) => ControlReply::refusal(format!("{WATCHERS_MAX} clients are watching already")),
            },
            Ok(request) => {
                // Whoever waits for a reload is bounded by its queue.
                drop(place);
                self.answer(request).await
            }
            Err(reason) => ControlReply::refusal(reason),
        };
        write(&mut writing, &reply).await?;
        timeout(PATIENCE, writing.shutdown()).await?
    }

    async fn answer(&self, request: ControlRequest) -> ControlReply {
        let now = self.reach.status.borrow().clone();
        if let Some(reason) = admission::refusal(request, &now) {
            return ControlReply::refusal(reason);
        }
        let event = match request {
            ControlRequest::Status | ControlRequest::Watch => None,
            ControlRequest::Reload => return self.reload().await,
            ControlRequest::Drain => Some(Event::DrainRequested),
            ControlRequest::Resume => Some(Event::ResumeRequested),
            ControlRequest::Restart { process: Restartable::Worker } => {
                Some(Event::RestartRequested(Role::Worker))
            }
            ControlRequest::Restart { process: Restartable::Agent } => {
                Some(Event::RestartRequested(Role::Agent))
            }
            ControlRequest::Stop => Some(Event::StopRequested),
        };
        if let Some(event) = event
            && !matches!(timeout(PATIENCE, self.reach.events.send(event)).await, Ok(Ok(())))
        {
            return ControlReply::refusal("the supervisor is exiting");
        }
        ControlReply { ok: true, status: Some(now), ..ControlReply::default() }
    }

    async fn reload(&self) -> ControlReply {
        let (reply, report) = oneshot::channel();
        if self.reach.reloads.try_send(reply).is_err() {
            return ControlReply::refusal("too many reloads are waiting already");
        }
        match timeout(RELOAD, report).await {
            Ok(Ok(report)) => ControlReply {
                ok: true,
                reload: Some(report),
                status: Some(self.reach.status.borrow().clone()),
                error: None,
            },
            Ok(Err(_)) => ControlReply::refusal("the supervisor is exiting"),
            Err(_) => ControlReply::refusal(format!("no result within {} s", RELOAD.as_secs())),
        }
    }
}

/// Root can do anything anyway, and the supervisor's own user could trace it. The socket's mode keeps others out already; this holds even
/// where somebody has changed that, or has handed a descriptor on.
fn is_served(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

/// What a client asks for, or what is wrong with how it asks.
async fn read_request(reading: ReadHalf<'_>) -> Result<ControlRequest, String> {
    let mut line = Vec::new();
    let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    BufReader::new(reading.take(limit))
        .read_until(b'\n', &mut line)
        .await
        .map_err(|error| format!("the request cannot be read: {error}"))?;
    if line.last() != Some(&b'\n') {
        return Err(format!("a request is one line of at most {LINE_MAX} bytes"));
    }
    let line = str::from_utf8(&line).map_err(|error| format!("a request is a line of UTF-8: {error}"))?;
    serde_json::from_str(line).map_err(|error| format!("not a request: {error}"))
}

/// A line now, with each change, and with each heartbeat.
async fn watch(mut status: watch::Receiver<Status>, writing: &mut WriteHalf<'_>) -> io::Result<()> {
    loop {
        let now = status.borrow_and_update().clone();
        write(writing, &ControlReply { ok: true, status: Some(now), ..ControlReply::default() }).await?;
        if let Ok(Err(_)) = timeout(HEARTBEAT, status.changed()).await {
            return Ok(());
        }
    }
}

async fn write(writing: &mut WriteHalf<'_>, reply: &ControlReply) -> io::Result<()> {
    let mut text = serde_json::to_string(reply)?;
    text.push('\n');
    timeout(PATIENCE, writing.write_all(text.as_bytes())).await?
}
