//! Which signal means what to a supervisor that steers an instance.

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// Stop the instance; a second one hurries, a third kills.
    Stop,
    /// The worker's business: it gets the signal.
    Forward,
    /// Ours alone: nothing to do in the policy.
    Ignore,
}

/// SIGHUP: read the configuration again (signal(7)).
pub const HUP: u8 = 1;
/// SIGINT: a terminal's Ctrl-C (signal(7)).
pub const INT: u8 = 2;
/// SIGKILL (signal(7)).
pub const KILL: u8 = 9;
/// SIGTERM: what `docker stop` and Kubernetes send (signal(7)).
pub const TERM: u8 = 15;
/// SIGCHLD (signal(7), x86 and ARM numbering).
pub const CHLD: u8 = 17;

/// What `signal` means. SIGCHLD is a wake-up for the reaper, which has run by the time the policy hears of anything.
pub fn meaning(signal: u8) -> Meaning {
    match signal {
        TERM | INT => Meaning::Stop,
        CHLD => Meaning::Ignore,
        _ => Meaning::Forward,
    }
}

/// The name of a signal that ends an instance; other signals by number.
pub fn name(signal: u8) -> String {
    match signal {
        TERM => "SIGTERM".to_owned(),
        INT => "SIGINT".to_owned(),
        KILL => "SIGKILL".to_owned(),
        other => format!("signal {other}"),
    }
}
