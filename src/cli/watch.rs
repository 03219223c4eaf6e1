//! `supervisor status --watch`: a terminal is redrawn, anything else gets each change. It outlives the supervisor and finds the next one.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use supervisor::control::client::{ClientError, Watch};
use supervisor::status::Status;
use supervisor::status_text;

use super::output::{self, colour, try_print};
use super::screen::Screen;
use crate::complain;

/// Until a supervisor that has gone is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(super) fn watch(socket: &Path, json: bool) -> ExitCode {
    let mut view = if json {
        View::Lines(None)
    } else if output::is_terminal() {
        match Screen::enter() {
            Ok(screen) => View::Screen(screen),
            Err(error) => return complain(&format!("the terminal cannot be used: {error}"), 1),
        }
    } else {
        View::Blocks(None)
    };
    let mut shown = Ok(());
    while shown.is_ok() {
        shown = match Watch::open(socket) {
            Ok(watch) => show_all(&mut view, watch, socket),
            Err(error) => view.show(Err(&error), socket),
        };
        std::thread::park_timeout(LOOK_AGAIN);
    }
    // Nobody reads any more, as with `… | head`.
    ExitCode::SUCCESS
}

/// Shows what comes until it ends.
fn show_all(view: &mut View, mut watch: Watch, socket: &Path) -> io::Result<()> {
    loop {
        match watch.status() {
            Ok(status) => view.show(Ok(&status), socket)?,
            Err(error) => return view.show(Err(&error), socket),
        }
    }
}

/// What was shown last, where only changes are shown.
type Last = Option<Result<Status, String>>;

enum View {
    Screen(Screen),
    Blocks(Last),
    Lines(Last),
}

impl View {
    fn show(&mut self, seen: Result<&Status, &ClientError>, socket: &Path) -> io::Result<()> {
        if output::is_unread() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match self {
            Self::Screen(screen) => {
                let (dim, plain) = if colour() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
                let text = match seen {
                    Ok(status) => status_text::render(status, colour()),
                    Err(error) => status_text::absent(&error.to_string(), colour()),
                };
                screen.draw(&format!("{text}\n{dim}watching {}; Ctrl-C ends{plain}", socket.display()))
            }
            Self::Blocks(last) => match news(last, seen) {
                Some(Ok(status)) => try_print(&format!("{}\n", status_text::render(status, false))),
                Some(Err(error)) => try_print(&format!("{}\n", status_text::absent(error, false))),
                None => Ok(()),
            },
            Self::Lines(last) => match news(last, seen) {
                Some(Ok(status)) => {
                    let line = serde_json::to_string(status)?;
                    try_print(&format!("{line}\n"))
                }
                Some(Err(error)) => {
                    // Every line of the output is a status.
                    complain(error, 0);
                    Ok(())
                }
                None => Ok(()),
            },
        }
    }
}

/// What is seen, if it is another thing than the last time.
fn news<'a>(last: &'a mut Last, seen: Result<&Status, &ClientError>) -> Option<&'a Result<Status, String>> {
    let seen = seen.cloned().map_err(ToString::to_string);
    if last.as_ref() == Some(&seen) { None } else { Some(last.insert(seen)) }
}
