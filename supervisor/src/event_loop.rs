//! The loop: events come in at one place, a pure function decides, commands go out, the result is published.

use std::collections::VecDeque;
use std::time::Duration;

use lifecycle::signal::{CHLD, HUP, TSTP, TTIN, TTOU};
use lifecycle::{Command, Event, Instance, Moment, Role};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::configuration::Configuration;
use crate::executor::Executor;
use crate::journal::{self, Journal};
use crate::logging;
use crate::metrics::Metrics;
use crate::os::children::Whose;
use crate::os::memory;
use crate::os::signals::Signals;
use crate::probe::exec::Order;
use crate::reload::{Reading, Reply};
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
    /// Commands that ask the worker how it is, to be started.
    pub orders: mpsc::Receiver<Order>,
    /// What does things.
    pub executor: Executor,
    /// Where the result is published.
    pub status: watch::Sender<Status>,
    /// The moments that the policy does not keep.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
    /// The configuration in effect.
    pub configuration: Configuration,
    /// Whoever reads the configuration again.
    pub reloads: mpsc::Sender<Reply>,
    /// What was read.
    pub read: mpsc::Receiver<Reading>,
}

/// Why the loop has woken up.
enum Woken {
    By(Event),
    /// SIGCHLD: somebody may have died.
    ByDeath,
    /// SIGHUP.
    ToReload,
    ByReading(Reading),
    ByOrder(Order),
    /// Nobody waits for a command any more, and it was killed.
    ByAbandoned,
}

impl EventLoop {
    /// Runs until the policy says exit, and returns the status to exit with. No child is left alive.
    pub async fn run(mut self, mut instance: Instance) -> u8 {
        let started = Instant::now();
        let mut journal = Journal::new(self.metrics.clone());
        let mut at_hand = VecDeque::from([Event::Started]);
        loop {
            let event = match at_hand.pop_front() {
                Some(event) => event,
                None => {
                    let deadline = instance.next_deadline().and_then(|moment| started.checked_add(moment));
                    match self.wait(deadline).await {
                        Woken::By(event) => event,
                        Woken::ByDeath => {
                            at_hand.extend(self.reap());
                            self.executor.look_for_stopped_worker();
                            continue;
                        }
                        Woken::ToReload => {
                            self.reload();
                            continue;
                        }
                        Woken::ByOrder(order) => {
                            self.executor.start_command(order);
                            continue;
                        }
                        Woken::ByAbandoned => continue,
                        Woken::ByReading(reading) => {
                            at_hand.extend(self.adopt(reading));
                            continue;
                        }
                    }
                }
            };
            if let Event::Spawned { role, .. } = event {
                self.clock.spawned(role);
                self.configuration.spawned(role);
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
            self.publish(&instance);
            match event {
                // The worker has been told by now.
                Event::Signalled(TSTP | TTIN | TTOU) => self.executor.suspend(),
                Event::Spawned { role: Role::Worker, .. } => memory::forget_start_up(),
                _ => {}
            }
        }
    }

    async fn wait(&mut self, deadline: Option<Instant>) -> Woken {
        let deadline_reached = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            signal = self.signals.next() => match signal {
                Ok(CHLD) => Woken::ByDeath,
                Ok(HUP) if !self.configuration.config.policy.signals.proxy => Woken::ToReload,
                Ok(signal) => Woken::By(Event::Signalled(signal)),
                Err(error) => {
                    tracing::error!(%error, "signals cannot be read any more: stopping");
                    Woken::By(Event::StopRequested)
                }
            },
            Some(event) = self.inbox.recv() => Woken::By(event),
            Some(reading) = self.read.recv() => Woken::ByReading(reading),
            Some(order) = self.orders.recv() => Woken::ByOrder(order),
            () = self.executor.end_abandoned_command() => Woken::ByAbandoned,
            () = deadline_reached => Woken::By(Event::DeadlineReached),
        }
    }

    fn reap(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for dead in self.executor.reap() {
            match dead.whose {
                Some(Whose::Process(role)) => {
                    events.push(Event::Exited { role, pid: dead.pid, exit: dead.exit });
                }
                // Whoever waits for it has been told.
                Some(Whose::Probe) => {}
                None => {
                    self.metrics.orphan_reaped();
                    tracing::debug!(pid = dead.pid, status = dead.exit.code(), "orphan reaped");
                }
            }
        }
        events
    }

    /// Has the configuration read again. Where the queue is full, that has been asked for already.
    fn reload(&self) {
        tracing::info!(signal = "SIGHUP", "signal received: reloading");
        let (reply, _nobody_listens) = oneshot::channel();
        let _asked_already = self.reloads.try_send(reply);
    }

    /// Adopts a configuration that was read, tells everybody who waits, and tells the policy.
    fn adopt(&mut self, reading: Reading) -> Option<Event> {
        let (report, event) = match reading.outcome {
            Ok(read) => {
                let (config, sources) = *read;
                logging::set_level(config.logging.level);
                let change = self.executor.reconfigure(&config);
                let policy = Box::new(config.policy.clone());
                (self.configuration.adopt(config, sources), Event::Reconfigured(policy, change))
            }
            // The status has news all the same.
            Err(problems) => (self.configuration.refuse(problems), Event::DeadlineReached),
        };
        journal::reloaded(&report);
        for reply in reading.replies {
            let _has_gone = reply.send(report.clone());
        }
        Some(event)
    }

    /// Publishes the result if it is news.
    fn publish(&self, instance: &Instance) {
        let mut fresh = Status::of(instance, &self.configuration.config, &self.clock);
        fresh.config = self.configuration.status();
        self.status.send_if_modified(|published| {
            let news = *published != fresh;
            *published = fresh;
            news
        });
    }
}
