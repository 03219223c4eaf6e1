//! A model directory: which files it has, what they say, and what follows from them.

mod description;
mod hf_config;

pub use description::{Description, ModelError};
pub use hf_config::HfConfig;
