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

use super::credentials::Credentials;
use crate::config::{Agent, Api, ClusterTls, identity};
use crate::os::spawn::Program;

/// Writes the agent's configuration beside its data and says how to start it. What an earlier agent kept of the check `http_check`
/// is forgotten.
///
/// # Errors
/// The folder cannot be made or the file not written.
pub fn prepare(agent: &Agent, credentials: &Credentials, forgotten: &[String]) -> io::Result<Program> {
    std::fs::create_dir_all(&agent.data_dir)?;
    for check in forgotten {
        forget_check(&agent.data_dir.join("data/checks"), check);
    }
    let file = write(agent, credentials)?;
    let mut arguments = vec!["agent".into()];
    if let Some(dir) = &agent.config_dir {
        arguments.push(prefixed("-config-dir=", dir));
    }
    arguments.push(prefixed("-config-file=", &file));
    Ok(Program {
        path: agent.bin.clone(),
        arguments,
        hidden_variables: crate::config::secret_variables(),
        variables: Vec::new(),
        stdin: false,
        foreground: false,
        user: None,
    })
}

/// Writes the agent's configuration and says where it is.
///
/// # Errors
/// The file cannot be written.
pub fn write(agent: &Agent, credentials: &Credentials) -> io::Result<PathBuf> {
    let file = agent.data_dir.join("supervisor.json");
    write_private(&file, &configuration(agent, credentials).to_string())?;
    Ok(file)
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

fn configuration(agent: &Agent, credentials: &Credentials) -> Value {
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
        // Refused where the configuration is read: an agent of ours is here.
        Api::Url { .. } => String::new(),
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
        if let Some(key) = &agent.encrypt {
            object.insert("encrypt".to_owned(), json!(key.0));
            // Otherwise the key of the first start is kept beside the data, and beats the file from then on.
            object.insert("disable_keyring_file".to_owned(), json!(true));
        }
        object.extend(acl(credentials));
        object.extend(tls(&agent.tls));
    }
    configuration
}

/// With a token the agent asks for one too, of everybody who uses its API: the worker is beside it. None is lent to those who show none
/// (`tokens.default`).
fn acl(credentials: &Credentials) -> Option<(String, Value)> {
    let own = credentials.own_token.as_ref()?;
    let acl = json!({ "enabled": true, "default_policy": "deny", "tokens": { "agent": own.0 } });
    Some(("acl".to_owned(), acl))
}

/// By the names that all versions know.
fn tls(tls: &ClusterTls) -> Vec<(String, Value)> {
    let Some(ca_file) = &tls.ca_file else { return Vec::new() };
    let mut keys = vec![
        ("ca_file", json!(ca_file)),
        ("verify_outgoing", json!(tls.verify_outgoing)),
        ("verify_server_hostname", json!(tls.verify_server_hostname)),
        ("verify_incoming", json!(tls.verify_incoming)),
        ("auto_encrypt", json!({ "tls": tls.auto_encrypt })),
    ];
    if let Some((certificate, key)) = &tls.certificate {
        keys.extend([("cert_file", json!(certificate)), ("key_file", json!(key))]);
    }
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{Access, Secret};

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
    fn secrets_are_in_a_private_file_and_not_in_argv() {
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
            access: Access::default(),
            own_token_file: None,
            tls: ClusterTls::default(),
        };
        let mut credentials = Credentials::default();
        credentials.own_token = Some(Secret("own-token".to_owned()));
        let program = prepare(&agent, &credentials, &["demo:worker".to_owned()]).expect("prepared");
        let file = dir.path().join("supervisor.json");
        assert_eq!(program.arguments.last(), Some(&prefixed("-config-file=", &file)));
        let (shown, written) =
            (format!("{program:?}{agent:?}{credentials:?}"), std::fs::read_to_string(&file).expect("file"));
        for secret in ["gossip-key", "own-token"] {
            assert!(!shown.contains(secret) && written.contains(secret), "{shown}");
        }
        assert_eq!(file.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
    }
}
