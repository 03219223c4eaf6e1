//! From the words of all sources to the checked configuration.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use lifecycle::{AgentMode, Policy};

use super::catalog::catalog;
use super::gpu::gpu;
use super::policy::policy;
use super::ports;
use super::problem::Problem;
use super::settings::{ChildrenOutput, Config, LogFormat, Logging};
use super::signals;
use super::sources::{Place, Sources};
use super::values::Values;
use super::worker::worker;

impl Config {
    /// Puts the configuration together.
    ///
    /// # Errors
    /// All problems at once, those in `problems` already included.
    pub fn build(
        sources: &Sources,
        command: Vec<OsString>,
        mut problems: Vec<Problem>,
    ) -> Result<Self, Vec<Problem>> {
        let mut values = Values::new(sources, &mut problems);
        let modes =
            [("child", AgentMode::Child), ("external", AgentMode::External), ("none", AgentMode::None)];
        let mode = values.choice("agent.mode", &modes).unwrap_or(AgentMode::Child);
        let catalog = (mode != AgentMode::None).then(|| catalog(&mut values, mode));
        let by_ipv6 = catalog.as_ref().is_some_and(|catalog| catalog.agent.address.is_ipv6());
        let (gpu, gpu_policy) = (mode != AgentMode::None).then(|| gpu(&mut values)).flatten().unzip();
        let worker = worker(&mut values, command, mode, by_ipv6);
        let catalog = catalog.map(|catalog| catalog.with_probes_of(&worker));
        let config = Self {
            policy: Policy { gpu: gpu_policy, ..policy(&mut values, mode) },
            stop_timeout: values.duration("stop-timeout"),
            worker,
            signal_scope: signals::scope(&mut values),
            parent_death_signal: signals::parent_death(&mut values),
            catalog,
            gpu,
            control_socket: control_socket(&mut values),
            control_socket_chosen: values.place("control-socket") != Place::Default,
            logging: Logging {
                format: values
                    .choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
                    .unwrap_or_default(),
                level: log_level(&mut values),
                children: children_output(&mut values),
            },
            metrics: metrics(&mut values),
        };
        ports::clashes(&mut values, &config);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

fn control_socket(values: &mut Values<'_>) -> PathBuf {
    let path = values.path("control-socket").unwrap_or_default();
    if let Err(expected) = super::folders::socket_path(&path) {
        values.wrong("control-socket", expected);
    }
    path
}

fn log_level(values: &mut Values<'_>) -> tracing::level_filters::LevelFilter {
    use tracing::level_filters::LevelFilter as L;
    let levels =
        [("error", L::ERROR), ("warn", L::WARN), ("info", L::INFO), ("debug", L::DEBUG), ("trace", L::TRACE)];
    values.choice("log.level", &levels).unwrap_or(L::INFO)
}

fn children_output(values: &mut Values<'_>) -> ChildrenOutput {
    let forms = [
        ("untouched", ChildrenOutput::Untouched),
        ("prefixed", ChildrenOutput::Prefixed),
        ("json", ChildrenOutput::Json),
    ];
    values.choice("log.children", &forms).unwrap_or_default()
}

fn metrics(values: &mut Values<'_>) -> Option<SocketAddr> {
    let expected = "IP:PORT, such as 0.0.0.0:9102, or off";
    values.parse(
        "metrics.addr",
        expected,
        |text| if text == "off" { Ok(None) } else { text.parse().map(Some) },
    )
}
