//! The server's side of the admin socket.

use std::io;
use std::path::Path;
use std::sync::Arc;

use line_socket::{Client, Socket};

use super::NAMES;
use super::protocol::{Answer, ModelShown, Request, State};
use crate::hot_change::HotChange;
use crate::http::{App, Phase};

/// How many clients may be asking at once: there is one supervisor, and now and then a person.
const CLIENTS_MAX: usize = 16;

/// Binds the socket. At the start, while there is no other thread.
///
/// # Errors
/// The reason and the cure.
pub fn bind(path: &Path) -> Result<Socket, String> {
    Socket::bind(path, NAMES)
}

/// Serves clients until the runtime ends.
pub async fn serve(socket: Arc<Socket>, app: Arc<App>, change: Arc<HotChange>) {
    let served = line_socket::serve(&socket, CLIENTS_MAX, |client| {
        talk(client, Arc::clone(&app), Arc::clone(&change))
    });
    if let Err(error) = served.await {
        tracing::error!(%error, "admin socket: it cannot be served");
    }
}

async fn talk(mut client: Client, app: Arc<App>, change: Arc<HotChange>) -> io::Result<()> {
    let answer = match client.request().await? {
        Ok(Request::Show) => Answer::state(state(&app, &change)),
        Ok(Request::Apply { settings, version }) => {
            let result = change.apply(&settings, version).await;
            Answer::of(result, state(&app, &change))
        }
        Err(reason) => Answer::misunderstood(reason),
    };
    client.answer(&answer).await
}

fn state(app: &App, change: &HotChange) -> State {
    let serving = app.serving();
    let model = serving.as_ref().map(|serving| ModelShown {
        name: serving.model.description.name().to_owned(),
        version: serving.model.description.card.version.clone(),
        task: serving.model.description.task.kind().as_str().to_owned(),
        device: serving.model.devices.to_string(),
    });
    let phase = match app.phase() {
        Phase::Loading => "loading",
        Phase::Ready => "ready",
        Phase::Draining => "draining",
    };
    State {
        phase: phase.to_owned(),
        version: serving.as_ref().and_then(|serving| serving.settings.version.clone()),
        model,
        settings: serving.map(|serving| serving.shown()).unwrap_or_default(),
        refused: change.refused(),
    }
}
