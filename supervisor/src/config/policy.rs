//! The policy's timings and limits, and how the stop timeout is divided.

use std::time::Duration;

use lifecycle::backoff::Backoff;
use lifecycle::{Policy, RestartPolicy, RestartWhen, StopBudget};

use super::values::Values;

/// To tell the catalog that the instance is critical: an update takes 4 ms, so this is a limit for bad days.
const OUT_OF_ROTATION: Duration = Duration::from_millis(500);
/// To remove the entry and see it gone: 4 ms on good days.
const DEREGISTER: Duration = Duration::from_secs(1);
/// For the kernel to hand over a killed process.
const REAP: Duration = Duration::from_millis(100);
/// The least that a worker needs to finish what it does.
const LEAST_WORKER_GRACE: Duration = Duration::from_millis(100);
pub(super) fn policy(values: &mut Values<'_>, with_agent: bool) -> Policy {
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
        agent: with_agent,
        probe: with_agent,
        failure_threshold: values.number("worker.failure-threshold", 1, 100),
        worker_restart,
        agent_restart,
        catalog_retry: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5), seed },
        // Two may be lost before the TTL is over.
        heartbeat: values.duration("check.ttl") / 3,
        start_timeout: values.optional_duration("start-timeout", "never"),
        stop: stop_budget(values, with_agent),
    }
}

/// Divides the stop timeout: the catalog's and the agent's parts are fixed, the worker gets the rest.
fn stop_budget(values: &mut Values<'_>, with_agent: bool) -> StopBudget {
    let total = values.positive_duration("stop-timeout");
    let drain_window = values.duration("drain-window");
    let agent_leave = values.duration("agent.leave-timeout");
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
