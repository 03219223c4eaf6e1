//! The `supervisor` program: parse, call the library, map what came of it to an exit status.

mod cli;

use std::io::Write;
use std::process::ExitCode;

use supervisor::os;

fn main() -> ExitCode {
    // Before anything else: a TERM that comes earlier than this is dropped by the kernel where we are PID 1.
    if let Err(error) = os::signals::block_all() {
        return complain(&format!("signals cannot be blocked: {error}"), 1);
    }
    if let Err(error) = os::descriptors::close_all_on_exec() {
        return complain(&format!("inherited descriptors cannot be kept from the children: {error}"), 1);
    }
    cli::main()
}

/// Writes a message to standard error, if anybody listens, and gives the exit status back.
fn complain(message: &str, status: u8) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    for line in message.lines() {
        let _nobody_listens = writeln!(stderr, "supervisor: {line}");
    }
    ExitCode::from(status)
}
