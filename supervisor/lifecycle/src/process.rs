//! One supervised process's life.
//!
//! ```text
//!            spawned                TERM            exit
//!  Spawning ────────▶ Running ─────────▶ Stopping ───────▶ Ended
//!   ▲   │                │                  │ grace over     ▲
//!   │   │ failed         │ exit             ▼        exit,  │
//!   │   ▼                ▼                Killed ────────────┘
//!   └─ Backoff ◀── restart allowed?                or given up on
//!                        └── no ───────────────────────────▶ Ended
//! ```

use crate::policy::{RestartPolicy, RestartWhen};
use crate::{Exit, Generation, Moment};

/// Where a process is in its life. A pid exists only in the states that have a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Process {
    /// Not started yet.
    Idle,
    /// A spawn was asked for and not answered.
    Spawning,
    /// Alive.
    Running {
        /// Leader of its process group.
        pid: i32,
        /// From then on the run counts as a good one.
        stable_at: Moment,
    },
    /// Alive, and asked to end.
    Stopping {
        /// Leader of its process group.
        pid: i32,
        /// When it gets KILL.
        kill_at: Moment,
        /// When it is left behind.
        give_up_at: Moment,
    },
    /// Killed, and not handed over by the kernel.
    Killed {
        /// Leader of its process group.
        pid: i32,
        /// When it is left behind.
        give_up_at: Moment,
    },
    /// Dead, to be started again.
    Backoff {
        /// When.
        retry_at: Moment,
    },
    /// Dead, or never born, for good.
    Ended,
}

/// What follows from an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It will be started again.
    Restart,
    /// The policy does not want another run.
    Finished,
    /// It failed too often.
    Exhausted,
}

/// A process and its history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Supervised {
    state: Process,
    generation: Generation,
    last_exit: Option<Exit>,
    /// The coming exit is wanted: it is followed by a new start at once and does not count as a failure.
    replacing: bool,
    /// Restarts since the last good run: the exponent of the back-off.
    streak: u32,
    /// When each restart leaves the window. Never more than the limit.
    forgotten_at: Vec<Moment>,
}

impl Default for Supervised {
    fn default() -> Self {
        Self {
            state: Process::Idle,
            generation: 0,
            last_exit: None,
            replacing: false,
            streak: 0,
            forgotten_at: Vec::new(),
        }
    }
}

impl Supervised {
    /// Where it is in its life.
    pub fn state(&self) -> &Process {
        &self.state
    }

    /// The number of the current, or the last, spawn.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u32 {
        self.generation.saturating_sub(1)
    }

    /// How its last run ended.
    pub fn last_exit(&self) -> Option<Exit> {
        self.last_exit
    }

    /// The process id, where there is a process.
    pub fn pid(&self) -> Option<i32> {
        match self.state {
            Process::Running { pid, .. } | Process::Stopping { pid, .. } | Process::Killed { pid, .. } => {
                Some(pid)
            }
            Process::Idle | Process::Spawning | Process::Backoff { .. } | Process::Ended => None,
        }
    }

    /// Alive, and not asked to end.
    pub fn is_running(&self) -> bool {
        matches!(self.state, Process::Running { .. })
    }

    /// Dead for good, or left behind.
    pub fn has_ended(&self) -> bool {
        self.state == Process::Ended
    }

    /// Asks for the next spawn: returns its generation if one is due.
    pub fn start_if_due(&mut self, now: Moment) -> Option<Generation> {
        match self.state {
            Process::Idle => {}
            Process::Backoff { retry_at } if retry_at <= now => {}
            Process::Backoff { .. }
            | Process::Spawning
            | Process::Running { .. }
            | Process::Stopping { .. }
            | Process::Killed { .. }
            | Process::Ended => return None,
        }
        self.generation = self.generation.saturating_add(1);
        self.state = Process::Spawning;
        Some(self.generation)
    }

    /// Ends a back-off: the next start is due at once.
    pub fn hasten(&mut self) {
        if matches!(self.state, Process::Backoff { .. }) {
            self.state = Process::Idle;
        }
    }

    /// Makes a process that is dead for good startable once more.
    pub fn revive(&mut self) {
        if matches!(self.state, Process::Backoff { .. } | Process::Ended) {
            self.state = Process::Idle;
        }
    }

    /// The next exit is wanted: it is followed by a new start at once and does not count as a failure.
    pub fn replace(&mut self) {
        self.replacing = true;
    }

    /// The spawn succeeded.
    pub fn spawned(&mut self, now: Moment, pid: i32, policy: &RestartPolicy) {
        if self.state == Process::Spawning {
            self.state = Process::Running { pid, stable_at: now.saturating_add(policy.stable_after) };
        }
    }

    /// The process is gone, or could not be spawned. While the instance runs (`may_restart`) this decides about the next run.
    pub fn exited(&mut self, now: Moment, exit: Exit, may_restart: bool, policy: &RestartPolicy) -> Verdict {
        if matches!(self.state, Process::Running { stable_at, .. } if stable_at <= now) {
            self.streak = 0;
        }
        self.last_exit = Some(exit);
        if std::mem::take(&mut self.replacing) && may_restart {
            self.state = Process::Idle;
            return Verdict::Restart;
        }
        let verdict = self.verdict(now, exit, may_restart, policy);
        self.state = match verdict {
            Verdict::Restart => {
                let delay = policy.backoff.delay(self.streak);
                self.streak = self.streak.saturating_add(1);
                self.forgotten_at.push(now.saturating_add(policy.window));
                Process::Backoff { retry_at: now.saturating_add(delay) }
            }
            Verdict::Finished | Verdict::Exhausted => Process::Ended,
        };
        verdict
    }

    fn verdict(&mut self, now: Moment, exit: Exit, may_restart: bool, policy: &RestartPolicy) -> Verdict {
        let wanted = match policy.when {
            RestartWhen::Always => true,
            RestartWhen::OnFailure => !exit.is_success(),
            RestartWhen::Never => false,
        };
        if !may_restart || !wanted {
            return Verdict::Finished;
        }
        self.forgotten_at.retain(|moment| *moment > now);
        let recent = u32::try_from(self.forgotten_at.len()).unwrap_or(u32::MAX);
        if recent >= policy.limit { Verdict::Exhausted } else { Verdict::Restart }
    }

    /// Gives up whatever is not alive: nothing is started any more.
    pub fn cancel(&mut self) {
        if matches!(self.state, Process::Idle | Process::Backoff { .. }) {
            self.state = Process::Ended;
        }
    }

    /// Begins an orderly end: returns the pid that gets TERM, if there is one that has not had it.
    pub fn terminate(&mut self, kill_at: Moment, give_up_at: Moment) -> Option<i32> {
        let Process::Running { pid, .. } = self.state else { return None };
        self.state = Process::Stopping { pid, kill_at, give_up_at };
        Some(pid)
    }

    /// The grace is over if `kill_at` has passed: returns the pid that gets KILL, and is left behind at `give_up_at`.
    pub fn kill_if_due(&mut self, now: Moment, give_up_at: Moment) -> Option<i32> {
        let Process::Stopping { pid, kill_at, give_up_at: earlier } = self.state else { return None };
        if kill_at > now {
            return None;
        }
        self.state = Process::Killed { pid, give_up_at: give_up_at.min(earlier) };
        Some(pid)
    }

    /// Ends it at once, whatever it was told before: returns the pid that gets KILL.
    pub fn kill(&mut self, give_up_at: Moment) -> Option<i32> {
        let (Process::Running { pid, .. } | Process::Stopping { pid, .. }) = self.state else { return None };
        self.state = Process::Killed { pid, give_up_at };
        Some(pid)
    }

    /// Lowers the limits of a process that has been told to end already.
    pub fn hurry(&mut self, latest_kill_at: Moment, latest_give_up_at: Moment) {
        match &mut self.state {
            Process::Stopping { kill_at, give_up_at, .. } => {
                *kill_at = latest_kill_at.min(*kill_at);
                *give_up_at = latest_give_up_at.min(*give_up_at);
            }
            Process::Killed { give_up_at, .. } => *give_up_at = latest_give_up_at.min(*give_up_at),
            Process::Idle
            | Process::Spawning
            | Process::Running { .. }
            | Process::Backoff { .. }
            | Process::Ended => {}
        }
    }

    /// Leaves a killed process behind that the kernel does not hand over. Returns whether it did.
    pub fn give_up_if_due(&mut self, now: Moment) -> bool {
        let Process::Killed { give_up_at, .. } = self.state else { return false };
        if give_up_at > now {
            return false;
        }
        self.last_exit = Some(Exit::Signal(crate::signal::KILL));
        self.state = Process::Ended;
        true
    }

    #[cfg(test)]
    pub(crate) fn each_moment(&mut self, shift: &impl Fn(&mut Moment)) {
        match &mut self.state {
            Process::Running { stable_at, .. } => shift(stable_at),
            Process::Stopping { kill_at, give_up_at, .. } => {
                shift(kill_at);
                shift(give_up_at);
            }
            Process::Killed { give_up_at, .. } => shift(give_up_at),
            Process::Backoff { retry_at } => shift(retry_at),
            Process::Idle | Process::Spawning | Process::Ended => {}
        }
        self.forgotten_at.iter_mut().for_each(shift);
    }

    /// When there is something to do again without any event.
    pub fn next_deadline(&self) -> Option<Moment> {
        match self.state {
            Process::Stopping { kill_at, .. } => Some(kill_at),
            // MAX is never: only a stop leaves a process behind.
            Process::Killed { give_up_at, .. } => (give_up_at != Moment::MAX).then_some(give_up_at),
            Process::Backoff { retry_at } => Some(retry_at),
            Process::Idle | Process::Spawning | Process::Running { .. } | Process::Ended => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backoff::Backoff;

    const S: Duration = Duration::from_secs(1);

    fn policy(when: RestartWhen, limit: u32) -> RestartPolicy {
        let backoff = Backoff { min: S, max: 8 * S, seed: 0 };
        RestartPolicy { when, backoff, stable_after: 10 * S, limit, window: 60 * S }
    }

    fn run(
        process: &mut Supervised,
        from: Moment,
        until: Moment,
        exit: Exit,
        policy: &RestartPolicy,
    ) -> Verdict {
        process.start_if_due(from).expect("due");
        process.spawned(from, 7, policy);
        process.exited(until, exit, true, policy)
    }

    #[test]
    fn the_restart_policy_decides_by_the_exit() {
        let (ok, failed, killed) = (Exit::Status(0), Exit::Status(1), Exit::Signal(9));
        for (when, exit, expected) in [
            (RestartWhen::Always, ok, Verdict::Restart),
            (RestartWhen::Always, failed, Verdict::Restart),
            (RestartWhen::OnFailure, ok, Verdict::Finished),
            (RestartWhen::OnFailure, failed, Verdict::Restart),
            (RestartWhen::OnFailure, killed, Verdict::Restart),
            (RestartWhen::Never, failed, Verdict::Finished),
        ] {
            let mut process = Supervised::default();
            assert_eq!(run(&mut process, S, 2 * S, exit, &policy(when, 3)), expected, "{when:?} {exit:?}");
        }
    }

    #[test]
    fn delays_grow_and_start_over_after_a_stable_run() {
        let policy = policy(RestartWhen::OnFailure, 100);
        let mut process = Supervised::default();
        let mut now = S;
        let mut delays = Vec::new();
        for lasted in [1, 1, 1, 1, 1, 10, 1] {
            run(&mut process, now, now + lasted * S, Exit::Status(1), &policy);
            now += lasted * S;
            let Process::Backoff { retry_at } = *process.state() else { panic!("{process:?}") };
            delays.push((retry_at - now).as_secs());
            now = retry_at;
        }
        assert_eq!(delays, [1, 2, 4, 8, 8, 1, 2]);
        assert_eq!(process.restarts(), 6);
    }

    #[test]
    fn the_limit_counts_restarts_within_the_window_only() {
        let policy = policy(RestartWhen::OnFailure, 2);
        let mut process = Supervised::default();
        assert_eq!(run(&mut process, S, 2 * S, Exit::Status(1), &policy), Verdict::Restart);
        assert_eq!(run(&mut process, 3 * S, 4 * S, Exit::Status(1), &policy), Verdict::Restart);
        let mut crashing = process.clone();
        assert_eq!(run(&mut crashing, 10 * S, 61 * S, Exit::Status(5), &policy), Verdict::Exhausted);
        assert!(crashing.has_ended() && crashing.last_exit() == Some(Exit::Status(5)));
        assert_eq!(
            run(&mut process, 10 * S, 62 * S, Exit::Status(5), &policy),
            Verdict::Restart,
            "one has left the window"
        );
    }

    #[test]
    fn a_spawn_waits_for_the_back_off() {
        let policy = policy(RestartWhen::OnFailure, 2);
        let mut process = Supervised::default();
        run(&mut process, S, 2 * S, Exit::Status(1), &policy);
        assert_eq!(process.start_if_due(3 * S - Duration::from_nanos(1)), None);
        assert_eq!(process.start_if_due(3 * S), Some(2));
        assert_eq!(process.start_if_due(30 * S), None, "one spawn at a time");
    }

    #[test]
    fn term_then_kill_then_given_up_on() {
        let mut process = Supervised::default();
        let policy = policy(RestartWhen::OnFailure, 2);
        process.start_if_due(S);
        process.spawned(S, 7, &policy);
        assert_eq!(process.terminate(5 * S, 6 * S), Some(7));
        assert_eq!(process.terminate(9 * S, 9 * S), None, "TERM is sent once");
        assert_eq!(process.kill_if_due(4 * S, Moment::MAX), None);
        assert_eq!(process.next_deadline(), Some(5 * S));
        assert_eq!(process.kill_if_due(5 * S, Moment::MAX), Some(7));
        assert!(!process.give_up_if_due(5 * S));
        assert!(process.give_up_if_due(6 * S) && process.has_ended());
        assert_eq!(process.last_exit(), Some(Exit::Signal(9)));
    }
}
