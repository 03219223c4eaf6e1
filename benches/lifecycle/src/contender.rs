//! One life of one contender.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use pilotlight_containers::{Instance, Lab, Plan, Servers, Sighting, Watch, docker};

use crate::PATIENCE;

/// Who brings the instance up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Contender {
    /// `benches/lifecycle/entrypoint.sh`.
    Script,
    /// The image's own entrypoint.
    Supervisor,
}

/// How the life ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    /// The worker is KILLed.
    Kill,
    /// `docker stop`.
    Stop,
}

/// What one life has shown.
#[derive(Debug)]
pub(crate) struct Life {
    /// Container start → passing.
    pub(crate) passing: Duration,
    /// The worker's own word that it is ready → passing; nothing where passing was earlier or the word is not found.
    pub(crate) ready_to_passing: Option<Duration>,
    /// Worker killed → out of the passing set.
    pub(crate) killed: Option<Duration>,
    /// `docker stop`.
    pub(crate) stopped: Option<Stop>,
}

/// How `docker stop` went.
#[derive(Debug)]
pub(crate) struct Stop {
    /// Call → out of the passing set.
    pub(crate) out: Duration,
    /// How long before the container's exit the entry was gone; nothing when it outlived the container.
    pub(crate) gone_ahead: Option<Duration>,
}

impl Contender {
    /// Starts an instance, waits for passing, does the deed and watches what becomes of the entry.
    pub(crate) fn live(self, lab: &Lab, servers: &Servers, deed: Deed, run: u32) -> Result<Life> {
        let name = format!("{self:?}-{deed:?}-{run}").to_lowercase();
        // A service of its own each time: the entries that the script leaves behind must not be taken for the next.
        let watch = Watch::new(&servers.api(), &name)?;
        let instance = Instance::start(lab, &self.plan_of(&name, &name)?)?;
        let started = instance.started_at()?;
        let passing = watch.first(started, PATIENCE, "passing", Sighting::has_passing)?;
        let ready_to_passing = ready_at(&instance)?.and_then(|ready| passing.at.duration_since(ready).ok());
        let passing = since(passing.at, started)?;
        let mut life = Life { passing, ready_to_passing, killed: None, stopped: None };
        let out = |moment: SystemTime| -> Result<Duration> {
            since(watch.first(moment, PATIENCE, "out of passing", |seen| !seen.has_passing())?.at, moment)
        };
        match deed {
            Deed::Kill => life.killed = Some(out(self.kill(&instance)?)?),
            Deed::Stop => {
                let stopped = instance.stop()?;
                let out = out(stopped.asked_at)?;
                // What has not arrived when the container is gone and a little later came too late.
                let gone =
                    watch.first(stopped.asked_at, Duration::from_secs(1), "gone", Sighting::is_empty).ok();
                let gone_ahead = gone.and_then(|gone| stopped.exited_at.duration_since(gone.at).ok());
                life.stopped = Some(Stop { out, gone_ahead });
            }
        }
        Ok(life)
    }

    /// A container of this name that serves as this service.
    pub(crate) fn plan_of(self, name: &str, service: &str) -> Result<Plan> {
        let plan = Plan::new(name, service)?;
        Ok(match self {
            Self::Supervisor => plan,
            Self::Script => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/entrypoint.sh");
                // As it is used: as root, with all that it wants to write to.
                plan.option("--user=0:0")
                    .option(format!("--volume={script}:/entrypoint.sh:ro"))
                    .option("--entrypoint=/entrypoint.sh")
                    .option(format!("--env=SERVICE={service}"))
                    .option("--tmpfs=/tmp")
                    .option("--tmpfs=/etc/consul")
            }
        })
    }

    /// KILLs the worker; returns when.
    fn kill(self, instance: &Instance) -> Result<SystemTime> {
        match self {
            Self::Supervisor => instance.kill("model-runtime"),
            Self::Script => {
                // Its worker is PID 1, which only the engine can kill.
                docker(&["kill", "--signal=KILL", instance.container().id()])?;
                docker(&["wait", instance.container().id()])?;
                instance.container().time("{{.State.FinishedAt}}")
            }
        }
    }
}

/// When the worker logged that it is ready, by the engine's stamp on the line.
fn ready_at(instance: &Instance) -> Result<Option<SystemTime>> {
    let log = instance.container().log()?;
    let line = log.lines().find(|line| line.contains("model_runtime::serve") && line.contains(" ready "));
    let stamp = line.and_then(|line| line.split_whitespace().next());
    stamp.map(|stamp| humantime::parse_rfc3339(stamp).context("the engine's stamp is no time")).transpose()
}

fn since(later: SystemTime, earlier: SystemTime) -> Result<Duration> {
    later.duration_since(earlier).context("a clock went backwards, or the catalog knew before it happened")
}
