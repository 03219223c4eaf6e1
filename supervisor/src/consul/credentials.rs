//! What the files of tokens, keys and certificates hold, and the task that looks whether they have been replaced.
//!
//! They are replaced while we run: by hand, by Vault's agent, or by Kubernetes, which swaps a link of the folder above. So they are
//! read again and compared, which sees every way of replacing them and needs no inotify(7).

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use lifecycle::Event;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::connection::Connection;
use crate::config::{Agent, Secret, Token};

/// How often: a token that was just replaced may be waited for by somebody at a terminal.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// More than this is no token, key or bundle of certificates (the CAs of an operating system have 230 KiB).
const MOST: u64 = 1 << 20;

/// What the files hold. Never logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The token for the agent's API.
    pub token: Option<Secret>,
    /// The token that an agent of ours uses itself.
    pub own_token: Option<Secret>,
    /// The CAs that the API's certificate may be by (PEM); empty for the system's.
    pub authorities: Vec<Pem>,
    /// Our certificate and its key (PEM).
    pub identity: Option<Pem>,
    /// What an agent of ours reads itself, to see when that changes.
    cluster: Vec<Pem>,
}

/// PEM, of which a part may be a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pem(pub Vec<u8>);

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Credentials {
    /// Reads all files that `agent` names. Blocks.
    ///
    /// # Errors
    /// Which file cannot be read, or holds nothing, and why.
    pub fn read(agent: &Agent) -> Result<Self, String> {
        let access = &agent.access;
        let token = match &access.token {
            Token::None => None,
            Token::Variable(token) => Some(token.clone()),
            Token::File(file) => Some(token(file)?),
        };
        let own_token = match &agent.own_token_file {
            Some(file) => Some(self::token(file)?),
            None => token.clone(),
        };
        let mut authorities = Vec::new();
        authorities.extend(access.ca_file.as_deref().map(pem).transpose()?);
        if let Some(dir) = &access.ca_path {
            let unreadable = |error| format!("{} cannot be read: {error}", dir.display());
            for entry in std::fs::read_dir(dir).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                if path.is_file() {
                    authorities.push(pem(&path)?);
                }
            }
        }
        let mut identity = None;
        if let Some((certificate, key)) = &access.certificate {
            let (mut both, Pem(key)) = (pem(certificate)?, pem(key)?);
            both.0.push(b'\n');
            both.0.extend(key);
            identity = Some(both);
        }
        let tls = &agent.tls;
        let files = tls.ca_file.iter().chain(tls.certificate.iter().flat_map(|(cert, key)| [cert, key]));
        let cluster = files.map(|file| pem(file)).collect::<Result<_, _>>()?;
        Ok(Self { token, own_token, authorities, identity, cluster })
    }
}

/// Whether there is a file that could be replaced.
pub fn can_change(agent: &Agent) -> bool {
    let Agent { access, own_token_file, tls, .. } = agent;
    matches!(access.token, Token::File(_))
        || own_token_file.is_some()
        || access.ca_file.is_some()
        || access.ca_path.is_some()
        || access.certificate.is_some()
        || tls.ca_file.is_some()
}

/// Looks again and again. Whoever asks the agent uses what is new from then on; the policy is told, for the agent and the entry. What
/// cannot be used changes nothing, is logged, and stands beside the failures that it leads to.
pub async fn watch(agent: Agent, connection: watch::Sender<Connection>, events: mpsc::Sender<Event>) {
    loop {
        sleep(LOOK_AGAIN).await;
        let files = agent.clone();
        // A file may lie on a network: the loop waits for none.
        let Ok(read) = tokio::task::spawn_blocking(move || Credentials::read(&files)).await else { return };
        let current = connection.borrow().clone();
        let new = match read {
            Ok(credentials) if credentials == *current.credentials => Ok(current.clone()),
            Ok(credentials) => Connection::new(&agent, credentials),
            Err(problem) => Err(problem),
        };
        match new {
            Ok(new) if new.credentials != current.credentials => {
                tracing::info!("a token or certificate was replaced in its file and is used from now on");
                connection.send_replace(new);
                if events.send(Event::CredentialsChanged).await.is_err() {
                    return;
                }
            }
            Ok(_) if current.problem.is_some() => {
                connection.send_modify(|connection| connection.problem = None);
            }
            Ok(_) => {}
            Err(problem) if current.problem.as_ref() != Some(&problem) => {
                tracing::warn!(problem, "what was replaced cannot be used; the earlier one still is");
                connection.send_modify(|connection| connection.problem = Some(problem));
            }
            Err(_) => {}
        }
    }
}

fn token(file: &Path) -> Result<Secret, String> {
    let text = String::from_utf8(read(file)?).unwrap_or_default();
    let token = text.trim();
    if token.is_empty() || token.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(format!("{} holds no token: one word is expected", file.display()));
    }
    Ok(Secret(token.to_owned()))
}

fn pem(file: &Path) -> Result<Pem, String> {
    let bytes = read(file)?;
    if !bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        return Err(format!("{} holds no certificate or key in PEM", file.display()));
    }
    Ok(Pem(bytes))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}
