//! The configuration: parsed once, at the edge, into values that cannot be invalid.
//!
//! Flag beats environment beats file beats default. Unknown keys are errors. All problems are reported at once, each with
//! key, value, place and what was expected; then nothing is started.

mod access;
pub mod address;
mod build;
mod catalog;
mod environment;
mod file;
mod folders;
mod gpu;
pub mod identity;
mod invocation;
mod key;
pub mod keys;
mod policy;
mod ports;
mod probe;
mod problem;
pub mod reload;
pub mod schema;
mod settings;
pub mod shown;
mod signals;
mod sources;
mod values;
mod version;
mod worker;

pub use gpu::Gpu;
pub use invocation::{Invocation, Loaded};
pub use problem::Problem;
pub use settings::{
    Access, Agent, Api, Ask, Catalog, Check, CheckTarget, ChildrenOutput, ClusterTls, Config, LogFormat,
    Logging, Probe, Secret, Service, Token,
};
pub use sources::{Place, Raw, Sources};
pub use values::parse_duration;
pub use worker::secrets as secret_variables;
