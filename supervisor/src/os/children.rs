//! Whose children are whose: spawning, signalling and reaping.
//!
//! As PID 1 (or as child subreaper, prctl(2), when not PID 1) this process inherits every orphan below it and has to reap whatever
//! dies. There is one reaper, here; `Child::wait` beside it would lose the race for the status. So a child's pid is
//! all that is kept of it.

use std::io;
use std::time::{Duration, Instant};

use lifecycle::{Exit, Role, SpawnFailure};
use nix::sys::prctl;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::spawn::{Pipes, Program, spawn};
use super::terminal;

/// Whom a signal reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The child's whole process group.
    #[default]
    Group,
    /// The child alone.
    Child,
}

/// A child that was reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Its pid.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
    /// Whose it was; `None` for an orphan.
    pub whose: Option<Whose>,
}

/// What a child of ours is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// It is one of the supervised processes.
    Process(Role),
    /// It asks the worker how it is.
    Probe,
}

/// The children of this process.
#[derive(Debug, Default)]
pub struct Children {
    ours: Vec<(i32, Whose)>,
    /// A worker has ended, and what it has left behind is being killed.
    sweeping: bool,
}

impl Children {
    /// Takes orphans in where the kernel does not give them to us anyway, that is, when this process is not PID 1.
    ///
    /// # Errors
    /// Whatever prctl(2) says (EINVAL on kernels before 3.4).
    pub fn adopt_orphans(&self) -> io::Result<()> {
        if std::process::id() != 1 {
            prctl::set_child_subreaper(true)?;
        }
        Ok(())
    }

    /// Starts a program in a process group of its own, with default signal dispositions and an empty mask. It dies with this
    /// process, however that ends. Its output goes to the pipes, or where ours goes.
    ///
    /// # Errors
    /// The program is not there, may not be executed, or the system has no room for it.
    pub fn spawn(
        &mut self,
        whose: Whose,
        program: &Program,
        pipes: Option<Pipes>,
    ) -> Result<i32, SpawnFailure> {
        // What it has left behind from now on is the new one's.
        self.sweeping &= whose != Whose::Process(Role::Worker);
        match spawn(program, pipes) {
            Ok(pid) => {
                self.ours.push((pid, whose));
                Ok(pid)
            }
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound => SpawnFailure::NotFound,
                io::ErrorKind::PermissionDenied => SpawnFailure::NotExecutable,
                _ => SpawnFailure::Other(error.to_string()),
            }),
        }
    }

    /// Sends a signal to a child, or to its process group. One that is gone already is no error.
    pub fn signal(&self, leader: i32, signal: u8, scope: Scope) {
        if let (Some(leader), Some(signal)) = (Pid::from_raw(leader), to_signal(signal)) {
            let _gone = match scope {
                Scope::Group => rustix::process::kill_process_group(leader, signal),
                Scope::Child => rustix::process::kill_process(leader, signal),
            };
        }
    }

    /// The worker's pid, while there is one.
    pub fn worker(&self) -> Option<i32> {
        self.ours.iter().find(|(_, whose)| *whose == Whose::Process(Role::Worker)).map(|(pid, _)| *pid)
    }

    /// The worker and the signal that has stopped it since the last look, if one has.
    pub fn stopped_worker(&self) -> Option<(i32, u8)> {
        let worker = self.worker()?;
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::Pid(Pid::from_raw(worker)?), options).ok()??;
        Some((worker, u8::try_from(status.stopping_signal()?).ok()?))
    }

    /// Reaps everything that is dead. One SIGCHLD may stand for many exits, so this goes on until nothing is left.
    ///
    /// When one of ours has died, the rest of its process group is killed before the pid is given back to the kernel: a helper
    /// that outlives its worker holds the port and the GPU's memory that the next one needs. The leader's pid cannot have been
    /// reused, since it is not reaped yet.
    pub fn reap(&mut self) -> Vec<Reaped> {
        let mut reaped = Vec::new();
        while let Some((pid, exit)) = look_for_dead().ok().flatten() {
            let raw = pid.as_raw_nonzero().get();
            let whose = self.ours.iter().find(|(known, _)| *known == raw).map(|(_, whose)| *whose);
            if let Some(whose) = whose {
                let _gone = rustix::process::kill_process_group(pid, Signal::KILL);
                self.ours.retain(|(known, _)| *known != raw);
                if whose == Whose::Process(Role::Worker) {
                    terminal::take_back_from(raw);
                    self.sweeping = true;
                }
            }
            if rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
                .is_err()
            {
                break;
            }
            reaped.push(Reaped { pid: raw, exit, whose });
        }
        self.sweep();
        reaped
    }

    /// Kills the orphans that a worker has left behind in sessions of their own: they hold the port and the GPU's memory that the next one
    /// needs. Their own children become ours when they die, which raises SIGCHLD: so this is called again until nothing is left.
    fn sweep(&mut self) {
        if !self.sweeping {
            return;
        }
        self.sweeping = false;
        for pid in children_of_this_process() {
            let raw = pid.as_raw_nonzero().get();
            if !self.ours.iter().any(|(known, _)| *known == raw) {
                self.sweeping = true;
                let _gone = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Kills and reaps all that still lives below this process, within the limit. As PID 1 that is everything in the namespace; otherwise
    /// whatever has this process as its parent, again and again, since killing one generation orphans the next.
    pub fn end_survivors(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while look_for_dead().is_ok() {
            if std::process::id() == 1 {
                let _none_left =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::Signal::SIGKILL);
            } else {
                for pid in children_of_this_process() {
                    let _gone = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            self.reap();
            if Instant::now() >= deadline {
                return;
            }
            // The killed take a moment to die; a blocking wait could take for ever where one is stuck in the kernel.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Looks for a dead child without taking it from the kernel: `None` if all live.
///
/// # Errors
/// ECHILD: there is no child at all.
fn look_for_dead() -> io::Result<Option<(Pid, Exit)>> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: siginfo_t is a plain C structure for which all zeroes is a value; waitid(2) fills it in and keeps no pointer. With WNOHANG
    // it leaves si_pid zero when nobody is dead. si_pid and si_status read the fields that waitid(2) documents for SIGCHLD.
    let (result, pid, code, status) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let result = libc::waitid(libc::P_ALL, 0, &raw mut info, options);
        (result, info.si_pid(), info.si_code, info.si_status())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let number = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
    let exit = if code == libc::CLD_EXITED { Exit::Status(number) } else { Exit::Signal(number) };
    Ok(Pid::from_raw(pid).map(|pid| (pid, exit)))
}

/// The pids whose parent is this process, by `/proc`; none where that is not mounted.
fn children_of_this_process() -> Vec<Pid> {
    listed_children().unwrap_or_else(all_with_this_parent)
}

/// The children that each of our threads has by the kernel's own list: proc_tid_children(5), where it was built with that.
fn listed_children() -> Option<Vec<Pid>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let list = std::fs::read_to_string(thread.ok()?.path().join("children")).ok()?;
        children.extend(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    Some(children)
}

fn all_with_this_parent() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let pid: i32 = name.to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // proc_pid_stat(5): pid (comm) state ppid …; comm may hold anything, parentheses and blanks included.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            (parent == own).then(|| Pid::from_raw(pid)).flatten()
        })
        .collect()
}

/// The signal of a number, real-time ones included; `None` for what can never be sent.
fn to_signal(number: u8) -> Option<Signal> {
    let raw = i32::from(number);
    Signal::from_named_raw(raw).or_else(|| {
        (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&raw).then(|| {
            // SAFETY: within SIGRTMIN to SIGRTMAX, so not one of those that libc keeps for itself.
            unsafe { Signal::from_raw_unchecked(raw) }
        })
    })
}
