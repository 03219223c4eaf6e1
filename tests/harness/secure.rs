//! Consul with everything locked: ACLs that deny by default, mutual TLS, encrypted gossip. Certificates are made by Consul's own `consul tls`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{PATIENCE, Server, Setup, consul, free_port, wait_for};

/// A CA and what it has signed.
pub struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().expect("folder") };
        authority.consul(&["tls", "ca", "create"]);
        authority
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("consul-agent-ca.pem")
    }

    /// A server's certificate and its key: for server.dc1.consul, localhost and 127.0.0.1.
    pub fn server(&self) -> [PathBuf; 2] {
        self.consul(&["tls", "cert", "create", "-server"]);
        ["dc1-server-consul-0.pem", "dc1-server-consul-0-key.pem"].map(|name| self.dir.path().join(name))
    }

    /// A client's.
    pub fn client(&self) -> [PathBuf; 2] {
        self.consul(&["tls", "cert", "create", "-client"]);
        ["dc1-client-consul-0.pem", "dc1-client-consul-0-key.pem"].map(|name| self.dir.path().join(name))
    }

    fn consul(&self, words: &[&str]) {
        let status =
            Command::new(consul()).args(words).current_dir(self.dir.path()).stdout(Stdio::null()).status();
        assert!(status.expect("consul").success(), "consul {words:?}");
    }
}

/// Puts a file in the place of another at once, as those who rotate secrets do.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, content).expect("written");
    std::fs::rename(&fresh, path).expect("renamed");
}

/// A locked server.
pub struct Locked {
    pub server: Server,
    pub authority: Authority,
    /// Its HTTPS API, which asks for a client's certificate.
    pub https: u16,
    pub gossip_key: String,
}

/// May do everything.
const MANAGEMENT: &str = "6d616e61-6765-6d65-6e74-000000000000";

/// The policy that is shipped.
const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/consul/acl-policy.hcl");

impl Locked {
    pub fn start() -> Self {
        let authority = Authority::new();
        let key = Command::new(consul()).arg("keygen").output().expect("consul").stdout;
        let gossip_key = String::from_utf8(key).expect("text").trim().to_owned();
        let https = free_port();
        let [certificate, certificate_key] = authority.server();
        let further = json!({
            "encrypt": gossip_key,
            "acl": { "enabled": true, "default_policy": "deny", "tokens": { "master": MANAGEMENT, "agent": MANAGEMENT } },
            "ca_file": authority.ca(), "cert_file": certificate, "key_file": certificate_key,
            "verify_incoming": true, "verify_outgoing": true, "verify_server_hostname": true,
            "auto_encrypt": { "allow_tls": true },
            "ports": { "https": https },
        });
        let server = Server::start_with(free_port(), "127.0.0.1", Some(&further), Some(MANAGEMENT));
        wait_for("the ACLs", || server.get("/v1/acl/policies"));
        Self { server, authority, https, gossip_key }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.server.http);
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("X-Consul-Token", MANAGEMENT)
            .body(body.to_string())
            .expect("a request");
        agent
            .run(request)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
            .body_mut()
            .read_json()
            .ok()
    }

    /// The shipped policy, for this service and this node.
    pub fn policy(service: &str, node: &str) -> String {
        std::fs::read_to_string(POLICY).expect("policy").replace("SERVICE", service).replace("NODE", node)
    }

    /// Makes a policy, or changes one, and gives its id back.
    pub fn set_policy(&self, name: &str, rules: &str) -> String {
        let known = self.ask("GET", "/v1/acl/policies", &json!(null)).unwrap_or_default();
        let id = known.as_array().into_iter().flatten().find(|policy| policy["Name"] == name);
        let path = id.map_or("/v1/acl/policy".to_owned(), |id| {
            format!("/v1/acl/policy/{}", id["ID"].as_str().expect("id"))
        });
        let body = match id {
            Some(id) => json!({ "ID": id["ID"], "Name": name, "Rules": rules }),
            None => json!({ "Name": name, "Rules": rules }),
        };
        let policy = self.ask("PUT", &path, &body).expect("a policy");
        policy["ID"].as_str().expect("id").to_owned()
    }

    /// A token with this policy.
    pub fn token(&self, policy: &str) -> Token {
        let token =
            self.ask("PUT", "/v1/acl/token", &json!({ "Policies": [{ "Name": policy }] })).expect("token");
        let word = |key: &str| token[key].as_str().expect("an id").to_owned();
        Token { accessor: word("AccessorID"), secret: word("SecretID") }
    }

    pub fn revoke(&self, token: &Token) {
        self.ask("DELETE", &format!("/v1/acl/token/{}", token.accessor), &json!(null));
    }

    /// A supervisor whose agent has all that this server asks for: the gossip key, a certificate, and a token with the shipped policy, each in
    /// a file of its folder (`gossip-key`, `ca.pem`, `cert.pem`, `key.pem`, `token`), which [`replace`] changes.
    pub fn setup(&self, worker: &[&str]) -> Setup {
        let setup = Setup::joining(self.server.serf, worker);
        let token = self.token_for(&setup);
        self.lock(setup, &token.secret)
    }

    /// A token with the shipped policy for this supervisor's service and node.
    pub fn token_for(&self, setup: &Setup) -> Token {
        let node = format!("node-{}", setup.port);
        self.set_policy(&node, &Self::policy("demo", &node));
        self.token(&node)
    }

    /// The same with a token of the caller's.
    pub fn lock(&self, setup: Setup, token: &str) -> Setup {
        let dir = setup.dir.path().to_owned();
        let [certificate, key] = self.authority.client();
        std::fs::write(dir.join("gossip-key"), &self.gossip_key).expect("written");
        std::fs::write(dir.join("token"), format!("{token}\n")).expect("written");
        for (from, to) in [(self.authority.ca(), "ca.pem"), (certificate, "cert.pem"), (key, "key.pem")] {
            std::fs::copy(from, dir.join(to)).expect("copied");
        }
        // What an agent believes about a token and a policy it believes for 30 s unless it is told otherwise, and auto_encrypt asks for a
        // certificate at the servers' usual port.
        let further = json!({
            "acl": { "token_ttl": "1s", "policy_ttl": "1s", "role_ttl": "1s" },
            "ports": { "server": self.server.rpc },
        });
        std::fs::create_dir(dir.join("further")).expect("folder");
        std::fs::write(dir.join("further/acl.json"), further.to_string()).expect("written");
        let file = |name: &str| dir.join(name).display().to_string();
        setup
            .option("agent-config-dir", &file("further"))
            .option("agent-encrypt-file", &file("gossip-key"))
            .option("agent-ca-file", &file("ca.pem"))
            .option("agent-cert-file", &file("cert.pem"))
            .option("agent-key-file", &file("key.pem"))
            .option("agent-token-file", &file("token"))
    }
}

/// A token of Consul's ACLs.
pub struct Token {
    pub accessor: String,
    pub secret: String,
}
