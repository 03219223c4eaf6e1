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

/// SIGCONT: go on (signal(7), x86 and ARM numbering, as for those below).
pub const CONT: u8 = 18;
/// SIGTSTP: a terminal's Ctrl-Z.
pub const TSTP: u8 = 20;
/// SIGTTIN: a process in the background wants to read the terminal.
pub const TTIN: u8 = 21;
/// SIGTTOU: a process in the background wants to change the terminal.
pub const TTOU: u8 = 22;

/// How signals are handed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignalPolicy {
    /// Every signal is the worker's business, those that stop an instance included.
    pub proxy: bool,
    /// What the worker gets instead, by what it would get; 0 is nothing. The first of several counts.
    pub rewrites: Vec<(u8, u8)>,
}

impl SignalPolicy {
    /// What `signal` means. SIGCHLD is a wake-up for the reaper, which has run by the time the policy hears of anything.
    pub fn meaning(&self, signal: u8) -> Meaning {
        match signal {
            CHLD => Meaning::Ignore,
            TERM | INT if !self.proxy => Meaning::Stop,
            _ => Meaning::Forward,
        }
    }

    /// What the worker gets where it would get `signal`; `None` for nothing.
    pub fn for_worker(&self, signal: u8) -> Option<u8> {
        let rewritten = self.rewrites.iter().find(|(from, _)| *from == signal);
        Some(rewritten.map_or(signal, |(_, to)| *to)).filter(|signal| *signal != 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steered_instance_stops_by_two_signals_and_hands_the_others_on_and_a_proxy_hands_on_all() {
        let (steered, proxy) =
            (SignalPolicy::default(), SignalPolicy { proxy: true, ..SignalPolicy::default() });
        for signal in 1..=64 {
            let expected = match signal {
                TERM | INT => (Meaning::Stop, Meaning::Forward),
                CHLD => (Meaning::Ignore, Meaning::Ignore),
                _ => (Meaning::Forward, Meaning::Forward),
            };
            assert_eq!((steered.meaning(signal), proxy.meaning(signal)), expected, "{signal}");
        }
    }

    #[test]
    fn the_worker_gets_what_a_signal_was_rewritten_to() {
        let policy =
            SignalPolicy { proxy: false, rewrites: vec![(15, 3), (28, 0), (15, 1), (10, 12), (12, 10)] };
        let got = [15, 28, 10, 12, 1].map(|signal| policy.for_worker(signal));
        assert_eq!(got, [Some(3), None, Some(12), Some(10), Some(1)], "once, and not again what came of it");
    }
}
