//! A model directory: which files it has, what they say, and what follows from them.

mod description;
mod form;
mod hf_config;

pub use description::{Description, ModelError};
pub use form::{Extent, Form, InputName, TensorForm, TensorSpec, TextForm};
pub use hf_config::HfConfig;
