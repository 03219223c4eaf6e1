//! `model-runtime`: serves TorchScript models over HTTP with dynamic batching.
//!
//! # Theory of operation
//!
//! ```text
//!            http (async threads)             text pool                 engine
//!   client ─▶ read, limits, timeouts ─▶ parse, reserve, tokenise ─▶ queue ─▶ batcher ─▶ model thread
//!   client ◀─ answer ◀──────────────── entities, JSON ◀──────────── oneshot reply ◀────────┘
//! ```
//!
//! - [`batcher`] decides, purely, which waiting texts go through the model together.
//! - [`engine`] owns the model threads and the bounded queue before them; every text gets exactly one answer.
//! - [`backend`] is the seam to libtorch: token ids in, logits out.
//! - [`text`] and [`task`] turn text into ids, and logits into entities with places in the text.
//! - [`plan`] makes a model that is [`serving`] of settings and a directory; [`hot_change`] replaces it, or only its settings, while
//!   requests are answered; [`admin`] takes the orders.
//! - [`http`] talks to clients; [`serve`](mod@serve) ties the life of it all together; [`check`](mod@check) tries a model,
//!   [`bench`](mod@bench) measures it.

pub mod admin;
pub mod backend;
pub mod batcher;
pub mod bench;
pub mod check;
pub mod config;
pub mod engine;
pub mod exit;
pub mod gpu;
pub mod hot_change;
pub mod http;
pub mod image;
pub mod loading;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod serve;
pub mod serving;
pub mod task;
pub mod text;
pub mod traces;
