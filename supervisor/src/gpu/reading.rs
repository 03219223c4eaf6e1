//! One GPU's figures.

use lifecycle::gpu::{Memory, Reading, Trouble};
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::error::NvmlError;

/// Reads a GPU or a MIG instance. `board` is the GPU that it is a part of, or itself: that is where the temperature is measured.
///
/// # Errors
/// It is lost, or its memory cannot be read for another reason than that it has none to speak of. Failing to give another figure is
/// no trouble: which ones there are depends on the product.
pub(super) fn read(device: &Device<'_>, board: &Device<'_>) -> Result<Reading, Trouble> {
    let memory = match device.memory_info() {
        // What is free can be had, and nothing else: on smaller GPUs the part that the driver keeps for itself is several
        // percent, and `used` does not count it.
        Ok(memory) => Some(Memory { used: memory.total.saturating_sub(memory.free), total: memory.total }),
        // GPUs that share the host's memory have none of their own; drivers before R510 lack the function.
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => None,
        Err(error) => return Err(trouble(&error)),
    };
    let ecc = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
    Ok(Reading {
        memory,
        temperature: unless_lost(board.temperature(TemperatureSensor::Gpu))?,
        utilization: unless_lost(device.utilization_rates())?.map(|rates| rates.gpu),
        ecc_uncorrected: unless_lost(ecc)?,
    })
}

fn unless_lost<T>(figure: Result<T, NvmlError>) -> Result<Option<T>, Trouble> {
    match figure {
        Ok(figure) => Ok(Some(figure)),
        Err(error) if is_lost(&error) => Err(trouble(&error)),
        Err(_) => Ok(None),
    }
}

/// What an error says of the GPU.
pub(super) fn trouble(error: &NvmlError) -> Trouble {
    if is_lost(error) { Trouble::Lost(error.to_string()) } else { Trouble::Failed(error.to_string()) }
}

fn is_lost(error: &NvmlError) -> bool {
    matches!(error, NvmlError::GpuLost | NvmlError::ResetRequired)
}
