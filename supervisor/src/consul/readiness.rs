//! Whether the agent is really ready: a leader is known, and the agent's own node is in the catalog.
//!
//! That the API answers proves nothing: without servers an agent takes registrations with 200 and keeps them to itself.

use std::time::Duration;

use lifecycle::{AgentReport, Event, Failure, Generation};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::api_client::ApiClient;

const TIMEOUT: Duration = Duration::from_secs(1);
/// From exec to a ready agent takes about 70 ms: asked often at first, and less and less often.
const FIRST: Duration = Duration::from_millis(5);
const LAST: Duration = Duration::from_secs(1);
/// Once ready.
const STEADY: Duration = Duration::from_secs(2);

/// Which agent it must be.
#[derive(Clone, Debug)]
pub enum Identity {
    /// The one that we started.
    Ours {
        /// Its node's name.
        node: String,
        /// Its node's id.
        node_id: String,
        /// Its node's address.
        address: std::net::IpAddr,
    },
    /// Whichever serves the address that was configured.
    Any,
}

/// Asks again and again, and reports every answer.
pub async fn run(client: ApiClient, identity: Identity, generation: Generation, events: mpsc::Sender<Event>) {
    let mut delay = FIRST;
    let mut node = None;
    loop {
        let report = match ask(&client, &identity, &mut node).await {
            Ok(report) => report,
            Err(Failure::Unanswered(reason)) => AgentReport::Silent(reason),
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

/// `node` is the name of the agent's node, once that is known.
async fn ask(
    client: &ApiClient,
    identity: &Identity,
    node: &mut Option<String>,
) -> Result<AgentReport, Failure> {
    let name = match node {
        Some(name) => name,
        None => match identity {
            Identity::Ours { node: name, node_id, .. } => {
                let id = client.own_node_id(TIMEOUT).await?;
                if id != *node_id {
                    return Ok(AgentReport::NotReady(format!(
                        "the API is served by another agent (node id {id}): give this one an address of its own with agent.http-addr"
                    )));
                }
                node.insert(name.clone())
            }
            Identity::Any => node.insert(client.own_node_name(TIMEOUT).await?),
        },
    };
    let leader = client.leader(TIMEOUT).await?;
    if leader.is_empty() {
        return Ok(AgentReport::NotReady("the Consul servers have no leader".to_owned()));
    }
    let Some(known) = client.node_address(name, TIMEOUT).await? else {
        return Ok(AgentReport::NotReady(format!("node {name} is not in the catalog yet")));
    };
    if let Identity::Ours { address, .. } = identity
        && known.parse() != Ok(*address)
    {
        return Ok(AgentReport::NotReady(format!(
            "another host is in the catalog as node {name}, at {known} and not at {address}: give each its own agent.node-name"
        )));
    }
    Ok(AgentReport::Ready { leader })
}
