//! How the agent's API is asked, and how the agent speaks with the servers: addresses, tokens, certificates.
//!
//! Names and meanings are those of Consul's own environment variables (its documentation on the command line, "Environment variables") and
//! of its agent's configuration. Files are only looked at here; what they hold is read where it is used
//! (`consul/credentials.rs`), again and again.

use std::path::PathBuf;

use super::folders;
use super::identity;
use super::problem::Problem;
use super::settings::{Access, Api, ClusterTls, Secret, Token};
use super::sources::Place;
use super::values::Values;

/// The ports of URLs without one, to Consul's own programs as to everybody (RFC 9110, 4.2).
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Where the agent serves its API. That of an agent of ours is on a port of this host or a Unix socket, and speaks plain HTTP.
pub(super) fn api(values: &mut Values<'_>, ours: bool) -> Api {
    if ours {
        let expected = "HOST:PORT or unix:///PATH, with an IP or localhost as the host; https and other hosts are for --agent external";
        return values.parse("agent.http-addr", expected, |text| match address(text, false)? {
            Api::Url { .. } => Err("somewhere else"),
            here => Ok(here),
        });
    }
    let tls = values.switch("agent.http-ssl");
    values.parse(
        "agent.http-addr",
        "HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH, without a path after the port",
        |text| address(text, tls),
    )
}

/// `tls` is what somebody asked for beside the address: never taken back by `http://`, as Consul has it.
fn address(text: &str, tls: bool) -> Result<Api, &'static str> {
    if let Some(path) = text.strip_prefix("unix://") {
        return folders::socket_path(std::path::Path::new(path)).map(|()| Api::Unix(path.into()));
    }
    let (tls, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (tls, rest),
        Some(_) => return Err("another scheme"),
        None => (tls, text),
    };
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        // The colons of a bare IPv6 address part no port.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().map_err(|_| "no port")?)
        }
        Some(_) => return Err("an IPv6 address stands in brackets"),
        None if text.contains("://") => (rest, if tls { HTTPS } else { HTTP }),
        None => return Err("no port"),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = if host == "localhost" && !tls { "127.0.0.1" } else { host };
    if port == 0 {
        return Err("port 0");
    }
    match host.parse() {
        Ok(ip) if !tls => Ok(Api::Tcp(ip, port)),
        Ok(_) => Ok(Api::Url { tls, host: host.to_owned(), port }),
        Err(_) => identity::host(host)
            .map(|()| Api::Url { tls, host: host.to_owned(), port })
            .map_err(|_| "neither a name nor an address"),
    }
}

/// How it is asked. What belongs to https means nothing to an agent of ours.
pub(super) fn access(values: &mut Values<'_>, ours: bool) -> Access {
    for name in ["CONSUL_NAMESPACE", "CONSUL_PARTITION"] {
        let value = variable(name).filter(|value| value != "default");
        if let Some(value) = value {
            let expected =
                "nothing, or default: the namespaces and partitions of Consul Enterprise are not supported";
            let place = Place::Variable(name.to_owned());
            values.problems.push(Problem::new(name, &value, place, expected));
        }
    }
    // A file beats the variable, as Consul has it.
    let token = match (secret_file(values, "agent.token-file"), secret("CONSUL_HTTP_TOKEN", values)) {
        (Some(file), _) => Token::File(file),
        (None, Some(token)) => Token::Variable(token),
        (None, None) => Token::None,
    };
    if ours {
        return Access { token, ..Access::default() };
    }
    let ca_path = values.path("agent.http-ca-path");
    if ca_path.as_ref().is_some_and(|dir| !dir.is_dir()) {
        values.wrong("agent.http-ca-path", "an existing folder of CA certificates");
    }
    let auth = secret("CONSUL_HTTP_AUTH", values);
    if auth.as_ref().is_some_and(|auth| !auth.0.contains(':')) {
        let place = Place::Variable("CONSUL_HTTP_AUTH".to_owned());
        values.problems.push(Problem::new("CONSUL_HTTP_AUTH", "(hidden)", place, "USER:PASSWORD"));
    }
    Access {
        token,
        auth,
        ca_file: secret_file(values, "agent.http-ca-file"),
        ca_path,
        certificate: certificate(values, "agent.http-cert-file", "agent.http-key-file"),
        server_name: values.text("agent.http-server-name"),
        unverified: !values.switch("agent.http-verify"),
    }
}

/// How an agent of ours speaks with the servers.
pub(super) fn cluster_tls(values: &mut Values<'_>) -> ClusterTls {
    let ca_file = secret_file(values, "agent.ca-file");
    let certificate = certificate(values, "agent.cert-file", "agent.key-file");
    let auto_encrypt = values.switch("agent.auto-encrypt");
    if ca_file.is_none() {
        for path in ["agent.cert-file", "agent.auto-encrypt", "agent.verify-outgoing"] {
            if values.text(path).is_some_and(|word| word != "false") {
                values.wrong(
                    path,
                    "agent.ca-file beside it: without a CA there is no telling whose servers these are",
                );
            }
        }
    }
    if auto_encrypt && certificate.is_some() {
        values.wrong(
            "agent.auto-encrypt",
            "false beside agent.cert-file: either brings the agent a certificate",
        );
    }
    let (has_ca, has_certificate) = (ca_file.is_some(), certificate.is_some() || auto_encrypt);
    ClusterTls {
        ca_file,
        certificate,
        auto_encrypt,
        verify_outgoing: switch(values, "agent.verify-outgoing", has_ca),
        verify_server_hostname: switch(values, "agent.verify-server-hostname", has_ca),
        verify_incoming: switch(values, "agent.verify-incoming", has_certificate),
    }
}

/// A file that must be readable: a token, a key or a certificate.
pub(super) fn secret_file(values: &mut Values<'_>, path: &str) -> Option<PathBuf> {
    let file = values.path(path)?;
    let readable = std::fs::File::open(&file).and_then(|file| file.metadata());
    match readable {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => values.wrong(path, "a file"),
        Err(error) => values.wrong(path, &format!("a readable file ({error})")),
    }
    Some(file)
}

fn certificate(values: &mut Values<'_>, cert: &str, key: &str) -> Option<(PathBuf, PathBuf)> {
    let (file, key_file) = (secret_file(values, cert), secret_file(values, key));
    match (&file, &key_file) {
        (Some(_), None) => values.wrong(cert, &format!("{key} beside it")),
        (None, Some(_)) => values.wrong(key, &format!("{cert} beside it")),
        _ => {}
    }
    file.zip(key_file)
}

/// A switch whose default depends on others.
fn switch(values: &mut Values<'_>, path: &str, otherwise: bool) -> bool {
    if values.text(path).is_some() { values.switch(path) } else { otherwise }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A secret that stands in the environment itself. It becomes a header's value.
fn secret(name: &str, values: &mut Values<'_>) -> Option<Secret> {
    let value = variable(name)?;
    if value.chars().any(char::is_control) {
        let place = Place::Variable(name.to_owned());
        values.problems.push(Problem::new(name, "(hidden)", place, "a value without control characters"));
    }
    Some(Secret(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_consul_reads_it() {
        let url = |tls, host: &str, port| Ok(Api::Url { tls, host: host.to_owned(), port });
        let tcp = |ip: &str, port| Ok(Api::Tcp(ip.parse().expect("an IP"), port));
        for (text, tls, expected) in [
            ("127.0.0.1:8500", false, tcp("127.0.0.1", 8500)),
            ("localhost:8500", false, tcp("127.0.0.1", 8500)),
            ("http://10.0.0.7:8500/", false, tcp("10.0.0.7", 8500)),
            ("[::1]:8500", false, tcp("::1", 8500)),
            ("consul.internal:8500", false, url(false, "consul.internal", 8500)),
            ("https://consul.internal", false, url(true, "consul.internal", 443)),
            ("https://[::1]:8501", false, url(true, "::1", 8501)),
            ("https://localhost:8501", false, url(true, "localhost", 8501)),
            ("10.0.0.7:8501", true, url(true, "10.0.0.7", 8501)),
            ("http://10.0.0.7:8501", true, url(true, "10.0.0.7", 8501)),
            ("unix:///run/consul.sock", true, Ok(Api::Unix("/run/consul.sock".into()))),
        ] {
            assert_eq!(address(text, tls), expected, "{text} {tls}");
        }
        for text in
            ["127.0.0.1", "::1:8500", "ftp://a:1", "https://a:1/consul", "a b:1", "127.0.0.1:0", "unix://x"]
        {
            assert!(address(text, false).is_err(), "{text}");
        }
    }
}
