//! What a server's catalog says about a service, and when it began to say so.
//!
//! A [`Watch`] follows the service with blocking queries and keeps every answer with the time it arrived. That is
//! milliseconds after the truth changed and never before: a sighting proves that things were so no later than then.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::http::get;

/// An entry of the service.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The service's id.
    pub id: String,
    /// The node it is registered on.
    pub node: String,
    /// The address that clients are told.
    pub address: String,
    /// Name and status of each check, the node's own included.
    pub checks: Vec<(String, String)>,
}

impl Entry {
    /// Whether clients that ask for passing instances get this one.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.checks.iter().all(|(_, status)| status == "passing")
    }

    fn from_json(value: &Value) -> Result<Self> {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let checks = value.pointer("/Checks").and_then(Value::as_array).context("an entry without checks")?;
        let field =
            |check: &Value, key: &str| check.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self {
            id: text("/Service/ID"),
            node: text("/Node/Node"),
            address: text("/Service/Address"),
            checks: checks.iter().map(|check| (field(check, "Name"), field(check, "Status"))).collect(),
        })
    }
}

/// One answer of the server.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// When it arrived.
    pub at: SystemTime,
    /// All entries of the service.
    pub entries: Vec<Entry>,
}

impl Sighting {
    /// Whether at least one entry is passing.
    #[must_use]
    pub fn has_passing(&self) -> bool {
        self.entries.iter().any(Entry::is_passing)
    }

    /// Whether the service has no entry left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[derive(Debug, Default)]
struct History {
    sightings: Vec<Sighting>,
    closed: bool,
}

/// Follows one service at one server until dropped.
#[derive(Debug)]
pub struct Watch {
    service: String,
    shared: Arc<(Mutex<History>, Condvar)>,
}

impl Watch {
    /// Starts to follow `service` at the server whose API is at `server`; returns once the server has answered.
    pub fn new(server: &str, service: &str) -> Result<Self> {
        let watch = Self { service: service.to_owned(), shared: Arc::default() };
        let shared = Arc::clone(&watch.shared);
        let (server, path) = (server.to_owned(), format!("/v1/health/service/{service}"));
        // Not joined: it ends with its next answer, at the latest when the server is removed.
        std::thread::spawn(move || follow(&server, &path, &shared));
        watch.first(SystemTime::now(), Duration::from_secs(30), "an answer of the server", |_| true)?;
        Ok(watch)
    }

    /// The first sighting for which `holds`, among the one in force at `since` and all later ones; waits for it.
    pub fn first(
        &self,
        since: SystemTime,
        within: Duration,
        what: &str,
        holds: impl Fn(&Sighting) -> bool,
    ) -> Result<Sighting> {
        let give_up_at = Instant::now() + within;
        let (history, changed) = &*self.shared;
        let mut guard = history.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let in_force = guard.sightings.iter().rposition(|sighting| sighting.at <= since).unwrap_or(0);
            if let Some(found) = guard.sightings.iter().skip(in_force).find(|sighting| holds(sighting)) {
                return Ok(found.clone());
            }
            let left = give_up_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "waited {within:?} in vain for {what}: the catalog last said of {}: {:?}",
                    self.service,
                    guard.sightings.last()
                );
            }
            guard = changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until `holds` has held without a break for `lasting`; the sighting with which that time began.
    pub fn steady(
        &self,
        since: SystemTime,
        lasting: Duration,
        within: Duration,
        what: &str,
        holds: impl Fn(&Sighting) -> bool,
    ) -> Result<Sighting> {
        let give_up_at = Instant::now() + within;
        let mut since = since;
        loop {
            let left = give_up_at.saturating_duration_since(Instant::now());
            let began = self.first(since, left, what, &holds)?;
            // Waiting for the break, in vain, is the proof that there was none.
            let left = lasting.saturating_sub(began.at.max(since).elapsed().unwrap_or_default());
            match self.first(began.at, left, "a break", |sighting| !holds(sighting)) {
                Ok(broken) => since = broken.at,
                Err(_) => return Ok(began),
            }
        }
    }

    /// All sightings from the one in force at `since` on.
    #[must_use]
    pub fn since(&self, since: SystemTime) -> Vec<Sighting> {
        let guard = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_force = guard.sightings.iter().rposition(|sighting| sighting.at <= since).unwrap_or(0);
        guard.sightings.iter().skip(in_force).cloned().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }
}

fn follow(server: &str, path: &str, shared: &(Mutex<History>, Condvar)) {
    let mut index = 0;
    loop {
        // A server waits up to a sixteenth longer than it is asked to.
        let answer = get(server, &format!("{path}?wait=20s&index={index}"), Duration::from_secs(30));
        let at = SystemTime::now();
        let (history, changed) = shared;
        let mut guard = history.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.closed {
            return;
        }
        match answer.and_then(|reply| {
            let next: u64 = reply.header("X-Consul-Index").context("a reply without index")?.parse()?;
            let entries = reply.json()?;
            let entries = entries.as_array().context("a reply that is no list")?;
            Ok((next, entries.iter().map(Entry::from_json).collect::<Result<Vec<_>>>()?))
        }) {
            Ok((next, entries)) => {
                // An index that goes backwards means that the server's state was reset.
                index = if next < index { 0 } else { next };
                guard.sightings.push(Sighting { at, entries });
                changed.notify_all();
            }
            Err(_) => {
                // Nobody to ask, or no leader: a pause, so that the retry does not spin.
                drop(guard);
                index = 0;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}
