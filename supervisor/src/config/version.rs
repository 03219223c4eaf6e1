//! The version of the configuration: the same for all instances that are configured alike.
//!
//! It is a hash over the settings that differ from their defaults, so that a setting that is new in a release changes nothing
//! where nobody uses it. What belongs to one instance is left out, and so is the worker's own command line, which may hold that, or a
//! secret. No setting is a secret: those are in files.

use uuid::Uuid;

use super::keys::{KEYS, Key};
use super::values::Values;

/// What two instances of one service on one host cannot share, or need not.
const PER_INSTANCE: [&str; 14] = [
    "control-socket",
    "advertise",
    "agent.data-dir",
    "agent.node-name",
    "agent.http-addr",
    "agent.serf-port",
    "agent.dns-port",
    "service.id",
    "service.address",
    "service.port",
    "service.config-version",
    "worker.command",
    "gpu.nvml-library",
    "log.level",
];

/// As many hexadecimal digits as people compare at a glance.
const DIGITS: usize = 12;

/// The version of these values.
pub(super) fn of(values: &Values<'_>) -> String {
    let text: String = KEYS
        .iter()
        .filter(|key| is_shared(key))
        .filter_map(|key| {
            let words = values.raw(key.path)?.words;
            let is_default = key.default.is_some_and(|default| words.join(",") == default);
            // No word can hold a line's end and be taken for another setting: it is escaped.
            (!is_default).then(|| format!("{}={words:?}\n", key.path))
        })
        .collect();
    // RFC 9562, 5.5: the name space only keeps it apart from other uses of the same hash.
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string();
    hash.chars().take(DIGITS).collect()
}

fn is_shared(key: &Key) -> bool {
    !PER_INSTANCE.contains(&key.path)
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::super::sources::Sources;
    use super::*;

    fn version(settings: &[(&str, &str)]) -> String {
        let mut sources = Sources::default();
        let flags = settings.iter().map(|(path, value)| {
            (keys::find(path).unwrap_or_else(|| panic!("{path}")), vec![(*value).to_owned()])
        });
        sources.add_flags(flags);
        of(&Values::new(&sources, &mut Vec::new()))
    }

    #[test]
    fn instances_that_are_configured_alike_have_the_same_version() {
        let plain = version(&[]);
        assert_eq!(plain.len(), DIGITS);
        for path in PER_INSTANCE {
            assert_eq!(version(&[(path, "x")]), plain, "{path}");
        }
        assert_eq!(version(&[("stop-timeout", "9s")]), plain, "the default, said aloud");
        let defaults = keys::find("gpu.fatal-xids").and_then(|key| key.default).expect("a default");
        assert_eq!(version(&[("gpu.fatal-xids", defaults)]), plain, "a list, likewise");
    }

    #[test]
    fn what_they_share_changes_it() {
        let settings = [("stop-timeout", "10s"), ("service.model", "bert"), ("service.tags", "canary")];
        let mut versions: Vec<String> = settings.iter().map(|setting| version(&[*setting])).collect();
        versions.extend([version(&[]), version(&settings)]);
        let different: std::collections::BTreeSet<&String> = versions.iter().collect();
        assert_eq!(different.len(), versions.len(), "{versions:?}");
    }
}
