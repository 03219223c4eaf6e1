//! Changing settings, and the model, while requests are answered.
//!
//! ```text
//!   a set of overrides ──▶ parsed ──▶ merged ──▶ only what concerns batching?
//!                            │           │         yes │                  │ no
//!                            ▼           ▼             ▼                  ▼
//!                        refused, all problems     the queue's limits   the loading thread: load beside the old model,
//!                        at once, nothing changed  change in place      try it, warm it up ──▶ swap ──▶ retire the old one
//! ```
//!
//! A set is adopted or refused as one, by one transaction at a time ([`HotChange`]). The [`Loader`]'s thread swaps; requests that began with the old model end with
//! it, and only then is the next model loaded: there are never more than two in memory.

mod loader;
mod report;
mod transaction;

pub use loader::{LoadError, Loader};
pub use report::{Outcome, Refusal, RefusalKind, Refused, Report};
pub use transaction::{HotChange, LOAD_TIMEOUT};
