//! The seam to the model: samples in, outputs out. Blocking, called from the model threads only.

mod array;
mod cuda;
mod device;
mod output;
mod sample;
mod torchscript;

pub use array::{Array, ArrayError, Datatype};
pub use device::{Device, DeviceChoice};
pub use output::{Granularity, Output, Rows};
pub use sample::{Sample, TokenIds};
pub use torchscript::TorchScript;

/// A forward that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ForwardError(pub String);

/// A loaded model. Several threads may call it at once.
pub trait Backend: Send + Sync + 'static {
    /// Runs one batch of samples of the same class; answers in the order of the rows.
    fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError>;

    /// Called once by each model thread before anything else.
    fn enter_thread(&self) {}
}
