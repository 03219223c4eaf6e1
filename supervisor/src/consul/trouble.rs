//! What Consul's errors mean, and what to do about each: its own words first, for whoever searches for them.

use std::fmt;

use crate::config::{Agent, Token};

/// One permission of an ACL policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// `service`, `node` or `agent`.
    pub resource: &'static str,
    /// Of which one.
    pub name: String,
    /// `read` or `write`.
    pub access: &'static str,
}

impl Permission {
    /// On this service.
    pub fn service(name: &str, access: &'static str) -> Self {
        Self { resource: "service", name: name.to_owned(), access }
    }

    /// On this node.
    pub fn node(name: &str, access: &'static str) -> Self {
        Self { resource: "node", name: name.to_owned(), access }
    }

    /// On the agent of this node.
    pub fn agent(name: &str, access: &'static str) -> Self {
        Self { resource: "agent", name: name.to_owned(), access }
    }
}

impl fmt::Display for Permission {
    /// As it stands in a policy (Consul's documentation on ACL rules).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\" {{ policy = \"{}\" }}", self.resource, self.name, self.access)
    }
}

/// What people call the things that a failure can be about.
#[derive(Clone, Debug)]
pub struct Names {
    /// Where the token comes from.
    token: String,
    /// Whether there is one.
    has_token: bool,
    /// Whether the agent is ours: then it is the agent that speaks with servers by TLS, and not we with the agent.
    ours: bool,
    auto_encrypt: bool,
}

impl Names {
    /// For this agent.
    pub fn new(agent: &Agent, ours: bool) -> Self {
        let token = match &agent.access.token {
            Token::None => "no token".to_owned(),
            Token::Variable(_) => "the token in CONSUL_HTTP_TOKEN".to_owned(),
            Token::File(file) => format!("the token in {}", file.display()),
        };
        let auto_encrypt = ours && agent.tls.auto_encrypt;
        Self { token, has_token: agent.access.token != Token::None, ours, auto_encrypt }
    }

    /// What an answer other than 200 means; `needed` is what the request takes.
    pub fn refused(&self, status: u16, line: &str, needed: &[Permission]) -> String {
        let cure = match status {
            403 if line.contains("ACL not found") => self.unknown_token(),
            401 | 403 if !needed.is_empty() && line.contains("denied") => self.lacks(needed),
            400 if line.contains("HTTPS server") => {
                "use https:// in agent.http-addr (CONSUL_HTTP_ADDR)".to_owned()
            }
            500 if self.ours => of_cluster(line).to_owned(),
            _ => String::new(),
        };
        if cure.is_empty() { format!("{status} {line}") } else { format!("{status} {line}: {cure}") }
    }

    /// Which permissions are missing, and where they belong.
    pub fn lacks(&self, missing: &[Permission]) -> String {
        let rules: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let rules = rules.join(" ");
        if self.has_token {
            format!("{} lacks permissions; add to its policy: {rules}", self.token)
        } else {
            format!("no token is given (CONSUL_HTTP_TOKEN_FILE, agent.token-file); it takes one with {rules}")
        }
    }

    fn unknown_token(&self) -> String {
        let fix = if self.token.ends_with("CONSUL_HTTP_TOKEN") {
            "give another to a new container, or use CONSUL_HTTP_TOKEN_FILE, which is read again when it changes"
        } else {
            "put a valid one there; it is read again when it changes"
        };
        // `acl.token_ttl` of the agent's configuration.
        format!(
            "Consul does not know {} (wrong, expired or revoked): {fix}; an agent remembers this for up to 30 s",
            self.token
        )
    }

    /// What a connection that could not be made means.
    pub fn unreachable(&self, reason: &str) -> String {
        let cure = match reason {
            _ if self.auto_encrypt => {
                "the agent's API is not up before the servers have given it a certificate (agent.auto-encrypt)"
            }
            _ if self.ours => "",
            // rustls' words, in its `Error` and `AlertDescription`.
            _ if reason.contains("InvalidContentType") => {
                "the agent speaks no TLS there: use http:// in agent.http-addr (CONSUL_HTTP_ADDR)"
            }
            _ if reason.contains("UnknownIssuer") || reason.contains("BadSignature") => {
                "the agent's certificate is by another CA than agent.http-ca-file (CONSUL_CACERT) holds"
            }
            _ if reason.contains("not valid for name") || reason.contains("NotValidForName") => {
                "the agent's certificate is for another name: agent.http-server-name (CONSUL_TLS_SERVER_NAME) says which is right"
            }
            _ if reason.contains("fatal alert") => {
                "the agent does not take our certificate: agent.http-cert-file and -key-file (CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY)"
            }
            _ if reason.contains("xpired") => "the agent's certificate has to be renewed",
            _ => "",
        };
        if cure.is_empty() { reason.to_owned() } else { format!("{reason}: {cure}") }
    }
}

/// What an agent of ours means when it cannot ask the servers. The words are Consul's, Go's crypto/tls and Linux's.
fn of_cluster(line: &str) -> &'static str {
    let hung_up = ["EOF", "connection reset by peer", "broken pipe", "bad certificate", "tls: "];
    if line.contains("No known Consul servers") {
        "none of agent.retry-join answers the agent's gossip yet, or its gossip key is another (agent.encrypt-file)"
    } else if line.contains("x509") {
        "the agent does not take the servers' certificate: agent.ca-file holds another CA, or the certificate is expired or for another name"
    } else if hung_up.iter().any(|words| line.contains(words)) {
        "the servers hang up: where they ask for TLS, agent.cert-file must be a valid certificate of their CA, or agent.auto-encrypt is true"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(token: &str, ours: bool) -> Names {
        Names { token: token.to_owned(), has_token: token != "no token", ours, auto_encrypt: false }
    }

    #[test]
    fn what_is_missing_is_said_as_it_stands_in_a_policy() {
        let needed = [Permission::service("demo", "write"), Permission::node("n1", "read")];
        let lacks = names("the token in /t", true).refused(403, "Permission denied", &needed);
        assert_eq!(
            lacks,
            "403 Permission denied: the token in /t lacks permissions; add to its policy: \
             service \"demo\" { policy = \"write\" } node \"n1\" { policy = \"read\" }"
        );
        let none = names("no token", true).refused(403, "Permission denied", &needed);
        assert!(none.contains("no token is given (CONSUL_HTTP_TOKEN_FILE, agent.token-file)"), "{none}");
    }

    #[test]
    fn what_a_file_cannot_cure_is_not_promised() {
        let refused = |token| names(token, true).refused(403, "ACL not found", &[]);
        assert!(refused("the token in /t").contains("it is read again when it changes"));
        assert!(refused("the token in CONSUL_HTTP_TOKEN").contains("a new container"));
    }

    #[test]
    fn words_that_mean_nothing_to_us_stay_as_they_are() {
        assert_eq!(names("no token", true).refused(500, "disk full", &[]), "500 disk full");
        assert_eq!(names("no token", false).refused(500, "rpc error: EOF", &[]), "500 rpc error: EOF");
        assert_eq!(names("no token", false).unreachable("connection refused"), "connection refused");
    }
}
