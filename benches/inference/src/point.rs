//! What is known of a server, or of the bare model, with a number of clients: one sample from each turn.

use crate::figures::Figures;
use crate::load::Turn;

/// What is known with so many clients.
#[derive(Default)]
pub(crate) struct Point {
    pub(crate) per_second: Figures<f64>,
    /// Latencies of each turn, in nanoseconds.
    pub(crate) p50: Figures,
    pub(crate) p99: Figures,
    /// CPU milliseconds a request: the server's, and the clients' own.
    pub(crate) cost: Figures<f64>,
    pub(crate) own_cost: Figures<f64>,
}

impl Point {
    pub(crate) fn add(&mut self, turn: &Turn) {
        self.per_second.add(turn.per_second());
        self.p50.add(turn.latencies.median());
        self.p99.add(turn.latencies.percentile(99));
        self.cost.add(turn.cost());
        self.own_cost.add(turn.own_cost());
    }
}
