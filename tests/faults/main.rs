//! Every fault that the specification names, with the real thing, and what came of it: docs/faults.md is written from here.

#[path = "../harness/mod.rs"]
mod harness;
mod matrix;
mod of_consul;
mod of_the_host;
mod of_the_worker;
mod sweep;
