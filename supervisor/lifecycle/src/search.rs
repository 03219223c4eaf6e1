//! Every reachable state of the policy, together with a model of the outside world, and the truths that hold in each.
//!
//! The world has live processes, what the agent holds for the catalog, and one unanswered request. In every state every
//! possible event is tried: any exit, any probe, any answer (heard or not, done or not), the next deadline, a further request to stop. Time is
//! relative, so that states at different moments are the same state.

use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::backoff::Backoff;
use crate::goal::{Goal, Stage};
use crate::process::Process;
use crate::registration::Known;
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

/// What the agent holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    level: Level,
    http_check: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    instance: Instance,
    agent: Option<Live>,
    worker: Option<Live>,
    held: Option<Held>,
    request: Option<(Generation, Request)>,
    watched: [Option<Generation>; 2],
    stops: u8,
    exited: Option<u8>,
}

/// One policy of the search. Amounts that only count or delay (limits, heartbeats, thresholds) multiply the states without adding
/// any that differ in kind, so they are small here and varied between searches; the table tests are about amounts.
fn policy(agent: bool, agent_limit: u32, worker_limit: u32, heartbeat: Duration) -> Policy {
    let restart = |when, limit| RestartPolicy {
        when,
        backoff: Backoff { min: S, max: S, seed: 0 },
        stable_after: Duration::ZERO,
        limit,
        window: Duration::MAX,
    };
    Policy {
        agent,
        probe: agent,
        failure_threshold: 1,
        agent_restart: restart(RestartWhen::Always, agent_limit),
        worker_restart: restart(RestartWhen::OnFailure, worker_limit),
        catalog_retry: Backoff { min: S, max: S, seed: 0 },
        heartbeat,
        start_timeout: None,
        stop: StopBudget {
            out_of_rotation: S,
            drain_window: S,
            deregister: S,
            worker_grace: S,
            agent_leave: S,
            reap: S,
        },
    }
}

impl World {
    fn new(policy: Policy) -> Self {
        Self {
            instance: Instance::new(policy),
            agent: None,
            worker: None,
            held: None,
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
            let Some(event) = events.pop_front() else {
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
            Command::Watch { role, generation } => self.watched[role as usize] = Some(generation),
            Command::Unwatch { role } => self.watched[role as usize] = None,
            Command::Catalog { generation, request } => {
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
        let Goal::Stop(stop) = self.instance.goal() else { panic!("TERM without a stop: {self:#?}") };
        let budget = self.instance.policy().stop;
        let tried = now >= stop.began + budget.deregister;
        assert!(
            self.held.is_none() || self.agent.is_none() || tried,
            "worker stopped while in the catalog: {self:#?}"
        );
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
            Event::AgentProbed { generation: 0, report: AgentReport::Ready { leader: String::new() } },
        ];
        for event in late.into_iter().chain(late_reply) {
            assert_eq!(again.step(now, event.clone()), [], "{event:?} of the past is believed: {self:#?}");
            assert_eq!(again, *instance, "{event:?} of the past changes something");
        }
        if self.exited.is_none() {
            let goes_on = instance.next_deadline().is_some() || self.request.is_some();
            let lives = self.agent.is_some() || self.worker.is_some();
            assert!(goes_on || (instance.goal().is_run() && lives), "waits for nothing: {self:#?}");
        }
        if instance.phase() == Phase::Passing {
            let held = Some(Held { level: Level::Passing, http_check: true });
            assert!(
                self.worker.is_some() && self.agent.is_some() && self.held == held,
                "passing is not true: {self:#?}"
            );
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
            for outcome in [ProbeOutcome::Passing, ProbeOutcome::Warning, ProbeOutcome::Critical] {
                all.extend(self.after(NOW, Event::WorkerProbed { generation, report: probe(outcome) }));
            }
        }
        if let Some(generation) = self.watched[Role::Agent as usize] {
            let ready = AgentReport::Ready { leader: "leader".to_owned() };
            for report in [ready, AgentReport::NotReady("no leader".to_owned())] {
                all.extend(self.after(NOW, Event::AgentProbed { generation, report }));
            }
        }
        all.extend(self.replies());
        all
    }

    /// Every answer to the request in flight.
    fn replies(&self) -> Vec<Self> {
        let Some((generation, request)) = &self.request else { return Vec::new() };
        let mut all = Vec::new();
        let same_agent =
            self.agent.is_some() && *generation == self.instance.process(Role::Agent).generation();
        let refused = || Err(Failure::Refused("failed".to_owned()));
        let unanswered = || Err(Failure::Unanswered("failed".to_owned()));
        for (done, outcome) in
            [(true, Ok(())), (true, unanswered()), (false, unanswered()), (false, refused())]
        {
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
            (Request::Register, Some(held)) => held.http_check = false,
            (Request::Register, held) => *held = Some(Held { level: Level::Critical, http_check: false }),
            (Request::Update(report), Some(held)) => held.level = report.level,
            (Request::AddHttpCheck, Some(held)) => held.http_check = true,
            (Request::RemoveHttpCheck, Some(held)) => held.http_check = false,
            (Request::RemoveHttpCheck | Request::Deregister { .. }, held) => *held = None,
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

/// Stands for a state: at a million states the chance that two share one is about one in ten million.
fn fingerprint(world: &World) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn search(policy: Policy) -> (usize, usize) {
    let (mut seen, mut stopping) = (HashSet::new(), 0);
    let mut open = VecDeque::from(World::new(policy).after(NOW, Event::Started));
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

fn report(name: &str, policy: Policy) {
    let (states, steps) = search(policy);
    println!("{name}: {states} states, {steps} steps");
}

#[test]
fn the_truths_hold_from_start_to_stop() {
    report("start to stop", policy(true, 0, 0, Duration::MAX));
}

#[test]
fn the_truths_hold_while_the_worker_restarts() {
    report("worker restarts", policy(true, 0, 1, Duration::MAX));
}

#[test]
fn the_truths_hold_while_the_agent_restarts() {
    report("agent restarts", policy(true, 1, 0, Duration::MAX));
}

#[test]
fn the_truths_hold_with_heartbeats_and_a_start_timeout() {
    report("heartbeats", Policy { start_timeout: Some(NOW + 3 * S), ..policy(true, 0, 0, 2 * S) });
}

#[test]
fn the_truths_hold_for_a_plain_init() {
    report("plain init", Policy { start_timeout: Some(NOW + 3 * S), ..policy(false, 0, 1, S) });
}
