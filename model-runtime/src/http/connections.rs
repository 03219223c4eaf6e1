//! Connections: how many, how slow they may be, and how they end.
//!
//! axum's own `serve` has no limit on connections and no timeout for the head of a request, so hyper is driven directly.
//!
//! When the server stops, connections end in two steps, so that no request is lost to a race. For a moment (`LINGER`)
//! requests that are already on their way are still answered, each with `Connection: close`. Then the listener closes, idle
//! connections with it, and the rest after their answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

/// Longer than a request takes from the client to us within a data centre, short beside any stop budget.
const LINGER: Duration = Duration::from_millis(100);
/// A client that takes nothing of its answer for so long is gone.
const UNSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes; larger ones get 431. The clients' own limits are below it.
const MAX_HEAD: usize = 64 << 10;
/// After an error of accept (out of file descriptors, most likely), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection may cost.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// The most open connections; further ones wait in the kernel's queue.
    pub max_open: usize,
    /// A client's time to send the head of a request; also how long a connection may idle.
    pub head_timeout: Duration,
}

/// The listener and its open connections.
#[derive(Debug)]
pub struct Connections {
    address: SocketAddr,
    closing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    permits: Arc<Semaphore>,
    max_open: u32,
}

impl Connections {
    /// Begins to accept.
    pub fn accept(listener: TcpListener, router: Router, limits: ConnectionLimits) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let max_open = u32::try_from(limits.max_open).unwrap_or(u32::MAX).min(1 << 20);
        let permits = Arc::new(Semaphore::new(max_open as usize));
        let (closing, closed) = watch::channel(false);
        let acceptor =
            Acceptor { router, permits: Arc::clone(&permits), closed, head_timeout: limits.head_timeout };
        let accepting = tokio::spawn(acceptor.run(listener));
        Ok(Self { address, closing, accepting, permits, max_open })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections after their last answer. May take for ever with a slow client: bound it from outside.
    pub async fn finish(self) {
        let all_closed = self.permits.acquire_many(self.max_open);
        // Lingering is for those who are connected; without any it would only cost time.
        if tokio::time::timeout(LINGER, all_closed).await.is_err() {
            tracing::debug!("connections are still open after lingering");
        }
        self.closing.send_replace(true);
        if let Err(error) = self.accepting.await {
            tracing::error!(%error, "the accepting task failed");
        }
        // The semaphore is never closed, so this ends only with all connections ended.
        let _all = self.permits.acquire_many(self.max_open).await;
    }
}

struct Acceptor {
    router: Router,
    permits: Arc<Semaphore>,
    closed: watch::Receiver<bool>,
    head_timeout: Duration,
}

impl Acceptor {
    async fn run(mut self, listener: TcpListener) {
        loop {
            let next = async {
                let permit = Arc::clone(&self.permits).acquire_owned().await;
                (listener.accept().await, permit)
            };
            let accepted = tokio::select! {
                accepted = next => accepted,
                () = closing(&mut self.closed) => return,
            };
            match accepted {
                (Ok((stream, _)), Ok(permit)) => self.serve(stream, permit),
                (Err(error), _) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (Ok(_), Err(_)) => return,
            }
        }
    }

    fn serve(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        if let Err(error) = tune(&stream) {
            tracing::debug!(%error, "cannot set socket options");
        }
        let service = TowerToHyperService::new(self.router.clone());
        let mut closed = self.closed.clone();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.head_timeout).max_header_size(MAX_HEAD);
        tokio::spawn(async move {
            let _permit = permit;
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = closing(&mut closed) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
}

/// Returns when connections are to close.
async fn closing(closed: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever wanted this server.
    let _ = closed.wait_for(|closed| *closed).await;
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    // Answers are written in one piece; waiting to fill a packet only delays them.
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNSENT_TIMEOUT))
}
