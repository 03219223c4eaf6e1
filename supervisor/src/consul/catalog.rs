//! The task that sends catalog requests, one at a time, and answers each exactly once.

use std::time::Duration;

use lifecycle::{Devices, Event, Failure, Generation, Request};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::api_client::ApiClient;
use crate::config::{Check, Service};

/// Between two looks at the servers' catalog while an entry goes: about as long as that takes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Our entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The entry itself.
    pub service: Service,
    /// Its checks.
    pub check: Check,
}

/// A request, the agent that it is for, and how long it may take.
pub type Asked = (Generation, Request, Duration);

/// Serves requests until the sender is dropped. An entry says what is known of the `devices` when it is registered; it is on the agent's
/// `node`, once that has said its name.
pub async fn run(
    client: ApiClient,
    entry: watch::Receiver<Entry>,
    devices: watch::Receiver<Option<Devices>>,
    node: watch::Receiver<Option<String>>,
    mut requests: mpsc::Receiver<Asked>,
    events: mpsc::Sender<Event>,
) {
    while let Some((generation, request, timeout)) = requests.recv().await {
        let (entry, known) = (entry.borrow().clone(), devices.borrow().clone());
        let node = node.borrow().clone();
        let outcome = answer(&client, &entry, known.as_ref(), node.as_deref(), request, timeout).await;
        if events.send(Event::CatalogReplied { generation, outcome }).await.is_err() {
            return;
        }
    }
}

async fn answer(
    client: &ApiClient,
    Entry { service, check }: &Entry,
    devices: Option<&Devices>,
    node: Option<&str>,
    request: Request,
    timeout: Duration,
) -> Result<(), Failure> {
    match request {
        Request::Register => client.register(&service.on(devices), check, timeout).await,
        Request::Update(report) => client.update(service, &report, timeout).await,
        Request::AddHttpCheck => client.add_http_check(service, check, timeout).await,
        Request::RemoveHttpCheck => client.remove_http_check(service, timeout).await,
        Request::Deregister => deregister(client, service, node, timeout).await,
    }
}

/// Removes the entry and looks at the servers until it is gone: the agent says 200 as soon as it has forgotten the service itself, which
/// says nothing about the servers (while there is no leader they keep it).
async fn deregister(
    client: &ApiClient,
    service: &Service,
    node: Option<&str>,
    timeout: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    client.deregister(service, timeout).await?;
    let mut why = "still listed by the servers".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Unreachable(format!("deregistered at the agent, but: {why}")));
        }
        match client.is_listed(service, node, left).await {
            Ok(false) => return Ok(()),
            Ok(true) => why = "still listed by the servers".to_owned(),
            // Without a leader, or the permission to look, nobody can tell: asked again until the time is over.
            Err(Failure::Refused(reason)) => why = format!("nobody can tell whether it is gone: {reason}"),
            Err(failure) => tracing::debug!(reason = failure.reason(), "the catalog cannot be asked"),
        }
        sleep(LOOK_AGAIN.min(left)).await;
    }
}
