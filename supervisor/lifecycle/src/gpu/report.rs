//! What is said of the GPUs, and the limits that they are held to.

use std::time::Duration;

/// Limits and timings. Percentages are of the GPU's memory, temperatures in degrees Celsius; `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GpuPolicy {
    /// How long the registration waits, from the start on, for the GPUs to be known. Longer and it goes without them, to be done again.
    pub discovery: Duration,
    /// Silence for so long is critical.
    pub stale_after: Duration,
    /// More memory in use than this is a warning.
    pub memory_warning: Option<u32>,
    /// This temperature is a warning.
    pub temperature_warning: Option<u32>,
    /// This temperature is critical.
    pub temperature_critical: Option<u32>,
    /// More uncorrected ECC errors than this, since the driver was loaded or the GPU was reset, are critical.
    pub ecc_limit: Option<u64>,
    /// The Xid errors after which the GPU is of no use until it is reset.
    pub fatal_xids: Vec<u64>,
}

/// What the thread that reads NVML says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GpuReport {
    /// How each visible GPU is: always all of them.
    Sampled(Vec<GpuSample>),
    /// The driver reported an Xid error.
    Xid {
        /// Of which GPU.
        uuid: String,
        /// Its number (NVIDIA's Xid catalog).
        xid: u64,
    },
    /// There is nothing to watch, and why. The last report.
    Absent(String),
}

/// One GPU, or one MIG instance, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GpuSample {
    /// What tells it from others, always.
    pub uuid: String,
    /// NVML's number for it; that of the whole GPU for a MIG instance.
    pub index: u32,
    /// The product.
    pub name: String,
    /// The figures, or why there are none.
    pub reading: Result<Reading, Trouble>,
}

/// Figures; `None` where the GPU does not have one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Of this GPU or MIG instance.
    pub memory: Option<Memory>,
    /// In degrees Celsius.
    pub temperature: Option<u32>,
    /// For how much of the last moment it computed, in percent.
    pub utilization: Option<u32>,
    /// Uncorrected ECC errors since the driver was loaded or the GPU was reset.
    pub ecc_uncorrected: Option<u64>,
}

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    /// Not to be had: in use by anybody, or kept by the driver.
    pub used: u64,
    /// All there is.
    pub total: u64,
}

/// Why there are no figures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// It has fallen off the bus, or cannot be reached for another reason (NVML_ERROR_GPU_IS_LOST), or must be reset first.
    Lost(String),
    /// NVML failed otherwise.
    Failed(String),
}

/// What the instance computes with, for its catalog entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Devices {
    /// No GPU.
    Cpu,
    /// GPUs, or MIG instances.
    Gpus {
        /// How many.
        count: usize,
        /// Their product names, each once.
        names: Vec<String>,
    },
}
