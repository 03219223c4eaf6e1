//! CUDA: the GPUs that the model is on.

use super::{MemorySource, MemoryStats};
use crate::backend::gpu_memory;

/// The GPUs that this process uses, as CUDA counts.
pub(super) struct OwnGpus(pub(super) Vec<usize>);

impl MemorySource for OwnGpus {
    fn read(&self) -> Vec<MemoryStats> {
        let stats = |gpu: &usize| {
            let number = u32::try_from(*gpu).unwrap_or(u32::MAX);
            match gpu_memory(*gpu) {
                Ok(memory) => {
                    MemoryStats::new(number, memory.total.saturating_sub(memory.free), memory.total)
                }
                Err(problem) => {
                    tracing::debug!(gpu, problem, "GPU memory cannot be read");
                    MemoryStats::unreadable(number)
                }
            }
        };
        self.0.iter().map(stats).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_cannot_be_read_is_not_healthy() {
        let gpus = OwnGpus(vec![1 << 20]).read();
        assert!(matches!(gpus.as_slice(), [gpu] if !gpu.healthy));
    }
}
