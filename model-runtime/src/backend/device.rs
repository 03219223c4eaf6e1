//! Where the model runs: what was asked for, and what there is.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::cuda;
use crate::model::ModelError;

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// This GPU, or an error.
    Cuda(usize),
}

/// Where the model really runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The GPU with this number, as CUDA counts (after `CUDA_VISIBLE_DEVICES`).
    Cuda(usize),
}

impl DeviceChoice {
    /// Finds the device. Must run before the first call into libtorch: only then does libtorch notice CUDA.
    pub fn resolve(self) -> Result<Device, ModelError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => cuda::open()
                .and_then(|count| {
                    let counted = format!("there are {count} GPUs, counted from 0");
                    if index < count { Ok(Device::Cuda(index)) } else { Err(counted) }
                })
                .map_err(|problem| ModelError::Device { device: self.to_string(), problem }),
            Self::Auto if !cuda::driver_is_present() => Ok(Device::Cpu),
            Self::Auto => match cuda::open() {
                Ok(_) => Ok(Device::Cuda(0)),
                Err(problem) => {
                    tracing::warn!(
                        problem,
                        "there is a GPU driver, but CUDA cannot be used: running on the CPU"
                    );
                    Ok(Device::Cpu)
                }
            },
        }
    }
}

impl DeviceChoice {
    /// Whether a model that was asked for like this can follow one that was asked for like `before` and runs on `device`.
    ///
    /// # Errors
    /// The process began without CUDA, and libtorch notices it only before its first call.
    pub fn can_follow(self, before: Self, device: Device) -> Result<(), String> {
        match self {
            Self::Cpu => Ok(()),
            Self::Auto | Self::Cuda(_) if self == before || device.is_gpu() => Ok(()),
            Self::Auto if !cuda::driver_is_present() => Ok(()),
            Self::Auto | Self::Cuda(_) => Err(format!(
                "device is {self}, but this process began on the CPU, and libtorch looks for GPUs only then; restart it with --device {self}"
            )),
        }
    }
}

impl Device {
    /// Whether this is a GPU.
    pub fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda(_))
    }
}

impl From<Device> for tch::Device {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Cpu,
            Device::Cuda(index) => Self::Cuda(index),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = |number: &str| number.parse().ok().map(Self::Cuda);
        let known = match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            other => other.strip_prefix("cuda:").and_then(index),
        };
        known.ok_or_else(|| format!("`{text}` is not a device; write auto, cpu, cuda or cuda:N"))
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_began_on_the_cpu_stays_there() {
        use DeviceChoice::{Auto, Cpu, Cuda};
        assert!(Cuda(0).can_follow(Cpu, Device::Cpu).unwrap_err().contains("--device cuda:0"));
        assert!(Cuda(1).can_follow(Cuda(0), Device::Cuda(0)).is_ok());
        assert!(Cpu.can_follow(Cuda(0), Device::Cuda(0)).is_ok());
        assert!(Auto.can_follow(Auto, Device::Cpu).is_ok());
    }

    #[test]
    fn devices_are_read_as_pytorch_writes_them() {
        assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(1)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }
}
