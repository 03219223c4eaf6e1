//! What a new configuration changes, key by key.
//!
//! Every key says in the table when a change of it takes effect ([`Applies`]). Those that need a new container keep the value of the
//! start: [`effective`] puts the configuration together that holds until then, from the new values of all others.

use super::keys::{Applies, KEYS, Key};
use super::settings::Config;
use super::sources::{Place, Sources};

/// The keys whose values differ, in the order of the table. Where a value stands does not matter.
pub fn changed(old: &Sources, new: &Sources) -> Vec<&'static Key> {
    let words = |sources: &Sources, key| sources.get(key).map(|raw| raw.words);
    KEYS.iter()
        .filter(|key| {
            words(old, key) != words(new, key) && !(is_overruled(old, key) && is_overruled(new, key))
        })
        .collect()
}

/// The model directory means nothing beside a worker's command.
fn is_overruled(sources: &Sources, key: &Key) -> bool {
    let command = super::keys::find("worker.command").and_then(|command| sources.get(command));
    key.path == "worker.model" && command.is_some()
}

/// The values that hold from now on: the new ones, but for what needs a new container. What was found out at the start and
/// others hold on to (the address, the node's name) stays as well, though nobody has written it down.
pub fn effective(started: &Sources, config: &Config, new: &Sources) -> Sources {
    let mut merged = new.clone();
    for key in KEYS.iter().filter(|key| key.applies == Applies::ContainerRestart) {
        merged.replace(key, started.get(key));
    }
    if let Some(catalog) = &config.catalog {
        merged.pin("advertise", catalog.agent.address.to_string());
        merged.pin("agent.node-name", catalog.agent.node_name.clone());
    }
    merged
}

impl Sources {
    /// Puts a value in the place of all that a key has.
    fn replace(&mut self, key: &Key, raw: Option<super::Raw>) {
        self.values.remove(key.path);
        // A default comes by itself.
        if let Some(raw) = raw.filter(|raw| raw.place != Place::Default) {
            self.values.insert(key.path, vec![raw]);
        }
    }

    fn pin(&mut self, path: &str, word: String) {
        if let Some(key) = super::keys::find(path) {
            let raw = super::Raw { words: vec![word], place: Place::AtStart };
            self.replace(key, Some(raw));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::{Ask, keys};

    fn sources(flags: &[(&str, &str)]) -> Sources {
        let mut sources = Sources::default();
        let flags =
            flags.iter().map(|(path, word)| (keys::find(path).expect(path), vec![(*word).to_owned()]));
        sources.add_flags(flags);
        sources
    }

    fn config(sources: &Sources) -> Config {
        Config::build(sources, vec![OsString::from("true")], Vec::new()).expect("valid")
    }

    #[test]
    fn a_key_has_changed_when_its_words_differ_wherever_they_stand() {
        let old = sources(&[("agent.mode", "none"), ("drain-window", "1s"), ("log.level", "warn")]);
        let new = sources(&[("agent.mode", "none"), ("service.port", "9000"), ("log.level", "debug")]);
        let paths: Vec<&str> = changed(&old, &new).iter().map(|key| key.path).collect();
        assert_eq!(paths, ["service.port", "log.level"], "1s is drain-window's default");
        assert!(changed(&old, &old).is_empty());
        let [mut old, mut new] = ["/old", "/new"].map(|model| sources(&[("worker.model", model)]));
        assert_eq!(changed(&old, &new).len(), 1);
        for sources in [&mut old, &mut new] {
            sources.add_command(&[OsString::from("true")]);
        }
        assert!(changed(&old, &new).is_empty(), "a command overrules the model");
    }

    #[test]
    fn what_needs_a_new_container_stays_and_the_rest_is_taken_over() {
        let old = [
            ("agent.bin", "true"),
            ("advertise", "127.0.0.1"),
            ("agent.node-name", "here"),
            ("agent.data-dir", "/tmp/pilotlight"),
            ("service.name", "demo"),
            ("service.port", "8001"),
            ("check.ttl", "15s"),
        ];
        let mut new = old;
        new[2].1 = "there";
        new[5].1 = "8002";
        new[6].1 = "30s";
        let (old, new) = (sources(&old), sources(&new));
        let started = config(&old);
        let now = config(&effective(&old, &started, &new)).catalog.expect("an agent");
        assert_eq!((now.agent.node_name.as_str(), now.service.port), ("here", 8001));
        assert_eq!(now.check.ttl, std::time::Duration::from_secs(30));
        assert_eq!(now.probe.readiness, Ask::Http("http://127.0.0.1:8001/health".to_owned()));
    }
}
