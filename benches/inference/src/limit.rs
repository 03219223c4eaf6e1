//! The bare model's limit: `peers/limit.py`, which runs the model without a server whenever it is asked to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context as _;

use crate::plan::Plan;

/// The running program; it sleeps between its turns.
pub(crate) struct Limit {
    child: Child,
    ask: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

/// What one turn gave.
pub(crate) struct Bare {
    pub(crate) per_second: f64,
    /// CPU milliseconds a text.
    pub(crate) cost: f64,
}

impl Limit {
    /// `module` is a file in the model's directory, `texts` one with a JSON list.
    pub(crate) fn start(plan: &Plan, model: &Path, module: &str, texts: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(&plan.python)
            .arg(plan.peers.join("limit.py"))
            .arg(model)
            .arg(module)
            .arg(texts)
            .arg(plan.turn.as_secs().to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("limit.py")?;
        let said = BufReader::new(child.stdout.take().context("piped")?);
        Ok(Self { ask: child.stdin.take(), said, child })
    }

    pub(crate) fn turn(&mut self) -> anyhow::Result<Bare> {
        self.ask.as_mut().context("piped")?.write_all(b"\n")?;
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        let (per_second, cost) = line.trim().split_once(' ').context("limit.py has ended")?;
        Ok(Bare { per_second: per_second.parse()?, cost: cost.parse()? })
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // At the end of its input it ends by itself, and its workers with it.
        drop(self.ask.take());
        let _reaped = self.child.wait();
    }
}
