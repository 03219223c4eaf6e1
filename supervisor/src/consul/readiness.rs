//! Whether the agent is really ready: a leader is known, and the agent's own node is in the catalog.
//!
//! That the API answers proves nothing: without servers an agent takes registrations with 200 and keeps them to itself.

use std::time::Duration;

use lifecycle::{AgentReport, Event, Failure, Generation};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::api_client::ApiClient;

const TIMEOUT: Duration = Duration::from_secs(2);
/// From exec to a ready agent takes about 70 ms: asked often at first, and less and less often.
const FIRST: Duration = Duration::from_millis(5);
const LAST: Duration = Duration::from_secs(1);
/// Once ready.
const STEADY: Duration = Duration::from_secs(5);

/// Which node the agent must be.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub node: String,
    /// Its id.
    pub node_id: String,
}

/// Asks again and again, and reports every answer.
pub async fn run(client: ApiClient, identity: Identity, generation: Generation, events: mpsc::Sender<Event>) {
    let mut delay = FIRST;
    let mut is_ours = false;
    loop {
        let report = match ask(&client, &identity, &mut is_ours).await {
            Ok(report) => report,
            Err(failure) => AgentReport::NotReady(failure.reason().to_owned()),
        };
        let ready = matches!(report, AgentReport::Ready { .. });
        if events.send(Event::AgentProbed { generation, report }).await.is_err() {
            return;
        }
        sleep(if ready { STEADY } else { delay }).await;
        delay = if ready { FIRST } else { (delay * 3 / 2).min(LAST) };
    }
}

async fn ask(client: &ApiClient, identity: &Identity, is_ours: &mut bool) -> Result<AgentReport, Failure> {
    if !*is_ours {
        let id = client.own_node_id(TIMEOUT).await?;
        if id != identity.node_id {
            return Ok(AgentReport::NotReady(format!(
                "the API is served by another agent (node id {id}): give this one an address of its own with agent.http-addr"
            )));
        }
        *is_ours = true;
    }
    let leader = client.leader(TIMEOUT).await?;
    if leader.is_empty() {
        return Ok(AgentReport::NotReady("the Consul servers have no leader".to_owned()));
    }
    if !client.node_is_known(&identity.node, TIMEOUT).await? {
        return Ok(AgentReport::NotReady(format!("node {} is not in the catalog yet", identity.node)));
    }
    Ok(AgentReport::Ready { leader })
}
