//! The instance image through its life, with real Consul servers, seen from a server's catalog.
//!
//! Each test has a network and three servers of its own. Run by `tests/containers/run`, which makes the images.

mod faults;
mod start;
mod stop;

use std::time::Duration;

use pilotlight_containers::{Instance, Lab, Plan, Servers, Sighting, Watch};

/// How long anything may take that is not itself the subject of a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sentence with entities that the model knows, as `/predict` takes it.
const REQUEST: &str = r#"{"inputs": "My name is Sarah Johnson and my email is sarah.johnson@example.com."}"#;

/// A lab in which servers run, and a watch on the one service that the test is about.
struct Scene {
    // Dropped in this order: the network goes last.
    watch: Watch,
    servers: Servers,
    lab: Lab,
}

impl Scene {
    fn new(service: &str) -> Self {
        let lab = Lab::new().unwrap();
        let servers = Servers::start(&lab).unwrap();
        let watch = Watch::new(&servers.api(), service).unwrap();
        Self { watch, servers, lab }
    }

    /// Starts an instance and waits until clients that ask the servers for the service find it.
    fn passing(&self, plan: &Plan) -> Instance {
        let instance = Instance::start(&self.lab, plan).unwrap();
        let started = instance.started_at().unwrap();
        self.watch.first(started, PATIENCE, "passing", Sighting::has_passing).unwrap();
        instance
    }
}

/// Prints a figure, so that a run shows how far from its limit it was.
fn note(what: &str, figure: Duration) {
    println!("{what}: {:.1} ms", figure.as_secs_f64() * 1e3);
}
