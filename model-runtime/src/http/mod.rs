//! The HTTP side: routes, wire shapes, errors, connections.

mod answers;
mod api_key;
mod array_json;
mod body;
mod connections;
mod deadline;
mod docs;
mod error;
mod inference;
mod open_inference;
mod openapi;
#[doc(hidden)]
pub mod parsers;
mod predict;
mod probes;
mod request_id;
mod router;
mod state;
mod tensors;
mod texts;
mod trace;

pub use api_key::ApiKeys;
pub use connections::{ConnectionLimits, Connections};
pub use router::router;
pub use state::{App, Draining, Phase};
