//! The policy's timings and limits, and how the stop timeout is divided.

use std::time::Duration;

use lifecycle::backoff::Backoff;
use lifecycle::{AgentMode, Policy, RestartPolicy, RestartWhen, StopBudget};

use super::signals;
use super::values::Values;

/// To tell the catalog that the instance is critical: an update takes 4 ms, so this is a limit for bad days.
const OUT_OF_ROTATION: Duration = Duration::from_millis(500);
/// To remove the entry and see it gone: 4 ms on good days.
const DEREGISTER: Duration = Duration::from_secs(1);
/// An agent on this host answers within milliseconds.
const AGENT_PATIENCE: Duration = Duration::from_secs(1);
/// An agent that leaves three questions in a row unanswered hangs.
const SILENCE_THRESHOLD: u32 = 3;
/// The servers show what the agent has acknowledged within 12 ms on good days.
const SETTLE: Duration = Duration::from_secs(1);
/// For the kernel to hand over a killed process.
const REAP: Duration = Duration::from_millis(100);
/// The least that a worker needs to finish what it does.
const LEAST_WORKER_GRACE: Duration = Duration::from_millis(100);

pub(super) fn policy(values: &mut Values<'_>, mode: AgentMode) -> Policy {
    let with_agent = mode != AgentMode::None;
    let seed = u64::from(std::process::id()) ^ hash(&super::catalog::hostname().unwrap_or_default());
    let backoff = Backoff {
        min: values.positive_duration("restart.backoff-min"),
        max: values.positive_duration("restart.backoff-max"),
        seed,
    };
    if backoff.min > backoff.max {
        values.wrong("restart.backoff-max", "a duration of at least restart.backoff-min");
    }
    let choices = [
        ("on-failure", RestartWhen::OnFailure),
        ("always", RestartWhen::Always),
        ("never", RestartWhen::Never),
    ];
    let default = if with_agent { RestartWhen::OnFailure } else { RestartWhen::Never };
    let worker_restart = RestartPolicy {
        when: values.choice("restart.policy", &choices).unwrap_or(default),
        backoff,
        stable_after: values.duration("restart.stable-after"),
        limit: values.number("restart.limit", 0, 1000),
        window: values.positive_duration("restart.window"),
    };
    // The agent is a means: it is always wanted, whatever the worker's policy says.
    let agent_restart = RestartPolicy { when: RestartWhen::Always, ..worker_restart.clone() };
    Policy {
        agent: mode,
        probe: with_agent,
        failure_threshold: values.number("worker.failure-threshold", 1, 100),
        success_threshold: values.number("worker.success-threshold", 1, 100),
        liveness_threshold: values.number("worker.liveness-threshold", 1, 100),
        silence_threshold: SILENCE_THRESHOLD,
        agent_patience: AGENT_PATIENCE,
        entry_may_exist: mode == AgentMode::External || has_services(values),
        settle: SETTLE,
        // Twice before Consul would remove it.
        refresh: values.duration("check.deregister-critical-after") / 2,
        worker_restart,
        agent_restart,
        catalog_retry: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5), seed },
        // Two may be lost before the TTL is over.
        heartbeat: values.duration("check.ttl") / 3,
        gpu: None,
        start_timeout: values.optional_duration("start-timeout", "never"),
        stop: stop_budget(values, mode),
        signals: signals::policy(values, mode),
        exit_ok: signals::exit_ok(values),
    }
}

/// Whether an earlier agent has kept a service in the data directory: it comes back with the next agent.
fn has_services(values: &Values<'_>) -> bool {
    let kept = values.path("agent.data-dir").map(|dir| dir.join("data/services"));
    kept.and_then(|dir| std::fs::read_dir(dir).ok()).is_some_and(|mut files| files.next().is_some())
}

/// Divides the stop timeout: the catalog's and the agent's parts are fixed, the worker gets the rest.
fn stop_budget(values: &mut Values<'_>, mode: AgentMode) -> StopBudget {
    let with_agent = mode != AgentMode::None;
    let total = values.positive_duration("stop-timeout");
    let drain_window = values.duration("drain-window");
    let agent_leave = match mode {
        AgentMode::Child => values.duration("agent.leave-timeout"),
        AgentMode::External | AgentMode::None => Duration::ZERO,
    };
    let mut budget = if with_agent {
        StopBudget {
            out_of_rotation: OUT_OF_ROTATION,
            drain_window,
            deregister: DEREGISTER,
            worker_grace: Duration::ZERO,
            agent_leave,
            reap: REAP,
        }
    } else {
        StopBudget {
            out_of_rotation: Duration::ZERO,
            drain_window: Duration::ZERO,
            deregister: Duration::ZERO,
            worker_grace: Duration::ZERO,
            agent_leave: Duration::ZERO,
            reap: REAP,
        }
    };
    let others = budget.total();
    budget.worker_grace = total.saturating_sub(others);
    if !total.is_zero() && budget.worker_grace < LEAST_WORKER_GRACE {
        let show = humantime::format_duration;
        let parts = if with_agent {
            format!(
                "{} out of rotation + {} drain-window + {} deregistration + {} agent.leave-timeout + {} reaping",
                show(OUT_OF_ROTATION),
                show(drain_window),
                show(DEREGISTER),
                show(agent_leave),
                show(2 * REAP),
            )
        } else {
            format!("{} reaping", show(2 * REAP))
        };
        values.wrong(
            "stop-timeout",
            &format!(
                "more than {}: the steps of a stop take {parts} = {}, and the worker needs at least {} to finish; \
                 raise it, or lower drain-window",
                show(others), show(others), show(LEAST_WORKER_GRACE),
            ),
        );
    }
    budget
}

/// FNV-1a (Fowler, Noll, Vo): enough to tell instances apart.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
