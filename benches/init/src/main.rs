//! What an init costs: the supervisor with `--no-agent` beside tini, dumb-init and supervisord; and what the supervisor costs beside its
//! agent, and how soon a crash is known at a Consul server. Prints tables and asserts nothing.
//!
//! `bench-init SUPERVISOR [init|catalog]`; with `worker …` it is the worker of its own measurements.

#![expect(clippy::print_stdout, reason = "printing tables is what it is there for")]

mod catalog;
mod contender;
mod figures;
mod init;
mod process;
mod worker;

use std::path::Path;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker", rest @ ..] => worker::run(rest),
        [supervisor, only @ ..] => {
            let wanted = |part: &str| only.is_empty() || only.contains(&part);
            let supervisor = Path::new(supervisor).canonicalize().context("the supervisor's program")?;
            println!("load before: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
            if wanted("init") {
                init::measure(&supervisor)?;
            }
            if wanted("catalog") {
                catalog::measure(&supervisor)?;
            }
            println!("load after: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
            Ok(())
        }
        [] => anyhow::bail!("usage: bench-init SUPERVISOR [init|catalog]"),
    }
}
