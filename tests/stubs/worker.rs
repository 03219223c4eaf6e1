//! A worker that behaves, or misbehaves, as its flags say. It answers every HTTP request with the status in a file, so that a
//! test changes its health by writing that file.
//!
//! ```text
//! stub-worker [--port N] [--status FILE] [--ignore-term] [--exit-on-term N] [--exit N]
//!             [--orphan FILE] [--report FILE] [--signals FILE] [--all-signals FILE]
//! ```

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use signal_hook::iterator::Signals;

#[derive(Default)]
struct Flags {
    port: Option<u16>,
    status: Option<String>,
    ignore_term: bool,
    exit_on_term: i32,
    exit: Option<i32>,
    orphan: Option<String>,
    report: Option<String>,
    signals: Option<String>,
    all_signals: Option<String>,
}

fn main() -> std::io::Result<()> {
    let flags = parse();
    if let Some(file) = &flags.report {
        report(file)?;
    }
    if let Some(file) = &flags.orphan {
        orphan(file)?;
    }
    if let Some(status) = flags.exit {
        exit(status);
    }
    if let Some(file) = &flags.all_signals {
        return write_down_all_signals(file);
    }
    let mut signals = Signals::new([1, 2, 10, 12, 15, 28, 34])?;
    if let Some(port) = flags.port {
        let listener = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
        let status = flags.status.clone();
        std::thread::spawn(move || serve(&listener, status.as_deref()));
    }
    if let Some(file) = &flags.signals {
        append(file, "ready")?;
    }
    for signal in signals.forever() {
        if let Some(file) = &flags.signals {
            append(file, &signal.to_string())?;
        }
        if signal == 15 && !flags.ignore_term {
            exit(flags.exit_on_term);
        }
    }
    Ok(())
}

fn parse() -> Flags {
    let mut flags = Flags::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--ignore-term" {
            flags.ignore_term = true;
            continue;
        }
        let value = words.next().unwrap_or_default();
        match word.as_str() {
            "--port" => flags.port = value.parse().ok(),
            "--status" => flags.status = Some(value),
            "--exit-on-term" => flags.exit_on_term = value.parse().unwrap_or(0),
            "--exit" => flags.exit = value.parse().ok(),
            "--orphan" => flags.orphan = Some(value),
            "--report" => flags.report = Some(value),
            "--signals" => flags.signals = Some(value),
            "--all-signals" => flags.all_signals = Some(value),
            _ => exit(64),
        }
    }
    flags
}

/// Writes what a child inherits: signal masks and dispositions, open descriptors, the environment.
fn report(file: &str) -> std::io::Result<()> {
    let mut text = std::fs::read_to_string("/proc/self/status")?;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // The folder's own descriptor is among them.
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if !target.ends_with("fd") {
            text.push_str(&format!("descriptor {}\n", entry.file_name().to_string_lossy()));
        }
    }
    for (name, value) in std::env::vars() {
        text.push_str(&format!("variable {name}={value}\n"));
    }
    std::fs::write(file, text)
}

/// Starts a grandchild in a session of its own and leaves it behind.
fn orphan(file: &str) -> std::io::Result<()> {
    let script = format!("setsid sleep 1000 & echo $! > {file}.new && mv {file}.new {file}");
    Command::new("sh").args(["-c", &script]).process_group(0).status().map(drop)
}

/// Writes down every signal that can be caught, in the order in which they come, and ends by none of them.
fn write_down_all_signals(file: &str) -> std::io::Result<()> {
    // SAFETY: the set lives on this stack and is filled before it is read; this program has one thread at this point.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        append(file, "ready")?;
        loop {
            append(file, &libc::sigwaitinfo(&raw const all, std::ptr::null_mut()).to_string())?;
        }
    }
}

fn append(file: &str, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())
}

fn serve(listener: &TcpListener, status: Option<&str>) {
    for stream in listener.incoming().flatten() {
        let _client_left = answer(stream, status);
    }
}

fn answer(stream: TcpStream, status: Option<&str>) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let status =
        status.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_else(|| "200".to_owned());
    let status = status.trim();
    (&stream).write_all(
        format!("HTTP/1.1 {status} Stub\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}
