//! One request and one answer, each a JSON object on a line, over a Unix socket that only its owner may open.
//!
//! The supervisor's control socket and `model-runtime`'s admin socket are such sockets, with requests of their own; what makes them safe
//! to leave open is the same and is here:
//!
//! ```text
//!   Socket::bind ──▶ serve ──▶ Client ──request──▶ the server's own answer ──▶ Client::answer, and the connection closes
//!   mode 0600, a       │         └ one line within PATIENCE, of LINE_MAX bytes at most, by root or the server's own user
//!   stale file is      └ so many at a time: whoever has been silent longest makes room
//!   taken over
//! ```
//!
//! [`client`] is the other side, blocking and with a deadline, for a command line.

pub mod client;
mod connect;
mod places;
mod server;
mod socket;

use std::time::Duration;

pub use server::{Client, serve};
pub use socket::Socket;

/// The longest line that either side reads, in bytes.
pub const LINE_MAX: usize = 64 * 1024;

/// A client that takes longer to ask or to listen is let go.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a socket and its server are called, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The socket, such as `control socket`.
    pub socket: &'static str,
    /// The program that serves it.
    pub program: &'static str,
    /// The flag that says where it is.
    pub flag: &'static str,
}
