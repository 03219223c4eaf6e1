//! What the two children need when nobody supervises them: the floor of start → passing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pilotlight_containers::{Instance, Lab, Plan, Servers, get};

use crate::PATIENCE;

/// A Consul agent in a container of its own: from its exec to its node being in the servers' catalog.
pub(crate) fn agent(lab: &Lab, servers: &Servers, run: u32) -> Result<Duration> {
    let node = format!("agent-{run}");
    let mut command =
        ["agent", "-data-dir=/var/lib/consul", "-bind={{ GetInterfaceIP \"eth0\" }}", "-retry-interval=1s"]
            .map(str::to_owned)
            .to_vec();
    command.push(format!("-node={node}"));
    command.extend(Servers::names().iter().map(|server| format!("-retry-join={server}")));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let plan = Plan::new(&node, "unused")?.option("--entrypoint=consul").command(&command);

    let server = servers.api();
    let seen = std::thread::spawn(move || wait_for_node(&server, &node));
    let instance = Instance::start(lab, &plan)?;
    let seen = seen.join().ok().context("the thread that watches for the node has panicked")??;
    Ok(seen.duration_since(instance.started_at()?)?)
}

fn wait_for_node(server: &str, node: &str) -> Result<std::time::SystemTime> {
    let started = Instant::now();
    let mut index = 0;
    while started.elapsed() < PATIENCE {
        let reply = get(server, &format!("/v1/catalog/node/{node}?wait=20s&index={index}"), PATIENCE)?;
        if reply.json()?.get("Node").is_some_and(|node| !node.is_null()) {
            return Ok(std::time::SystemTime::now());
        }
        index = reply.header("X-Consul-Index").context("a reply without index")?.parse()?;
    }
    bail!("the agent alone did not bring {node} into the catalog within {PATIENCE:?}")
}

/// A worker in a container of its own: from its exec to its first 200 on `/readyz`.
pub(crate) fn worker(lab: &Lab, run: u32) -> Result<Duration> {
    let plan = Plan::new(&format!("worker-{run}"), "unused")?
        .option("--entrypoint=model-runtime")
        .command(&["serve", "--model", "/models"]);
    let instance = Instance::start(lab, &plan)?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if get(&instance.worker(), "/readyz", PATIENCE).is_ok_and(|reply| reply.status == 200) {
            return Ok(std::time::SystemTime::now().duration_since(instance.started_at()?)?);
        }
        // Asking more often would slow it down; the error of the figure is this long.
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("the worker alone was not ready within {PATIENCE:?}: {}", instance.container().log()?)
}
