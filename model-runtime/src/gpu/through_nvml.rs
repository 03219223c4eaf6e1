//! NVML: every GPU that CUDA may use, from the start on, without a context of CUDA.

use nvml_wrapper::Nvml;

use super::{MemorySource, MemoryStats};

/// The GPUs that NVML shows and `CUDA_VISIBLE_DEVICES` does not hide.
pub(super) struct VisibleGpus {
    nvml: Nvml,
    /// `CUDA_VISIBLE_DEVICES`.
    visible: Option<String>,
}

impl VisibleGpus {
    /// `Err` where there is no NVML, or none of its GPUs is visible: a MIG slice is named otherwise (`MIG-…`).
    pub(super) fn find() -> Result<Self, String> {
        let nvml = Nvml::init().map_err(|error| error.to_string())?;
        let gpus = Self { nvml, visible: std::env::var("CUDA_VISIBLE_DEVICES").ok() };
        if gpus.read().is_empty() { Err("none is visible to this process".to_owned()) } else { Ok(gpus) }
    }
}

impl MemorySource for VisibleGpus {
    fn read(&self) -> Vec<MemoryStats> {
        let mut gpus = Vec::new();
        for gpu in 0..self.nvml.device_count().unwrap_or_default() {
            let device = self.nvml.device_by_index(gpu);
            let uuid = device.as_ref().ok().and_then(|device| device.uuid().ok()).unwrap_or_default();
            if !is_visible(self.visible.as_deref(), gpu, &uuid) {
                continue;
            }
            let memory = device.and_then(|device| device.memory_info());
            gpus.push(memory.map_or_else(
                |_| MemoryStats::unreadable(gpu),
                |memory| MemoryStats::new(gpu, memory.used, memory.total),
            ));
        }
        gpus
    }
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
    fn only_gpus_that_cuda_may_use_are_shown() {
        assert!(is_visible(None, 3, "GPU-abc"));
        assert!(is_visible(Some("0, 3"), 3, "GPU-abc"));
        assert!(!is_visible(Some("0,1"), 3, "GPU-abc"));
        assert!(is_visible(Some("GPU-a"), 3, "GPU-abc"));
        assert!(!is_visible(Some(""), 0, "GPU-abc") && !is_visible(Some("-1"), 0, "GPU-abc"));
    }
}
