//! As a plain init.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::contender::{ALL, Contender};
use crate::figures::{Figures, time};
use crate::process::{Running, children, field, send, switches};
use crate::worker::now;

const STARTS: usize = 101;
const SIGNALS: usize = 501;
const ORPHANS: usize = 1000;
const ORPHAN_RUNS: usize = 7;
const IDLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// In a PID namespace, as its PID 1, as in a container.
const AS_PID_1: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

#[derive(Default)]
struct Row {
    start: Figures,
    signal: Figures,
    orphans: Figures,
    rss: u64,
    private: u64,
    switches: u64,
}

pub(crate) fn measure(supervisor: &Path) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut rows: Vec<Row> = ALL.iter().map(|_| Row::default()).collect();
    for _ in 0..STARTS {
        // Turn by turn, so that the machine's moods meet all alike.
        for (contender, row) in ALL.iter().zip(&mut rows) {
            // It takes a second.
            if *contender == Contender::Supervisord && !row.start.is_empty() {
                continue;
            }
            let command = contender.command(supervisor, dir.path(), &[], &["stamp"]);
            let began = now()?;
            let mut running = Running::start(command)?;
            row.start.add(running.hear()?.saturating_sub(began));
            running.end();
        }
    }
    for (contender, row) in ALL.iter().zip(&mut rows) {
        let mut running = Running::start(contender.command(supervisor, dir.path(), &[], &["signals"]))?;
        running.hear()?;
        let pid = running.pid()?;
        // Until everything about the start is over.
        std::thread::sleep(Duration::from_millis(500));
        (row.rss, row.private) =
            (field(pid, "status", "VmRSS")?, field(pid, "smaps_rollup", "Private_Dirty")?);
        let before = switches(pid)?;
        std::thread::sleep(IDLE);
        row.switches = switches(pid)? - before;
        // supervisord hands no signals on.
        if *contender != Contender::Supervisord {
            for _ in 0..SIGNALS {
                let sent = now()?;
                send(pid, libc::SIGUSR1);
                row.signal.add(running.hear()?.saturating_sub(sent));
            }
        }
        running.end();
    }
    for _ in 0..ORPHAN_RUNS {
        for (contender, row) in ALL.iter().zip(&mut rows) {
            // The worker alone has nobody who would reap, and supervisord keeps its program's standard input.
            if !matches!(contender, Contender::Bare | Contender::Supervisord) {
                row.orphans.add(reap(*contender, supervisor, dir.path())?);
            }
        }
    }
    print(&rows);
    Ok(())
}

/// How long it takes until so many orphans that end at once are reaped.
fn reap(contender: Contender, supervisor: &Path, dir: &Path) -> anyhow::Result<u64> {
    let count = ORPHANS.to_string();
    let mut running = Running::start(contender.command(supervisor, dir, &AS_PID_1, &["orphans", &count]))?;
    running.hear()?;
    let init = *children(running.pid()?).first().ok_or_else(|| anyhow::anyhow!("no init below unshare"))?;
    wait_until("all are adopted", || children(init).len() > ORPHANS)?;
    let began = now()?;
    drop(running.child.stdin.take());
    wait_until("all are reaped", || children(init).len() == 1)?;
    let took = now()? - began;
    send(init, libc::SIGKILL);
    running.end();
    Ok(took)
}

fn wait_until(what: &str, is: impl Fn() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !is() {
        anyhow::ensure!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn print(rows: &[Row]) {
    let bare = rows.first().map(|row| row.start.median()).unwrap_or_default();
    println!(
        "\n{:<12} {:>14} {:>12} {:>10} {:>14} {:>16} {:>18}",
        "init", "start", "more", "memory", "not shared", "signal handed on", "1,000 orphans"
    );
    for (contender, row) in ALL.iter().zip(rows) {
        let or_none =
            |figures: &Figures| if figures.is_empty() { "–".to_owned() } else { time(figures.median()) };
        let more = if *contender == Contender::Bare {
            "–".to_owned()
        } else {
            format!("+{}", time(row.start.median().saturating_sub(bare)))
        };
        println!(
            "{:<12} {:>14} {:>12} {:>6} KiB {:>10} KiB {:>16} {:>18}",
            contender.name(),
            time(row.start.median()),
            more,
            row.rss,
            row.private,
            or_none(&row.signal),
            or_none(&row.orphans),
        );
    }
    println!("\nwoken up in {} idle seconds:", IDLE.as_secs());
    for (contender, row) in ALL.iter().zip(rows) {
        println!("  {:<12} {}", contender.name(), row.switches);
    }
    let find = |wanted| ALL.iter().zip(rows).find(|(contender, _)| **contender == wanted).map(|(_, row)| row);
    if let (Some(tini), Some(ours)) = (find(Contender::Tini), find(Contender::Ours)) {
        println!(
            "ours to tini's: signal {}, orphans {}",
            ratio(&ours.signal, &tini.signal),
            ratio(&ours.orphans, &tini.orphans)
        );
    }
}

fn ratio(ours: &Figures, theirs: &Figures) -> String {
    let tenths = ours.median() * 10 / theirs.median().max(1);
    format!("{}.{}x", tenths / 10, tenths % 10)
}
