//! A running server: its start, its turns, its end.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::body::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::answers::{self, Entity};
use crate::contender::{Contender, Place};
use crate::load::{Connection, Target};
use crate::plan::Plan;
use crate::process;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked whether it has started.
const LOOK: Duration = Duration::from_millis(2);

/// A server and all its processes, which end with this.
pub(crate) struct Server {
    child: Child,
    group: Pid,
    target: Target,
    /// exec → the first answer that is right.
    pub(crate) start: Duration,
    _scratch: TempDir,
}

impl Server {
    /// Starts it and waits for its first answer. `options` are added to its command line.
    pub(crate) fn start(
        contender: Contender,
        plan: &Plan,
        model: &std::path::Path,
        texts: &[String],
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let scratch = tempfile::tempdir()?;
        let [port, spare @ ..] = free_ports::<6>()?;
        let mut command = contender.prepare(plan, &Place { model, port, spare, scratch: scratch.path() })?;
        let log = scratch.path().join("output");
        let output = std::fs::File::create(&log)?;
        command.args(options).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A group of its own: signals then reach everything that it starts.
        command.process_group(0);
        let body = |text: &String| {
            anyhow::Ok(Bytes::from(serde_json::to_vec(&serde_json::json!({"inputs": text}))?))
        };
        let bodies = texts.iter().map(body).collect::<anyhow::Result<_>>()?;
        let target = Target { port, path: contender.path(), bodies };

        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        let mut server = Self { child, group, target, start: Duration::ZERO, _scratch: scratch };
        while server.answer(0).is_err() {
            let failed = match server.child.try_wait()? {
                Some(status) => format!("ended: {status}"),
                None if began.elapsed() > PATIENCE => format!("no answer for {PATIENCE:?}"),
                None => {
                    std::thread::sleep(LOOK);
                    continue;
                }
            };
            anyhow::bail!("{}: {failed}\n{}", contender.name(), std::fs::read_to_string(&log)?);
        }
        server.start = began.elapsed();
        Ok(server)
    }

    /// Asks one text by itself.
    fn answer(&self, number: usize) -> anyhow::Result<Vec<Entity>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = self.target.bodies.get(number).cloned().context("no such text")?;
        runtime.block_on(async {
            let (status, body) =
                Connection::open(self.target.port, self.target.path).await?.ask(body).await?;
            answers::read(status, &body)
        })
    }

    /// The answers to all texts, one after the other.
    pub(crate) fn answers(&self) -> anyhow::Result<Vec<Vec<Entity>>> {
        (0..self.target.bodies.len()).map(|number| self.answer(number)).collect()
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The CPU seconds that it has used so far.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process::cpu_seconds(self.group.as_raw())
    }

    /// The sum of the peaks of its processes, and what they have in memory now with shared pages divided, in MiB.
    pub(crate) fn memory(&self) -> anyhow::Result<(u64, u64)> {
        let root = self.group.as_raw();
        Ok((process::memory(root, "status", "VmHWM")?, process::memory(root, "smaps_rollup", "Pss")?))
    }

    /// Halts it while others have their turn, so that it takes nothing from them.
    pub(crate) fn halt(&self) -> anyhow::Result<()> {
        Ok(killpg(self.group, Signal::SIGSTOP)?)
    }

    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        Ok(killpg(self.group, Signal::SIGCONT)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = killpg(self.group, Signal::SIGKILL);
        let _reaped = self.child.wait();
    }
}

fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
