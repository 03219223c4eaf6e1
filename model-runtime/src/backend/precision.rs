//! The number format that the model computes in. A traced model has its casts baked in, so each precision is a file of its own, which the
//! exporter writes and compares with fp32; inputs and outputs are the same for all of them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Devices;
use crate::model::ModelError;

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// fp32 on a CPU, since scores move with less; on a GPU the first of fp16, bf16 and fp32 that the model directory has.
    Auto,
    /// This one, or an error.
    Only(Precision),
}

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE 754, 32 bits.
    Fp32,
    /// The upper half of an fp32: its range with 8 significant bits.
    Bf16,
    /// IEEE 754, 16 bits: 11 significant bits, nothing beyond 65,504.
    Fp16,
}

impl Precision {
    const ALL: [Self; 3] = [Self::Fp32, Self::Bf16, Self::Fp16];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
        }
    }

    /// The model's file of this precision.
    pub fn file(self) -> &'static str {
        match self {
            Self::Fp32 => "model.pt",
            Self::Bf16 => "model.bf16.pt",
            Self::Fp16 => "model.fp16.pt",
        }
    }
}

impl PrecisionChoice {
    /// The precision to run at.
    ///
    /// # Errors
    /// The directory has no file of it, or it is fp16 on a CPU.
    pub fn resolve(self, dir: &Path, devices: &Devices) -> Result<Precision, ModelError> {
        let has = |precision: Precision| dir.join(precision.file()).is_file();
        let precision = match self {
            Self::Only(precision) => precision,
            Self::Auto if devices.is_gpu() => {
                let best = [Precision::Fp16, Precision::Bf16].into_iter().find(|precision| has(*precision));
                best.unwrap_or(Precision::Fp32)
            }
            Self::Auto => Precision::Fp32,
        };
        if !devices.is_gpu() && precision == Precision::Fp16 {
            let problem = "precision fp16 is for GPUs: CPUs compute it slower than fp32; use fp32 or bf16";
            return Err(ModelError::Mismatch(problem.to_owned()));
        }
        if !has(precision) {
            return Err(ModelError::Mismatch(format!(
                "precision {precision} needs `{}`, which is not there; export the model with it: \
                 examples/export/export.py --precision fp32,{precision} …, or use --precision auto",
                dir.join(precision.file()).display()
            )));
        }
        Ok(precision)
    }
}

/// Whether the CPU multiplies bf16 by itself; one that does not converts each number first, which is slower than fp32.
///
/// Linux names the instructions in `/proc/cpuinfo`: AVX-512 BF16 (Intel since Cooper Lake, AMD since Zen 4), AMX (Intel since Sapphire
/// Rapids), BF16 (Arm v8.6).
pub fn cpu_computes_bf16() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| names_bf16(&text))
}

fn names_bf16(cpuinfo: &str) -> bool {
    let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let flags = lines.find(|(name, _)| matches!(name.trim(), "flags" | "Features"));
    flags.is_some_and(|(_, flags)| {
        flags.split_whitespace().any(|flag| matches!(flag, "avx512_bf16" | "amx_bf16" | "bf16"))
    })
}

impl FromStr for PrecisionChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let known = Precision::ALL.into_iter().find(|precision| precision.as_str() == text).map(Self::Only);
        known.ok_or_else(|| format!("`{text}` is not a precision; write auto, fp32, bf16 or fp16"))
    }
}

impl<'de> Deserialize<'de> for PrecisionChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(precision) => precision.fmt(f),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Device;
    use super::*;

    fn resolve(choice: &str, files: &[&str], device: Device) -> Result<Precision, String> {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|file| std::fs::write(dir.path().join(file), "").unwrap());
        let choice: PrecisionChoice = choice.parse().unwrap();
        choice.resolve(dir.path(), &Devices::new(vec![device])).map_err(|error| error.to_string())
    }

    #[test]
    fn by_itself_only_a_gpu_computes_with_less_than_fp32() {
        let all = ["model.pt", "model.bf16.pt", "model.fp16.pt"];
        assert_eq!(resolve("auto", &all, Device::Cpu), Ok(Precision::Fp32));
        assert_eq!(resolve("bf16", &all, Device::Cpu), Ok(Precision::Bf16));
        assert_eq!(resolve("auto", &all, Device::Cuda(0)), Ok(Precision::Fp16));
        assert_eq!(resolve("auto", &all[..2], Device::Cuda(0)), Ok(Precision::Bf16));
        assert_eq!(resolve("auto", &all[..1], Device::Cuda(0)), Ok(Precision::Fp32));
        assert_eq!(resolve("fp32", &all, Device::Cuda(0)), Ok(Precision::Fp32));
    }

    #[test]
    fn a_precision_that_cannot_be_had_is_refused_with_the_cure() {
        let error = resolve("bf16", &["model.pt"], Device::Cpu).unwrap_err();
        assert!(error.contains("model.bf16.pt`") && error.contains("--precision fp32,bf16"), "{error}");
        let error = resolve("fp16", &["model.pt", "model.fp16.pt"], Device::Cpu).unwrap_err();
        assert!(error.contains("for GPUs"), "{error}");
        assert!("half".parse::<PrecisionChoice>().unwrap_err().contains("bf16"));
    }

    #[test]
    fn the_kernel_tells_whether_the_cpu_computes_bf16() {
        assert!(names_bf16("processor\t: 0\nflags\t\t: fpu avx512_bf16 sse\n"));
        assert!(names_bf16("Features\t: fp asimd bf16\n"));
        assert!(!names_bf16("flags\t\t: fpu avx512f avx2\nbugs\t\t: bf16\n"));
        assert!(!names_bf16(""));
    }
}
