//! The HTTP side: routes, wire shapes, errors, connections.

mod api_key;
mod body;
mod connections;
mod error;
mod inference;
mod predict;
mod probes;
mod request_id;
mod router;
mod state;

pub use api_key::ApiKeys;
pub use connections::{ConnectionLimits, Connections};
pub use router::router;
pub use state::{App, Draining, Phase};
