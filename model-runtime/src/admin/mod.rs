//! The admin socket: a Unix socket, mode 0600, over which settings and the model are changed while requests are answered.
//!
//! It is off unless `--admin-socket` says where. The supervisor drives it; `model-runtime settings` is for people and scripts.

mod command;
mod protocol;
mod server;

pub use command::settings;
pub use protocol::{Answer, ModelShown, Request, State};
pub use server::{bind, serve};

use line_socket::Names;

const NAMES: Names = Names { socket: "admin socket", program: "model-runtime", flag: "--admin-socket" };
