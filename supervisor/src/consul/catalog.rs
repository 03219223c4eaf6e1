//! The task that sends catalog requests, one at a time, and answers each exactly once.

use std::time::Duration;

use lifecycle::{Event, Failure, Generation, Request};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::api_client::ApiClient;
use crate::config::{Check, Service};

/// For one call. The agent is on this host: what takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at the servers' catalog while an entry goes: about as long as that takes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Our entry: what it is, and on which node.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The entry itself.
    pub service: Service,
    /// Its checks.
    pub check: Check,
    /// The agent's node.
    pub node: String,
}

/// Serves requests until the sender is dropped.
pub async fn run(
    client: ApiClient,
    entry: Entry,
    mut requests: mpsc::Receiver<(Generation, Request)>,
    events: mpsc::Sender<Event>,
) {
    while let Some((generation, request)) = requests.recv().await {
        let outcome = answer(&client, &entry, request).await;
        if events.send(Event::CatalogReplied { generation, outcome }).await.is_err() {
            return;
        }
    }
}

async fn answer(
    client: &ApiClient,
    Entry { service, check, node }: &Entry,
    request: Request,
) -> Result<(), Failure> {
    match request {
        Request::Register => client.register(service, check, TIMEOUT).await,
        Request::Update(report) => client.update(service, &report, TIMEOUT).await,
        Request::AddHttpCheck => client.add_http_check(service, check, TIMEOUT).await,
        Request::RemoveHttpCheck => client.remove_http_check(service, TIMEOUT).await,
        Request::Deregister { timeout } => deregister(client, service, node, timeout).await,
    }
}

/// Removes the entry and looks at the servers until it is gone: the agent says 200 as soon as it has forgotten the service itself, which
/// says nothing about the servers (while there is no leader they keep it).
async fn deregister(
    client: &ApiClient,
    service: &Service,
    node: &str,
    timeout: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    client.deregister(service, timeout.min(TIMEOUT)).await?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Unanswered(
                "deregistered at the agent, and still listed by the servers".to_owned(),
            ));
        }
        match client.is_listed(service, node, left).await {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            // Without a leader nobody can tell: asked again until the time is over.
            Err(failure) => tracing::debug!(reason = failure.reason(), "the catalog cannot be asked"),
        }
        sleep(LOOK_AGAIN.min(left)).await;
    }
}
