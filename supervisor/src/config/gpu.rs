//! The GPUs: which, how often, and what they are held to.

use std::path::PathBuf;
use std::time::Duration;

use lifecycle::{Devices, GpuPolicy};

use super::settings::Service;
use super::values::Values;

/// How long the registration waits for NVML: it answers within a tenth of a second where the driver is loaded, and within seconds
/// where the driver has to set up the GPUs first.
const DISCOVERY: Duration = Duration::from_secs(1);
/// Two readings may be late before that is news.
const LEAST_READINGS: u32 = 2;
/// What Consul takes as a value of a service's metadata, in bytes (its documentation on services).
const META_VALUE: usize = 512;
/// The most that [`Service::on`] adds to the metadata.
pub(super) const META_PAIRS: usize = 2;

/// What the thread that reads NVML needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// From one look to the next.
    pub interval: Duration,
    /// The library, if not the one that the dynamic linker finds.
    pub library: Option<PathBuf>,
    /// `NVIDIA_VISIBLE_DEVICES`, for the container runtime.
    pub runtime_devices: Option<String>,
    /// `CUDA_VISIBLE_DEVICES`, for CUDA.
    pub cuda_devices: Option<String>,
}

/// What to watch, and what it is held to; `None` if nobody is to look.
pub(super) fn gpu(values: &mut Values<'_>) -> Option<(Gpu, GpuPolicy)> {
    let on = values.choice("gpu.mode", &[("auto", true), ("off", false)]).unwrap_or_default();
    let interval = values.positive_duration("gpu.interval");
    let stale_after = values.positive_duration("gpu.stale-after");
    let least = interval.saturating_mul(LEAST_READINGS);
    if stale_after < least && !stale_after.is_zero() {
        let least = humantime::format_duration(least);
        values.wrong("gpu.stale-after", &format!("a duration of at least twice gpu.interval ({least})"));
    }
    let policy = GpuPolicy {
        discovery: DISCOVERY,
        stale_after,
        memory_warning: limit(values, "gpu.memory-warning", 1, 100),
        temperature_warning: limit(values, "gpu.temperature-warning", 1, 200),
        temperature_critical: limit(values, "gpu.temperature-critical", 1, 200),
        ecc_limit: limit(values, "gpu.ecc-limit", 0, u32::MAX).map(u64::from),
        fatal_xids: xids(values),
    };
    let gpu = Gpu {
        interval,
        library: values.path("gpu.nvml-library"),
        runtime_devices: variable("NVIDIA_VISIBLE_DEVICES"),
        cuda_devices: variable("CUDA_VISIBLE_DEVICES"),
    };
    on.then_some((gpu, policy))
}

fn limit(values: &mut Values<'_>, path: &str, least: u32, most: u32) -> Option<u32> {
    if values.text(path).as_deref() == Some("off") {
        return None;
    }
    let expected = format!("a whole number from {least} to {most}, or off");
    let number = values.parse(path, &expected, |text| match text.parse::<u32>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err("not in the range"),
    });
    Some(number)
}

fn xids(values: &mut Values<'_>) -> Vec<u64> {
    let words = values.list("gpu.fatal-xids").join(",");
    if words == "none" {
        return Vec::new();
    }
    let numbers: Result<Vec<u64>, _> = words.split(',').map(|word| word.trim().parse::<u64>()).collect();
    numbers.unwrap_or_else(|_| {
        values.wrong("gpu.fatal-xids", "numbers of NVIDIA's Xid catalog, or none");
        Vec::new()
    })
}

/// As the environment has it: set to nothing is not the same as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

impl Service {
    /// The entry of an instance that computes with these devices: the tag `gpu` or `cpu`, and `device` and `gpu_count` in the metadata.
    /// What the configuration says itself stays; while the devices are not known, nothing is added.
    #[must_use]
    pub fn on(&self, devices: Option<&Devices>) -> Self {
        let mut service = self.clone();
        let (tag, device, count) = match devices {
            None => return service,
            Some(Devices::Cpu) => ("cpu", "cpu".to_owned(), 0),
            Some(Devices::Gpus { count, names }) => ("gpu", shortened(&names.join(", ")), *count),
        };
        if !service.tags.iter().any(|present| present == tag) {
            service.tags.push(tag.to_owned());
        }
        for (key, value) in [("device", device), ("gpu_count", count.to_string())] {
            service.meta.entry(key.to_owned()).or_insert(value);
        }
        service
    }
}

/// As much as Consul takes.
fn shortened(text: &str) -> String {
    let mut text = text.to_owned();
    while text.len() > META_VALUE {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(tags: &[&str], meta: &[(&str, &str)]) -> Service {
        Service {
            name: "demo".to_owned(),
            id: "demo-1".to_owned(),
            address: "10.0.0.1".to_owned(),
            port: 8000,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            meta: meta.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            weight_passing: 1,
            weight_warning: 1,
        }
    }

    #[test]
    fn the_entry_names_the_devices_and_the_configuration_has_the_last_word() {
        let a100 = Devices::Gpus { count: 2, names: vec!["A100".to_owned(), "H100".to_owned()] };
        let entry = service(&["v1"], &[]).on(Some(&a100));
        assert_eq!(entry.tags, ["v1", "gpu"]);
        assert_eq!(entry.meta, service(&[], &[("device", "A100, H100"), ("gpu_count", "2")]).meta);
        let entry = service(&["cpu"], &[("device", "edge")]).on(Some(&Devices::Cpu));
        assert_eq!(entry.tags, ["cpu"]);
        assert_eq!(entry.meta, service(&[], &[("device", "edge"), ("gpu_count", "0")]).meta);
        let entry = service(&["v1"], &[]).on(None);
        assert_eq!((entry.tags.len(), entry.meta.len()), (1, 0));
    }

    #[test]
    fn many_names_are_cut_to_what_consul_takes() {
        let names = (0..100).map(|number| format!("GPU model {number}")).collect();
        let entry = service(&[], &[]).on(Some(&Devices::Gpus { count: 100, names }));
        assert_eq!(entry.meta.get("device").map(String::len), Some(META_VALUE));
    }
}
