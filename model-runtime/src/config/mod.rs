//! What the operator can set, and where: flag, then environment, then `runtime.toml`, then the default.

pub mod cli;
mod runtime_toml;
mod settings;
mod units;

pub use runtime_toml::{ModelCard, RuntimeToml};
pub use settings::{Batching, Running, Settings};
pub use units::{ByteSize, Span};
