//! Our entry as the servers show it: what the agent has acknowledged is not the truth until they do, and others can change it there.

use std::time::Duration;

use lifecycle::{Event, Failure, Generation, Level, Listing, View};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::api_client::{ApiClient, http_check_id, ttl_check_id};
use crate::config::Service;

/// How long one query waits for news. Consul adds up to a sixteenth (its documentation on blocking queries).
const WAIT: Duration = Duration::from_secs(60);
/// How long its answer may take; then the agent is asked anew. Whether it hangs is for others to find out.
const TIMEOUT: Duration = Duration::from_secs(70);
/// Between two queries that fail: from exec to an agent that answers takes about 70 ms, so it is short at first and grows.
const FIRST: Duration = Duration::from_millis(5);
const LAST: Duration = Duration::from_millis(500);
/// At least between any two: a service with many instances has much news.
const AT_LEAST: Duration = Duration::from_millis(2);

/// Asks again and again, and reports every view that differs from the one before.
///
/// An answer that proves nothing, since the token may not read the entry, is no view, and is asked for without waiting: no index moves
/// when a permission is given.
pub async fn run(
    client: ApiClient,
    service: Service,
    node: watch::Receiver<Option<String>>,
    generation: Generation,
    events: mpsc::Sender<Event>,
) {
    let (mut index, mut last, mut delay) = (0, None, FIRST);
    loop {
        let at = node.borrow().clone();
        let (view, pause) = match client.entry(&service, at.as_deref(), index, WAIT, TIMEOUT).await {
            Ok((entry, next)) => {
                // An index that goes backwards belongs to servers that were reset: begin anew (the same documentation).
                index = if next < index { 0 } else { next };
                delay = FIRST;
                (entry.map_or(View::Absent, |entry| view(&entry, &service)), AT_LEAST)
            }
            Err(Failure::Unanswered(_)) => {
                index = 0;
                continue;
            }
            Err(failure) => {
                index = 0;
                delay = (delay * 3 / 2).min(LAST);
                (View::Unknown(failure.reason().to_owned()), delay)
            }
        };
        if last.as_ref() != Some(&view) {
            last = Some(view.clone());
            if events.send(Event::EntrySeen { generation, view }).await.is_err() {
                return;
            }
        }
        sleep(pause).await;
    }
}

/// What an element of the answer of `/v1/health/service` says.
fn view(entry: &Value, service: &Service) -> View {
    let word =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut listing = Listing {
        altered: altered(entry, service),
        ttl_check: None,
        worker_check: None,
        level: Level::Passing,
        note: String::new(),
    };
    for check in entry.get("Checks").and_then(Value::as_array).into_iter().flatten() {
        let level = match word(check, "Status").as_str() {
            "passing" => Level::Passing,
            "warning" => Level::Warning,
            // `critical`, and `maintenance` in some answers.
            _ => Level::Critical,
        };
        let id = word(check, "CheckID");
        if id == ttl_check_id(service) {
            listing.ttl_check = Some(level);
        } else if id == http_check_id(service) {
            listing.worker_check = Some(level);
        }
        if level > listing.level {
            listing.level = level;
            let what = match id.as_str() {
                "serfHealth" => "the servers do not reach the agent".to_owned(),
                "_node_maintenance" => "the node is in maintenance mode".to_owned(),
                id if id.starts_with("_service_maintenance:") => {
                    "the service is in maintenance mode".to_owned()
                }
                _ => format!("the check `{}` is {level}", word(check, "Name")),
            };
            let output = word(check, "Output");
            let reason =
                output.lines().next().or(check.get("Notes").and_then(Value::as_str)).unwrap_or_default();
            listing.note = if reason.is_empty() { what } else { format!("{what}: {reason}") };
        }
    }
    View::Listed(listing)
}

/// What is otherwise than it was registered, in words.
fn altered(entry: &Value, service: &Service) -> Option<String> {
    let seen = entry.get("Service")?;
    let text = |key: &str| seen.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("Address") != service.address
        || seen.get("Port").and_then(Value::as_u64) != Some(service.port.into())
    {
        return Some(format!(
            "another instance has the id {}: {}:{}",
            service.id,
            text("Address"),
            seen.get("Port").unwrap_or(&Value::Null)
        ));
    }
    let tags: Vec<&str> =
        seen.get("Tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let missing = service.tags.iter().find(|tag| !tags.contains(&tag.as_str()));
    missing.map(|tag| format!("the tag {tag} is missing"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        Service {
            name: "demo".to_owned(),
            id: "demo-1".to_owned(),
            address: "10.0.0.7".to_owned(),
            port: 8000,
            tags: vec!["canary".to_owned()],
            meta: std::collections::BTreeMap::new(),
            weight_passing: 1,
            weight_warning: 1,
        }
    }

    fn seen(address: &str, tags: &[&str], checks: &[(&str, &str)]) -> Listing {
        let checks: Vec<Value> = checks
            .iter()
            .map(|(id, status)| json!({ "CheckID": id, "Name": id, "Status": status, "Output": "words\nmore" }))
            .collect();
        let entry =
            json!({ "Service": { "Address": address, "Port": 8000, "Tags": tags }, "Checks": checks });
        match view(&entry, &service()) {
            View::Listed(listing) => listing,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_worst_check_counts_and_says_why() {
        let checks =
            [("serfHealth", "passing"), ("demo-1:supervisor", "passing"), ("demo-1:worker", "critical")];
        let listing = seen("10.0.0.7", &["canary", "v1"], &checks);
        assert_eq!((listing.ttl_check, listing.worker_check), (Some(Level::Passing), Some(Level::Critical)));
        assert_eq!((listing.level, listing.altered), (Level::Critical, None));
        assert_eq!(listing.note, "the check `demo-1:worker` is critical: words");
        let maintenance = seen("10.0.0.7", &["canary"], &[("_service_maintenance:demo-1", "critical")]);
        assert_eq!(maintenance.note, "the service is in maintenance mode: words");
        assert_eq!(maintenance.ttl_check, None);
    }

    #[test]
    fn what_somebody_has_changed_is_named() {
        let altered = |address, tags| seen(address, tags, &[]).altered.unwrap_or_default();
        assert!(
            altered("10.0.0.8", &["canary"]).contains("another instance has the id demo-1: 10.0.0.8:8000")
        );
        assert_eq!(altered("10.0.0.7", &["v1"]), "the tag canary is missing");
    }
}
