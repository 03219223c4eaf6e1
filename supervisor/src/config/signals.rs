//! How signals are handed on, and what ends the supervisor when its parent does.

use lifecycle::signal::{KILL, SignalPolicy};
use lifecycle::{AgentMode, signal};
use nix::sys::signal::Signal;

use super::values::Values;
use crate::os::children::Scope;

/// SIGSTOP, which like SIGKILL nobody can catch and so hand on (signal(7)).
const STOP: u8 = 19;

pub(super) fn policy(values: &mut Values<'_>, mode: AgentMode) -> SignalPolicy {
    let proxy = values.switch("signals.proxy");
    if proxy && mode != AgentMode::None {
        values.wrong(
            "signals.proxy",
            "--agent none: with a catalog entry a stop has an order to keep, and the supervisor must know of it",
        );
    }
    let mut rewrites = Vec::new();
    for word in values.list("signals.rewrite") {
        match rewrite(&word) {
            Ok(rewrite) => rewrites.push(rewrite),
            Err(expected) => values.wrong("signals.rewrite", &format!("{expected}; this is {word:?}")),
        }
    }
    SignalPolicy { proxy, rewrites }
}

pub(super) fn scope(values: &mut Values<'_>) -> Scope {
    values.choice("signals.scope", &[("group", Scope::Group), ("child", Scope::Child)]).unwrap_or_default()
}

pub(super) fn parent_death(values: &mut Values<'_>) -> Option<u8> {
    let text = values.text("signals.parent-death")?;
    let number = number(&text);
    if number.is_none() {
        values.wrong("signals.parent-death", "a signal's name or number, such as TERM or 15");
    }
    number
}

/// Exit statuses that are as good as 0.
pub(super) fn exit_ok(values: &mut Values<'_>) -> Vec<u8> {
    let words = values.list("worker.exit-ok");
    let statuses: Vec<u8> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if statuses.len() < words.len() {
        values.wrong("worker.exit-ok", "exit statuses from 0 to 255 (128+n where signal n ended the worker)");
    }
    statuses
}

fn rewrite(word: &str) -> Result<(u8, u8), &'static str> {
    let expected =
        "FROM:TO, each a signal's name or number, such as TERM:QUIT or 15:3, and 0 as TO to drop it";
    let (from, to) = word.split_once(':').ok_or(expected)?;
    let from = number(from).ok_or(expected)?;
    if matches!(from, KILL | STOP | signal::CHLD) {
        return Err("a signal that is handed on as FROM, which KILL, STOP and CHLD are not");
    }
    let to = if to.trim() == "0" { Some(0) } else { number(to) };
    Ok((from, to.ok_or(expected)?))
}

/// A signal by number or name, with or without `SIG`; real-time ones as `RTMIN+n` and `RTMAX-n` too (signal(7)).
fn number(text: &str) -> Option<u8> {
    let text = text.trim().to_ascii_uppercase();
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    let number = match name.parse::<i32>() {
        Ok(number) => number,
        Err(_) => match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(""), _) => libc::SIGRTMIN(),
            (_, Some("")) => libc::SIGRTMAX(),
            (Some(more), _) => libc::SIGRTMIN().checked_add(more.strip_prefix('+')?.parse().ok()?)?,
            (_, Some(less)) => libc::SIGRTMAX().checked_sub(less.strip_prefix('-')?.parse().ok()?)?,
            _ => format!("SIG{name}").parse::<Signal>().ok()? as i32,
        },
    };
    // Those in between are the C library's own.
    let exists = Signal::try_from(number).is_ok() || real_time.contains(&number);
    u8::try_from(number).ok().filter(|_| exists)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, expected) in [
            ("TERM", Some(15)),
            ("sigterm", Some(15)),
            ("15", Some(15)),
            (" WINCH ", Some(28)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("64", Some(64)),
            ("RTMIN+31", None),
            ("RTMAX+1", None),
            ("32", None),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("271", None),
            ("TERMINATE", None),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_rewrite_has_two_sides_and_may_drop() {
        assert_eq!(rewrite("TERM:QUIT"), Ok((15, 3)));
        assert_eq!(rewrite("28:0"), Ok((28, 0)));
        for wrong in ["TERM", "TERM:", ":3", "0:3", "KILL:3", "STOP:0", "CHLD:1", "15:99"] {
            assert!(rewrite(wrong).is_err(), "{wrong}");
        }
    }
}
