//! Probes of the worker.

pub mod http;
