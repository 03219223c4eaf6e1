//! Which `SUPERVISOR_…` variables are ours.
//!
//! A misspelt setting that is silently ignored is worse than none, so an unknown variable is an error. But two others use the same
//! prefix, and nobody can stop them from a container's command line:
//!
//! - **supervisord** sets four variables for what it starts (its manual, "Subprocess Environment"). They are ignored.
//! - **Kubernetes** (and Docker's links) describe a Service named `supervisor`, or `supervisor-NAME`, to every container beside it:
//!   `SUPERVISOR_SERVICE_HOST`, `SUPERVISOR_SERVICE_PORT`, `SUPERVISOR_PORT=tcp://…` and more (its documentation on Services, "Environment
//!   variables"). They are ignored with a warning. `SUPERVISOR_SERVICE_PORT` is also our `service.port`: it is Kubernetes' where there is a
//!   `SUPERVISOR_SERVICE_HOST`, unless its value differs from the port in `SUPERVISOR_PORT`: then the container's own
//!   environment has replaced it, and somebody meant us.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;

use super::keys::KEYS;

const PREFIX: &str = "SUPERVISOR_";
/// What supervisord sets (its manual, "Subprocess Environment").
const SUPERVISORD: [&str; 4] =
    ["SUPERVISOR_ENABLED", "SUPERVISOR_PROCESS_NAME", "SUPERVISOR_GROUP_NAME", "SUPERVISOR_SERVER_URL"];

/// The `SUPERVISOR_…` variables, sorted out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Variables {
    /// Those that are, or should be, settings.
    pub(super) ours: BTreeMap<String, OsString>,
    /// Those that describe a Service to whoever runs beside it.
    pub(super) of_services: Vec<String>,
}

impl Variables {
    /// Sorts them out. Names that are not UTF-8 are nobody's setting.
    pub(super) fn of(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let all: BTreeMap<String, OsString> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX) && !SUPERVISORD.contains(&name.as_str()))
            .collect();
        let services: Vec<Service<'_>> =
            all.keys().filter_map(|name| Service::named_by(name, &all)).collect();
        let of_services: Vec<String> = all
            .iter()
            .filter(|(name, value)| services.iter().any(|service| service.has(name, value)))
            .map(|(name, _)| name.clone())
            .collect();
        let mut ours = all;
        ours.retain(|name, _| !of_services.contains(name));
        Self { ours, of_services }
    }
}

/// A Service that is described by variables with a common beginning.
struct Service<'a> {
    beginning: &'a str,
    /// Whether there is a `…SERVICE_HOST`; Docker's links have none.
    host: bool,
    /// The port in `…PORT=tcp://HOST:PORT`.
    port: Option<&'a str>,
}

impl<'a> Service<'a> {
    fn named_by(name: &'a str, all: &'a BTreeMap<String, OsString>) -> Option<Self> {
        let text = |name: &str| all.get(name).and_then(|value| value.to_str());
        let by_host = name
            .strip_suffix("SERVICE_HOST")
            .filter(|_| text(name).is_some_and(|value| value == "None" || value.parse::<IpAddr>().is_ok()));
        let by_port = name.strip_suffix("PORT").filter(|_| text(name).is_some_and(is_endpoint));
        let beginning = by_host.or(by_port)?;
        let port = all
            .get(&format!("{beginning}PORT"))
            .and_then(|value| value.to_str())
            .filter(|value| is_endpoint(value))
            .and_then(|value| value.rsplit_once(':'))
            .map(|(_, port)| port);
        Some(Self { beginning, host: by_host.is_some(), port })
    }

    fn has(&self, name: &str, value: &OsString) -> bool {
        let Some(rest) = name.strip_prefix(self.beginning) else { return false };
        let setting = KEYS.iter().any(|key| key.is_variable(name));
        match rest {
            "SERVICE_HOST" => self.host,
            "SERVICE_PORT" => self.host && self.port.is_none_or(|port| value == port),
            "PORT" => value.to_str().is_some_and(is_endpoint),
            _ => {
                let digits = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
                let described = (self.host && rest.starts_with("SERVICE_PORT_"))
                    || rest.strip_prefix("PORT_").is_some_and(digits);
                described && !setting
            }
        }
    }
}

/// Such as `tcp://10.0.0.7:8000`.
fn is_endpoint(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted_out(pairs: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let sorted = Variables::of(pairs.iter().map(|(name, value)| (name.into(), value.into())));
        (sorted.ours.into_keys().collect(), sorted.of_services)
    }

    /// What a Pod beside a Service named `supervisor` sees.
    const KUBERNETES: [(&str, &str); 8] = [
        ("SUPERVISOR_SERVICE_HOST", "10.0.0.7"),
        ("SUPERVISOR_SERVICE_PORT", "8000"),
        ("SUPERVISOR_SERVICE_PORT_HTTP", "8000"),
        ("SUPERVISOR_PORT", "tcp://10.0.0.7:8000"),
        ("SUPERVISOR_PORT_8000_TCP", "tcp://10.0.0.7:8000"),
        ("SUPERVISOR_PORT_8000_TCP_PROTO", "tcp"),
        ("SUPERVISOR_PORT_8000_TCP_PORT", "8000"),
        ("SUPERVISOR_PORT_8000_TCP_ADDR", "10.0.0.7"),
    ];

    #[test]
    fn what_kubernetes_says_of_a_service_named_supervisor_is_not_ours() {
        let (ours, of_services) = sorted_out(&KUBERNETES);
        assert_eq!((ours, of_services.len()), (Vec::new(), KUBERNETES.len()));
        let named: Vec<(String, &str)> = KUBERNETES
            .map(|(name, value)| (name.replace("SUPERVISOR_", "SUPERVISOR_AGENT_"), value))
            .to_vec();
        let named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(sorted_out(&named).0, Vec::<String>::new(), "a Service named supervisor-agent");
    }

    #[test]
    fn a_service_port_of_the_containers_own_environment_is_ours_all_the_same() {
        let mut pairs = KUBERNETES;
        pairs[1].1 = "9000";
        assert_eq!(sorted_out(&pairs).0, ["SUPERVISOR_SERVICE_PORT"]);
        assert_eq!(sorted_out(&[("SUPERVISOR_SERVICE_PORT", "8000")]).0, ["SUPERVISOR_SERVICE_PORT"]);
        let without_endpoint = [KUBERNETES[0], KUBERNETES[1]];
        assert_eq!(sorted_out(&without_endpoint).0, Vec::<String>::new());
    }

    #[test]
    fn supervisords_variables_are_ignored_and_slips_are_not() {
        let (ours, of_services) = sorted_out(&[
            ("SUPERVISOR_ENABLED", "1"),
            ("SUPERVISOR_PROCESS_NAME", "worker"),
            ("SUPERVISOR_GROUP_NAME", "worker"),
            ("SUPERVISOR_SERVER_URL", "unix:///run/supervisor.sock"),
            ("SUPERVISOR_SERVICE_PRT", "8000"),
            ("SUPERVISOR_PORT_HTTP", "8000"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(ours, ["SUPERVISOR_PORT_HTTP", "SUPERVISOR_SERVICE_PRT"]);
        assert!(of_services.is_empty(), "{of_services:?}");
    }
}
