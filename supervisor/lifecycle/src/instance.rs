//! The facts about one instance, and the one function that moves them: [`Instance::step`].

use crate::command::Command;
use crate::goal::{Goal, Stage, Stop, StopReason};
use crate::health::Health;
use crate::link::AgentLink;
use crate::process::{Process, Supervised, Verdict};
use crate::registration::{Known, Registration, Wanted};
use crate::signal::{self, Meaning};
use crate::{AgentReport, Event, Exit, Generation, Level, Moment, Phase, Policy, Report, Role};

/// The exit status when the agent or Consul could not be had: EX_UNAVAILABLE, "a support program or file does not exist"
/// (sysexits.h).
pub const UNAVAILABLE: u8 = 69;

/// Everything that is known about one instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instance {
    policy: Policy,
    goal: Goal,
    agent: Supervised,
    worker: Supervised,
    link: AgentLink,
    health: Health,
    registration: Registration,
    started: bool,
    was_in_rotation: bool,
    worker_ended_on_request: bool,
    watched_agent: Option<Generation>,
    watched_worker: Option<Generation>,
    exited: bool,
}

impl Instance {
    /// An instance of which nothing has been started.
    pub fn new(policy: Policy) -> Self {
        let mut agent = Supervised::default();
        if !policy.agent {
            agent.cancel();
        }
        Self {
            policy,
            goal: Goal::Run,
            agent,
            worker: Supervised::default(),
            link: AgentLink::default(),
            health: Health::default(),
            registration: Registration::default(),
            started: false,
            was_in_rotation: false,
            worker_ended_on_request: false,
            watched_agent: None,
            watched_worker: None,
            exited: false,
        }
    }

    /// Takes an event in and says what to do. A second step at the same moment without news says nothing, and
    /// [`Instance::next_deadline`] is later than `now` afterwards.
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Command> {
        let mut commands = Vec::new();
        self.observe(now, event, &mut commands);
        self.decide(now, &mut commands);
        commands
    }

    /// Writes an event into the facts. A signal to hand on is the only command given here: it is no fact to keep.
    fn observe(&mut self, now: Moment, event: Event, commands: &mut Vec<Command>) {
        match event {
            Event::Started => self.started = true,
            Event::Signalled(number) => match signal::meaning(number) {
                Meaning::Stop => self.stop(now, StopReason::Signal(number)),
                Meaning::Forward => commands.extend(self.worker.pid().map(|pid| Command::Signal {
                    role: Role::Worker,
                    pid,
                    signal: number,
                })),
                Meaning::Ignore => {}
            },
            Event::StopRequested => self.stop(now, StopReason::Requested),
            Event::Spawned { role, pid } => self.spawned(now, role, pid),
            Event::SpawnFailed { role, failure } => {
                if *self.process(role).state() == Process::Spawning {
                    self.ended(now, role, failure.exit());
                }
            }
            Event::Exited { role, pid, exit } => {
                if self.process(role).pid() == Some(pid) {
                    self.ended(now, role, exit);
                }
            }
            Event::WorkerProbed { generation, report } => {
                if generation == self.worker.generation() && self.worker.is_running() {
                    self.health.observe(&report, self.policy.failure_threshold);
                }
            }
            Event::AgentProbed { generation, report } => {
                if generation == self.agent.generation() && self.agent.is_running() {
                    self.link.observe(report);
                }
            }
            Event::CatalogReplied { generation, outcome } => {
                if generation == self.agent.generation() && self.agent.pid().is_some() {
                    self.registration.replied(
                        now,
                        outcome,
                        self.policy.heartbeat,
                        &self.policy.catalog_retry,
                    );
                } else {
                    self.registration.replied_by_earlier_agent();
                }
            }
            Event::DeadlineReached => {}
        }
        self.was_in_rotation |= self.phase().is_healthy();
    }

    fn spawned(&mut self, now: Moment, role: Role, pid: i32) {
        match role {
            Role::Agent => {
                self.link = AgentLink::default();
                self.agent.spawned(now, pid, &self.policy.agent_restart);
            }
            Role::Worker => {
                self.health = Health::default();
                self.worker.spawned(now, pid, &self.policy.worker_restart);
            }
        }
    }

    fn ended(&mut self, now: Moment, role: Role, exit: Exit) {
        let running = self.goal.is_run();
        match role {
            Role::Agent => {
                self.link = AgentLink::default();
                self.registration.agent_exited();
                if self.agent.exited(now, exit, running, &self.policy.agent_restart) == Verdict::Exhausted {
                    self.stop(now, StopReason::AgentExhausted(exit));
                }
            }
            Role::Worker => {
                self.health = Health::default();
                self.worker_ended_on_request = matches!(self.worker.state(), Process::Stopping { .. })
                    && exit == Exit::Signal(signal::TERM);
                match self.worker.exited(now, exit, running, &self.policy.worker_restart) {
                    Verdict::Exhausted => self.stop(now, StopReason::WorkerExhausted(exit)),
                    Verdict::Finished if running => self.stop(now, StopReason::WorkerFinished(exit)),
                    Verdict::Finished | Verdict::Restart => {}
                }
            }
        }
    }

    /// Begins the stop, or hurries one that is under way.
    fn stop(&mut self, now: Moment, why: StopReason) {
        match &mut self.goal {
            Goal::Stop(stop) => stop.asked = stop.asked.saturating_add(1).min(3),
            Goal::Run => {
                // Where the entry is not in rotation there are no clients to wait for.
                let in_rotation = self.was_in_rotation
                    && *self.registration.known() != Known::Absent
                    && !self.registration.is_listed_as(Level::Critical);
                let stage = if in_rotation {
                    Stage::OutOfRotation { until: now.saturating_add(self.policy.stop.out_of_rotation) }
                } else {
                    Stage::Deregistering { until: now.saturating_add(self.policy.stop.deregister) }
                };
                self.goal = Goal::Stop(Stop { why, stage, asked: 1, began: now });
            }
        }
    }

    /// Compares the facts with the goal.
    fn decide(&mut self, now: Moment, commands: &mut Vec<Command>) {
        if !self.started || self.exited {
            return;
        }
        if self.goal.is_run()
            && !self.was_in_rotation
            && self.policy.start_timeout.is_some_and(|timeout| timeout <= now)
        {
            self.stop(now, StopReason::StartTimeout);
        }
        match self.goal {
            Goal::Run => self.start_processes(now, commands),
            Goal::Stop(_) => self.advance_stop(now, commands),
        }
        self.adjust_watches(commands);
        self.reconcile(now, commands);
        if matches!(&self.goal, Goal::Stop(stop) if stop.stage == Stage::Stopped) {
            self.exited = true;
            commands.push(Command::Exit(self.exit_code()));
        }
    }

    /// Side by side: loading a model takes long, and neither has to wait for the other.
    fn start_processes(&mut self, now: Moment, commands: &mut Vec<Command>) {
        for role in [Role::Agent, Role::Worker] {
            let process = match role {
                Role::Agent => &mut self.agent,
                Role::Worker => &mut self.worker,
            };
            if let Some(generation) = process.start_if_due(now) {
                commands.push(Command::Spawn { role, generation });
            }
        }
    }

    /// Goes down the stop ladder as far as the facts allow.
    fn advance_stop(&mut self, now: Moment, commands: &mut Vec<Command>) {
        self.worker.cancel();
        self.settle_agent(now, commands);
        let budget = self.policy.stop;
        loop {
            let Goal::Stop(stop) = &mut self.goal else { return };
            let (began, asked) = (stop.began, stop.asked);
            if asked >= 3 && stop.stage.next_deadline().is_some() {
                stop.stage = Stage::StoppingWorker;
            }
            let next = match stop.stage {
                Stage::OutOfRotation { until } => {
                    let told = self.registration.is_listed_as(Level::Critical);
                    let out = told || until <= now || self.agent.has_ended();
                    if asked >= 2 {
                        Some(Stage::Deregistering { until: now.saturating_add(budget.deregister) })
                    } else {
                        out.then(|| Stage::Draining { until: now.saturating_add(budget.drain_window) })
                    }
                }
                Stage::Draining { until } => (until <= now || asked >= 2 || !self.worker.is_running())
                    .then(|| Stage::Deregistering { until: now.saturating_add(budget.deregister) }),
                Stage::Deregistering { until } => {
                    (self.registration.is_absent() || until <= now || self.agent.has_ended())
                        .then_some(Stage::StoppingWorker)
                }
                Stage::StoppingWorker => {
                    let kill_at =
                        if asked >= 3 { now } else { began.saturating_add(budget.until_worker_killed()) };
                    end(Role::Worker, &mut self.worker, now, (kill_at, budget.reap), asked >= 3, commands);
                    if asked >= 3 {
                        end(Role::Agent, &mut self.agent, now, (now, budget.reap), true, commands);
                    }
                    self.worker.has_ended().then_some(Stage::StoppingAgent)
                }
                Stage::StoppingAgent => {
                    let kill_at = began.saturating_add(budget.until_worker_reaped() + budget.agent_leave);
                    end(Role::Agent, &mut self.agent, now, (kill_at, budget.reap), asked >= 3, commands);
                    self.agent.has_ended().then_some(Stage::Stopped)
                }
                Stage::Stopped => None,
            };
            match next {
                Some(stage) => stop.stage = stage,
                None => return,
            }
        }
    }

    /// A dead agent is not started again, unless there is an entry that only an agent can remove: then at once, and once, since
    /// what exits during a stop is not restarted.
    fn settle_agent(&mut self, now: Moment, commands: &mut Vec<Command>) {
        let Goal::Stop(stop) = &self.goal else { return };
        let needed = *self.registration.known() != Known::Absent
            && stop.asked < 3
            && stop.stage.next_deadline().is_some();
        if needed && let Some(generation) = self.agent.start_now(now) {
            commands.push(Command::Spawn { role: Role::Agent, generation });
        }
        self.agent.cancel();
    }

    /// Probes run exactly while there is something to probe.
    fn adjust_watches(&mut self, commands: &mut Vec<Command>) {
        let agent = self.agent.is_running().then(|| self.agent.generation());
        let worker = (self.policy.probe && self.worker.is_running()).then(|| self.worker.generation());
        for (role, wanted, watched) in
            [(Role::Agent, agent, &mut self.watched_agent), (Role::Worker, worker, &mut self.watched_worker)]
        {
            if wanted == *watched {
                continue;
            }
            *watched = wanted;
            commands.push(match wanted {
                Some(generation) => Command::Watch { role, generation },
                None => Command::Unwatch { role },
            });
        }
    }

    /// Asks the agent for the next thing that separates the entry from what it should be.
    fn reconcile(&mut self, now: Moment, commands: &mut Vec<Command>) {
        if let Some(wanted) = self.wanted_entry() {
            let request = self.registration.next_request(now, &wanted, self.policy.stop.deregister);
            commands.extend(
                request.map(|request| Command::Catalog { generation: self.agent.generation(), request }),
            );
        }
    }

    /// What the entry should be now; `None` while there is no agent to ask.
    fn wanted_entry(&self) -> Option<Wanted> {
        if !self.agent.is_running() {
            return None;
        }
        match &self.goal {
            Goal::Run => self.link.was_ready().then(|| Wanted::Listed {
                http_check: Some(self.worker_is_ready()),
                report: self.worker_report(),
            }),
            Goal::Stop(stop) => Some(match stop.stage {
                Stage::OutOfRotation { .. } | Stage::Draining { .. } => Wanted::Listed {
                    http_check: None,
                    report: Report { level: Level::Critical, note: format!("draining: {}", stop.why) },
                },
                Stage::Deregistering { .. }
                | Stage::StoppingWorker
                | Stage::StoppingAgent
                | Stage::Stopped => Wanted::Absent,
            }),
        }
    }

    fn worker_is_ready(&self) -> bool {
        self.worker.is_running() && (!self.policy.probe || self.health.is_ready())
    }

    /// How the worker is, as the TTL check says it.
    pub fn worker_report(&self) -> Report {
        let critical = |note: String| Report { level: Level::Critical, note };
        match (self.worker.state(), self.health.verdict()) {
            (Process::Running { .. }, _) if !self.policy.probe => {
                Report { level: Level::Passing, note: "the worker runs".to_owned() }
            }
            (Process::Running { .. }, Some(verdict))
                if verdict.level == Level::Critical && !self.was_in_rotation =>
            {
                critical(format!("starting: {}", verdict.note))
            }
            (Process::Running { .. }, Some(verdict)) => verdict.clone(),
            (Process::Running { .. }, None) => {
                critical("starting: the worker has not been probed yet".to_owned())
            }
            (Process::Stopping { .. } | Process::Killed { .. }, _) => {
                critical("the worker is being stopped".to_owned())
            }
            (Process::Idle | Process::Spawning | Process::Backoff { .. } | Process::Ended, _) => {
                critical(match self.worker.last_exit() {
                    Some(exit) => format!("the worker {exit}"),
                    None => "starting: the worker has not been started yet".to_owned(),
                })
            }
        }
    }

    /// The exit status of the supervisor: the worker's own, and 0 where it ended by the TERM that we sent.
    fn exit_code(&self) -> u8 {
        let Goal::Stop(stop) = &self.goal else { return 0 };
        match stop.why {
            StopReason::AgentExhausted(_) | StopReason::StartTimeout => UNAVAILABLE,
            StopReason::WorkerExhausted(exit) => exit.code().max(1),
            StopReason::WorkerFinished(exit) => exit.code(),
            StopReason::Signal(_) | StopReason::Requested if self.worker_ended_on_request => 0,
            StopReason::Signal(_) | StopReason::Requested => self.worker.last_exit().map_or(0, Exit::code),
        }
    }

    /// When [`Instance::step`] wants to be called again without any event; always in the future.
    pub fn next_deadline(&self) -> Option<Moment> {
        if !self.started || self.exited {
            return None;
        }
        let (start_timeout, stage) = match &self.goal {
            Goal::Run => (self.policy.start_timeout.filter(|_| !self.was_in_rotation), None),
            Goal::Stop(stop) => (None, stop.stage.next_deadline()),
        };
        let registration = self.wanted_entry().and_then(|_| self.registration.next_deadline());
        [start_timeout, stage, registration, self.agent.next_deadline(), self.worker.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The public phase.
    pub fn phase(&self) -> Phase {
        match &self.goal {
            Goal::Stop(stop) => match stop.stage {
                Stage::OutOfRotation { .. } | Stage::Draining { .. } => Phase::Draining,
                Stage::Deregistering { .. } | Stage::StoppingWorker | Stage::StoppingAgent => Phase::Stopping,
                Stage::Stopped => Phase::Stopped,
            },
            Goal::Run if !self.policy.agent && self.worker_is_ready() => Phase::Running,
            Goal::Run => {
                let known = self.registration.known();
                let listed = self.link.is_ready() && matches!(known, Known::Listed { http_check: true, .. });
                match self.worker_report().level {
                    Level::Passing if listed && self.registration.is_listed_as(Level::Passing) => {
                        Phase::Passing
                    }
                    Level::Warning if listed && self.registration.is_listed_as(Level::Warning) => {
                        Phase::Degraded
                    }
                    Level::Passing | Level::Warning | Level::Critical if self.was_in_rotation => {
                        Phase::Critical
                    }
                    Level::Passing | Level::Warning | Level::Critical => Phase::Starting,
                }
            }
        }
    }

    /// Why the phase is what it is: one line for people.
    pub fn reason(&self) -> String {
        if let Goal::Stop(stop) = &self.goal {
            return stop.why.to_string();
        }
        let report = self.worker_report();
        let mut reasons = Vec::new();
        if report.level != Level::Passing || !self.policy.agent {
            reasons.push(format!("worker: {}", report.note));
        }
        if self.policy.agent {
            match (self.agent.state(), self.link.last()) {
                (Process::Running { .. }, AgentReport::NotReady(why)) => {
                    reasons.push(format!("agent: {why}"))
                }
                (Process::Running { .. }, AgentReport::Ready { .. }) => {}
                _ => reasons.push(match self.agent.last_exit() {
                    Some(exit) => format!("agent: it {exit} and will be restarted"),
                    None => "agent: not started yet".to_owned(),
                }),
            }
            reasons.extend(self.registration.last_failure().map(|failure| format!("catalog: {failure}")));
        }
        match self.phase() {
            Phase::Running => report.note,
            Phase::Passing => "the worker is ready and in the catalog as passing".to_owned(),
            _ if reasons.is_empty() => "registering".to_owned(),
            _ => reasons.join("; "),
        }
    }

    /// One of the two processes.
    pub fn process(&self, role: Role) -> &Supervised {
        match role {
            Role::Agent => &self.agent,
            Role::Worker => &self.worker,
        }
    }

    /// What the agent says of the cluster.
    pub fn link(&self) -> &AgentLink {
        &self.link
    }

    /// The catalog entry, as far as this side knows.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Run or stop.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// The timings and limits.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// Moves a process towards its end: TERM once, KILL when the grace is over or `at_once`, left behind after that.
fn end(
    role: Role,
    process: &mut Supervised,
    now: Moment,
    (kill_at, reap): (Moment, std::time::Duration),
    at_once: bool,
    commands: &mut Vec<Command>,
) {
    let give_up_at = kill_at.max(now).saturating_add(reap);
    let term = if at_once { None } else { process.terminate(kill_at, give_up_at) };
    let kill = if at_once { process.kill(give_up_at) } else { process.kill_if_due(now) };
    for (pid, signal) in [(term, signal::TERM), (kill, signal::KILL)] {
        commands.extend(pid.map(|pid| Command::Signal { role, pid, signal }));
    }
    process.give_up_if_due(now);
}

#[cfg(test)]
impl Instance {
    /// The same instance as if it were `to` now: what makes states at different times comparable.
    pub(crate) fn rebased(mut self, now: Moment, to: Moment) -> Self {
        // What is past is past, however long; what lies ahead stays as far ahead as it is.
        let shift = |moment: &mut Moment| {
            if *moment <= now {
                *moment = Moment::ZERO;
            } else if *moment != Moment::MAX {
                *moment = (*moment + to).saturating_sub(now);
            }
        };
        self.agent.each_moment(&shift);
        self.worker.each_moment(&shift);
        self.registration.each_moment(&shift);
        if let Goal::Stop(stop) = &mut self.goal {
            // The budget's parts are counted from here.
            stop.began = (stop.began + to).saturating_sub(now);
            match &mut stop.stage {
                Stage::OutOfRotation { until }
                | Stage::Draining { until }
                | Stage::Deregistering { until } => shift(until),
                Stage::StoppingWorker | Stage::StoppingAgent | Stage::Stopped => {}
            }
        }
        self.policy.start_timeout.iter_mut().for_each(shift);
        self
    }
}
