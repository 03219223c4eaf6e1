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
        let span = tracing::Span::current();
        let running = tokio::task::spawn_blocking(move || {
            let _logged_as_the_callers = span.entered();
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
    use std::sync::mpsc::{Sender, channel};
    use std::thread::ThreadId;
    use tracing::span::Id;
    use tracing::{Instrument as _, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    /// Tells on which threads spans are entered.
    struct Entered(Sender<ThreadId>);

    impl<S: Subscriber> Layer<S> for Entered {
        fn on_enter(&self, _: &Id, _: Context<'_, S>) {
            self.0.send(std::thread::current().id()).unwrap();
        }
    }

    #[tokio::test]
    async fn work_is_logged_as_the_callers() {
        let (sender, entered) = channel();
        let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(Entered(sender)));
        let pool = TextPool::new(1);
        let work = pool.run(|| std::thread::current().id());
        let worker = work.instrument(tracing::error_span!("request")).await.unwrap();
        assert_ne!(worker, std::thread::current().id());
        assert!(entered.try_iter().any(|thread| thread == worker));
    }

    #[tokio::test]
    async fn a_panic_in_one_piece_of_work_is_an_error_and_the_next_one_runs() {
        let pool = TextPool::new(1);
        assert!(pool.run(|| panic!("bad text")).await.is_err());
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
    }
}
