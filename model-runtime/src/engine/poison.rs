//! The end of a process whose GPU is lost: told by a model thread, awaited by whoever ends the process.
//!
//! One for the whole process. A context that CUDA holds for broken stays so whatever is loaded next, so nothing ever takes it back.

use tokio::sync::watch;

/// Whether a device is lost to this process.
#[derive(Debug)]
pub struct Poison {
    cause: watch::Sender<Option<String>>,
}

impl Default for Poison {
    fn default() -> Self {
        Self { cause: watch::Sender::new(None) }
    }
}

impl Poison {
    /// Tells everybody. The first cause stays: what follows are its echoes.
    pub(super) fn report(&self, cause: &str) {
        self.cause.send_if_modified(|known| {
            let is_news = known.is_none();
            known.get_or_insert_with(|| cause.to_owned());
            is_news
        });
    }

    /// What happened, if it did.
    pub fn cause(&self) -> Option<String> {
        self.cause.borrow().clone()
    }

    /// Waits until it happens.
    pub async fn reported(&self) -> String {
        let mut cause = self.cause.subscribe();
        loop {
            if let Some(cause) = cause.borrow_and_update().clone() {
                return cause;
            }
            // The sender is our own, so there is always one.
            if cause.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cause_is_told_to_those_who_wait_and_to_those_who_come_later() {
        let poison = Poison::default();
        assert_eq!(poison.cause(), None);
        let (waiting, ()) = tokio::join!(poison.reported(), async {
            poison.report("assert");
            poison.report("echo");
        });
        assert_eq!(waiting, "assert");
        assert_eq!(poison.reported().await, "assert");
    }
}
