//! The supervisor's side of the control socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Event, Role};
use line_socket::{Client, PATIENCE, Socket};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::admission;
use super::protocol::{ControlReply, ControlRequest, ReloadReport, Restartable};
use crate::status::Status;

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

/// Serves clients until the event loop is gone.
pub async fn serve(socket: Socket, reach: Reach) {
    let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
    let served = line_socket::serve(&socket, CLIENTS_MAX, |client| {
        let talk = Talk { reach: reach.clone(), watchers: Arc::clone(&watchers) };
        talk.with(client)
    });
    if let Err(error) = served.await {
        tracing::error!(%error, "control socket: it cannot be served");
    }
}

/// What one client is told.
struct Talk {
    reach: Reach,
    watchers: Arc<Semaphore>,
}

impl Talk {
    async fn with(self, mut client: Client) -> io::Result<()> {
        let reply = match client.request().await? {
            Ok(ControlRequest::Watch) => match self.watchers.try_acquire() {
                Ok(_watching) => return watch(self.reach.status.clone(), &mut client).await,
                Err(_) => ControlReply::refusal(format!("{WATCHERS_MAX} clients are watching already")),
            },
            // Whoever waits for a reload is bounded by its queue.
            Ok(request) => self.answer(request).await,
            Err(reason) => ControlReply::refusal(reason),
        };
        client.answer(&reply).await
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

/// A line now, with each change, and with each heartbeat.
async fn watch(mut status: watch::Receiver<Status>, client: &mut Client) -> io::Result<()> {
    loop {
        let now = status.borrow_and_update().clone();
        client.send(&ControlReply { ok: true, status: Some(now), ..ControlReply::default() }).await?;
        if let Ok(Err(_)) = timeout(HEARTBEAT, status.changed()).await {
            return Ok(());
        }
    }
}
