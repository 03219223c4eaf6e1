//! A terminal's second screen, which gives the first one back however it is left: at Ctrl-C, on errors, and while suspended.

use std::io::Write;

use nix::sys::signal::{SigSet, Signal, raise};

use super::output;

/// The alternate screen without a cursor, and lines that are cut and not wrapped (xterm's control sequences: modes 1049, 25 and 7).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// What ends or suspends a program at a terminal.
const SIGNALS: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];

/// The second screen; the first one is back when this is dropped.
#[derive(Debug)]
pub(super) struct Screen(());

impl Screen {
    /// Enters it.
    ///
    /// # Errors
    /// Nobody reads, or no thread can be made.
    pub(super) fn enter() -> std::io::Result<Self> {
        let signals: SigSet = SIGNALS.into_iter().collect();
        signals.thread_block()?;
        output::try_print(ENTER)?;
        let screen = Self(());
        // It lives as long as the process.
        std::thread::Builder::new().spawn(move || leave_on(signals))?;
        Ok(screen)
    }

    /// Draws a text over the last one. What does not fit is left out at the end.
    ///
    /// # Errors
    /// Nobody reads.
    pub(super) fn draw(&self, text: &str) -> std::io::Result<()> {
        let rows = rustix::termios::tcgetwinsize(rustix::stdio::stdout())
            .map_or(usize::MAX, |size| usize::from(size.ws_row));
        // Home; each line with what was behind it cleared; then what was below (ECMA-48, CUP, EL, ED).
        let mut drawn = String::from("\x1b[H");
        for (index, line) in text.lines().take(rows.max(1)).enumerate() {
            if index > 0 {
                drawn.push_str("\r\n");
            }
            drawn.push_str(line);
            drawn.push_str("\x1b[K");
        }
        drawn.push_str("\x1b[J");
        output::try_print(&drawn)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        output::print(LEAVE);
    }
}

/// Gives the first screen back before a signal does what it always does.
fn leave_on(signals: SigSet) {
    while let Ok(signal) = signals.wait() {
        // Nothing is drawn while this is held.
        let mut stdout = std::io::stdout().lock();
        let _nobody_reads = stdout.write_all(LEAVE.as_bytes()).and_then(|()| stdout.flush());
        if signal == Signal::SIGTSTP {
            let _suspended_and_resumed = raise(Signal::SIGSTOP);
            let _nobody_reads = stdout.write_all(ENTER.as_bytes()).and_then(|()| stdout.flush());
            continue;
        }
        // So that the shell sees what ended it.
        let _unblocked = signals.thread_unblock();
        let _ended = raise(signal);
        std::process::exit(1);
    }
}
