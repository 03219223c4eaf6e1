//! Writing for people and programs. `println!` would panic where nobody reads.

use std::io::{IsTerminal, Write};

/// Writes to standard output; a reader that has gone away is no error.
pub(super) fn print(text: &str) {
    let _nobody_listens = try_print(text);
}

/// Writes to standard output, and says whether anybody reads it.
pub(super) fn try_print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Whether nobody reads standard output any more: what a pipe says by POLLERR (poll(2)) and writing by EPIPE.
pub(super) fn is_unread() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = rustix::stdio::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).is_ok() && asked.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
}

/// Whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether to colour: on a terminal, unless NO_COLOR is set and not empty (no-color.org).
pub(super) fn colour() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
