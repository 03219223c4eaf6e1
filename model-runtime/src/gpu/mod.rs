//! GPU memory for `/health` and `/metrics`, read through NVML, or through CUDA where NVML shows no GPU.
//!
//! Either can hang when a GPU falls off the bus, so they have a thread of their own, and everyone else reads its last report.
//! A report that has grown old is bad news, not no news. Without a driver there is nothing to report.

mod through_cuda;
mod through_nvml;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use self::through_cuda::OwnGpus;
use self::through_nvml::VisibleGpus;

/// Memory fills in seconds; reading it costs microseconds.
const INTERVAL: Duration = Duration::from_secs(2);
/// Several missed reports: NVML hangs, the GPU is lost.
const STALE_AFTER: Duration = Duration::from_secs(15);
/// Beyond this a larger batch is likely to fail.
const MEMORY_LIMIT_PERCENT: f64 = 95.0;

/// One GPU's memory, as `/health` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MemoryStats {
    /// The GPU's number, as NVML counts (as CUDA does where NVML shows none).
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
    /// To the thread that reads.
    used: Option<Sender<Vec<usize>>>,
}

/// Who knows how full the GPUs are. Blocking; may hang.
trait MemorySource {
    /// The GPUs as they are now.
    fn read(&self) -> Vec<MemoryStats>;
}

#[derive(Debug, Clone)]
struct Report {
    at: Instant,
    gpus: Vec<MemoryStats>,
}

impl Gpus {
    /// Starts reading, if there is a driver to read from. Says once what it found.
    pub fn watch() -> Self {
        let (used, receiver) = channel();
        let gpus = Self { latest: Arc::default(), used: Some(used) };
        let latest = Arc::clone(&gpus.latest);
        let thread = std::thread::Builder::new().name("gpu-memory".to_owned());
        if let Err(error) = thread.spawn(move || watch_forever(&latest, &receiver)) {
            tracing::warn!(%error, "cannot start the thread that reads GPU memory");
        }
        gpus
    }

    /// The model runs on these GPUs, as CUDA counts: where NVML shows none, CUDA is asked about them from now on.
    pub fn use_gpus(&self, gpus: Vec<usize>) {
        // Nobody listens where NVML shows what there is.
        let _ = self.used.as_ref().map(|used| used.send(gpus));
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

fn watch_forever(latest: &Mutex<Option<Report>>, used: &Receiver<Vec<usize>>) {
    match VisibleGpus::find() {
        Ok(gpus) => report_forever(latest, &gpus),
        Err(problem) => tracing::info!(problem, "NVML shows no GPU"),
    }
    // Not before the model is there: asked earlier, CUDA would begin what takes memory on every GPU.
    let gpus = used.iter().find(|gpus| !gpus.is_empty());
    if let Some(gpus) = gpus {
        report_forever(latest, &OwnGpus(gpus));
    }
}

fn report_forever(latest: &Mutex<Option<Report>>, source: &impl MemorySource) -> ! {
    loop {
        let gpus = source.read();
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Report { at: Instant::now(), gpus });
        std::thread::sleep(INTERVAL);
    }
}

impl MemoryStats {
    fn new(gpu: u32, used: u64, total: u64) -> Self {
        let percent = if total == 0 { 100.0 } else { used as f64 * 100.0 / total as f64 };
        let memory_used_percent = (percent * 10.0).round() / 10.0;
        Self { gpu, memory_used_percent, healthy: percent < MEMORY_LIMIT_PERCENT, used, total }
    }

    /// Lost or in trouble: full and ill is the honest guess.
    fn unreadable(gpu: u32) -> Self {
        Self::new(gpu, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nearly_full_gpu_is_not_healthy() {
        assert!(MemoryStats::new(0, 94, 100).healthy);
        assert!(!MemoryStats::new(0, 96, 100).healthy);
        assert!(!MemoryStats::unreadable(0).healthy);
        assert!((MemoryStats::new(0, 1, 3).memory_used_percent - 33.3).abs() < 1e-9);
    }

    #[test]
    fn an_old_report_makes_every_gpu_unhealthy() {
        let at = Instant::now();
        let report = Report { at, gpus: vec![MemoryStats::new(0, 1, 100)] };
        let gpus = Gpus { latest: Arc::new(Mutex::new(Some(report))), used: None };
        assert!(gpus.stats(at).iter().all(|gpu| gpu.healthy));
        assert!(gpus.stats(at + STALE_AFTER * 2).iter().all(|gpu| !gpu.healthy));
    }
}
