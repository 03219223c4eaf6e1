//! Instances of our image.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::docker::{Container, Lab, docker};
use crate::servers::Servers;

/// The worker's port.
const PORT: u16 = 8000;

/// What an instance is to be.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Its name in the network, its hostname and its node name.
    pub name: String,
    /// The service it registers as.
    pub service: String,
    /// Further options of `docker run`.
    pub options: Vec<String>,
    /// What follows the image on the command line.
    pub command: Vec<String>,
}

impl Plan {
    /// An instance as an operator would run it: the model mounted, the root read-only, all else from the image.
    pub fn new(name: &str, service: &str) -> Result<Self> {
        let model = std::env::var("PILOTLIGHT_NER_MODEL").context(
            "PILOTLIGHT_NER_MODEL is not set: run this through tests/containers/run or benches/lifecycle/run",
        )?;
        let options = [
            "--read-only".to_owned(),
            format!("--volume={model}:/models:ro"),
            format!("--env=SUPERVISOR_SERVICE_NAME={service}"),
            format!("--env=SUPERVISOR_AGENT_RETRY_JOIN={}", Servers::names().join(",")),
        ];
        Ok(Self {
            name: name.to_owned(),
            service: service.to_owned(),
            options: options.into(),
            command: Vec::new(),
        })
    }

    /// The same with one more option of `docker run`.
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self
    }

    /// The same with this after the image's name.
    #[must_use]
    pub fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(ToString::to_string).collect();
        self
    }
}

/// How a container ended.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// When `docker stop` was called.
    pub asked_at: SystemTime,
    /// When its first process had exited, as the container runtime saw it.
    pub exited_at: SystemTime,
    /// Its exit status.
    pub status: i32,
}

/// A running container of our image.
#[derive(Debug)]
pub struct Instance {
    container: Container,
}

impl Instance {
    /// Starts it; does not wait for anything.
    pub fn start(lab: &Lab, plan: &Plan) -> Result<Self> {
        let image =
            std::env::var("PILOTLIGHT_IMAGE").unwrap_or_else(|_| "pilotlight-local/pilotlight".to_owned());
        Ok(Self { container: lab.start(&plan.name, &plan.options, &image, &plan.command)? })
    }

    /// The container.
    #[must_use]
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Address and port of its worker.
    #[must_use]
    pub fn worker(&self) -> String {
        format!("{}:{PORT}", self.container.address())
    }

    /// When its first process was started, as the container runtime saw it.
    pub fn started_at(&self) -> Result<SystemTime> {
        self.container.time("{{.State.StartedAt}}")
    }

    /// The ids of its processes of that name.
    pub fn pids(&self, program: &str) -> Result<Vec<u32>> {
        let (_, text) = self.container.exec(&["bash", "-c", &each_process(program, "echo $pid")])?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// KILLs its process of that name; returns the time just before.
    pub fn kill(&self, program: &str) -> Result<SystemTime> {
        // The time is taken by the shell that kills: `docker exec` alone takes a tenth of a second.
        let script = each_process(program, "echo $EPOCHREALTIME; kill -KILL $pid; exit");
        let (status, text) = self.container.exec(&["bash", "-c", &script])?;
        ensure!(status == 0 && !text.is_empty(), "no {program} to kill in {}: {text:?}", self.container.id());
        let seconds: f64 = text.trim().parse().with_context(|| format!("kill printed {text:?}"))?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
    }

    /// `docker stop`, as patient as by default.
    pub fn stop(&self) -> Result<Stopped> {
        let asked_at = SystemTime::now();
        docker(&["stop", "--time", "10", self.container.id()])?;
        self.stopped(asked_at)
    }

    /// Waits until it ends by itself.
    pub fn wait(&self) -> Result<Stopped> {
        let asked_at = SystemTime::now();
        docker(&["wait", self.container.id()])?;
        self.stopped(asked_at)
    }

    fn stopped(&self, asked_at: SystemTime) -> Result<Stopped> {
        let exited_at = self.container.time("{{.State.FinishedAt}}")?;
        let status = self.container.inspect("{{.State.ExitCode}}")?.parse()?;
        Ok(Stopped { asked_at, exited_at, status })
    }
}

/// A script that does something for each process of a name, found in /proc: the base image may have no `pgrep`.
fn each_process(program: &str, action: &str) -> String {
    format!(
        "for dir in /proc/[0-9]*; do pid=${{dir#/proc/}}; name=; read -r name < $dir/comm; \
         if [ \"$name\" = {program} ]; then {action}; fi; done 2> /dev/null"
    )
}
