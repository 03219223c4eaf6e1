//! The control socket: a Unix socket, mode 0600, one JSON object a line.
//!
//! A client sends one request, such as `{"command":"status"}`, and gets one answer: `{"ok":true,"status":{…}}` or
//! `{"ok":false,"error":"…"}`. Only `watch` has more answers than one. Readers get the published snapshot and never disturb the event loop.

mod admission;
pub mod client;
pub mod protocol;
pub mod server;
pub mod waiting;

use line_socket::Names;

/// What it is called.
pub(crate) const NAMES: Names =
    Names { socket: "control socket", program: "supervisor", flag: "--control-socket" };
