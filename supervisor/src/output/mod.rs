//! The children's lines, where they are to be prefixed or wrapped in JSON.
//!
//! By default children inherit standard output and error, and nothing here runs: no pipe, no thread. Otherwise each child gets two
//! pipes, each read by a thread of its own ([`relay`]), which cuts what it reads into lines ([`lines`]) and writes them on ([`sink`]).
//!
//! - **Nothing is lost.** Where our own output is read slowly, the thread waits in write(2), the pipe fills, and the child waits, as it
//!   would if it wrote there itself. The event loop takes no part in it and never waits.
//! - **Memory is bounded.** A line longer than a piece is passed on in pieces that are marked as such.
//! - **Nobody holds up the end.** Exits are known from SIGCHLD, never from the end of a pipe, which any grandchild may keep open. At the
//!   end what is in the pipes by then is written out, within a limit, whoever still holds them.
//!
//! Not here: the agent's own log file settings, rotation, and sending lines anywhere else.

pub mod lines;
pub mod relay;
pub mod sink;

pub use relay::Output;
