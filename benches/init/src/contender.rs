//! The inits, and how each is told to run a worker.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An init, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The worker alone.
    Bare,
    Tini,
    DumbInit,
    Supervisord,
    Ours,
}

pub(crate) const ALL: [Contender; 5] =
    [Contender::Bare, Contender::Tini, Contender::DumbInit, Contender::Supervisord, Contender::Ours];

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "none",
            Self::Tini => "tini",
            Self::DumbInit => "dumb-init",
            Self::Supervisord => "supervisord",
            Self::Ours => "supervisor",
        }
    }

    /// The command that runs this program with the worker's words under the init. `dir` is for what it needs to write.
    pub(crate) fn command(self, supervisor: &Path, dir: &Path, prefix: &[&str], words: &[&str]) -> Command {
        let own = std::env::current_exe().unwrap_or_default();
        let mut line: Vec<PathBuf> = prefix.iter().map(PathBuf::from).collect();
        match self {
            Self::Bare => {}
            Self::Tini => line.extend(["tini", "-s", "--"].map(PathBuf::from)),
            Self::DumbInit => line.push("dumb-init".into()),
            Self::Supervisord => {
                let config = dir.join("supervisord.conf");
                let command = format!("{} worker {}", own.display(), words.join(" "));
                let text = format!(
                    "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={0}/pid\nuser=root\n\
                     [program:worker]\ncommand={command}\nautorestart=false\nstdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\n",
                    dir.display()
                );
                let _seen_at_the_start = std::fs::write(&config, text);
                line.extend(["supervisord".into(), "-c".into(), config]);
            }
            Self::Ours => {
                line.push(supervisor.into());
                line.extend(
                    ["run", "--no-agent", "--log-level", "error", "--control-socket"].map(PathBuf::from),
                );
                line.extend([dir.join("control.sock"), "--".into()]);
            }
        }
        if self != Self::Supervisord {
            line.extend([own, "worker".into()]);
            line.extend(words.iter().map(PathBuf::from));
        }
        let mut words = line.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}
