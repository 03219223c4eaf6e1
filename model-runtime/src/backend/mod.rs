//! The seam to the model: samples in, outputs out. Blocking, called from the model threads only.

mod array;
mod cuda;
mod device;
mod forward_error;
mod output;
mod pace;
mod precision;
mod sample;
mod torchscript;

pub use array::{Array, ArrayError, Datatype};
pub use cuda::{Memory, memory as gpu_memory};
pub use device::{Device, DeviceChoice, Devices};
pub use forward_error::ForwardError;
pub use output::{Granularity, Output, Rows};
pub use pace::Pace;
pub use precision::{Precision, PrecisionChoice, cpu_computes_bf16};
pub use sample::{Sample, TokenIds};
pub use torchscript::TorchScript;

/// A loaded model. Several threads may call it at once.
pub trait Backend: Send + Sync + 'static {
    /// Runs one batch of samples of the same class; answers in the order of the rows.
    fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError>;

    /// Called once by each model thread before anything else.
    fn enter_thread(&self) {}

    /// Called by a model thread when its next forwards run alone in the process, or no longer do.
    fn set_alone(&self, _alone: bool) {}
}
