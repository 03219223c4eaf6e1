//! The settings that are fixed at the start: flag or environment, else the default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Problem;
use super::cli::{LogFormat, ServeArgs};

/// What `serve` goes by from its start to its end.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// A client's time to send the head of a request, and again its body.
    pub read_timeout: Duration,
    /// The most open connections.
    pub max_connections: usize,
    /// The time for requests in flight after SIGTERM.
    pub shutdown_timeout: Duration,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Where settings are changed; nowhere when `None`.
    pub admin_socket: Option<PathBuf>,
}

impl Settings {
    /// Takes them from the flags.
    ///
    /// # Errors
    /// Every setting with which no request could succeed.
    pub fn of(args: &ServeArgs) -> Result<Self, Vec<Problem>> {
        if args.read_timeout.0.is_zero() {
            return Err(vec![Problem::zero("read_timeout")]);
        }
        Ok(Self {
            listen: args.listen,
            read_timeout: args.read_timeout.0,
            max_connections: args.max_connections.get(),
            shutdown_timeout: args.shutdown_timeout.0,
            log_format: args.log_format,
            admin_socket: args.admin_socket.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_to_read_a_request_is_refused() {
        let problems = Settings::of(&ServeArgs::from_flags(&["--read-timeout", "0"])).unwrap_err();
        assert!(problems[0].problem.contains("read-timeout"), "{problems:?}");
    }
}
