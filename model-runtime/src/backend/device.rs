//! Where the model runs: what was asked for, and what there is.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::cuda;
use crate::model::ModelError;

/// What the operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// These GPUs, a copy of the model on each, or an error. Never empty.
    Cuda(Vec<usize>),
    /// Every GPU, at least one.
    AllCuda,
}

/// A place where the model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The GPU with this number, as CUDA counts (after `CUDA_VISIBLE_DEVICES`).
    Cuda(usize),
}

/// Where the model really runs: the CPU, or one GPU or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

impl DeviceChoice {
    /// Finds the devices. Must run before the first call into libtorch: only then does libtorch notice CUDA.
    pub fn resolve(&self) -> Result<Devices, ModelError> {
        let gpus = match self {
            Self::Cpu => return Ok(Devices(vec![Device::Cpu])),
            Self::Auto if !cuda::driver_is_present() => return Ok(Devices(vec![Device::Cpu])),
            Self::Auto => match cuda::open() {
                Ok(_) => vec![0],
                Err(problem) => {
                    tracing::warn!(
                        problem,
                        "there is a GPU driver, but CUDA cannot be used: running on the CPU"
                    );
                    return Ok(Devices(vec![Device::Cpu]));
                }
            },
            Self::Cuda(_) | Self::AllCuda => cuda::open()
                .and_then(|count| self.among(count))
                .map_err(|problem| ModelError::Device { device: self.to_string(), problem })?,
        };
        Ok(Devices(gpus.into_iter().map(Device::Cuda).collect()))
    }

    /// The GPUs that are meant, where there are so many.
    fn among(&self, count: usize) -> Result<Vec<usize>, String> {
        match self {
            Self::Cuda(wanted) if wanted.iter().all(|index| *index < count) => Ok(wanted.clone()),
            Self::Cuda(_) => Err(format!("there are {count} GPUs, counted from 0")),
            Self::AllCuda => Ok((0..count).collect()),
            Self::Auto | Self::Cpu => Ok(Vec::new()),
        }
    }
}

impl DeviceChoice {
    /// Whether a model that was asked for like this can follow one that was asked for like `before` and runs on `devices`.
    ///
    /// # Errors
    /// The process began without CUDA, and libtorch notices it only before its first call.
    pub fn can_follow(&self, before: &Self, devices: &Devices) -> Result<(), String> {
        match self {
            Self::Cpu => Ok(()),
            Self::Auto | Self::Cuda(_) | Self::AllCuda if self == before || devices.is_gpu() => Ok(()),
            Self::Auto if !cuda::driver_is_present() => Ok(()),
            Self::Auto | Self::Cuda(_) | Self::AllCuda => Err(format!(
                "device is {self}, but this process began on the CPU, and libtorch looks for GPUs only then; restart it with --device {self}"
            )),
        }
    }
}

impl Devices {
    #[cfg(test)]
    pub(super) fn new(devices: Vec<Device>) -> Self {
        Self(devices)
    }

    /// Each of them, all of one kind.
    pub fn iter(&self) -> impl Iterator<Item = Device> + '_ {
        self.0.iter().copied()
    }

    /// Their numbers, where they are GPUs.
    pub fn gpus(&self) -> Vec<usize> {
        let number = |device| match device {
            Device::Cpu => None,
            Device::Cuda(gpu) => Some(gpu),
        };
        self.iter().filter_map(number).collect()
    }

    /// Whether these are GPUs.
    pub fn is_gpu(&self) -> bool {
        self.0.iter().any(|device| matches!(device, Device::Cuda(_)))
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
        let gpu =
            |name: &str| if name == "cuda" { Some(0) } else { name.strip_prefix("cuda:")?.parse().ok() };
        let gpus = || -> Option<Vec<usize>> { text.split(',').map(gpu).collect() };
        let known = match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda:all" => Some(Self::AllCuda),
            _ => gpus().filter(|gpus| each_is_different(gpus)).map(Self::Cuda),
        };
        known.ok_or_else(|| {
            format!("`{text}` is not a device; write auto, cpu, cuda, cuda:N, several as cuda:0,cuda:1, or cuda:all")
        })
    }
}

fn each_is_different(gpus: &[usize]) -> bool {
    gpus.iter().enumerate().all(|(place, gpu)| !gpus.iter().take(place).any(|before| before == gpu))
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
            Self::Cuda(gpus) => {
                let names: Vec<String> = gpus.iter().map(|gpu| Device::Cuda(*gpu).to_string()).collect();
                f.write_str(&names.join(","))
            }
            Self::AllCuda => f.write_str("cuda:all"),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(|device| device.to_string()).collect();
        f.write_str(&names.join(","))
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
        use DeviceChoice::{AllCuda, Auto, Cpu, Cuda};
        let (cpu, gpu) = (Devices(vec![Device::Cpu]), Devices(vec![Device::Cuda(0)]));
        let first = Cuda(vec![0]);
        assert!(first.can_follow(&Cpu, &cpu).unwrap_err().contains("--device cuda:0"));
        assert!(AllCuda.can_follow(&Cpu, &cpu).is_err());
        assert!(Cuda(vec![1]).can_follow(&first, &gpu).is_ok());
        assert!(Cpu.can_follow(&first, &gpu).is_ok());
        assert!(Auto.can_follow(&Auto, &cpu).is_ok());
    }

    #[test]
    fn devices_are_read_as_pytorch_writes_them() {
        assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(vec![1])));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(vec![0])));
        assert_eq!("cuda:2,cuda:0".parse(), Ok(DeviceChoice::Cuda(vec![2, 0])));
        assert_eq!("cuda:all".parse(), Ok(DeviceChoice::AllCuda));
        for wrong in [
            "",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:x",
            "cuda:0,",
            "cuda:0,cuda:0",
            "cpu,cuda:0",
            "cuda:all,cuda:0",
        ] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn gpus_that_are_not_there_are_refused() {
        let among = |choice: &str, count| choice.parse::<DeviceChoice>().unwrap().among(count);
        assert_eq!(among("cuda:1,cuda:0", 2), Ok(vec![1, 0]));
        assert_eq!(among("cuda:all", 3), Ok(vec![0, 1, 2]));
        assert!(among("cuda:0,cuda:2", 2).unwrap_err().contains("2 GPUs"));
    }
}
