//! The control socket: a Unix socket, mode 0600, one JSON object a line.
//!
//! A client sends one request, such as `{"command":"status"}`, and gets one answer: `{"ok":true,"status":{…}}` or
//! `{"ok":false,"error":"…"}`. Readers get the published snapshot and never disturb the event loop.

pub mod client;
pub mod protocol;
pub mod server;
