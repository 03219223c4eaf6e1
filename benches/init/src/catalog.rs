//! Beside an agent: what the supervisor costs, and how soon a worker's death is known at a server.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use crate::figures::{Figures, time};
use crate::process::{children, field, send, switches, ticks};
use crate::worker::now;

const KILLS: usize = 100;
const IDLE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends what it holds.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub(crate) fn measure(supervisor: &Path) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let consul = std::env::var("CONSUL_BIN").unwrap_or_else(|_| "consul".to_owned());
    let [http, serf, wan, rpc, port, agent_serf] = ports()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let _server = Ended(
        Command::new(&consul)
            .args([
                "agent",
                "-server",
                "-bootstrap-expect=1",
                "-bind=127.0.0.1",
                "-node=server",
                "-dns-port=-1",
            ])
            .args([format!("-data-dir={}", path("server")), format!("-http-port={http}")])
            .args([
                format!("-serf-lan-port={serf}"),
                format!("-serf-wan-port={wan}"),
                format!("-server-port={rpc}"),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("Consul (CONSUL_BIN)")?,
    );
    let own = std::env::current_exe()?.display().to_string();
    let instance = Ended(
        Command::new(supervisor)
            .args([
                "run",
                "--agent-bin",
                &consul,
                "--agent-data-dir",
                &path("agent"),
                "--advertise",
                "127.0.0.1",
            ])
            .args([
                "--agent-retry-join",
                &format!("127.0.0.1:{serf}"),
                "--agent-serf-port",
                &agent_serf.to_string(),
            ])
            .args([
                "--agent-http-addr",
                &format!("unix://{}", path("api.sock")),
                "--agent-node-name",
                "bench",
            ])
            .args(["--service-name", "bench", "--service-port", &port.to_string()])
            .args([
                "--restart-limit",
                "1000",
                "--restart-backoff-min",
                "150ms",
                "--restart-backoff-max",
                "150ms",
            ])
            .args(["--control-socket", &path("control.sock"), "--log-level", "error", "--gpu", "off"])
            .args(["--", &own, "worker", "http", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let pid = i32::try_from(instance.0.id())?;
    let catalog = Catalog { http };
    let mut index = catalog.wait_for(0, 1)?;
    std::thread::sleep(Duration::from_secs(2));
    let (rss, cpu, wakes) = (field(pid, "status", "VmRSS")?, ticks(pid)?, switches(pid)?);
    std::thread::sleep(IDLE);
    let (cpu, wakes) = (ticks(pid)? - cpu, switches(pid)? - wakes);
    println!(
        "\nbeside an agent, idle: {rss} KiB; {} ms of CPU and {wakes} wake-ups in {} s",
        cpu * 10,
        IDLE.as_secs()
    );

    let mut out = Figures::default();
    for _ in 0..KILLS {
        let worker = worker_of(pid)?;
        let looking = std::thread::spawn({
            let catalog = catalog.clone();
            move || -> anyhow::Result<(u64, u64)> {
                let index = catalog.wait_for(index, 0)?;
                Ok((index, now()?))
            }
        });
        // Until the question is at the server.
        std::thread::sleep(Duration::from_millis(30));
        let killed = now()?;
        send(worker, libc::SIGKILL);
        let (gone, seen) = looking.join().map_err(|_| anyhow::anyhow!("the looker panicked"))??;
        out.add(seen.saturating_sub(killed));
        index = catalog.wait_for(gone, 1)?;
    }
    println!(
        "worker killed → out of the passing set at a server, {KILLS} times: median {}, {} to {}",
        time(out.median()),
        time(out.least()),
        time(out.most())
    );
    send(pid, libc::SIGTERM);
    Ok(())
}

fn ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// The child that is this very program.
fn worker_of(supervisor: i32) -> anyhow::Result<i32> {
    let own = std::env::current_exe()?;
    let is_worker = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == own);
    children(supervisor).into_iter().find(is_worker).context("no worker")
}

#[derive(Clone)]
struct Catalog {
    http: u16,
}

impl Catalog {
    /// Waits until the passing set has so many instances, from an index on; gives the index of that answer.
    fn wait_for(&self, mut index: u64, instances: usize) -> anyhow::Result<u64> {
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
        let began = Instant::now();
        loop {
            anyhow::ensure!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {instances} instances");
            let url = format!(
                "http://127.0.0.1:{}/v1/health/service/bench?passing&wait=20s&index={index}",
                self.http
            );
            let Ok(mut answer) = agent.get(url).call() else {
                // It has no leader yet.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            let header =
                answer.headers().get("X-Consul-Index").and_then(|value| value.to_str().ok()?.parse().ok());
            let entries: Value = answer.body_mut().read_json()?;
            index = header.unwrap_or_default();
            if entries.as_array().map(Vec::len) == Some(instances) {
                return Ok(index);
            }
        }
    }
}
