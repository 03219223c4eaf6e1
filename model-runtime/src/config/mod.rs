//! What the operator can set, and where: flag, then environment, then `runtime.toml`, then the default. Some of it may change while the
//! server runs; such an override beats them all.

pub mod cli;
mod hot_keys;
mod overrides;
mod problem;
mod runtime_toml;
mod settings;
mod tunables;
mod units;

pub use hot_keys::InForce;
pub use overrides::{Change, Overridden, Setting, Source, changes, settings};
pub use problem::Problem;
pub use runtime_toml::{ModelCard, RuntimeToml, RuntimeTomlError};
pub use settings::Settings;
pub use tunables::{Batching, Running, Tunables};
pub use units::{ByteSize, Span};
