//! Every reachable state of the policy, together with a model of the outside world, and the truths that hold in each.
//!
//! The world has live processes, what the agent holds for the catalog, and one unanswered request. In every state every
//! possible event is tried: any exit, any probe, any GPU, any answer (heard or not, done or not), the next deadline, a further request to stop. Time is
//! relative, so that states at different moments are the same state.

use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::backoff::Backoff;
use crate::goal::{Goal, Stage};
use crate::gpu::{Reading, Trouble};
use crate::process::Process;
use crate::registration::Known;
use crate::replacement::Why;
use crate::*;

const NOW: Moment = Duration::from_secs(1000);
const S: Duration = Duration::from_secs(1);
const WORKER_EXITS: [Exit; 2] = [Exit::Status(0), Exit::Signal(signal::TERM)];

/// A process of the outside world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Live {
    pid: i32,
    told: Option<u8>,
}

/// What the agent holds, and the servers show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    ttl_check: Level,
    worker_check: Option<Level>,
}

/// Which further events a search has. Each multiplies the states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Further {
    /// The servers' view comes late, or not at all; otherwise the instance is shown every change at once.
    late_views: bool,
    /// The agent may take questions and not answer.
    hangs: bool,
    /// The worker may be degraded.
    warnings: bool,
    /// How often somebody else changes the entry, or Consul's own check of the worker its mind.
    meddling: u8,
    /// How often somebody asks for a drain, its end, or a restart; and the worker fails its liveness probe.
    orders: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    instance: Instance,
    agent: Option<Live>,
    worker: Option<Live>,
    held: Option<Held>,
    request: Option<(Generation, Request)>,
    watched: [Option<Generation>; 2],
    /// The entry has been changed by others, and the instance has not been shown it.
    unseen: bool,
    further: Further,
    stops: u8,
    exited: Option<u8>,
}

/// One policy of the search. Amounts that only count or delay (limits, heartbeats, thresholds) multiply the states without adding
/// any that differ in kind, so they are small here and varied between searches; the table tests are about amounts.
pub(crate) fn policy(agent: AgentMode, agent_limit: u32, worker_limit: u32, heartbeat: Duration) -> Policy {
    let restart = |when, limit| RestartPolicy {
        when,
        backoff: Backoff { min: S, max: S, seed: 0 },
        stable_after: Duration::ZERO,
        limit,
        window: Duration::MAX,
    };
    Policy {
        agent,
        probe: agent != AgentMode::None,
        failure_threshold: 1,
        success_threshold: 1,
        liveness_threshold: 1,
        silence_threshold: 1,
        agent_patience: S,
        entry_may_exist: true,
        settle: Duration::MAX,
        refresh: Duration::MAX,
        agent_restart: restart(RestartWhen::Always, agent_limit),
        worker_restart: restart(RestartWhen::OnFailure, worker_limit),
        catalog_retry: Backoff { min: S, max: S, seed: 0 },
        heartbeat,
        gpu: None,
        start_timeout: None,
        stop: StopBudget {
            out_of_rotation: S,
            drain_window: S,
            deregister: S,
            worker_grace: S,
            agent_leave: S,
            reap: S,
        },
        signals: SignalPolicy::default(),
        exit_ok: Vec::new(),
    }
}

impl World {
    fn new(policy: Policy, further: Further) -> Self {
        // An earlier life has left its entry behind.
        let left = Held { ttl_check: Level::Passing, worker_check: None };
        let held = (policy.agent != AgentMode::None && policy.entry_may_exist).then_some(left);
        Self {
            instance: Instance::new(policy),
            agent: None,
            worker: None,
            held,
            unseen: true,
            further,
            request: None,
            watched: [None, None],
            stops: 0,
            exited: None,
        }
    }

    fn live(&mut self, role: Role) -> &mut Option<Live> {
        match role {
            Role::Agent => &mut self.agent,
            Role::Worker => &mut self.worker,
        }
    }

    /// One event, and everything that follows from it at once. A spawn can turn out in two ways, so this gives several worlds.
    fn after(&self, now: Moment, event: Event) -> Vec<Self> {
        let mut done = Vec::new();
        let mut open = vec![(self.clone(), VecDeque::from([event]))];
        while let Some((mut world, mut events)) = open.pop() {
            let next = events.pop_front().or_else(|| {
                let view = world.prompt_view();
                world.unseen &= view.is_none();
                view
            });
            let Some(event) = next else {
                world.check(now);
                world.instance = world.instance.rebased(now, NOW);
                done.push(world);
                continue;
            };
            let mut spawns = Vec::new();
            for command in world.instance.step(now, event) {
                spawns.extend(world.carry_out(now, command));
            }
            let mut branches = vec![(world, events)];
            for role in spawns {
                branches = branches
                    .into_iter()
                    .flat_map(|(world, events)| {
                        let (mut born, mut born_events) = (world.clone(), events.clone());
                        let pid = i32::try_from(world.instance.process(role).generation()).expect("few") * 10
                            + role as i32;
                        *born.live(role) = Some(Live { pid, told: None });
                        born_events.push_back(Event::Spawned { role, pid });
                        let (stillborn, mut stillborn_events) = (world, events);
                        stillborn_events
                            .push_back(Event::SpawnFailed { role, failure: SpawnFailure::NotFound });
                        [(born, born_events), (stillborn, stillborn_events)]
                    })
                    .collect();
            }
            open.extend(branches);
        }
        done
    }

    fn carry_out(&mut self, now: Moment, command: Command) -> Option<Role> {
        match command {
            Command::Spawn { role, .. } => {
                assert!(self.live(role).is_none(), "two processes in the role {role}: {self:#?}");
                // An agent in back-off is the only way to remove an entry.
                let needed = role == Role::Agent && *self.instance.registration().known() != Known::Absent;
                assert!(self.instance.goal().is_run() || needed, "{role} spawned while stopping: {self:#?}");
                return Some(role);
            }
            Command::Signal { role, pid, signal } => {
                if role == Role::Worker && signal == signal::TERM {
                    self.check_worker_may_be_stopped(now);
                }
                if role == Role::Agent && signal == signal::TERM {
                    let told = self.agent.as_ref().and_then(|agent| agent.told);
                    assert_eq!(told, None, "the agent is told to leave twice: {self:#?}");
                }
                match self.live(role) {
                    Some(live) if live.pid == pid => live.told = Some(signal),
                    other => panic!("{signal} to {pid}, which is {other:?}"),
                }
            }
            Command::ReloadAgent { pid } => match &self.agent {
                Some(live) if live.pid == pid && live.told.is_none() => {
                    assert!(self.instance.link().has_answered(), "it may not hear it yet: {self:#?}");
                }
                other => panic!("{pid} is to reload, which is {other:?}"),
            },
            Command::Describe(_) => {
                assert!(self.instance.goal().is_run(), "described while stopping: {self:#?}");
            }
            Command::Watch { role, generation } => self.watched[role as usize] = Some(generation),
            Command::Unwatch { role } => self.watched[role as usize] = None,
            Command::Catalog { generation, request, .. } => {
                assert_eq!(self.request, None, "a second request before the first is answered: {self:#?}");
                self.request = Some((generation, request));
            }
            Command::Exit(status) => {
                assert_eq!(self.exited, None, "exits twice");
                for role in [Role::Agent, Role::Worker] {
                    let told = self.live(role).as_ref().map(|live| live.told);
                    assert!(matches!(told, None | Some(Some(signal::KILL))), "{role} left alive: {self:#?}");
                }
                self.exited = Some(status);
            }
        }
        None
    }

    /// Truth: the entry is gone before the worker is told to stop, or trying has taken its time, or there is nobody to ask.
    fn check_worker_may_be_stopped(&self, now: Moment) {
        let Goal::Stop(stop) = self.instance.goal() else { return self.check_worker_may_be_replaced() };
        let budget = self.instance.policy().stop;
        let tried = now >= stop.began + budget.deregister;
        assert!(
            self.held.is_none() || !self.has_agent() || tried,
            "worker stopped while in the catalog: {self:#?}"
        );
    }

    /// Truth: a worker that somebody wants restarted is out of rotation first, or the catalog does not answer.
    fn check_worker_may_be_replaced(&self) {
        let replacement = self.instance.replacement().expect("TERM without a reason");
        let answered = self.instance.link().was_ready()
            && self.request.is_none()
            && !self.instance.registration().has_failed();
        let listed = self.held.as_ref().is_some_and(|held| held.ttl_check != Level::Critical);
        assert!(
            replacement.why != Why::Requested || !answered || !listed || !self.has_agent() || self.unseen,
            "worker restarted while in rotation: {self:#?}"
        );
    }

    /// Whether there is an agent that could answer.
    fn has_agent(&self) -> bool {
        let ours = self.agent.is_some() && self.instance.process(Role::Agent).is_running();
        ours || self.instance.policy().agent == AgentMode::External
    }

    /// What holds after every step.
    fn check(&self, now: Moment) {
        let instance = &self.instance;
        if let Some(deadline) = instance.next_deadline() {
            assert!(deadline > now, "the loop would spin: {deadline:?} at {now:?}: {self:#?}");
        }
        let mut again = instance.clone();
        assert_eq!(again.step(now, Event::DeadlineReached), [], "a second look has more to say: {self:#?}");
        assert_eq!(again, *instance, "a second look changes something");
        let late_reply =
            self.request.is_none().then_some(Event::CatalogReplied { generation: 0, outcome: Ok(()) });
        let late = [
            Event::Exited { role: Role::Worker, pid: 99, exit: Exit::Status(1) },
            Event::WorkerProbed { generation: 0, report: probe(ProbeOutcome::Passing) },
            Event::AgentProbed {
                generation: 0,
                report: AgentReport::Ready { leader: String::new(), cluster: Cluster::default() },
            },
        ];
        for event in late.into_iter().chain(late_reply) {
            assert_eq!(again.step(now, event.clone()), [], "{event:?} of the past is believed: {self:#?}");
            assert_eq!(again, *instance, "{event:?} of the past changes something");
        }
        if instance.policy().gpu.is_some() && !instance.goal().is_run() {
            let report = GpuReport::Sampled(vec![gpu(Err(Trouble::Lost("lost".to_owned())))]);
            assert_eq!(again.step(now, Event::GpusReported(report)), [], "GPUs matter to a stop: {self:#?}");
        }
        if self.exited.is_none() {
            let goes_on = instance.next_deadline().is_some() || self.request.is_some();
            let lives = self.agent.is_some() || self.worker.is_some();
            assert!(goes_on || (instance.goal().is_run() && lives), "waits for nothing: {self:#?}");
        }
        if instance.phase() == Phase::Passing {
            let held = Held { ttl_check: Level::Passing, worker_check: Some(Level::Passing) };
            assert!(
                self.worker.is_some() && self.has_agent() && (self.unseen || self.held == Some(held)),
                "passing is not true: {self:#?}"
            );
            assert_eq!(instance.gpu_report(), None, "passing with a GPU that is not well: {self:#?}");
        }
        if let (Goal::Stop(stop), Some(_)) = (instance.goal(), &self.exited) {
            assert_eq!(stop.stage, Stage::Stopped);
        }
    }

    /// Every event that the world can produce now.
    fn successors(&self) -> Vec<Self> {
        let mut all = Vec::new();
        if self.exited.is_some() {
            return all;
        }
        if self.stops < 3 {
            let mut asked = self.clone();
            asked.stops += 1;
            all.extend(asked.after(NOW, Event::Signalled(signal::TERM)));
        }
        // MAX is never: a heartbeat that this search leaves out.
        if let Some(deadline) = self.instance.next_deadline().filter(|deadline| *deadline != Moment::MAX) {
            all.extend(self.after(deadline, Event::DeadlineReached));
        }
        if let Some(worker) = &self.worker {
            for exit in WORKER_EXITS {
                let mut dead = self.clone();
                dead.worker = None;
                all.extend(dead.after(NOW, Event::Exited { role: Role::Worker, pid: worker.pid, exit }));
            }
        }
        if let Some(agent) = &self.agent {
            // With its data, or without.
            for held in [self.held.clone(), None] {
                let mut dead = self.clone();
                (dead.agent, dead.held) = (None, held);
                all.extend(
                    dead.after(
                        NOW,
                        Event::Exited { role: Role::Agent, pid: agent.pid, exit: Exit::Status(1) },
                    ),
                );
            }
        }
        if let Some(generation) = self.watched[Role::Worker as usize] {
            let degraded = self.further.warnings.then_some(ProbeOutcome::Warning);
            for outcome in [ProbeOutcome::Passing, ProbeOutcome::Critical].into_iter().chain(degraded) {
                all.extend(self.after(NOW, Event::WorkerProbed { generation, report: probe(outcome) }));
            }
        }
        if let Some(generation) = self.watched[Role::Agent as usize] {
            let ready = AgentReport::Ready { leader: "leader".to_owned(), cluster: Cluster::default() };
            let hangs = self.further.hangs.then(|| AgentReport::Silent("hangs".to_owned()));
            for report in [ready, AgentReport::NotReady("no leader".to_owned())].into_iter().chain(hangs) {
                all.extend(self.after(NOW, Event::AgentProbed { generation, report }));
            }
            let views = [self.view(), View::Unknown("no leader".to_owned())];
            for view in views.into_iter().filter(|_| self.further.late_views) {
                let mut shown = self.clone();
                shown.unseen &= matches!(view, View::Unknown(_));
                all.extend(shown.after(NOW, Event::EntrySeen { generation, view }));
            }
        }
        all.extend(self.meddled());
        all.extend(self.ordered());
        if self.instance.policy().gpu.is_some() && self.instance.goal().is_run() {
            for reading in [Ok(Reading::default()), Err(Trouble::Lost("lost".to_owned()))] {
                all.extend(self.after(NOW, Event::GpusReported(GpuReport::Sampled(vec![gpu(reading)]))));
            }
        }
        all.extend(self.replies());
        all
    }

    /// The truth, as the servers show it.
    fn view(&self) -> View {
        match &self.held {
            None => View::Absent,
            Some(held) => View::Listed(Listing {
                altered: None,
                ttl_check: Some(held.ttl_check),
                worker_check: held.worker_check,
                level: held.worker_check.map_or(held.ttl_check, |level| level.max(held.ttl_check)),
                note: String::new(),
            }),
        }
    }

    /// What the servers show at once.
    fn prompt_view(&self) -> Option<Event> {
        let generation = self.watched[Role::Agent as usize].filter(|_| !self.further.late_views)?;
        let news = self.instance.registration().seen() != Some(&self.view());
        (news && self.exited.is_none()).then(|| Event::EntrySeen { generation, view: self.view() })
    }

    /// Everything that others can do to the entry.
    fn meddled(&self) -> Vec<Self> {
        let Some(left) = self.further.meddling.checked_sub(1) else { return Vec::new() };
        let Some(held) = &self.held else { return Vec::new() };
        let check_failed =
            held.worker_check.map(|_| Held { worker_check: Some(Level::Critical), ..held.clone() });
        let tampered = Held { ttl_check: Level::Critical, ..held.clone() };
        [None, Some(tampered)]
            .into_iter()
            .chain(check_failed.map(Some))
            .map(|held| {
                let mut changed = self.clone();
                (changed.held, changed.unseen, changed.further.meddling) = (held, true, left);
                changed
            })
            .collect()
    }

    /// Everything that people can ask for, and the liveness probe.
    fn ordered(&self) -> Vec<Self> {
        let Some(left) = self.further.orders.checked_sub(1) else { return Vec::new() };
        let mut world = self.clone();
        world.further.orders = left;
        let dead = |generation| Event::LivenessProbed { generation, outcome: Err("hangs".to_owned()) };
        [
            Event::DrainRequested,
            Event::ResumeRequested,
            Event::RestartRequested(Role::Worker),
            Event::RestartRequested(Role::Agent),
            Event::CredentialsChanged,
        ]
        .into_iter()
        .chain(self.watched[Role::Worker as usize].map(dead))
        .flat_map(|event| world.after(NOW, event))
        .collect()
    }

    /// Every answer to the request in flight.
    fn replies(&self) -> Vec<Self> {
        let Some((generation, request)) = &self.request else { return Vec::new() };
        let mut all = Vec::new();
        let same_agent = self.instance.policy().agent == AgentMode::External
            || (self.agent.is_some() && *generation == self.instance.process(Role::Agent).generation());
        let refused = || Err(Failure::Refused("failed".to_owned()));
        let unanswered = || Err(Failure::Unanswered("failed".to_owned()));
        let unreachable = || Err(Failure::Unreachable("failed".to_owned()));
        for (done, outcome) in [
            (true, Ok(())),
            (true, if self.further.hangs { unanswered() } else { unreachable() }),
            (false, if self.further.hangs { unanswered() } else { unreachable() }),
            (false, refused()),
        ] {
            let mut world = self.clone();
            world.request = None;
            if done && same_agent && !world.hold(request) {
                continue;
            }
            all.extend(world.after(NOW, Event::CatalogReplied { generation: *generation, outcome }));
        }
        all
    }

    /// The agent does what it is asked; it cannot where it does not hold the service.
    fn hold(&mut self, request: &Request) -> bool {
        match (request, &mut self.held) {
            (Request::Register, Some(held)) => held.worker_check = None,
            (Request::Register, held) => {
                *held = Some(Held { ttl_check: Level::Critical, worker_check: None })
            }
            (Request::Update(report), Some(held)) => held.ttl_check = report.level,
            (Request::AddHttpCheck, Some(held)) => held.worker_check = Some(Level::Passing),
            (Request::RemoveHttpCheck, Some(held)) => held.worker_check = None,
            (Request::RemoveHttpCheck, None) => {}
            (Request::Deregister, held) => *held = None,
            (Request::Update(_) | Request::AddHttpCheck, None) => return false,
        }
        true
    }

    /// Truth: one request to stop ends it within the budget, even if Consul never answers and whether or not the children obey.
    fn check_ends_in_time(&self, obedient: bool) {
        let (mut world, mut now) = (self.clone(), NOW);
        let mut events = VecDeque::new();
        if world.instance.goal().is_run() {
            events.push_back(Event::Signalled(signal::TERM));
        }
        while world.exited.is_none() {
            let told = [Role::Worker, Role::Agent].into_iter().find_map(|role| {
                let live = world.live(role).clone()?;
                live.told.filter(|_| obedient).map(|signal| (role, live.pid, signal))
            });
            let event = match (events.pop_front(), told) {
                (Some(event), _) => event,
                (None, Some((role, pid, signal))) => {
                    *world.live(role) = None;
                    Event::Exited { role, pid, exit: Exit::Signal(signal) }
                }
                (None, None) => {
                    now = world.instance.next_deadline().unwrap_or_else(|| panic!("hangs: {world:#?}"));
                    Event::DeadlineReached
                }
            };
            for command in world.instance.step(now, event) {
                if let Some(role) = world.carry_out(now, command) {
                    let pid = 1000 + role as i32;
                    *world.live(role) = Some(Live { pid, told: None });
                    events.push_back(Event::Spawned { role, pid });
                }
            }
            let Goal::Stop(stop) = world.instance.goal() else { panic!("the signal was not heard") };
            let limit = stop.began + world.instance.policy().stop.total();
            assert!(now <= limit, "takes longer than the stop timeout: {now:?} > {limit:?}: {world:#?}");
        }
    }
}

fn probe(outcome: ProbeOutcome) -> ProbeReport {
    ProbeReport { outcome, note: "probed".to_owned() }
}

fn gpu(reading: Result<Reading, Trouble>) -> GpuSample {
    GpuSample { uuid: "GPU-1".to_owned(), index: 0, name: "GPU".to_owned(), reading }
}

/// Stands for a state: at a million states the chance that two share one is about one in ten million.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn search(policy: Policy, further: Further) -> (usize, usize) {
    let (mut seen, mut stopping) = (HashSet::new(), 0);
    let mut open = VecDeque::from(World::new(policy, further).after(NOW, Event::Started));
    let mut steps = 0;
    // Breadth first: what is found first is the shortest story.
    while let Some(world) = open.pop_front() {
        if !seen.insert(fingerprint(&world)) {
            continue;
        }
        stopping +=
            usize::from(matches!(world.instance.process(Role::Worker).state(), Process::Stopping { .. }));
        if world.exited.is_none() {
            world.check_ends_in_time(true);
            world.check_ends_in_time(false);
        }
        let successors = world.successors();
        steps += successors.len();
        open.extend(successors.into_iter().filter(|world| !seen.contains(&fingerprint(world))));
    }
    assert!(stopping > 0, "the search did not get far");
    (seen.len(), steps)
}

fn report(name: &str, policy: Policy, further: Further) {
    let (states, steps) = search(policy, further);
    println!("{name}: {states} states, {steps} steps");
}

const PLAIN: Further = Further { late_views: false, hangs: false, warnings: false, meddling: 0, orders: 0 };
const CHILD: AgentMode = AgentMode::Child;

#[test]
fn the_truths_hold_from_start_to_stop() {
    report("start to stop", policy(CHILD, 0, 0, Duration::MAX), Further { warnings: true, ..PLAIN });
}

#[test]
fn the_truths_hold_while_the_worker_restarts() {
    let policy = Policy { entry_may_exist: false, ..policy(CHILD, 0, 1, Duration::MAX) };
    report("worker restarts", policy, PLAIN);
}

#[test]
fn the_truths_hold_while_the_agent_restarts() {
    let policy = Policy { entry_may_exist: false, ..policy(CHILD, 1, 0, Duration::MAX) };
    report("agent restarts", policy, PLAIN);
}

#[test]
fn the_truths_hold_with_an_agent_that_hangs() {
    let policy = Policy { entry_may_exist: false, probe: false, ..policy(CHILD, 1, 0, Duration::MAX) };
    report("agent hangs", policy, Further { hangs: true, ..PLAIN });
}

#[test]
fn the_truths_hold_with_heartbeats_and_a_start_timeout() {
    let policy = Policy { start_timeout: Some(NOW + 3 * S), ..policy(CHILD, 0, 0, 2 * S) };
    report("heartbeats", policy, PLAIN);
}

#[test]
fn the_truths_hold_with_an_agent_that_is_not_ours() {
    report("external agent", policy(AgentMode::External, 0, 1, 2 * S), PLAIN);
}

#[test]
fn the_truths_hold_while_others_change_the_entry() {
    let further = Further { late_views: true, meddling: 1, ..PLAIN };
    let policy = Policy { settle: S, ..policy(AgentMode::External, 0, 0, Duration::MAX) };
    report("meddling", policy, further);
}

#[test]
fn the_truths_hold_while_people_drain_and_restart() {
    let policy = Policy { entry_may_exist: false, ..policy(AgentMode::External, 0, 0, Duration::MAX) };
    report("orders", policy, Further { orders: 1, ..PLAIN });
}

#[test]
fn the_truths_hold_while_people_restart_an_agent_of_ours() {
    let policy = Policy { entry_may_exist: false, probe: false, ..policy(CHILD, 0, 0, Duration::MAX) };
    report("orders, with an agent of ours", policy, Further { orders: 1, ..PLAIN });
}

#[test]
fn the_truths_hold_with_gpus_that_fail_come_back_and_fall_silent() {
    let gpu = GpuPolicy {
        discovery: S,
        stale_after: 2 * S,
        memory_warning: None,
        temperature_warning: None,
        temperature_critical: None,
        ecc_limit: None,
        fatal_xids: Vec::new(),
    };
    report(
        "gpus",
        Policy { gpu: Some(gpu), entry_may_exist: false, ..policy(CHILD, 0, 0, Duration::MAX) },
        PLAIN,
    );
}

#[test]
fn the_truths_hold_for_a_plain_init() {
    let policy = Policy { start_timeout: Some(NOW + 3 * S), ..policy(AgentMode::None, 0, 1, S) };
    report("plain init", policy, Further { orders: 2, ..PLAIN });
}
