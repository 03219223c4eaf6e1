//! The server's side: who is heard, for how long, and what a request must look like.

use std::future::Future;
use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::places::{Place, Places};
use super::{LINE_MAX, Names, PATIENCE, Socket};

/// After an error of accept: most likely no descriptors are left, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client that has connected.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    place: Option<Place>,
    program: &'static str,
}

/// Hands every client to `handle`, in a task of its own, until the runtime ends. When `most` clients have not asked yet, the one that
/// has been silent longest makes room.
///
/// # Errors
/// The socket cannot be registered with the runtime.
pub async fn serve<F>(socket: &Socket, most: usize, handle: impl Fn(Client) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = UnixListener::from_std(socket.listener.try_clone()?)?;
    let Names { socket: name, program, .. } = socket.names;
    let places = Places::default();
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                let handled = handle(Client { stream, place: Some(places.take(most)), program });
                // Whatever goes wrong with one client is over with it.
                tokio::spawn(async move { handled.await.ok() });
                // So that whoever has asked already is heard before the next one takes a place.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "{name}: accept failed; tried again until it works");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Client {
    /// What the client asks for, or what is wrong with how it asks. It has given its place back by then: whoever works on a request needs
    /// a bound of its own.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn request<T: DeserializeOwned>(&mut self) -> io::Result<Result<T, String>> {
        let uid = self.stream.peer_cred()?.uid();
        let place = self.place.take();
        if !is_served(uid) {
            let program = self.program;
            return Ok(Err(format!(
                "only root and the {program}'s own user are served, and this is user {uid}"
            )));
        }
        let read = timeout(PATIENCE, read_request(&mut self.stream));
        let Some(mut place) = place else { return Ok(Err("only one request is answered".to_owned())) };
        Ok(tokio::select! {
            request = read => request.unwrap_or_else(|_| Err(format!("no request within {} s", PATIENCE.as_secs()))),
            _ = &mut place.evicted => {
                Err("too many clients, and this one had not asked for anything yet".to_owned())
            }
        })
    }

    /// Sends one line.
    ///
    /// # Errors
    /// The client is gone, or does not listen.
    pub async fn send<T: Serialize>(&mut self, answer: &T) -> io::Result<()> {
        let mut text = serde_json::to_string(answer)?;
        text.push('\n');
        timeout(PATIENCE, self.stream.write_all(text.as_bytes())).await?
    }

    /// Sends the last line and closes.
    ///
    /// # Errors
    /// The client is gone, or does not listen.
    pub async fn answer<T: Serialize>(mut self, answer: &T) -> io::Result<()> {
        self.send(answer).await?;
        timeout(PATIENCE, self.stream.shutdown()).await?
    }
}

/// Root can do anything anyway, and the server's own user could trace it. The socket's mode keeps others out already; this holds even
/// where somebody has changed that, or has handed a descriptor on.
fn is_served(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

async fn read_request<T: DeserializeOwned>(stream: &mut UnixStream) -> Result<T, String> {
    let mut line = Vec::new();
    let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    BufReader::new(stream.take(limit))
        .read_until(b'\n', &mut line)
        .await
        .map_err(|error| format!("the request cannot be read: {error}"))?;
    if line.last() != Some(&b'\n') {
        return Err(format!("a request is one line of at most {LINE_MAX} bytes"));
    }
    let line = str::from_utf8(&line).map_err(|error| format!("a request is a line of UTF-8: {error}"))?;
    serde_json::from_str(line).map_err(|error| format!("not a request: {error}"))
}
