//! The TCP probe: a port that takes a connection has somebody who listens.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Failure, Look};

/// Connects, and closes at once.
pub(super) async fn connect(address: SocketAddr, limit: Duration) -> Look {
    let silent = |what: String| Failure { silent: true, note: format!("TCP {address}: {what}") };
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_connected)) => Ok(()),
        Ok(Err(error)) => Err(silent(error.to_string())),
        Err(_) => Err(silent(format!("no connection within {}", humantime::format_duration(limit)))),
    }
}
