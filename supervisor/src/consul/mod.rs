//! The Consul agent: its configuration, the few calls of its API that are needed, and the task that keeps our entry.

pub mod agent_config;
pub mod api_client;
pub mod catalog;
pub mod connection;
pub mod credentials;
pub mod entry_watch;
pub mod readiness;
pub mod trouble;
