//! Three instances are replaced one after the other while clients send requests to whatever the servers call passing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use pilotlight_containers::{Instance, Lab, Servers, Watch, post};

use crate::PATIENCE;
use crate::contender::Contender;

const INSTANCES: usize = 3;
const CLIENTS: usize = 4;
/// Between two requests of a client, so that two cores are not the subject.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_secs(10);
const REQUEST: &str = r#"{"inputs": "My name is Ada Lovelace and I live in London."}"#;

/// What became of the clients' requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) answered: usize,
    pub(crate) failed: usize,
    /// The first few reasons.
    pub(crate) reasons: Vec<String>,
}

/// Replaces all instances once, under load.
pub(crate) fn restart(contender: Contender, lab: &Lab, servers: &Servers, run: u32) -> Result<Requests> {
    let service = format!("rolling-{contender:?}-{run}").to_lowercase();
    let watch = Watch::new(&servers.api(), &service)?;
    let all_passing = |since: SystemTime| {
        watch.first(since, PATIENCE, "all passing", |seen| {
            seen.entries.iter().filter(|entry| entry.is_passing()).count() >= INSTANCES
        })
    };
    let mut instances = Vec::new();
    let began = SystemTime::now();
    for number in 0..INSTANCES {
        instances.push(Instance::start(lab, &contender.plan_of(&format!("{service}-{number}"), &service)?)?);
    }
    all_passing(began)?;
    let (over, turn) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (answered, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let replaced = std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match ask(&watch, turn.fetch_add(1, Ordering::Relaxed)) {
                        Ok(()) => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            failures.lock().map(|mut list| list.push(format!("{error:#}"))).unwrap_or(())
                        }
                    }
                    std::thread::sleep(PAUSE);
                }
            });
        }
        let replaced = (|| {
            for number in 0..INSTANCES {
                let old = instances.remove(0);
                old.stop()?;
                let now = SystemTime::now();
                let name = format!("{service}-{number}-next");
                instances.push(Instance::start(lab, &contender.plan_of(&name, &service)?)?);
                all_passing(now)?;
            }
            anyhow::Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        replaced
    });
    replaced?;
    let failures = failures.into_inner().unwrap_or_default();
    let failed = failures.len();
    let mut reasons = failures;
    reasons.dedup();
    reasons.truncate(3);
    Ok(Requests { answered: answered.load(Ordering::Relaxed), failed, reasons })
}

/// One request to one of the instances that the servers call passing at this moment.
fn ask(watch: &Watch, turn: usize) -> Result<()> {
    let seen = watch.since(SystemTime::now());
    let passing: Vec<&str> = seen
        .last()
        .into_iter()
        .flat_map(|seen| &seen.entries)
        .filter(|entry| entry.is_passing())
        .map(|entry| entry.address.as_str())
        .collect();
    anyhow::ensure!(!passing.is_empty(), "nobody is passing");
    let address = passing.get(turn % passing.len()).copied().unwrap_or_default();
    let reply = post(&format!("{address}:8000"), "/predict", REQUEST, ANSWER)?;
    anyhow::ensure!(reply.status == 200, "status {}", reply.status);
    Ok(())
}
