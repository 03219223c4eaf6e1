//! Metrics in Prometheus' text format, on an address of their own.
//!
//! What happens is counted where it happens: exits, signals and probes' verdicts in the journal, durations where the calls are made, each
//! through a [`Metrics`] handle, which costs an atomic addition, or nothing where metrics are off. What *is* (the phase, the processes,
//! the stop budget) is read from the published status when somebody asks ([`snapshot`]). So readers never enter the event loop.
//!
//! All names, labels and meanings stand in one table ([`family`]), from which docs/metrics.md is made.
//!
//! Not here: the worker's own metrics, which it serves itself.

pub mod consul_request;
pub mod endpoint;
pub mod family;
pub mod recorder;
pub mod rotation;
pub mod snapshot;

pub use endpoint::Endpoint;
pub use recorder::Metrics;
