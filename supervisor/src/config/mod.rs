//! The configuration: parsed once, at the edge, into values that cannot be invalid.
//!
//! Flag beats environment beats file beats default. Unknown keys are errors. All problems are reported at once, each with
//! key, value, place and what was expected; then nothing is started.

pub mod address;
mod catalog;
mod file;
pub mod identity;
pub mod keys;
mod policy;
mod problem;
mod settings;
mod sources;
mod values;
mod worker;

pub use problem::Problem;
pub use settings::{Agent, Api, Catalog, Check, Config, LogFormat, Logging, Probe, Secret, Service};
pub use sources::{Place, Raw, Sources};
