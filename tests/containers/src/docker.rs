//! The `docker` command, and owners of what it starts.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

/// On every container and network of the lab; its value is `PILOTLIGHT_LAB_RUN`, or the process id.
pub const LABEL: &str = "pilotlight.lab";

/// Runs `docker` and returns what it printed, trimmed; an error carries its messages.
pub fn docker<S: AsRef<str>>(args: &[S]) -> Result<String> {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let output =
        Command::new("docker").args(&args).output().context("cannot run docker: is it installed?")?;
    if !output.status.success() {
        bail!(
            "`docker {}` failed ({}): {}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A bridge network of its own, and the names and labels of what runs in it.
#[derive(Debug)]
pub struct Lab {
    network: String,
    label: String,
}

impl Lab {
    /// Creates the network.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        let run = std::env::var("PILOTLIGHT_LAB_RUN").unwrap_or_else(|_| process.to_string());
        let network = format!("pilotlight-{process}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let label = format!("{LABEL}={run}");
        docker(&["network", "create", "--label", &label, &network])?;
        Ok(Self { network, label })
    }

    /// Starts a container in the network, reachable there as `name`.
    pub fn start(
        &self,
        name: &str,
        options: &[String],
        image: &str,
        command: &[String],
    ) -> Result<Container> {
        let full_name = format!("{}-{name}", self.network);
        let mut args: Vec<String> =
            ["run", "--detach", "--name", &full_name, "--hostname", name, "--network", &self.network]
                .iter()
                .chain(&["--network-alias", name, "--label", &self.label])
                .map(ToString::to_string)
                .collect();
        args.extend_from_slice(options);
        args.push(image.to_owned());
        args.extend_from_slice(command);
        // The owner comes first: `docker run` may fail after it has created the container.
        let mut container = Container { id: full_name, address: String::new() };
        docker(&args)?;
        container.address = container.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")?;
        Ok(container)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Fails only when a container is left in it, and then the label still leads there.
        let _ = docker(&["network", "rm", &self.network]);
    }
}

/// A container that is removed with its volumes when dropped; when that happens in a panic, its log is shown first.
#[derive(Debug)]
pub struct Container {
    id: String,
    address: String,
}

impl Container {
    /// Its name, by which `docker` knows it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its address in the lab's network.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `docker inspect` with a template.
    pub fn inspect(&self, template: &str) -> Result<String> {
        docker(&["container", "inspect", "--format", template, &self.id])
    }

    /// A time from `docker inspect`, which the container runtime took and not the engine's slower event loop.
    pub fn time(&self, template: &str) -> Result<SystemTime> {
        let text = self.inspect(template)?;
        humantime::parse_rfc3339(&text)
            .with_context(|| format!("{template} of {}: {text:?} is no time", self.id))
    }

    /// Runs a program in it; its exit status and all that it printed.
    pub fn exec(&self, command: &[&str]) -> Result<(i32, String)> {
        let output = Command::new("docker").arg("exec").arg(&self.id).args(command).output()?;
        let text = [output.stdout, output.stderr].concat();
        let status = output.status.code().context("docker exec was ended by a signal")?;
        Ok((status, String::from_utf8_lossy(&text).trim().to_owned()))
    }

    /// What it has written to stdout and stderr so far.
    pub fn log(&self) -> Result<String> {
        let output = Command::new("docker").args(["logs", "--timestamps", &self.id]).output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

impl Drop for Container {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its containers said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log().unwrap_or_else(|error| error.to_string());
            eprintln!("--- log of {}\n{log}--- end of the log of {}", self.id, self.id);
        }
        let _ = docker(&["rm", "--force", "--volumes", &self.id]);
    }
}
