//! The service's name and id.
//!
//! Consul's DNS finds a service only if its name is a DNS label (RFC 1035, 2.3.1: letters, digits, hyphens, at most 63). Consul takes other
//! names without a word, and then nobody can resolve them.

use uuid::Uuid;

/// The most characters of a DNS label (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;
/// Serf's limit of a node's name.
const NODE_NAME_MAX: usize = 128;

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

/// Whether Consul's gossip takes this as a node's name (Serf's rule: letters, digits, hyphens and dots, at most 128), and whether it can stand
/// in a URL as it is. A name with dots is not found by Consul's DNS; hosts are named so all the same.
///
/// # Errors
/// What was expected.
pub fn node_name(name: &str) -> Result<(), String> {
    if name.len() > NODE_NAME_MAX || !name.split('.').all(is_label) {
        return Err(format!(
            "a name of letters, digits, hyphens and dots that begins and ends with a letter or a digit, of at most {NODE_NAME_MAX} characters"
        ));
    }
    Ok(())
}

/// Whether this is an IP address or a host's name (RFC 1123, 2.1).
///
/// # Errors
/// What was expected.
pub fn host(name: &str) -> Result<(), String> {
    if let Ok(address) = name.parse::<std::net::IpAddr>() {
        return if address.is_unspecified() {
            Err("an address that others can reach; this one only means `all of mine`".to_owned())
        } else {
            Ok(())
        };
    }
    let labels = name.strip_suffix('.').unwrap_or(name);
    // RFC 1035, 2.3.4. The last label of a name is never all digits, so that a slip in an IP is no name (RFC 1123, 2.1).
    let is_name = labels.len() <= 253
        && labels.split('.').all(|label| is_label(label) && label.len() <= LABEL_MAX)
        && labels.rsplit('.').next().is_some_and(|last| last.contains(|c: char| !c.is_ascii_digit()));
    if is_name { Ok(()) } else { Err("an IP address or a host name, without a port".to_owned()) }
}

fn is_label(label: &str) -> bool {
    let at_the_ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    at_the_ends(label.chars().next())
        && at_the_ends(label.chars().next_back())
        && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
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
    fn a_node_name_can_stand_in_a_url_as_it_is() {
        for name in ["gpu-7", "7", "ip-10-0-0-1.ec2.internal", "Host"] {
            assert_eq!(node_name(name), Ok(()), "{name}");
        }
        for name in ["gpu/7", "gpu 7", "gpu_7", "-gpu", "gpu-", "gpu..7", "a?b", "é", &"n".repeat(129)] {
            assert!(node_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_address_is_an_ip_or_a_host_name() {
        for name in ["10.1.2.3", "2001:db8::7", "gpu-7.example.com", "gpu7", "example.com."] {
            assert_eq!(host(name), Ok(()), "{name}");
        }
        for name in ["10.1.2.300", "10.1.2", "0.0.0.0", "::", "gpu-7:8000", "http://gpu-7", "a b", "", "-a"] {
            assert!(host(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_node_id_is_a_uuid_that_depends_on_the_name_only() {
        assert_eq!(node_id("gpu-host-7"), node_id("gpu-host-7"));
        assert_ne!(node_id("gpu-host-7"), node_id("gpu-host-8"));
        assert_eq!(node_id("www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2", "RFC 9562, A.4");
    }
}
