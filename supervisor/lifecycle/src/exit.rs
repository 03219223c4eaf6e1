//! How a process ended, and the status that a shell or Docker would show for it.

use std::fmt;

/// How a process ended (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It called exit(2) with this status.
    Status(u8),
    /// This signal ended it.
    Signal(u8),
}

impl Exit {
    /// The status to hand on: the process's own, or 128 + n where signal n ended it, as shells report it
    /// (POSIX.1-2017, Shell Command Language, 2.8.2).
    pub fn code(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }

    /// Exited by itself with status 0.
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Signal(signal) => write!(f, "was ended by {}", crate::signal::name(*signal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_128_plus_its_number() {
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(Exit::Signal(64).code(), 192);
        assert_eq!(Exit::Status(3).code(), 3);
        assert!(Exit::Status(0).is_success() && !Exit::Signal(15).is_success());
    }
}
