//! What the handlers share: the phase of the server's life, the model once it is there, the settings.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use super::api_key::ApiKeys;
use crate::config::Settings;
use crate::engine::Poison;
use crate::gpu::Gpus;
use crate::metrics::{Metrics, ModelInfo};
use crate::serving::Serving;
use crate::text::TextPool;
use crate::traces::Traces;

/// Where in its life the server is. It only ever goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Listening, the model is not there yet.
    Loading,
    /// Answering.
    Ready,
    /// Told to stop: finishing what it has.
    Draining,
}

/// The state behind every handler.
#[derive(Debug)]
pub struct App {
    /// What the operator set.
    pub settings: Settings,
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// Who may ask; everybody where there are none.
    pub keys: Option<ApiKeys>,
    /// GPU memory.
    pub gpus: Gpus,
    /// Where texts are worked on.
    pub texts: TextPool,
    /// Where the course of predictions is told to, if anywhere.
    pub traces: Option<Traces>,
    /// Whether a GPU is lost to the process.
    pub poison: Arc<Poison>,
    /// When the process began to serve.
    pub started: Instant,
    life: RwLock<Life>,
    in_flight: AtomicUsize,
}

/// Read for as long as it takes to copy an `Arc`; written by a change of settings.
#[derive(Debug, Default)]
struct Life {
    serving: Option<Arc<Serving>>,
    draining: bool,
}

/// Nothing new is served any more: the server is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draining;

impl App {
    /// A server without a model.
    pub fn new(
        settings: Settings,
        keys: Option<ApiKeys>,
        metrics: Arc<Metrics>,
        gpus: Gpus,
        texts: TextPool,
        traces: Option<Traces>,
    ) -> Self {
        Self {
            settings,
            keys,
            metrics,
            gpus,
            texts,
            traces,
            poison: Arc::default(),
            started: Instant::now(),
            life: RwLock::default(),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Where in its life the server is.
    pub fn phase(&self) -> Phase {
        match &*self.life() {
            Life { draining: true, .. } => Phase::Draining,
            Life { serving: Some(_), .. } => Phase::Ready,
            Life { serving: None, .. } => Phase::Loading,
        }
    }

    /// The model and its settings as they are now, once there is one.
    pub fn serving(&self) -> Option<Arc<Serving>> {
        self.life().serving.clone()
    }

    /// From now on predictions are answered by this model with these settings; hands back what served until now.
    ///
    /// # Errors
    /// The server is draining, and goes on as it is.
    pub fn serve(&self, serving: Serving) -> Result<Option<Arc<Serving>>, Draining> {
        let mut life = self.life_to_change();
        if life.draining {
            return Err(Draining);
        }
        let description = &serving.model.description;
        self.metrics.set_model(&ModelInfo {
            name: description.name(),
            version: description.card.version.as_deref().unwrap_or_default(),
            device: &serving.model.devices.to_string(),
            precision: serving.model.precision.as_str(),
        });
        Ok(life.serving.replace(Arc::new(serving)))
    }

    /// Not ready from now on.
    pub fn drain(&self) {
        self.life_to_change().draining = true;
    }

    fn life(&self) -> RwLockReadGuard<'_, Life> {
        self.life.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn life_to_change(&self) -> RwLockWriteGuard<'_, Life> {
        self.life.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many predictions are being worked on.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Counts one prediction for as long as the guard lives.
    pub(crate) fn begin_prediction(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }
}

/// A prediction being worked on.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<App>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
