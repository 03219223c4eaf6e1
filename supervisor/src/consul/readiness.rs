//! Whether the agent is really ready: a leader is known, and the agent's own node is in the catalog.
//!
//! That the API answers proves nothing: without servers an agent takes registrations with 200 and keeps them to itself.

use std::time::Duration;

use lifecycle::{AgentReport, Cluster, Event, Failure, Generation};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::api_client::{ApiClient, Myself};

const TIMEOUT: Duration = Duration::from_secs(1);
/// From exec to a ready agent takes about 70 ms: asked often at first, and less and less often.
const FIRST: Duration = Duration::from_millis(5);
const LAST: Duration = Duration::from_secs(1);
/// Once ready.
const STEADY: Duration = Duration::from_secs(2);

/// How long what the agent says of itself holds: its neighbours come and go.
const ANEW: Duration = Duration::from_secs(10);

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
/// The node's name goes to `node` once the agent has said it.
pub async fn run(
    client: ApiClient,
    identity: Identity,
    node: watch::Sender<Option<String>>,
    generation: Generation,
    events: mpsc::Sender<Event>,
) {
    let mut delay = FIRST;
    let mut known = None;
    loop {
        let report = match ask(&client, &identity, &node, &mut known).await {
            Ok(report) => report,
            Err(Failure::Unanswered(reason)) => AgentReport::Silent(reason),
            Err(Failure::Unreachable(reason)) => AgentReport::Unreachable(reason),
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

/// What need not be asked every time.
struct Known {
    myself: Myself,
    /// When it was asked.
    asked: Instant,
    /// What is wrong with the agent's own token; `None` before that was asked.
    trouble: Option<String>,
}

async fn ask(
    client: &ApiClient,
    identity: &Identity,
    node: &watch::Sender<Option<String>>,
    known: &mut Option<Known>,
) -> Result<AgentReport, Failure> {
    let expected = match identity {
        Identity::Ours { node, .. } => Some(node.as_str()),
        Identity::Any => None,
    };
    // First, since it takes no token: an agent that does not reach the servers cannot know any, and calls it unknown.
    let leader = client.leader(TIMEOUT).await?;
    if leader.is_empty() {
        return Ok(AgentReport::NotReady("the Consul servers have no leader".to_owned()));
    }
    let known = match known.take().filter(|known| known.asked.elapsed() < ANEW) {
        Some(fresh) => known.insert(fresh),
        None => {
            let myself = client.myself(expected, TIMEOUT).await?;
            known.insert(Known { myself, asked: Instant::now(), trouble: None })
        }
    };
    let Myself { node: name, node_id, cluster } = &known.myself;
    if let Identity::Ours { node_id: ours, .. } = identity
        && node_id != ours
    {
        return Ok(AgentReport::NotReady(format!(
            "the API is served by another agent (node id {node_id}): give this one an address of its own with agent.http-addr"
        )));
    }
    node.send_if_modified(|node| node.replace(name.clone()).as_ref() != Some(name));
    let Some(address) = client.node_address(name, TIMEOUT).await? else {
        return Ok(AgentReport::NotReady(client.why_no_node(name, TIMEOUT).await?));
    };
    if let Identity::Ours { address: ours, .. } = identity
        && address.parse() != Ok(*ours)
    {
        return Ok(AgentReport::NotReady(format!(
            "another host is in the catalog as node {name}, at {address} and not at {ours}: give each its own agent.node-name"
        )));
    }
    if known.trouble.is_none() && expected.is_some() {
        known.trouble = Some(client.own_token_trouble(name, TIMEOUT).await?.unwrap_or_default());
    }
    let trouble = known.trouble.clone().unwrap_or_default();
    Ok(AgentReport::Ready { leader, cluster: Cluster { trouble, ..cluster.clone() } })
}
