//! GPU memory for `/health` and `/metrics`, read through NVML.
//!
//! NVML can hang when a GPU falls off the bus, so it has a thread of its own, and everyone else reads its last report.
//! A report that has grown old is bad news, not no news. Without a driver there is nothing to report.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use serde::Serialize;

/// Memory fills in seconds; reading it costs microseconds.
const INTERVAL: Duration = Duration::from_secs(2);
/// Several missed reports: NVML hangs, the GPU is lost.
const STALE_AFTER: Duration = Duration::from_secs(15);
/// Beyond this a larger batch is likely to fail.
const MEMORY_LIMIT_PERCENT: f64 = 95.0;

/// One GPU's memory, as `/health` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryStats {
    /// The GPU's number, as NVML counts.
    pub gpu: u32,
    /// How much of its memory is in use, by anyone.
    pub memory_used_percent: f64,
    /// Whether it can be read and has memory to spare.
    pub healthy: bool,
    /// Bytes in use.
    #[serde(skip)]
    pub used: u64,
    /// Bytes there are.
    #[serde(skip)]
    pub total: u64,
}

/// The last report.
#[derive(Debug, Clone, Default)]
pub struct Gpus {
    latest: Arc<Mutex<Option<Report>>>,
}

#[derive(Debug, Clone)]
struct Report {
    at: Instant,
    gpus: Vec<MemoryStats>,
}

impl Gpus {
    /// Starts reading, if there is a driver to read from. Says once what it found.
    pub fn watch() -> Self {
        let gpus = Self::default();
        let latest = Arc::clone(&gpus.latest);
        let thread = std::thread::Builder::new().name("nvml".to_owned());
        if let Err(error) = thread.spawn(move || read_forever(&latest)) {
            tracing::warn!(%error, "cannot start the thread that reads GPU memory");
        }
        gpus
    }

    /// The GPUs and their memory at `now`.
    pub fn stats(&self, now: Instant) -> Vec<MemoryStats> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Report { at, mut gpus }) = latest else { return Vec::new() };
        if now.saturating_duration_since(at) > STALE_AFTER {
            gpus.iter_mut().for_each(|gpu| gpu.healthy = false);
        }
        gpus
    }
}

fn read_forever(latest: &Mutex<Option<Report>>) {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(error) => {
            tracing::info!(%error, "no NVIDIA driver: GPU memory is not watched");
            return;
        }
    };
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    loop {
        let gpus = read(&nvml, visible.as_deref());
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Report { at: Instant::now(), gpus });
        std::thread::sleep(INTERVAL);
    }
}

fn read(nvml: &Nvml, visible: Option<&str>) -> Vec<MemoryStats> {
    let mut gpus = Vec::new();
    for gpu in 0..nvml.device_count().unwrap_or_default() {
        let device = nvml.device_by_index(gpu);
        let uuid = device.as_ref().ok().and_then(|device| device.uuid().ok()).unwrap_or_default();
        if !is_visible(visible, gpu, &uuid) {
            continue;
        }
        gpus.push(match device.and_then(|device| device.memory_info()) {
            Ok(memory) => stats(gpu, memory.used, memory.total),
            // Lost or in trouble: full and ill is the honest guess.
            Err(_) => MemoryStats { gpu, memory_used_percent: 100.0, healthy: false, used: 0, total: 0 },
        });
    }
    gpus
}

fn stats(gpu: u32, used: u64, total: u64) -> MemoryStats {
    let percent = if total == 0 { 100.0 } else { used as f64 * 100.0 / total as f64 };
    let memory_used_percent = (percent * 10.0).round() / 10.0;
    MemoryStats { gpu, memory_used_percent, healthy: percent < MEMORY_LIMIT_PERCENT, used, total }
}

/// Whether `CUDA_VISIBLE_DEVICES` (numbers or beginnings of UUIDs) lets this process use the GPU.
fn is_visible(list: Option<&str>, gpu: u32, uuid: &str) -> bool {
    let Some(list) = list else { return true };
    list.split(',').map(str::trim).any(|entry| match entry.parse::<u32>() {
        Ok(number) => number == gpu,
        Err(_) => !entry.is_empty() && uuid.starts_with(entry),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nearly_full_gpu_is_not_healthy() {
        assert!(stats(0, 94, 100).healthy);
        assert!(!stats(0, 96, 100).healthy);
        assert!(!stats(0, 0, 0).healthy);
        assert!((stats(0, 1, 3).memory_used_percent - 33.3).abs() < 1e-9);
    }

    #[test]
    fn an_old_report_makes_every_gpu_unhealthy() {
        let at = Instant::now();
        let report = Report { at, gpus: vec![stats(0, 1, 100)] };
        let gpus = Gpus { latest: Arc::new(Mutex::new(Some(report))) };
        assert!(gpus.stats(at).iter().all(|gpu| gpu.healthy));
        assert!(gpus.stats(at + STALE_AFTER * 2).iter().all(|gpu| !gpu.healthy));
    }

    #[test]
    fn only_gpus_that_cuda_may_use_are_shown() {
        assert!(is_visible(None, 3, "GPU-abc"));
        assert!(is_visible(Some("0, 3"), 3, "GPU-abc"));
        assert!(!is_visible(Some("0,1"), 3, "GPU-abc"));
        assert!(is_visible(Some("GPU-a"), 3, "GPU-abc"));
        assert!(!is_visible(Some(""), 0, "GPU-abc") && !is_visible(Some("-1"), 0, "GPU-abc"));
    }
}
