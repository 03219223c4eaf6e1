//! The facts about one instance, and the one function that moves them: [`Instance::step`].

use crate::command::Command;
use crate::goal::{Goal, Stage, Stop, StopReason};
use crate::gpu::{Gpus, merged};
use crate::health::{Health, Thresholds};
use crate::link::AgentLink;
use crate::process::{Process, Supervised, Verdict};
use crate::registration::{Known, Registration, Wanted};
use crate::replacement::{self, Replacement, Why};
use crate::signal::{self, Meaning};
use crate::{
    AgentMode, AgentReport, EntryChange, Event, Exit, Failure, Generation, Level, Moment, Phase, Policy,
    Report, RestartWhen, Role, View,
};

/// The generation of an agent that is not ours: there is only the one.
const EXTERNAL: Generation = 1;

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
    gpus: Gpus,
    registration: Registration,
    replacement: Option<Replacement>,
    drained: bool,
    started: bool,
    was_in_rotation: bool,
    was_well: bool,
    worker_ended_on_request: bool,
    watched_agent: Option<Generation>,
    watched_worker: Option<Generation>,
    /// The living agent holds tokens or certificates that have been replaced.
    agent_is_outdated: bool,
    exited: bool,
}

impl Instance {
    /// An instance of which nothing has been started.
    pub fn new(policy: Policy) -> Self {
        let mut agent = Supervised::default();
        if policy.agent != AgentMode::Child {
            agent.cancel();
        }
        let registration = if policy.agent != AgentMode::None && policy.entry_may_exist {
            Registration::of_unknown_past()
        } else {
            Registration::default()
        };
        Self {
            gpus: Gpus::new(policy.gpu.as_ref()),
            policy,
            goal: Goal::Run,
            agent,
            worker: Supervised::default(),
            link: AgentLink::default(),
            health: Health::default(),
            registration,
            replacement: None,
            drained: false,
            started: false,
            was_in_rotation: false,
            was_well: false,
            worker_ended_on_request: false,
            watched_agent: None,
            watched_worker: None,
            agent_is_outdated: false,
            exited: false,
        }
    }

    /// Takes an event in and says what to do. A second step at the same moment without news says nothing, and
    /// [`Instance::next_deadline`] is later than `now` afterwards.
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Command> {
        let mut commands = Vec::new();
        self.observe(now, event, &mut commands);
        self.decide(now, &mut commands);
        self.was_in_rotation |= self.goal.is_run() && self.is_in_rotation();
        self.was_well |= matches!(self.phase(), Phase::Running | Phase::Passing | Phase::Degraded);
        commands
    }

    /// Writes an event into the facts. A signal to hand on is the only command given here: it is no fact to keep.
    fn observe(&mut self, now: Moment, event: Event, commands: &mut Vec<Command>) {
        match event {
            Event::Started => {
                self.started = true;
                self.gpus.begin(now, self.policy.gpu.as_ref());
            }
            Event::Signalled(number) => self.signalled(now, number, commands),
            Event::StopRequested => self.stop(now, StopReason::Requested),
            Event::DrainRequested => self.drained = self.policy.agent != AgentMode::None,
            Event::ResumeRequested => self.drained = false,
            Event::RestartRequested(role) => self.restart(now, role, commands),
            Event::Reconfigured(policy, change) => {
                self.policy = *policy;
                if change == EntryChange::Changed {
                    self.registration.entry_changed();
                }
            }
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
                    let thresholds = Thresholds {
                        failure: self.policy.failure_threshold,
                        success: self.policy.success_threshold,
                    };
                    self.health.observe(&report, thresholds);
                }
            }
            Event::LivenessProbed { generation, outcome } => {
                if generation == self.worker.generation() && self.worker.is_running() {
                    let dead = self.health.observe_liveness(outcome.is_ok(), self.policy.liveness_threshold);
                    if let (true, Err(note)) = (dead, outcome) {
                        self.replace_worker(now, Why::NotLive(note));
                    }
                }
            }
            Event::AgentProbed { generation, report } => {
                if self.agent_to_ask() == Some(generation) {
                    self.link.observe(report);
                }
            }
            Event::EntrySeen { generation, view } => {
                if self.agent_to_ask() == Some(generation) {
                    self.registration.observe(view);
                }
            }
            Event::CatalogReplied { generation, outcome } => {
                if self.agent_that_answers() == Some(generation) {
                    if matches!(outcome, Err(Failure::Unanswered(_))) {
                        self.link.unanswered();
                    }
                    self.registration.replied(now, outcome, &self.policy);
                } else {
                    self.registration.replied_by_earlier_agent();
                }
            }
            Event::CredentialsChanged => {
                // The agent keeps the token of a registration for as long as it keeps the entry.
                self.registration.entry_changed();
                self.agent_is_outdated = self.policy.agent == AgentMode::Child;
            }
            Event::GpusReported(report) => self.gpus.observe(now, report, self.policy.gpu.as_ref()),
            Event::DeadlineReached => {}
        }
        self.gpus.look(now);
    }

    fn signalled(&mut self, now: Moment, number: u8, commands: &mut Vec<Command>) {
        match (self.policy.signals.meaning(number), self.worker.pid()) {
            (Meaning::Stop, _) => self.stop(now, StopReason::Signal(number)),
            (Meaning::Forward, Some(pid)) => {
                let signal = self.policy.signals.for_worker(number);
                commands.extend(signal.map(|signal| Command::Signal { role: Role::Worker, pid, signal }));
            }
            // Somebody who wants it to end must not have to wait for a worker that could be told.
            (Meaning::Forward, None) if matches!(number, signal::TERM | signal::INT) => {
                self.stop(now, StopReason::Signal(number));
            }
            (Meaning::Forward, None) | (Meaning::Ignore, _) => {}
        }
    }

    /// The agent that can be asked something, by generation: ours while it runs and was not told to end, somebody else's always.
    fn agent_to_ask(&self) -> Option<Generation> {
        match self.policy.agent {
            AgentMode::Child => self.agent.is_running().then(|| self.agent.generation()),
            AgentMode::External => (self.started && !self.exited).then_some(EXTERNAL),
            AgentMode::None => None,
        }
    }

    /// The agent whose answers count: also one that was told to end and still lives.
    fn agent_that_answers(&self) -> Option<Generation> {
        match self.policy.agent {
            AgentMode::Child => self.agent.pid().map(|_| self.agent.generation()),
            AgentMode::External | AgentMode::None => self.agent_to_ask(),
        }
    }

    /// Whether no agent will ever answer again.
    fn agent_is_gone(&self) -> bool {
        match self.policy.agent {
            AgentMode::Child => self.agent.has_ended(),
            AgentMode::External => false,
            AgentMode::None => true,
        }
    }

    /// Whether clients may be sending requests, as far as this side knows: what the agent was told the servers show, often before the
    /// answer is here.
    fn is_in_rotation(&self) -> bool {
        if self.policy.agent == AgentMode::None {
            return self.worker_is_ready();
        }
        self.registration.is_told_to_serve()
    }

    /// The same, and also where the entry is not known and can be told.
    fn may_be_in_rotation(&self) -> bool {
        let unknown =
            *self.registration.known() != Known::Absent && !self.registration.is_listed_as(Level::Critical);
        self.is_in_rotation() || (self.link.was_ready() && unknown)
    }

    /// Somebody wants a process to be started anew.
    fn restart(&mut self, now: Moment, role: Role, commands: &mut Vec<Command>) {
        if !self.goal.is_run() {
            return;
        }
        match role {
            Role::Worker if self.worker.is_running() => self.replace_worker(now, Why::Requested),
            Role::Worker => self.worker.hasten(),
            Role::Agent if self.agent.is_running() => {
                // Not TERM: it would leave the cluster and take the entry along. What it holds it has on disk.
                self.agent.replace();
                let pid = self.agent.kill(Moment::MAX);
                commands.extend(pid.map(|pid| Command::Signal {
                    role: Role::Agent,
                    pid,
                    signal: signal::KILL,
                }));
            }
            Role::Agent => self.agent.hasten(),
        }
    }

    /// Begins the restart of a living worker; what is under way for a lesser reason goes on faster.
    fn replace_worker(&mut self, now: Moment, why: Why) {
        if !self.goal.is_run() || !self.worker.is_running() {
            return;
        }
        let drains = why == Why::Requested && self.may_be_in_rotation();
        let stage = if drains {
            replacement::Stage::OutOfRotation { until: now.saturating_add(self.policy.stop.out_of_rotation) }
        } else {
            replacement::Stage::Stopping
        };
        match &self.replacement {
            Some(_) if why == Why::Requested => {}
            Some(_) | None => self.replacement = Some(Replacement { why, stage }),
        }
    }

    fn spawned(&mut self, now: Moment, role: Role, pid: i32) {
        match role {
            Role::Agent => {
                self.link = AgentLink::default();
                self.agent_is_outdated = false;
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
                    && self.policy.signals.for_worker(signal::TERM).map(Exit::Signal) == Some(exit);
                let mut policy = self.policy.worker_restart.clone();
                if policy.when == RestartWhen::OnFailure && self.policy.exit_ok.contains(&exit.code()) {
                    policy.when = RestartWhen::Never;
                }
                match self.replacement.take().map(|replacement| replacement.why) {
                    Some(Why::Requested) => self.worker.replace(),
                    // However it takes leave, its run was a failure.
                    Some(Why::NotLive(_)) => policy.when = RestartWhen::Always,
                    None => {}
                }
                match self.worker.exited(now, exit, running, &policy) {
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
                let listed = *self.registration.known() != Known::Absent
                    && !self.registration.is_listed_as(Level::Critical);
                let in_rotation = self.policy.agent != AgentMode::None
                    && self.was_in_rotation
                    && (listed || self.registration.is_told_to_serve());
                let stage = if in_rotation {
                    Stage::OutOfRotation { until: now.saturating_add(self.policy.stop.out_of_rotation) }
                } else {
                    Stage::Deregistering { until: now.saturating_add(self.policy.stop.deregister) }
                };
                self.replacement = None;
                self.link.forgive();
                self.goal = Goal::Stop(Stop { why, stage, asked: 1, began: now, agent_revived: false });
            }
        }
    }

    /// Compares the facts with the goal.
    fn decide(&mut self, now: Moment, commands: &mut Vec<Command>) {
        if !self.started || self.exited {
            return;
        }
        if self.goal.is_run()
            && !self.was_well
            && self.policy.start_timeout.is_some_and(|timeout| timeout <= now)
        {
            self.stop(now, StopReason::StartTimeout);
        }
        match self.goal {
            Goal::Run => {
                self.end_hung_agent(commands);
                self.reload_agent(commands);
                self.advance_replacement(now, commands);
                self.start_processes(now, commands);
            }
            Goal::Stop(_) => self.advance_stop(now, commands),
        }
        self.describe(commands);
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
            self.start_if_due(now, role, commands);
        }
    }

    fn start_if_due(&mut self, now: Moment, role: Role, commands: &mut Vec<Command>) {
        let process = match role {
            Role::Agent => &mut self.agent,
            Role::Worker => &mut self.worker,
        };
        if let Some(generation) = process.start_if_due(now) {
            let kept_check_is_true = self.goal.is_run() && self.report().level != Level::Critical;
            commands.push(Command::Spawn { role, generation, kept_check_is_true });
        }
    }

    /// An agent that takes questions and answers none is killed; whatever follows an exit follows.
    fn end_hung_agent(&mut self, commands: &mut Vec<Command>) {
        let threshold = match &self.goal {
            Goal::Run => self.policy.silence_threshold,
            // There is no time to ask twice, and a stop can start it once more.
            Goal::Stop(stop) if !stop.agent_revived && self.stop_needs_agent() => 1,
            Goal::Stop(_) => return,
        };
        if self.agent.is_running() && self.link.is_silent(threshold) {
            let pid = self.agent.kill(Moment::MAX);
            commands.extend(pid.map(|pid| Command::Signal { role: Role::Agent, pid, signal: signal::KILL }));
        }
    }

    /// Has the agent take what was replaced, as soon as it can hear it. One that is started later reads it by itself.
    fn reload_agent(&mut self, commands: &mut Vec<Command>) {
        if self.agent_is_outdated && self.agent.is_running() && self.link.has_answered() {
            self.agent_is_outdated = false;
            commands.extend(self.agent.pid().map(|pid| Command::ReloadAgent { pid }));
        }
    }

    /// Takes a worker that is to be restarted through its last steps.
    fn advance_replacement(&mut self, now: Moment, commands: &mut Vec<Command>) {
        use replacement::Stage;
        let budget = self.policy.stop;
        loop {
            let Some(replacement) = &mut self.replacement else { return };
            let next = match replacement.stage {
                Stage::OutOfRotation { until } => {
                    let out = until <= now || self.registration.is_listed_as(Level::Critical);
                    out.then(|| Stage::Draining { until: now.saturating_add(budget.drain_window) })
                }
                Stage::Draining { until } => (until <= now).then_some(Stage::Stopping),
                Stage::Stopping => {
                    let kill_at = now.saturating_add(budget.worker_grace);
                    let term = self.worker.terminate(kill_at, Moment::MAX);
                    // Never given up: its successor needs the port and the GPU's memory that it holds.
                    let kill = self.worker.kill_if_due(now, Moment::MAX);
                    let signals =
                        [(term, self.policy.signals.for_worker(signal::TERM)), (kill, Some(signal::KILL))];
                    commands.extend(to_send(Role::Worker, signals));
                    None
                }
            };
            match next {
                Some(stage) => replacement.stage = stage,
                None => return,
            }
        }
    }

    /// Goes down the stop ladder as far as the facts allow.
    fn advance_stop(&mut self, now: Moment, commands: &mut Vec<Command>) {
        self.worker.cancel();
        // A restart was under way: its grace goes on.
        let kill = self.worker.kill_if_due(now, Moment::MAX);
        commands.extend(kill.map(|pid| Command::Signal { role: Role::Worker, pid, signal: signal::KILL }));
        self.end_hung_agent(commands);
        self.settle_agent(now, commands);
        let budget = self.policy.stop;
        loop {
            let agent_is_gone = self.agent_is_gone();
            let Goal::Stop(stop) = &mut self.goal else { return };
            let (began, asked) = (stop.began, stop.asked);
            if asked >= 3 && stop.stage.next_deadline().is_some() {
                stop.stage = Stage::StoppingWorker;
            }
            let next = match stop.stage {
                Stage::OutOfRotation { until } => {
                    let told = self.registration.is_listed_as(Level::Critical);
                    let out = told || until <= now || agent_is_gone;
                    if asked >= 2 {
                        Some(Stage::Deregistering { until: now.saturating_add(budget.deregister) })
                    } else {
                        out.then(|| Stage::Draining { until: now.saturating_add(budget.drain_window) })
                    }
                }
                Stage::Draining { until } => (until <= now || asked >= 2 || !self.worker.is_running())
                    .then(|| Stage::Deregistering { until: now.saturating_add(budget.deregister) }),
                Stage::Deregistering { until } => {
                    (self.registration.is_absent() || until <= now || agent_is_gone)
                        .then_some(Stage::StoppingWorker)
                }
                Stage::StoppingWorker => {
                    let kill_at =
                        if asked >= 3 { now } else { began.saturating_add(budget.until_worker_killed()) };
                    let term = self.policy.signals.for_worker(signal::TERM);
                    let ladder = Ladder { gently: asked < 3, term, kill_at, reap: budget.reap };
                    ladder.end(Role::Worker, &mut self.worker, now, commands);
                    if asked >= 3 {
                        let ladder = Ladder { gently: false, term: None, kill_at: now, reap: budget.reap };
                        ladder.end(Role::Agent, &mut self.agent, now, commands);
                    }
                    self.worker.has_ended().then_some(Stage::StoppingAgent)
                }
                Stage::StoppingAgent => {
                    let kill_at = began.saturating_add(budget.until_worker_reaped() + budget.agent_leave);
                    let term = Some(signal::TERM);
                    let ladder = Ladder { gently: asked < 3, term, kill_at, reap: budget.reap };
                    ladder.end(Role::Agent, &mut self.agent, now, commands);
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

    /// Whether there may be an entry to remove, and time to do it.
    fn stop_needs_agent(&self) -> bool {
        let Goal::Stop(stop) = &self.goal else { return false };
        *self.registration.known() != Known::Absent && stop.asked < 3 && stop.stage.next_deadline().is_some()
    }

    /// A dead agent is not started again, unless there is an entry that only an agent can remove: then at once, and once.
    fn settle_agent(&mut self, now: Moment, commands: &mut Vec<Command>) {
        if self.policy.agent != AgentMode::Child {
            return;
        }
        let needed = self.stop_needs_agent();
        let Goal::Stop(stop) = &mut self.goal else { return };
        let dead = matches!(self.agent.state(), Process::Backoff { .. } | Process::Ended);
        if needed && dead && !stop.agent_revived {
            stop.agent_revived = true;
            self.agent.revive();
            self.start_if_due(now, Role::Agent, commands);
        }
        self.agent.cancel();
    }

    /// Probes run exactly while there is something to probe.
    fn adjust_watches(&mut self, commands: &mut Vec<Command>) {
        let agent = self.agent_to_ask();
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

    /// Has the entry say what the instance computes with, once that is known; late, if NVML is slow.
    fn describe(&mut self, commands: &mut Vec<Command>) {
        if self.goal.is_run()
            && let Some(devices) = self.gpus.describe()
        {
            self.registration.entry_changed();
            commands.push(Command::Describe(devices));
        }
    }

    /// Asks the agent for the next thing that separates the entry from what it should be.
    fn reconcile(&mut self, now: Moment, commands: &mut Vec<Command>) {
        let (Some(generation), Some(wanted)) = (self.agent_to_ask(), self.wanted_entry()) else { return };
        let timeout = self.patience(now);
        if let Some(request) = self.registration.next_request(now, &wanted) {
            commands.push(Command::Catalog { generation, request, timeout });
        }
    }

    /// How long a request to the agent may take: never longer than the step of a stop that waits for it.
    fn patience(&self, now: Moment) -> std::time::Duration {
        let budget = self.policy.stop;
        match &self.goal {
            Goal::Run => self.policy.agent_patience,
            Goal::Stop(stop) => match stop.stage {
                Stage::OutOfRotation { until } | Stage::Deregistering { until } => until.saturating_sub(now),
                Stage::Draining { .. } => budget.out_of_rotation,
                Stage::StoppingWorker | Stage::StoppingAgent | Stage::Stopped => budget.deregister,
            },
        }
    }

    /// What the entry should be now; `None` while there is no agent to ask.
    fn wanted_entry(&self) -> Option<Wanted> {
        self.agent_to_ask()?;
        match &self.goal {
            Goal::Run => (self.link.was_ready() && self.gpus.is_settled()).then(|| {
                let (worker_is_ready, report) = (self.worker_is_ready(), self.report());
                // What is on its way out is no reason to change what Consul looks at.
                let leaving = self.drained || self.replacement.is_some();
                let http_check = if leaving && worker_is_ready { None } else { Some(worker_is_ready) };
                Wanted::Listed { http_check, report }
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

    /// How the instance is, as the TTL check says it while the instance runs.
    pub fn report(&self) -> Report {
        let critical = |note: String| Report { level: Level::Critical, note };
        match &self.replacement {
            _ if self.drained => critical("drained: somebody asked for it".to_owned()),
            Some(replacement) => critical(format!("the worker is being restarted: {}", replacement.why)),
            None => merged(self.worker_report(), self.gpu_report()),
        }
    }

    /// Whether the worker serves and is meant to: killing it would not help, whatever the catalog says. What `supervisor health` says.
    pub fn is_serving(&self) -> bool {
        self.goal.is_run()
            && self.replacement.is_none()
            && self.worker_is_ready()
            && self.report().level != Level::Critical
    }

    fn worker_is_ready(&self) -> bool {
        self.worker.is_running() && (!self.policy.probe || self.health.is_ready())
    }

    /// What is wrong with the GPUs; `None` if nothing is.
    pub fn gpu_report(&self) -> Option<Report> {
        self.gpus.report(self.policy.gpu.as_ref())
    }

    /// How the worker is.
    pub fn worker_report(&self) -> Report {
        let critical = |note: String| Report { level: Level::Critical, note };
        match (self.worker.state(), self.health.verdict()) {
            (Process::Running { .. }, _) if !self.policy.probe => {
                Report { level: Level::Passing, note: "the worker runs".to_owned() }
            }
            (Process::Running { .. }, Some(verdict))
                if verdict.level == Level::Critical && !self.was_well =>
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
            StopReason::WorkerFinished(exit) => self.worker_code(exit),
            StopReason::Signal(_) | StopReason::Requested if self.worker_ended_on_request => 0,
            StopReason::Signal(_) | StopReason::Requested => {
                self.worker.last_exit().map_or(0, |exit| self.worker_code(exit))
            }
        }
    }

    /// The worker's status as others are to see it.
    fn worker_code(&self, exit: Exit) -> u8 {
        Some(exit.code()).filter(|code| !self.policy.exit_ok.contains(code)).unwrap_or(0)
    }

    /// When [`Instance::step`] wants to be called again without any event; always in the future.
    pub fn next_deadline(&self) -> Option<Moment> {
        if !self.started || self.exited {
            return None;
        }
        let (start_timeout, stage) = match &self.goal {
            Goal::Run => (
                self.policy.start_timeout.filter(|_| !self.was_well),
                self.replacement.as_ref().and_then(|replacement| replacement.stage.next_deadline()),
            ),
            Goal::Stop(stop) => (None, stop.stage.next_deadline()),
        };
        let gpus = self.goal.is_run().then(|| self.gpus.next_deadline()).flatten();
        let registration = self.wanted_entry().and_then(|_| self.registration.next_deadline());
        [start_timeout, stage, registration, gpus, self.agent.next_deadline(), self.worker.next_deadline()]
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
            Goal::Run if self.policy.agent == AgentMode::None && self.worker_is_ready() => Phase::Running,
            Goal::Run if self.drained && self.is_in_rotation() => Phase::Draining,
            Goal::Run if self.drained => Phase::Drained,
            Goal::Run => {
                let known = self.registration.known();
                let listed = self.agent_to_ask().is_some()
                    && self.link.is_ready()
                    && matches!(known, Known::Listed { http_check: true, .. });
                let said = |level| self.registration.is_listed_as(level);
                let seen = |level| self.registration.is_seen_as(level);
                match self.report().level {
                    Level::Passing if listed && said(Level::Passing) && seen(Level::Passing) => {
                        Phase::Passing
                    }
                    Level::Passing if listed && said(Level::Passing) && seen(Level::Warning) => {
                        Phase::Degraded
                    }
                    Level::Warning if listed && said(Level::Warning) && seen(Level::Warning) => {
                        Phase::Degraded
                    }
                    Level::Passing | Level::Warning | Level::Critical if self.was_well => Phase::Critical,
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
        let report = self.report();
        let mut reasons = Vec::new();
        let worker = self.worker_report();
        if self.replacement.is_some() || self.drained {
            reasons.push(report.note.clone());
        } else if worker.level != Level::Passing || self.policy.agent == AgentMode::None {
            reasons.push(format!("worker: {}", worker.note));
        }
        reasons.extend(self.gpu_report().map(|report| report.note));
        reasons.extend(self.agent_trouble());
        if self.policy.agent != AgentMode::None {
            // What the agent is not well by need not be said twice.
            let failure = self.registration.last_failure();
            let news = failure.filter(|failure| !reasons.iter().any(|reason| reason.ends_with(failure)));
            reasons.extend(news.map(|failure| format!("catalog: {failure}")));
            reasons.extend(self.catalog_trouble());
        }
        match self.phase() {
            Phase::Running => report.note,
            Phase::Passing => "the worker is ready and in the catalog as passing".to_owned(),
            _ if reasons.is_empty() => "registering".to_owned(),
            _ => reasons.join("; "),
        }
    }

    /// What is wrong with the agent, if anything is.
    fn agent_trouble(&self) -> Option<String> {
        let not_ready = match self.link.last() {
            AgentReport::Ready { .. } => None,
            AgentReport::NotReady(why) | AgentReport::Unreachable(why) => Some(format!("agent: {why}")),
            AgentReport::Silent(why) => Some(format!("agent: it hangs: {why}")),
        };
        match (self.policy.agent, self.agent.state()) {
            (AgentMode::None, _) => None,
            (AgentMode::External, _) | (AgentMode::Child, Process::Running { .. }) => not_ready,
            (AgentMode::Child, _) => Some(match self.agent.last_exit() {
                Some(exit) => format!("agent: it {exit} and will be restarted"),
                None => "agent: not started yet".to_owned(),
            }),
        }
    }

    /// What the servers say that keeps an instance out of the passing set which is well by itself.
    fn catalog_trouble(&self) -> Option<String> {
        match self.registration.seen()? {
            // Where the agent is not well the reason is that.
            View::Unknown(why) if self.link.is_ready() => Some(format!("the servers cannot be asked: {why}")),
            View::Listed(listing)
                if listing.level != Level::Passing && self.report().level == Level::Passing =>
            {
                Some(format!("catalog: {}", listing.note))
            }
            View::Unknown(_) | View::Listed(_) | View::Absent => None,
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

    /// The GPUs.
    pub fn gpus(&self) -> &Gpus {
        &self.gpus
    }

    /// The catalog entry, as far as this side knows.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Run or stop.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// The restart of the worker that is under way.
    pub fn replacement(&self) -> Option<&Replacement> {
        self.replacement.as_ref()
    }

    /// Out of rotation because somebody asked.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// The timings and limits.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// How a process is ended: TERM, time, KILL, and time for the kernel.
struct Ladder {
    /// Whether it is told first; otherwise KILL is the first word.
    gently: bool,
    /// How it is told; `None`: it is not.
    term: Option<u8>,
    kill_at: Moment,
    reap: std::time::Duration,
}

impl Ladder {
    /// Goes as far as the moment allows, from wherever the process is.
    fn end(&self, role: Role, process: &mut Supervised, now: Moment, commands: &mut Vec<Command>) {
        let give_up_at = self.kill_at.max(now).saturating_add(self.reap);
        process.hurry(self.kill_at, give_up_at);
        let term = if self.gently { process.terminate(self.kill_at, give_up_at) } else { None };
        let kill = if self.gently { process.kill_if_due(now, give_up_at) } else { process.kill(give_up_at) };
        commands.extend(to_send(role, [(term, self.term), (kill, Some(signal::KILL))]));
        process.give_up_if_due(now);
    }
}

/// The signals that have both a recipient and a number.
fn to_send(role: Role, signals: [(Option<i32>, Option<u8>); 2]) -> impl Iterator<Item = Command> {
    signals
        .into_iter()
        .filter_map(move |(pid, signal)| Some(Command::Signal { role, pid: pid?, signal: signal? }))
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
        self.health.forget();
        // Of the exit status, about which there are table tests.
        self.worker_ended_on_request = false;
        self.link.forget_beyond(self.policy.silence_threshold);
        if let Some(replacement) = &mut self.replacement {
            match &mut replacement.stage {
                replacement::Stage::OutOfRotation { until } | replacement::Stage::Draining { until } => {
                    shift(until)
                }
                replacement::Stage::Stopping => {}
            }
        }
        self.gpus.each_moment(&shift);
        if !self.goal.is_run() {
            // A stop does not look at them.
            self.gpus = Gpus::new(None);
        }
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
