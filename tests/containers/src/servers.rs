//! Real Consul servers, each in a container.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::docker::{Container, Lab};
use crate::http::get;

/// How many servers the lab runs: the smallest number that can lose one.
const COUNT: usize = 3;

/// The names by which agents join, known before the servers run.
const NAMES: [&str; COUNT] = ["server-1", "server-2", "server-3"];

/// Three servers with a leader.
#[derive(Debug)]
pub struct Servers {
    containers: Vec<Container>,
}

impl Servers {
    /// The names to give to `retry-join`, whether or not the servers run yet.
    #[must_use]
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// Starts them; returns when all three have joined and a leader is known.
    pub fn start(lab: &Lab) -> Result<Self> {
        let image =
            std::env::var("PILOTLIGHT_CONSUL_IMAGE").unwrap_or_else(|_| "pilotlight-local/consul".to_owned());
        let mut containers = Vec::new();
        for name in NAMES {
            let mut command: Vec<String> = [
                "/bin/consul",
                "agent",
                "-server",
                "-data-dir=/tmp/consul",
                "-client=0.0.0.0",
                "-bind={{ GetInterfaceIP \"eth0\" }}",
                "-retry-interval=1s",
                "-log-level=warn",
                // The default is meant for small machines: it elects a leader five times more slowly.
                "-hcl=performance { raft_multiplier = 1 }",
            ]
            .map(str::to_owned)
            .into();
            command.push(format!("-bootstrap-expect={COUNT}"));
            command.push(format!("-node={name}"));
            command.extend(NAMES.map(|peer| format!("-retry-join={peer}")));
            let entrypoint = ["--entrypoint".to_owned(), command.remove(0)];
            containers.push(lab.start(name, &entrypoint, &image, &command)?);
        }
        let servers = Self { containers };
        servers.wait_for_leader(Duration::from_secs(60))?;
        Ok(servers)
    }

    /// Address and port of the first server's HTTP API.
    #[must_use]
    pub fn api(&self) -> String {
        let address = self.containers.first().map(Container::address).unwrap_or_default();
        format!("{address}:8500")
    }

    fn wait_for_leader(&self, within: Duration) -> Result<()> {
        let (api, started) = (self.api(), Instant::now());
        loop {
            let leader = get(&api, "/v1/status/leader", Duration::from_secs(5));
            let peers = get(&api, "/v1/status/peers", Duration::from_secs(5));
            if let (Ok(leader), Ok(peers)) = (&leader, &peers) {
                let joined = peers.json().ok().and_then(|list| list.as_array().map(Vec::len));
                if leader.status == 200 && leader.body.trim() != "\"\"" && joined == Some(COUNT) {
                    return Ok(());
                }
            }
            if started.elapsed() > within {
                bail!("the servers have no leader after {within:?}: leader {leader:?}, peers {peers:?}");
            }
            // Consul offers nothing to wait on before there is a leader.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
