//! The ports that this instance's own processes listen on must not meet.

use lifecycle::AgentMode;

use super::problem::Problem;
use super::settings::{Api, Config};
use super::values::Values;

/// Refuses a port that is wanted twice by our own processes. Each clash is reported once, at the later key.
pub(super) fn clashes(values: &mut Values<'_>, config: &Config) {
    let mut wanted = Vec::new();
    if let Some(catalog) = &config.catalog {
        let agent = &catalog.agent;
        wanted.push(("service.port", "the worker", catalog.service.port));
        if catalog.mode == AgentMode::Child {
            wanted.push(("agent.serf-port", "the agent's gossip", agent.serf_port));
            if let Api::Tcp(_, port) = agent.api {
                wanted.push(("agent.http-addr", "the agent's API", port));
            }
            wanted.extend(agent.dns_port.map(|port| ("agent.dns-port", "the agent's DNS", port)));
        }
    }
    wanted.extend(config.metrics.map(|address| ("metrics.addr", "the metrics", address.port())));
    for (index, (key, _, port)) in wanted.iter().enumerate() {
        // 0 stands for any free port, or for one that is wrong already.
        let earlier = wanted.iter().take(index).find(|(_, _, other)| other == port && *port != 0);
        if let Some((other, whose, _)) = earlier {
            let place = values.place(key);
            let value = values.list(key).join(",");
            let expected = format!("a port of its own; {whose} has {port} by {other}");
            values.problems.push(Problem::new(key, &value, place, &expected));
        }
    }
}
