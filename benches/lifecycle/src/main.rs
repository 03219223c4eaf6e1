//! The usual entrypoint script against the supervisor, through one life: container start → passing, worker killed → out
//! of the passing set, `docker stop` → gone.
//!
//! Both have the same image, worker, agent binary and Consul servers, and take turns, so that a slow moment of the
//! machine meets both. Times are those at which a server's blocking query said so. Nothing is asserted: the table is
//! the outcome. `benches/lifecycle/run` prepares the images and calls this.

mod alone;
mod contender;
mod figures;
mod rolling;

use std::time::Duration;

use anyhow::{Context, Result};
use pilotlight_containers::{Lab, Servers};

use contender::{Contender, Deed};
use figures::{Figures, seconds};

fn main() -> Result<()> {
    let runs = std::env::var("PILOTLIGHT_BENCH_RUNS").unwrap_or_else(|_| "10".to_owned());
    let runs: u32 = runs.parse().with_context(|| format!("PILOTLIGHT_BENCH_RUNS={runs:?} is no number"))?;
    let lab = Lab::new()?;
    let servers = Servers::start(&lab)?;
    let (mut script, mut ours) = (Measured::default(), Measured::default());
    let mut rolling = [rolling::Requests::default(), rolling::Requests::default()];
    let (mut agent, mut worker) = (Figures::default(), Figures::default());
    for run in 1..=runs {
        progress(&format!("run {run} of {runs}"));
        agent.add(alone::agent(&lab, &servers, run)?);
        worker.add(alone::worker(&lab, run)?);
        // A kill ends the script's container, so its life takes two containers; ours gets as many.
        for deed in [Deed::Kill, Deed::Stop] {
            script.live(Contender::Script, &lab, &servers, deed, run)?;
            ours.live(Contender::Supervisor, &lab, &servers, deed, run)?;
        }
        for (contender, sum) in [Contender::Script, Contender::Supervisor].into_iter().zip(&mut rolling) {
            let requests = rolling::restart(contender, &lab, &servers, run)?;
            sum.answered += requests.answered;
            sum.failed += requests.failed;
            sum.reasons.extend(requests.reasons);
        }
    }
    report(&script, &ours, &agent, &worker);
    report_rolling(&rolling);
    Ok(())
}

/// All figures of one contender.
#[derive(Default)]
struct Measured {
    passing: Figures,
    ready_to_passing: Figures,
    killed: Figures,
    stopped: Figures,
    /// How long before the container's exit the entry was gone; only where it was.
    ahead: Figures,
    stops: u32,
}

impl Measured {
    fn live(
        &mut self,
        contender: Contender,
        lab: &Lab,
        servers: &Servers,
        deed: Deed,
        run: u32,
    ) -> Result<()> {
        let life = contender.live(lab, servers, deed, run)?;
        self.passing.add(life.passing);
        if let Some(delay) = life.ready_to_passing {
            self.ready_to_passing.add(delay);
        }
        if let Some(out) = life.killed {
            self.killed.add(out);
        }
        if let Some(stop) = life.stopped {
            self.stops += 1;
            self.stopped.add(stop.out);
            if let Some(ahead) = stop.gone_ahead {
                self.ahead.add(ahead);
            }
        }
        Ok(())
    }
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn report(script: &Measured, ours: &Measured, agent: &Figures, worker: &Figures) {
    println!("{:44} {:>28} {:>28} {:>8}", "median (min–max)", "entrypoint script", "supervisor", "ratio");
    for (what, script, ours) in [
        ("container start → passing", &script.passing, &ours.passing),
        ("   of that, after the worker was ready", &script.ready_to_passing, &ours.ready_to_passing),
        ("worker killed → out of the passing set", &script.killed, &ours.killed),
        ("docker stop → out of the passing set", &script.stopped, &ours.stopped),
    ] {
        let ratio = script.median().as_secs_f64() / ours.median().as_secs_f64();
        println!("{what:44} {:>28} {:>28} {ratio:7.1}x", script.to_string(), ours.to_string());
    }
    let before = |measured: &Measured| format!("{} of {}", measured.ahead.len(), measured.stops);
    println!("{:44} {:>28} {:>28}", "docker stop: entry gone before the exit", before(script), before(ours));
    println!("{:44} {:>28} {:>28}", "   by", script.ahead.to_string(), ours.ahead.to_string());
    println!();
    println!("{:44} {:>28}", "agent alone: exec → node in the catalog", agent.to_string());
    println!("{:44} {:>28}", "worker alone: exec → ready", worker.to_string());
    let own_needs = agent.median().max(worker.median());
    for (who, measured) in [("the script", script), ("the supervisor", ours)] {
        println!(
            "{:44} {:>28}",
            format!("start → passing less the larger: {who}"),
            difference(measured.passing.median(), own_needs)
        );
    }
}

#[expect(clippy::print_stdout, reason = "as above")]
fn report_rolling([script, ours]: &[rolling::Requests; 2]) {
    let failed = |requests: &rolling::Requests| {
        format!("{} of {}", requests.failed, requests.failed + requests.answered)
    };
    println!(
        "\n{:44} {:>28} {:>28}",
        "three replaced under load: failed requests",
        failed(script),
        failed(ours)
    );
    for reason in script.reasons.iter().chain(&ours.reasons).take(6) {
        println!("   {reason}");
    }
}

/// With its sign: the two figures come from different containers, and the noise of the machine may exceed what is left.
fn difference(whole: Duration, part: Duration) -> String {
    if whole >= part { seconds(whole - part) } else { format!("-{}", seconds(part - whole)) }
}

#[expect(clippy::print_stderr, reason = "minutes pass: the caller sees where it is")]
fn progress(message: &str) {
    eprintln!("bench-lifecycle: {message}");
}

/// How long one step of a life may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
