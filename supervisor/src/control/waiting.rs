//! Whether what was asked for has come true: what the command line waits for after it has asked.

use super::protocol::{ControlRequest, Restartable};
use crate::status::{ProcessStatus, Status};

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is true, and how.
    Done(String),
    /// Not yet, and what it waits for.
    Waiting(String),
    /// It cannot come true any more, and why.
    Failed(String),
}

/// How far a request has come: `before` is the status when it was taken.
pub fn progress(request: ControlRequest, before: &Status, now: &Status) -> Progress {
    let state = || format!("{}: {}", now.phase, now.why());
    if now.stopping && request != ControlRequest::Stop {
        return Progress::Failed(format!("the instance is stopping: {}", now.reason));
    }
    match request {
        ControlRequest::Status | ControlRequest::Watch | ControlRequest::Reload | ControlRequest::Stop => {
            Progress::Done(state())
        }
        ControlRequest::Drain if now.phase == "drained" => Progress::Done(state()),
        ControlRequest::Resume if serves(now) => Progress::Done(state()),
        ControlRequest::Drain | ControlRequest::Resume => Progress::Waiting(state()),
        ControlRequest::Restart { process } => {
            let (old, new) = match process {
                Restartable::Worker => (Some(&before.worker), Some(&now.worker)),
                Restartable::Agent => (
                    before.agent.as_ref().map(|agent| &agent.process),
                    now.agent.as_ref().map(|agent| &agent.process),
                ),
            };
            let Some((pid, fresh)) = new.and_then(|new| Some((new.pid?, is_fresh(old, new)))) else {
                return Progress::Waiting(state());
            };
            let serving = match process {
                // A drained instance stays drained.
                Restartable::Worker => serves(now) || now.phase == "drained",
                Restartable::Agent => {
                    now.agent.as_ref().is_some_and(|agent| agent.ready) && (serves(now) || !serves(before))
                }
            };
            match (fresh, serving, old.and_then(|old| old.pid)) {
                (true, true, Some(old)) => {
                    Progress::Done(format!("{process} restarted, pid {old} is now {pid}; {}", now.phase))
                }
                (true, true, None) => Progress::Done(format!("{process} started, pid {pid}; {}", now.phase)),
                (true, false, _) => Progress::Waiting(format!("{process} restarted, pid {pid}; {}", state())),
                (false, ..) => Progress::Waiting(state()),
            }
        }
    }
}

/// Clients get here, or would without a catalog.
fn serves(status: &Status) -> bool {
    matches!(status.phase.as_str(), "running" | "passing" | "degraded")
}

/// Another process than before. A pid may come again, but not within the second that the time of a start is exact to.
fn is_fresh(old: Option<&ProcessStatus>, new: &ProcessStatus) -> bool {
    new.state == "running" && old.is_none_or(|old| old.pid != new.pid || old.started != new.started)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An instance of a worker and an agent.
    fn status(phase: &str, worker: i32, agent: i32) -> Status {
        let process = |pid: i32| {
            serde_json::json!({
                "state": "running", "pid": pid, "restarts": 0, "program": "p",
                "started": "2026-01-01T00:00:00Z",
            })
        };
        let mut with_agent = process(agent);
        for (key, value) in
            [("ready", true.into()), ("detail", "".into()), ("node", "n".into()), ("api", "a".into())]
        {
            with_agent[key] = value;
        }
        serde_json::from_value(serde_json::json!({
            "phase": phase, "reason": "r", "since": "", "passing": phase == "passing", "healthy": true,
            "supervisor": { "version": "", "pid": 1, "started": "" },
            "agent": with_agent, "worker": process(worker),
            "stop": { "timeout": 9.0, "out_of_rotation": 0.0, "drain_window": 0.0, "deregister": 0.0,
                      "worker_grace": 0.0, "agent_leave": 0.0 },
            "stopping": phase == "stopping", "config": { "loaded_at": "", "pending": [] },
        }))
        .expect("a status")
    }

    fn is_done(request: ControlRequest, before: &Status, now: &Status) -> bool {
        matches!(progress(request, before, now), Progress::Done(_))
    }

    #[test]
    fn a_request_is_done_when_what_it_asked_for_is_true() {
        let restart = |process| ControlRequest::Restart { process };
        let (worker, agent) = (restart(Restartable::Worker), restart(Restartable::Agent));
        let passing = status("passing", 7, 8);
        for (request, before, now, done) in [
            (ControlRequest::Drain, "passing", ("draining", 7, 8), false),
            (ControlRequest::Drain, "passing", ("drained", 7, 8), true),
            (ControlRequest::Resume, "drained", ("drained", 7, 8), false),
            (ControlRequest::Resume, "drained", ("critical", 7, 8), false),
            (ControlRequest::Resume, "drained", ("degraded", 7, 8), true),
            (worker, "passing", ("passing", 7, 8), false),
            (worker, "passing", ("critical", 9, 8), false),
            (worker, "passing", ("passing", 9, 8), true),
            (worker, "drained", ("drained", 9, 8), true),
            (agent, "passing", ("passing", 7, 8), false),
            (agent, "passing", ("critical", 7, 9), false),
            (agent, "passing", ("passing", 7, 9), true),
            (agent, "critical", ("critical", 7, 9), true),
        ] {
            let (before, now) = (status(before, 7, 8), status(now.0, now.1, now.2));
            assert_eq!(
                is_done(request, &before, &now),
                done,
                "{request:?} {} -> {}",
                before.phase,
                now.phase
            );
        }
        for request in [ControlRequest::Drain, ControlRequest::Resume, worker, agent] {
            let outcome = progress(request, &passing, &status("stopping", 7, 8));
            assert!(matches!(outcome, Progress::Failed(_)), "{request:?}");
        }
    }

    #[test]
    fn a_process_that_was_dead_is_done_when_it_runs() {
        let (mut before, now) = (status("critical", 7, 8), status("passing", 9, 8));
        before.worker.pid = None;
        before.worker.state = "backoff".to_owned();
        let request = ControlRequest::Restart { process: Restartable::Worker };
        assert_eq!(
            progress(request, &before, &now),
            Progress::Done("worker started, pid 9; passing".to_owned())
        );
        assert!(!is_done(request, &before, &before));
    }
}
