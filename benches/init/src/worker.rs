//! The worker of the measurements: it writes down when something happens, by the clock that all processes share.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use anyhow::Context as _;

/// CLOCK_MONOTONIC in nanoseconds, the same for every process of the machine (clock_gettime(2)).
pub(crate) fn now() -> anyhow::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) fills in the structure that it is given.
    anyhow::ensure!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) } == 0, "no clock");
    Ok(u64::try_from(time.tv_sec)? * 1_000_000_000 + u64::try_from(time.tv_nsec)?)
}

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let began = now()?;
    match words {
        ["stamp"] => say(began),
        ["signals"] => signals(),
        ["orphans", count] => orphans(count.parse()?),
        ["http", port] => http(port.parse()?),
        _ => anyhow::bail!("no such worker: {words:?}"),
    }
}

fn say(time: u64) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{time}")?;
    Ok(out.flush()?)
}

/// Says when each SIGUSR1 comes; ends by SIGTERM.
fn signals() -> anyhow::Result<()> {
    // SAFETY: the set lives on this stack and is filled before it is read; this program has one thread at this point.
    let wanted = unsafe {
        let mut wanted: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut wanted);
        libc::sigaddset(&raw mut wanted, libc::SIGUSR1);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const wanted, std::ptr::null_mut());
        wanted
    };
    say(now()?)?;
    loop {
        // SAFETY: as above; no information about the signal is asked for.
        unsafe { libc::sigwaitinfo(&raw const wanted, std::ptr::null_mut()) };
        say(now()?)?;
    }
}

/// Has so many orphans, all of which end when standard input does; says when they are there.
fn orphans(count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        // SAFETY: this program has one thread, so the child may do anything; it reads and exits.
        match unsafe { libc::fork() } {
            -1 => return Err(std::io::Error::last_os_error()).context("fork"),
            0 => {
                // SAFETY: as above. The one in the middle ends at once, which makes the last one an orphan.
                if unsafe { libc::fork() } == 0 {
                    let _ended = std::io::stdin().lock().read(&mut [0; 1]);
                }
                // SAFETY: _exit(2) only ends this process.
                unsafe { libc::_exit(0) };
            }
            _ => {}
        }
    }
    for _ in 0..count {
        // SAFETY: wait(2) with a null pointer reaps a child and tells nothing.
        unsafe { libc::wait(std::ptr::null_mut()) };
    }
    say(now()?)?;
    loop {
        std::thread::park();
    }
}

/// Answers every request with 200.
fn http(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for stream in listener.incoming().flatten() {
        let mut lines = BufReader::new(&stream).lines();
        while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
        let _client_left =
            (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    Ok(())
}
