//! The HTTP side: routes, wire shapes, errors, connections.

mod answer;
mod api;
mod connections;
mod error;
mod parameters;
mod predict;
mod probes;
mod router;
mod state;

pub use connections::{ConnectionLimits, Connections};
pub use router::router;
pub use state::{App, Phase, Serving};
