//! The loop: events come in at one place, a pure function decides, commands go out, the result is published.

use std::collections::VecDeque;
use std::time::Duration;

use lifecycle::signal::CHLD;
use lifecycle::{Command, Event, Instance, Moment};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::executor::Executor;
use crate::journal::Journal;
use crate::os::signals::Signals;
use crate::status::{Clock, Status};

/// Events that wait for the loop. Senders wait when it is full, which slows probes down and loses nothing; signals and exits come by
/// another way and are never behind them.
pub const INBOX: usize = 64;
/// For the kernel to hand over what the last KILL has ended.
const SURVIVORS: Duration = Duration::from_millis(100);

/// What the loop works with.
#[derive(Debug)]
pub struct EventLoop {
    /// All signals.
    pub signals: Signals,
    /// Events from tasks.
    pub inbox: mpsc::Receiver<Event>,
    /// What does things.
    pub executor: Executor,
    /// Where the result is published.
    pub status: watch::Sender<Status>,
    /// The moments that the policy does not keep.
    pub clock: Clock,
}

impl EventLoop {
    /// Runs until the policy says exit, and returns the status to exit with. No child is left alive.
    pub async fn run(mut self, mut instance: Instance, config: &Config) -> u8 {
        let started = Instant::now();
        let mut journal = Journal::default();
        let mut at_hand = VecDeque::from([Event::Started]);
        loop {
            let event = match at_hand.pop_front() {
                Some(event) => event,
                None => {
                    let deadline = instance.next_deadline().and_then(|moment| started.checked_add(moment));
                    match self.wait(deadline).await {
                        Some(event) => event,
                        None => {
                            at_hand.extend(self.reap());
                            continue;
                        }
                    }
                }
            };
            if let Event::Spawned { role, .. } = event {
                self.clock.spawned(role);
            }
            let now: Moment = started.elapsed();
            let commands = instance.step(now, event.clone());
            if journal.record(&event, &commands, &instance) {
                self.clock.phase_changed();
            }
            for command in commands {
                if let Command::Exit(status) = command {
                    self.executor.end_survivors(SURVIVORS);
                    return status;
                }
                at_hand.extend(self.executor.run(command));
            }
            self.publish(&instance, config);
        }
    }

    /// Waits for the next event; `None` if it was SIGCHLD, that is, if somebody may have died.
    async fn wait(&mut self, deadline: Option<Instant>) -> Option<Event> {
        let deadline_reached = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Ok(CHLD) => None,
                Ok(signal) => Some(Event::Signalled(signal)),
                Err(error) => {
                    tracing::error!(%error, "signals cannot be read any more: stopping");
                    Some(Event::StopRequested)
                }
            },
            Some(event) = self.inbox.recv() => Some(event),
            () = deadline_reached => Some(Event::DeadlineReached),
        }
    }

    fn reap(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for dead in self.executor.reap() {
            match dead.role {
                Some(role) => events.push(Event::Exited { role, pid: dead.pid, exit: dead.exit }),
                None => tracing::debug!(pid = dead.pid, status = dead.exit.code(), "orphan reaped"),
            }
        }
        events
    }

    /// Publishes the result if it is news.
    fn publish(&self, instance: &Instance, config: &Config) {
        let fresh = Status::of(instance, config, &self.clock);
        self.status.send_if_modified(|published| {
            let news = *published != fresh;
            *published = fresh;
            news
        });
    }
}
