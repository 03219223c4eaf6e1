//! Starting a program, in a process group of its own, with default signal dispositions and an empty mask.
//!
//! As PID 1 by posix_spawn(3), whose child borrows our memory until it executes, where fork(2) first copies the tables of all our pages: the
//! worker starts some 0.2 ms sooner. What posix_spawn cannot do (another user, the terminal, dying with a parent that is not PID 1) goes by
//! fork.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;

use super::user::User;
use super::{descriptors, terminal};

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program file, found already.
    pub path: PathBuf,
    /// argv, without the program's own name.
    pub arguments: Vec<OsString>,
    /// Variables of our own environment that the child must not see.
    pub hidden_variables: Vec<OsString>,
    /// Variables to set.
    pub variables: Vec<(OsString, OsString)>,
    /// Whether it may read our standard input; otherwise it gets `/dev/null`.
    pub stdin: bool,
    /// Whether it gets the terminal that is ours, if there is one, right away. Otherwise it gets it when it wants to read it.
    pub foreground: bool,
    /// Whom to run it as, if not as ourselves.
    pub user: Option<User>,
}

/// Where a child's output goes, if not where ours goes.
#[derive(Debug)]
pub struct Pipes {
    /// For descriptor 1.
    pub stdout: OwnedFd,
    /// For descriptor 2.
    pub stderr: OwnedFd,
}

/// Starts the program and gives its pid back. It dies with this process, however that ends. Its output goes to the pipes, or where ours goes.
///
/// # Errors
/// What execve(2) says of the file (ENOENT, EACCES, ENOEXEC, …), and what the system says when it has no room for another process.
pub(super) fn spawn(program: &Program, pipes: Option<Pipes>) -> io::Result<i32> {
    let foreground = program.foreground && terminal::is_ours();
    // PID 1's death takes the namespace with it.
    if std::process::id() == 1 && !foreground && program.user.is_none() {
        spawn_in_our_memory(program, pipes)
    } else {
        spawn_by_fork(program, pipes, foreground)
    }
}

fn spawn_in_our_memory(program: &Program, pipes: Option<Pipes>) -> io::Result<i32> {
    // Whatever a library has opened since without asking for it; what another thread's opens in this very moment reaches the child.
    descriptors::close_new_on_exec();
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
    )?;
    attributes.set_pgroup(nix::unistd::Pid::from_raw(0))?;
    // Rust ignores it. What else is ignored was so when we were started (nohup), and stays.
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    attributes.set_sigmask(&SigSet::empty())?;

    let mut files = PosixSpawnFileActions::init()?;
    if !program.stdin {
        files.add_open(0, "/dev/null", OFlag::O_RDONLY, Mode::empty())?;
    }
    if let Some(Pipes { stdout, stderr }) = &pipes {
        files.add_dup2(stdout.as_raw_fd(), 1)?;
        files.add_dup2(stderr.as_raw_fd(), 2)?;
    }

    let path = program.path.as_os_str();
    let arguments: Vec<CString> = std::iter::once(path)
        .chain(program.arguments.iter().map(AsRef::as_ref))
        .map(terminated)
        .collect::<io::Result<_>>()?;
    let environment: Vec<CString> =
        environment(program).iter().map(|variable| terminated(variable)).collect::<io::Result<_>>()?;
    let pid = nix::spawn::posix_spawn(program.path.as_path(), &files, &attributes, &arguments, &environment)?;
    Ok(pid.as_raw())
}

/// `NAME=value` for each variable that the child is to see.
fn environment(program: &Program) -> Vec<OsString> {
    let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for name in &program.hidden_variables {
        variables.remove(name);
    }
    variables.extend(program.variables.iter().cloned());
    let joined = |(name, value): (OsString, OsString)| {
        let mut bytes = name.into_vec();
        bytes.push(b'=');
        bytes.extend(value.into_vec());
        OsString::from_vec(bytes)
    };
    variables.into_iter().map(joined).collect()
}

fn terminated(text: &std::ffi::OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a zero byte in an argument or variable"))
}

fn spawn_by_fork(program: &Program, pipes: Option<Pipes>, foreground: bool) -> io::Result<i32> {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).process_group(0);
    for name in &program.hidden_variables {
        command.env_remove(name);
    }
    command.envs(program.variables.iter().map(|(name, value)| (name, value)));
    if !program.stdin {
        command.stdin(Stdio::null());
    }
    if let Some(Pipes { stdout, stderr }) = pipes {
        command.stdout(stdout).stderr(stderr);
    }
    let parent = std::process::id();
    let user = program.user.clone();
    // SAFETY: between fork and exec only async-signal-safe functions may run (signal-safety(7)). tcsetpgrp(3), setgroups(2), setgid(2),
    // setuid(2), pthread_sigmask(3), prctl(2), getppid(2), close_range(2) are or are plain system calls; nothing allocates, locks or unwinds.
    unsafe {
        command.pre_exec(move || {
            descriptors::close_new_on_exec();
            if foreground {
                terminal::take_in_child();
            }
            if let Some(user) = &user {
                user.become_in_child()?;
            }
            SigSet::empty().thread_set_mask()?;
            // After the change of user, which would undo it.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above took effect.
            if parent != 1 && std::os::unix::process::parent_id() != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
    // The handle is dropped: `Children` reaps.
    let child = command.spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}
