//! A real Prometheus with the shipped example of its configuration.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::free_port;

pub const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/prometheus/prometheus.yml");

fn program(variable: &str, name: &str) -> Command {
    Command::new(std::env::var_os(variable).unwrap_or_else(|| name.into()))
}

pub fn promtool() -> Command {
    program("PROMTOOL_BIN", "promtool")
}

/// A Prometheus with the example's configuration.
pub struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    /// The example as it is shipped, but for the server's address, and faster.
    pub fn start(dir: &Path, consul: u16) -> Self {
        let mut text = std::fs::read_to_string(EXAMPLE).expect("the example");
        for (shipped, here) in [
            ("server: consul:8500", format!("server: 127.0.0.1:{consul}")),
            ("refresh_interval: 5s", "refresh_interval: 1s".to_owned()),
            ("scrape_interval: 15s", "scrape_interval: 500ms\n  scrape_timeout: 500ms".to_owned()),
        ] {
            assert!(text.contains(shipped), "{shipped}");
            text = text.replace(shipped, &here);
        }
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, text).expect("written");
        let port = free_port();
        let log = std::fs::File::create(dir.join("prometheus.log")).expect("log");
        let child = program("PROMETHEUS_BIN", "prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus: set PROMETHEUS_BIN, or run `make test`, which gets it");
        Self { child, port }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().new_agent();
        agent.get(format!("http://127.0.0.1:{}{path}", self.port)).call().ok()?.body_mut().read_json().ok()
    }

    /// The active targets of a job.
    pub fn targets(&self, job: &str) -> Option<Vec<Value>> {
        let answer = self.get("/api/v1/targets?state=active")?;
        let targets = answer["data"]["activeTargets"].as_array()?.clone();
        Some(targets.into_iter().filter(|target| target["labels"]["job"] == job).collect())
    }

    /// The value of the one series that a query without special characters finds.
    pub fn query(&self, query: &str) -> Option<String> {
        let answer = self.get(&format!("/api/v1/query?query={query}"))?;
        match answer["data"]["result"].as_array()?.as_slice() {
            [series] => series["value"][1].as_str().map(str::to_owned),
            _ => None,
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
