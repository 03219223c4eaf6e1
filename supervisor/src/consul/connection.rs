//! The connection to the agent's API: plain, by a Unix socket, or by TLS, with what we show it and what it has to show.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Identity};

use super::credentials::{Credentials, Pem};
use crate::config::{Agent, Api, address};

/// A client that is set up for one agent. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Asks.
    pub http: reqwest::Client,
    /// What every address begins with.
    pub base: String,
    /// What it was set up with.
    pub credentials: Arc<Credentials>,
    /// Why what stands in the files now cannot be used.
    pub problem: Option<String>,
}

impl Connection {
    /// A connection to the agent's API. Nothing is sent yet.
    ///
    /// # Errors
    /// A certificate or key that is none, or the HTTP client cannot be built.
    pub fn new(agent: &Agent, credentials: Credentials) -> Result<Self, String> {
        let access = &agent.access;
        let mut headers = HeaderMap::new();
        let basic = access.auth.as_ref().map(|auth| format!("Basic {}", base64(&auth.0)));
        let token = credentials.token.as_ref().map(|token| token.0.clone());
        for (name, value) in [("X-Consul-Token", token), ("Authorization", basic)] {
            if let Some(value) = value {
                let mut value = HeaderValue::from_str(&value)
                    .map_err(|_| "a token holds characters that no header can".to_owned())?;
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        // The agent is here: neither a proxy nor a redirect has any business in between.
        let builder = reqwest::Client::builder()
            .default_headers(headers)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let (builder, base) = match &agent.api {
            Api::Tcp(..) | Api::Url { tls: false, .. } => (builder, agent.api.to_string()),
            Api::Unix(path) => (builder.unix_socket(path.clone()), "http://localhost".to_owned()),
            Api::Url { tls: true, host, port } => {
                let builder = secure(builder, &credentials)?;
                let builder = builder.tls_danger_accept_invalid_certs(access.unverified);
                match &access.server_name {
                    // The name in the URL is the one that the certificate is compared with; where it is looked up is another matter.
                    Some(name) => {
                        let elsewhere = Elsewhere { host: host.clone(), port: *port };
                        let base = format!("https://{}:{port}", address::in_url(name));
                        (builder.dns_resolver(Arc::new(elsewhere)), base)
                    }
                    None => (builder, agent.api.to_string()),
                }
            }
        };
        let http = builder.build().map_err(|error| {
            let why = super::api_client::innermost(&error);
            format!("the client of Consul's API cannot be set up: {why}")
        })?;
        Ok(Self { http, base, credentials: Arc::new(credentials), problem: None })
    }
}

fn secure(mut builder: ClientBuilder, credentials: &Credentials) -> Result<ClientBuilder, String> {
    if !credentials.authorities.is_empty() {
        let mut certificates = Vec::new();
        for Pem(bundle) in &credentials.authorities {
            let bundle = Certificate::from_pem_bundle(bundle)
                .map_err(|error| format!("the CA's certificate cannot be used: {error}"))?;
            certificates.extend(bundle);
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(Pem(both)) = &credentials.identity {
        let identity = Identity::from_pem(both)
            .map_err(|error| format!("our certificate and its key cannot be used: {error}"))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

/// Every name stands for this one host.
#[derive(Debug)]
struct Elsewhere {
    host: String,
    port: u16,
}

impl Resolve for Elsewhere {
    fn resolve(&self, _name: Name) -> Resolving {
        let place = (self.host.clone(), self.port);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host(place).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
