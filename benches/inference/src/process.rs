//! What the kernel says of a program and everything that it has started.

use std::collections::HashMap;

use anyhow::Context as _;

/// Clock ticks a second, the same on every Linux that matters (USER_HZ, proc_pid_stat(5)).
const TICKS: f64 = 100.0;

/// The living processes of a tree, its root among them.
pub(crate) fn tree(root: i32) -> anyhow::Result<Vec<i32>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended meanwhile.
        if let Ok(fields) = stat(pid) {
            children.entry(i32::try_from(fields.parent)?).or_default().push(pid);
        }
    }
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    Ok(all)
}

/// The CPU seconds that a tree has used, those of its dead and reaped included.
pub(crate) fn cpu_seconds(root: i32) -> anyhow::Result<f64> {
    let ticks: u64 = tree(root)?.into_iter().filter_map(|pid| stat(pid).ok()).map(|stat| stat.ticks).sum();
    #[expect(clippy::cast_precision_loss, reason = "a count of hundredths of seconds")]
    Ok(ticks as f64 / TICKS)
}

/// The sum of a field that ends in kB over a tree, in MiB: `("status", "VmHWM")` is the peak of what was resident.
pub(crate) fn memory(root: i32, file: &str, field: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in tree(root)? {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/{file}")) else { continue };
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        // Kernel threads and those that have just ended have no such line.
        let Some(line) = line else { continue };
        sum += line.split_whitespace().next().unwrap_or_default().parse::<u64>().context(field.to_owned())?;
    }
    Ok(sum / 1024)
}

struct Stat {
    parent: u64,
    ticks: u64,
}

fn stat(pid: i32) -> anyhow::Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it may hold anything, blanks and parentheses too.
    let fields: Vec<&str> = text.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let at = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    // Fields 4 and 14 to 17 of proc_pid_stat(5), of which the first two are cut off: parent; utime, stime, cutime, cstime.
    Ok(Stat { parent: at(1), ticks: at(11) + at(12) + at(13) + at(14) })
}
