//! The exec probe: a command that says by its exit status how the worker is.
//!
//! The command is a child like the others: the event loop starts it and the one reaper reaps it. What is here orders it, reads what it
//! writes, and waits for its end. Whoever stops waiting, because the time is over or the worker is gone, drops the order's reply: that is how
//! the loop learns to kill the command and what it has started.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::time::Duration;

use lifecycle::{Exit, SpawnFailure};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Failure, Look};
use crate::os::spawn::{Pipes, Program};

/// Of what a command writes, so much is kept.
const KEPT: usize = 4096;
/// And so much of its last line is told.
const TOLD: usize = 200;
/// Commands that may be ordered before one is started. There are two probes, and each waits for its own.
pub const ORDERS: usize = 4;

/// A command to be started.
#[derive(Debug)]
pub struct Order {
    /// The command.
    pub program: Program,
    /// Where its output goes.
    pub pipes: Pipes,
    /// Told how it ended. Where nobody waits any more, it is to be killed.
    pub reply: oneshot::Sender<Result<Exit, SpawnFailure>>,
}

/// The command, as people call it.
pub(super) fn name(program: &Program) -> String {
    program.path.file_name().unwrap_or(program.path.as_os_str()).to_string_lossy().into_owned()
}

/// Runs the command: exit status 0 is good, every other end is bad, and none within the limit is silence.
pub(super) async fn run(orders: &mpsc::Sender<Order>, program: &Program, limit: Duration) -> Look {
    let name = name(program);
    let failure = |silent: bool, what: String| Failure { silent, note: format!("{name}: {what}") };
    let not_started = |why: String| failure(false, format!("cannot be started: {why}"));
    let (pipes, output) = pipes().map_err(|error| not_started(error.to_string()))?;
    let (reply, ended) = oneshot::channel();
    let order = Order { program: program.clone(), pipes, reply };
    let mut said = Vec::new();
    let work = async {
        // The receiver lives as long as the event loop.
        orders.send(order).await.ok()?;
        tokio::select! {
            biased;
            ended = ended => ended.ok(),
            never = read(&output, &mut said) => match never {},
        }
    };
    let outcome = timeout(limit, work).await;
    keep_rest(&output, &mut said);
    let last_line = last_line(&said).map(|line| format!(": {line}")).unwrap_or_default();
    match outcome {
        Ok(Some(Ok(Exit::Status(0)))) => Ok(()),
        Ok(Some(Ok(exit))) => Err(failure(false, format!("{exit}{last_line}"))),
        Ok(Some(Err(why))) => Err(not_started(why.to_string())),
        Ok(None) => Err(not_started("the supervisor is exiting".to_owned())),
        Err(_) => {
            let limit = humantime::format_duration(limit);
            Err(failure(true, format!("not done within {limit}{last_line}")))
        }
    }
}

fn pipes() -> std::io::Result<(Pipes, Receiver)> {
    let (reader, writer) = std::io::pipe()?;
    let stderr = OwnedFd::from(writer.try_clone()?);
    let pipes = Pipes { stdout: writer.into(), stderr };
    Ok((pipes, Receiver::from_owned_fd(reader.into())?))
}

/// Reads what comes, so that no command waits for its output to be read, and keeps the end of it. Never done: the end of the output is not
/// the end of the command.
async fn read(output: &Receiver, said: &mut Vec<u8>) -> Infallible {
    while output.readable().await.is_ok() && keep_rest(output, said) {}
    std::future::pending().await
}

/// Reads what is there. Returns whether more can come.
fn keep_rest(output: &Receiver, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; KEPT];
    loop {
        match output.try_read(&mut buffer) {
            Ok(0) => return false,
            Ok(read) => {
                said.extend(buffer.iter().take(read));
                let surplus = said.len().saturating_sub(KEPT);
                said.drain(..surplus);
            }
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// The last line that says anything, without what could move a terminal's cursor.
fn last_line(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(TOLD).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_output_the_last_line_is_told() {
        assert_eq!(last_line(b"one\n  two \n\n").as_deref(), Some("two"));
        assert_eq!(last_line(b"\x1b[31mred\x1b[0m caf\xe9").as_deref(), Some("[31mred[0m caf\u{fffd}"));
        assert_eq!(last_line(b"\n \n"), None);
        assert_eq!(last_line("x".repeat(5000).as_bytes()).map(|line| line.len()), Some(TOLD));
    }
}
