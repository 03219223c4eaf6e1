//! How long it takes into rotation and out of it.

use std::time::Instant;

use lifecycle::{Event, Instance, Level, Phase, View};

use super::Metrics;

/// Who confirms that an instance is out of rotation: the agent, by its reply.
pub const AGENT: &str = "agent";
/// The servers, by what they show.
pub const SERVERS: &str = "servers";

/// Watches the steps of an instance.
#[derive(Debug)]
pub struct Rotation {
    metrics: Metrics,
    started: Instant,
    has_passed: bool,
    serving: bool,
    agent: WayOut,
    servers: WayOut,
    /// Whether the servers' last word was that it is out.
    servers_say_out: bool,
}

/// When it stopped serving, until somebody has confirmed that.
#[derive(Debug, Default)]
struct WayOut {
    since: Option<Instant>,
}

impl WayOut {
    /// It stops serving. Where it is out already, that was the cause and needs no confirmation.
    fn begin(&mut self, now: Instant, is_out: bool) {
        self.since = (!is_out).then_some(now);
    }

    fn looked(&mut self, now: Instant, is_out: bool, metrics: &Metrics, by: &str) {
        if is_out && let Some(since) = self.since.take() {
            metrics.out_of_rotation_after(by, now.duration_since(since));
        }
    }
}

impl Rotation {
    /// Begins now.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            started: Instant::now(),
            has_passed: false,
            serving: false,
            agent: WayOut::default(),
            servers: WayOut::default(),
            servers_say_out: true,
        }
    }

    /// Looks at an instance after a step.
    pub fn stepped(&mut self, event: &Event, phase: Phase, instance: &Instance) {
        if let Event::EntrySeen { view, .. } = event {
            match view {
                View::Listed(listing) => self.servers_say_out = listing.level == Level::Critical,
                View::Absent => self.servers_say_out = true,
                View::Unknown(_) => {}
            }
        }
        let registration = instance.registration();
        let agent_says_out = registration.is_listed_as(Level::Critical) || registration.is_absent();
        self.looked(Instant::now(), phase, agent_says_out);
    }

    fn looked(&mut self, now: Instant, phase: Phase, agent_says_out: bool) {
        if phase.is_well() && !self.has_passed {
            self.has_passed = true;
            self.metrics.passing_after(now.duration_since(self.started));
        }
        let serving = matches!(phase, Phase::Passing | Phase::Degraded);
        if serving {
            (self.agent, self.servers) = (WayOut::default(), WayOut::default());
        } else if self.serving {
            self.agent.begin(now, agent_says_out);
            self.servers.begin(now, self.servers_say_out);
        }
        self.serving = serving;
        self.agent.looked(now, agent_says_out, &self.metrics, AGENT);
        self.servers.looked(now, self.servers_say_out, &self.metrics, SERVERS);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_way_out_is_measured_from_the_loss_to_each_ones_word_and_once() {
        let metrics = Metrics::on().expect("metrics");
        let count = |by: &str| {
            let histogram = metrics.out_of_rotation(by).expect("on");
            (histogram.get_sample_count(), (histogram.get_sample_sum() * 1000.0).round() as u64)
        };
        let mut rotation = Rotation::new(metrics.clone());
        let began = rotation.started;
        let mut at = |milliseconds, phase, agent_says_out, servers_say_out| {
            rotation.servers_say_out = servers_say_out;
            rotation.looked(began + Duration::from_millis(milliseconds), phase, agent_says_out);
        };
        at(0, Phase::Starting, true, true);
        at(100, Phase::Passing, false, false);
        at(200, Phase::Critical, false, false);
        assert_eq!((count(AGENT), count(SERVERS)), ((0, 0), (0, 0)));
        at(204, Phase::Critical, true, false);
        at(207, Phase::Critical, true, true);
        at(300, Phase::Critical, true, true);
        assert_eq!((count(AGENT), count(SERVERS)), ((1, 4), (1, 7)));
        at(400, Phase::Passing, false, false);
        at(500, Phase::Critical, false, false);
        at(501, Phase::Passing, false, false);
        // Somebody else took it out: there is nothing to wait for but the agent.
        at(600, Phase::Critical, false, true);
        at(620, Phase::Critical, true, true);
        assert_eq!((count(AGENT), count(SERVERS)), ((2, 24), (1, 7)));
        at(700, Phase::Degraded, false, false);
        at(800, Phase::Draining, false, false);
        at(850, Phase::Stopping, true, true);
        assert_eq!((count(AGENT), count(SERVERS)), ((3, 74), (2, 57)));
    }
}
