//! What the kernel says of a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};

use anyhow::Context as _;

/// A started contender whose worker talks.
pub(crate) struct Running {
    pub(crate) child: Child,
    said: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: std::process::Command) -> anyhow::Result<Self> {
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let said = BufReader::new(child.stdout.take().context("piped")?);
        Ok(Self { child, said })
    }

    /// The next time that the worker says; supervisord says things, too.
    pub(crate) fn hear(&mut self) -> anyhow::Result<u64> {
        loop {
            let mut line = String::new();
            anyhow::ensure!(self.said.read_line(&mut line)? > 0, "the worker has ended without a word");
            if let Ok(time) = line.trim().parse() {
                return Ok(time);
            }
        }
    }

    pub(crate) fn pid(&self) -> anyhow::Result<i32> {
        Ok(i32::try_from(self.child.id())?)
    }

    /// Everything below it goes with it.
    pub(crate) fn end(mut self) {
        if let Ok(pid) = self.pid() {
            for child in children(pid) {
                send(child, libc::SIGKILL);
            }
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn send(pid: i32, signal: i32) {
    // SAFETY: kill(2) takes two integers.
    unsafe { libc::kill(pid, signal) };
}

/// The children of a process, living or dead and not reaped (proc_tid_children(5)).
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .collect()
}

/// A field of `/proc/PID/FILE` that ends in kB, or a plain number.
pub(crate) fn field(pid: i32, file: &str, name: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.context(name.to_owned())?.split_whitespace().next().unwrap_or_default().parse()?)
}

/// How often all threads of a process have been given the CPU (proc_pid_status(5)).
pub(crate) fn switches(pid: i32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.file_name();
        let file = format!("task/{}/status", thread.to_string_lossy());
        sum +=
            field(pid, &file, "voluntary_ctxt_switches")? + field(pid, &file, "nonvoluntary_ctxt_switches")?;
    }
    Ok(sum)
}

/// The CPU time of a process in clock ticks, 100 a second (proc_pid_stat(5)).
pub(crate) fn ticks(pid: i32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let at = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    Ok(at(11) + at(12))
}
