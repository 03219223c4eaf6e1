//! The agent's configuration, as a file.
//!
//! A file and not flags: the gossip key would be visible in argv, and a file can hold whatever the agent takes. It is the last one that
//! the agent reads, so that what the supervisor depends on (names, addresses, ports) is as the supervisor believes. Keys are those of Consul's
//! documentation on agent configuration, as known to Consul 1.8 and later.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::{Agent, Api, identity};
use crate::os::children::Program;

/// Writes the agent's configuration beside its data and says how to start it. What an earlier agent kept of the check `http_check`
/// is forgotten.
///
/// # Errors
/// The folder cannot be made or the file not written.
pub fn prepare(agent: &Agent, forgotten: &[String]) -> io::Result<Program> {
    std::fs::create_dir_all(&agent.data_dir)?;
    for check in forgotten {
        forget_check(&agent.data_dir.join("data/checks"), check);
    }
    let file = agent.data_dir.join("supervisor.json");
    write_private(&file, &configuration(agent).to_string())?;
    let mut arguments = vec!["agent".into()];
    if let Some(dir) = &agent.config_dir {
        arguments.push(prefixed("-config-dir=", dir));
    }
    arguments.push(prefixed("-config-file=", &file));
    Ok(Program {
        path: agent.bin.clone(),
        arguments,
        hidden_variables: vec!["CONSUL_HTTP_TOKEN".into(), "CONSUL_HTTP_TOKEN_FILE".into()],
        variables: Vec::new(),
        stdin: false,
        foreground: false,
        user: None,
    })
}

/// Removes a check from what an earlier agent has kept. An agent restores the checks of its data directory, and those that it makes itself
/// as critical until the first probe, which comes at a random moment of the interval: a live worker would be out of rotation for
/// as long. The TTL check keeps its state. Whatever cannot be read here is the agent's business.
fn forget_check(kept: &Path, id: &str) {
    for file in std::fs::read_dir(kept).into_iter().flatten().flatten() {
        let text = std::fs::read(file.path()).unwrap_or_default();
        let check: Value = serde_json::from_slice(&text).unwrap_or_default();
        if check.pointer("/Check/CheckID").and_then(Value::as_str) == Some(id) {
            let _gone = std::fs::remove_file(file.path());
        }
    }
}

fn prefixed(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(prefix);
    argument.push(path);
    argument
}

/// Writes a file that nobody else can read, and puts it in place whole.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut fresh = PathBuf::from(path);
    fresh.set_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    std::fs::rename(&fresh, path)
}

fn configuration(agent: &Agent) -> Value {
    let mut ports = Map::from_iter([
        ("serf_lan".to_owned(), json!(agent.serf_port)),
        ("dns".to_owned(), json!(agent.dns_port.map_or(-1, i32::from))),
        // Unused by a client agent's own clients here, and one listener fewer each.
        ("grpc".to_owned(), json!(-1)),
    ]);
    let api_address = match &agent.api {
        Api::Tcp(address, port) => {
            ports.insert("http".to_owned(), json!(port));
            address.to_string()
        }
        Api::Unix(path) => format!("unix://{}", path.display()),
    };
    let mut configuration = json!({
        "server": false,
        "node_name": agent.node_name,
        "node_id": identity::node_id(&agent.node_name),
        "data_dir": agent.data_dir.join("data"),
        "bind_addr": agent.address.to_string(),
        "advertise_addr": agent.address.to_string(),
        "addresses": { "http": api_address, "dns": "127.0.0.1" },
        "unix_sockets": { "mode": "0600" },
        "ports": ports,
        "retry_join": agent.retry_join,
        // Consul's own default is 30 s, which is how long a start would take that comes just before its servers.
        "retry_interval": "1s",
        "leave_on_terminate": true,
        "disable_update_check": true,
        "log_level": agent.log_level,
    });
    if let Value::Object(object) = &mut configuration {
        object.extend(agent.datacenter.as_ref().map(|name| ("datacenter".to_owned(), json!(name))));
        object.extend(agent.encrypt.as_ref().map(|key| ("encrypt".to_owned(), json!(key.0))));
    }
    configuration
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Secret;

    #[test]
    fn only_the_named_check_is_forgotten() {
        let dir = tempfile::tempdir().expect("folder");
        let keep = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        keep("a", r#"{"Check":{"CheckID":"demo:worker"}}"#);
        keep("b", r#"{"Check":{"CheckID":"demo:supervisor"}}"#);
        keep("c", "not JSON");
        forget_check(dir.path(), "demo:worker");
        let left: std::collections::BTreeSet<_> = std::fs::read_dir(dir.path())
            .expect("folder")
            .map(|file| file.expect("file").file_name())
            .collect();
        assert_eq!(left, ["b", "c"].map(Into::into).into());
        forget_check(&dir.path().join("missing"), "demo:worker");
    }

    #[test]
    fn the_gossip_key_is_in_a_private_file_and_not_in_argv() {
        let dir = tempfile::tempdir().expect("folder");
        let agent = Agent {
            bin: "/bin/consul".into(),
            data_dir: dir.path().into(),
            config_dir: Some("/etc/consul".into()),
            node_name: "n1".to_owned(),
            address: [10, 0, 0, 1].into(),
            retry_join: vec!["10.0.0.9".to_owned()],
            datacenter: None,
            encrypt: Some(Secret("gossip-key".to_owned())),
            api: Api::default(),
            serf_port: 8301,
            dns_port: None,
            log_level: "warn".to_owned(),
            token: None,
        };
        let program = prepare(&agent, &["demo:worker".to_owned()]).expect("prepared");
        let file = dir.path().join("supervisor.json");
        assert_eq!(program.arguments.last(), Some(&prefixed("-config-file=", &file)));
        assert!(!format!("{program:?}{agent:?}").contains("gossip-key"));
        assert!(std::fs::read_to_string(&file).expect("file").contains("gossip-key"));
        assert_eq!(file.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
    }
}
