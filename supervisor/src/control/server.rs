//! The supervisor's side of the control socket.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifecycle::Event;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::protocol::{ControlReply, ControlRequest, LINE_MAX};
use crate::status::Status;

/// A client that takes longer to ask or to listen is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many clients are served at once; further ones wait in the kernel's queue.
const CLIENTS_MAX: usize = 16;

/// The bound socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket. A file that a dead supervisor left behind is replaced; a live one's is not.
    ///
    /// # Errors
    /// The reason and the cure, for people.
    pub fn bind(path: &Path) -> Result<Self, String> {
        let cure = "choose another path with --control-socket, or mount a writable folder there";
        let failed = |what: &str, error: io::Error| {
            format!("control socket {}: {what}: {error}; {cure}", path.display())
        };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| failed("the folder cannot be made", error))?;
        }
        if path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket()) {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(format!(
                    "control socket {}: another supervisor is serving it; give this one its own with --control-socket",
                    path.display()
                ));
            }
            std::fs::remove_file(path)
                .map_err(|error| failed("the stale socket cannot be removed", error))?;
        }
        // Between bind and chmod the mode is what the umask leaves, so the umask is tightened for that moment. No other thread makes files now.
        let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        nix::sys::stat::umask(umask);
        let listener = bound.map_err(|error| failed("cannot be bound", error))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| failed("its mode cannot be set", error))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves clients until the event loop is gone.
    pub async fn serve(self, status: watch::Receiver<Status>, events: mpsc::Sender<Event>) {
        let places = Arc::new(Semaphore::new(CLIENTS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (status, events) = (status.clone(), events.clone());
                    tokio::spawn(async move {
                        // Whatever goes wrong with one client is over with it.
                        let _ended = timeout(PATIENCE, serve_one(stream, status, events)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Most likely no descriptors left: that passes, and trying at once would spin.
                    tracing::warn!(%error, "control socket: accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

async fn serve_one(
    mut stream: UnixStream,
    status: watch::Receiver<Status>,
    events: mpsc::Sender<Event>,
) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    let read = BufReader::new(reading.take(limit)).read_line(&mut line).await;
    let reply = match read {
        Ok(_) if !line.ends_with('\n') => {
            refusal(&format!("a request is one line of at most {LINE_MAX} bytes"))
        }
        Ok(_) => match serde_json::from_str(&line) {
            Ok(ControlRequest::Status) => {
                let now = status.borrow().clone();
                ControlReply { ok: true, status: Some(now), error: None }
            }
            Ok(ControlRequest::Stop) => match events.send(Event::StopRequested).await {
                Ok(()) => ControlReply { ok: true, ..ControlReply::default() },
                Err(_) => refusal("the supervisor is exiting"),
            },
            Err(error) => refusal(&format!("not a request: {error}")),
        },
        Err(error) => refusal(&format!("a request is a line of UTF-8: {error}")),
    };
    let mut text = serde_json::to_string(&reply)?;
    text.push('\n');
    writing.write_all(text.as_bytes()).await?;
    writing.shutdown().await
}

fn refusal(error: &str) -> ControlReply {
    ControlReply { ok: false, status: None, error: Some(error.to_owned()) }
}
