//! Job control: who has the terminal, and what happens when somebody suspends us.
//!
//! The worker has a process group of its own. Only a terminal's foreground group may read it; others are stopped by SIGTTIN (termios(3),
//! credentials(7)). So a worker that wants the terminal is given it, as a shell does with a job. SIGTTOU is blocked in this process, as all
//! signals are: tcsetpgrp(3) works from the background then.

use std::io;
use std::os::fd::AsFd;

use nix::sys::signal::{Signal, raise};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// Whether this process is in the foreground of the terminal on standard input. Without a terminal it is not.
pub fn is_ours() -> bool {
    is_held_by(getpgrp().as_raw())
}

/// Whether this process group is in the foreground of the terminal on standard input.
pub fn is_held_by(group: i32) -> bool {
    tcgetpgrp(io::stdin().as_fd()).is_ok_and(|holder| holder.as_raw() == group)
}

/// Hands the terminal over, if it is ours to give. Returns whether it was.
pub fn give_to(group: i32) -> bool {
    is_ours() && tcsetpgrp(io::stdin().as_fd(), Pid::from_raw(group)).is_ok()
}

/// Takes the terminal back from a group that has ended.
pub fn take_back_from(group: i32) {
    if is_held_by(group) {
        let _no_terminal_any_more = tcsetpgrp(io::stdin().as_fd(), getpgrp());
    }
}

/// Gives the calling process the terminal on standard input: for a child between fork and exec, whose parent has it.
pub fn take_in_child() {
    // SAFETY: tcsetpgrp(3) and getpgrp(2) are async-signal-safe (signal-safety(7)); SIGTTOU is still blocked at this point.
    let _no_terminal_any_more = unsafe { libc::tcsetpgrp(0, libc::getpgrp()) };
}

/// Stops this process until somebody continues it, as the shell that started it expects when its job is suspended. Nothing happens
/// to PID 1, for which the kernel drops SIGSTOP (pid_namespaces(7)).
pub fn suspend() {
    let _cannot_fail = raise(Signal::SIGSTOP);
}
