//! What the handlers share: the phase of the server's life, the model once it is there, the settings.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::api_key::ApiKeys;
use crate::config::Settings;
use crate::engine::Engine;
use crate::gpu::Gpus;
use crate::loading::LoadedModel;
use crate::metrics::Metrics;
use crate::text::TextPool;

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

/// A model with its threads.
#[derive(Debug)]
pub struct Serving {
    /// Description, tokenizer, device.
    pub model: LoadedModel,
    /// The model threads.
    pub engine: Engine,
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
    /// When the process began to serve.
    pub started: Instant,
    serving: OnceLock<Arc<Serving>>,
    draining: AtomicBool,
    in_flight: AtomicUsize,
}

impl App {
    /// A server without a model.
    pub fn new(
        settings: Settings,
        keys: Option<ApiKeys>,
        metrics: Arc<Metrics>,
        gpus: Gpus,
        texts: TextPool,
    ) -> Self {
        Self {
            settings,
            keys,
            metrics,
            gpus,
            texts,
            started: Instant::now(),
            serving: OnceLock::new(),
            draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Where in its life the server is.
    pub fn phase(&self) -> Phase {
        if self.draining.load(Ordering::SeqCst) {
            Phase::Draining
        } else if self.serving.get().is_some() {
            Phase::Ready
        } else {
            Phase::Loading
        }
    }

    /// The model, once it has been loaded.
    pub fn serving(&self) -> Option<&Arc<Serving>> {
        self.serving.get()
    }

    /// The model is there: from now on predictions are answered.
    pub fn adopt(&self, serving: Serving) {
        // Called once; a second model would need the swap that hot settings bring.
        let _already = self.serving.set(Arc::new(serving));
    }

    /// Not ready from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
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
