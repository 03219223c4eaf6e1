//! A laboratory of containers: a network of its own, real Consul servers, instances of our image, and a watcher that
//! writes down what a server's catalog says and when.
//!
//! The tests in `tests/life` and the benchmark in `benches/lifecycle` share it. Everything is driven through the
//! `docker` command; what is started is owned by a value and removed when that value is dropped, also by a panic.
//! Containers and networks carry the label [`LABEL`], by which `tests/containers/run` sweeps up after a killed run.
//!
//! ```text
//!  Lab (network) ── Servers (three) ◀── blocking queries ── Watch ─▶ sightings with their times
//!        └──────── Instance (our image) ── kill, exec, stop ─▶ times taken beside the deed
//! ```
//!
//! All clocks are the host's: the containers, the engine and the watcher read the same one, so times can be compared.

mod catalog;
mod docker;
mod http;
mod instance;
mod servers;

pub use catalog::{Entry, Sighting, Watch};
pub use docker::{Container, LABEL, Lab, docker};
pub use http::{Reply, get, post};
pub use instance::{Instance, Plan, Stopped};
pub use servers::Servers;
