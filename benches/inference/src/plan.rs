//! How long and how often, and where the programs are; from the environment, which `benches/inference/run` fills.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

/// What every measurement goes by.
pub(crate) struct Plan {
    /// How often everyone has his turn.
    pub(crate) rounds: usize,
    /// How long one turn is.
    pub(crate) turn: Duration,
    /// A part of the names of the servers that are wanted beside ours; all of them without.
    only: Option<String>,
    /// The Python of the environment that the peers are installed in.
    pub(crate) python: PathBuf,
    /// The peers' own programs.
    pub(crate) peers: PathBuf,
    /// Our server.
    pub(crate) runtime: PathBuf,
}

impl Plan {
    pub(crate) fn from_env() -> anyhow::Result<Self> {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from).with_context(|| name.to_owned());
        Ok(Self {
            rounds: number("PILOTLIGHT_BENCH_RUNS", 3)?.max(1),
            turn: Duration::from_secs(number("PILOTLIGHT_BENCH_SECONDS", 5)?.max(1).try_into()?),
            only: std::env::var("PILOTLIGHT_BENCH_ONLY").ok(),
            python: path("BENCH_PYTHON")?,
            peers: path("BENCH_PEERS")?,
            runtime: path("BENCH_RUNTIME")?,
        })
    }

    /// Whether a server of this name takes part.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|part| name.contains(part))
    }
}

fn number(name: &str, otherwise: usize) -> anyhow::Result<usize> {
    let Ok(text) = std::env::var(name) else { return Ok(otherwise) };
    text.parse().with_context(|| format!("{name}={text:?} is no number"))
}
