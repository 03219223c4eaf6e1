//! One set of overrides at a time: adopted or refused as a whole.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value};

use super::{Loader, Outcome, Refusal, RefusalKind, Refused, Report};
use crate::config::cli::ServeArgs;
use crate::config::{Overridden, Tunables};
use crate::http::{App, Phase};
use crate::plan::{Plan, PlanError};
use crate::serving::{Adopted, Serving};

/// The largest models come from a slow disk in minutes. Whoever waits for longer waits for a disk that has gone.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// Two small files.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Changes what is served.
#[derive(Debug)]
pub struct HotChange {
    app: Arc<App>,
    start: ServeArgs,
    loader: Loader,
    turn: tokio::sync::Mutex<()>,
    refused: Mutex<Option<Refused>>,
}

impl HotChange {
    /// Over a server that was started with these flags.
    pub fn new(app: Arc<App>, start: ServeArgs, loader: Loader) -> Self {
        Self { app, start, loader, turn: tokio::sync::Mutex::new(()), refused: Mutex::new(None) }
    }

    /// Adopts the set, or refuses it with the reason and changes nothing. Comes to its end even if whoever asked has gone.
    ///
    /// # Errors
    /// What is wrong with the set or the model it names; or another set is being applied.
    pub async fn apply(&self, set: &Map<String, Value>, version: Option<String>) -> Result<Report, Refusal> {
        let result = match self.turn.try_lock() {
            Ok(_turn) => self.adopt(set, version.clone()).await,
            Err(_) => Err(Refusal::new(
                RefusalKind::Busy,
                "another set of settings is being applied; try again when it is done",
            )),
        };
        self.record(&result, version);
        result
    }

    /// The last set that was refused for what it says, if none has been accepted since.
    pub fn refused(&self) -> Option<Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing is being loaded, and no old model is on its way out.
    pub fn is_idle(&self) -> bool {
        self.loader.is_idle()
    }

    async fn adopt(&self, set: &Map<String, Value>, version: Option<String>) -> Result<Report, Refusal> {
        let overridden = Overridden::by(&self.start, set).map_err(Refusal::of)?;
        let before = match (self.app.phase(), self.app.serving()) {
            (Phase::Draining, _) => {
                return Err(Refusal::new(RefusalKind::Stopping, "the server is stopping"));
            }
            (_, Some(serving)) => serving,
            (_, None) => {
                let error = "the first model is still being loaded; try again when /readyz says 200";
                return Err(Refusal::new(RefusalKind::Busy, error));
            }
        };
        if overridden.args.model.model == before.settings.overridden.args.model.model {
            let tunables = Tunables::merge(&overridden.args, &before.settings.file).map_err(Refusal::of)?;
            if !tunables.need_other_model_than(&before.settings.tunables) {
                let file = Arc::clone(&before.settings.file);
                return self.adjust(&before, Adopted { overridden, file, tunables, version });
            }
        }
        // The old model goes when those who use it have gone, so this must not be one of them.
        drop(before);
        self.swap(overridden, version).await
    }

    fn adjust(&self, before: &Serving, settings: Adopted) -> Result<Report, Refusal> {
        let after = before.adjusted(settings);
        let changes = after.changes_since(before);
        let outcome = if changes.is_empty() { Outcome::Unchanged } else { Outcome::Adjusted };
        match self.app.serve(after) {
            Ok(_before) => Ok(Report { outcome, changes }),
            Err(_draining) => Err(Refusal::new(RefusalKind::Stopping, "the server is stopping")),
        }
    }

    async fn swap(&self, overridden: Overridden, version: Option<String>) -> Result<Report, Refusal> {
        let refused = |error: String| Refusal::new(RefusalKind::Refused, error);
        let reading = tokio::task::spawn_blocking(move || Plan::read(overridden, version));
        let read = within(READ_TIMEOUT, reading, "reading the model's directory").await.map_err(refused)?;
        let plan = read.map_err(|panic| refused(panic.to_string()))?.map_err(|error| match error {
            PlanError::Settings(problems) => Refusal::of(problems),
            other => refused(other.to_string()),
        })?;
        let give_up = Instant::now() + LOAD_TIMEOUT;
        let loading = self.loader.order(plan, Some(give_up)).ok_or_else(|| {
            Refusal::new(
                RefusalKind::Busy,
                "a model that has long been given up is still being loaded; try again later",
            )
        })?;
        let loaded = within(LOAD_TIMEOUT, loading, "loading the model").await.map_err(refused)?;
        loaded.map_err(|_| refused("the loading thread has ended".to_owned()))?.map_err(Refusal::from)
    }

    fn record(&self, result: &Result<Report, Refusal>, version: Option<String>) {
        match result {
            Ok(Report { outcome, changes }) => {
                let list: Vec<String> = changes
                    .iter()
                    .map(|change| format!("{} {} -> {}", change.key, change.old, change.new))
                    .collect();
                tracing::info!(version, changes = list.join(", "), "settings {}", outcome.as_str());
                self.app.metrics.count_settings_change(outcome.as_str());
            }
            Err(refusal) => {
                tracing::warn!(version, error = refusal.error, "settings {}", refusal.kind.as_str());
                self.app.metrics.count_settings_change(refusal.kind.as_str());
            }
        }
        let refused = match result {
            Ok(_) => None,
            Err(refusal) if refusal.kind == RefusalKind::Refused => {
                let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
                Some(Refused { at, version, error: refusal.error.clone() })
            }
            // Of those who are told to try again nothing is known yet.
            Err(_) => return,
        };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>, what: &str) -> Result<T, String> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| format!("{what} takes longer than {limit:?}; nothing has changed"))
}
