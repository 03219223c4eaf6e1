//! The service's name and id.
//!
//! Consul's DNS finds a service only if its name is a DNS label (RFC 1035, 2.3.1: letters, digits, hyphens, at most 63). Consul takes other
//! names without a word, and then nobody can resolve them.

use uuid::Uuid;

/// The most characters of a DNS label (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;

/// Mends what can be mended to make a DNS label: capitals become small, dots, underscores and blanks become hyphens (`v2.6` → `v2-6`).
///
/// # Errors
/// What cannot be mended, as the reason to show.
pub fn service_name(wanted: &str) -> Result<String, String> {
    let mended: String = wanted
        .chars()
        .map(|c| match c {
            '.' | '_' | ' ' => '-',
            other => other.to_ascii_lowercase(),
        })
        .collect();
    if let Some(c) = mended.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Err(format!("a DNS label: {c:?} is not a letter, a digit or a hyphen"));
    }
    if mended.is_empty() || mended.starts_with('-') || mended.ends_with('-') {
        return Err("a DNS label, which begins and ends with a letter or a digit".to_owned());
    }
    if mended.len() > LABEL_MAX {
        return Err(format!("a DNS label of at most {LABEL_MAX} characters; this one has {}", mended.len()));
    }
    Ok(mended)
}

/// The Consul node id that belongs to a node name: always the same, so that an agent that has lost its data directory is still the same
/// node to the servers. With a random id they refuse it for as long as the earlier one is remembered.
///
/// A UUID of version 5 (RFC 9562, 5.5) in the namespace of domain names.
pub fn node_id(node_name: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_DNS, node_name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_mended_is_mended() {
        assert_eq!(service_name("bert-ner-prod-v2.6-gpu").as_deref(), Ok("bert-ner-prod-v2-6-gpu"));
        assert_eq!(service_name("BERT_large ner").as_deref(), Ok("bert-large-ner"));
        assert_eq!(service_name(&"a".repeat(63)).map(|name| name.len()), Ok(63));
    }

    #[test]
    fn what_cannot_be_mended_is_refused_with_the_reason() {
        for (name, reason) in [
            ("bert/ner", "'/' is not a letter"),
            ("modèle", "'è' is not a letter"),
            ("", "begins and ends"),
            ("-ner", "begins and ends"),
            ("ner.", "begins and ends"),
        ] {
            let error = service_name(name).expect_err(name);
            assert!(error.contains(reason), "{name}: {error}");
        }
        assert!(service_name(&"a".repeat(64)).expect_err("too long").contains("this one has 64"));
    }

    #[test]
    fn the_node_id_is_a_uuid_that_depends_on_the_name_only() {
        assert_eq!(node_id("gpu-host-7"), node_id("gpu-host-7"));
        assert_ne!(node_id("gpu-host-7"), node_id("gpu-host-8"));
        assert_eq!(node_id("www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2", "RFC 9562, A.4");
    }
}
