//! Where the work on texts is done: neither on the threads that talk to clients nor on those that run the model.
//!
//! Tokenising costs 0.05 ms for a sentence but a second for megabytes; on an async thread that would delay everyone's
//! answers, on a model thread the next batch.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Runs pieces of CPU work on tokio's blocking threads, a bounded number at a time, first come first served.
#[derive(Debug, Clone)]
pub struct TextPool {
    permits: Arc<Semaphore>,
}

/// The work panicked; the panic hook has logged where.
#[derive(Debug, thiserror::Error)]
#[error("text processing failed: {0}")]
pub struct TextWorkFailed(String);

impl TextPool {
    /// A pool for `threads` pieces of work at a time.
    pub fn new(threads: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(threads.max(1))) }
    }

    /// Does the work and hands back its result.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TextWorkFailed> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let running = tokio::task::spawn_blocking(move || {
            // Moved in, so that work whose client has left still counts until it ends.
            let _permit = permit;
            work()
        });
        running.await.map_err(|error| TextWorkFailed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_one_piece_of_work_is_an_error_and_the_next_one_runs() {
        let pool = TextPool::new(1);
        assert!(pool.run(|| panic!("bad text")).await.is_err());
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
    }
}
