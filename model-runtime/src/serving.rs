//! A model that is served: what was loaded, its threads, and the settings it is served by.
//!
//! A request takes an `Arc<Serving>` once and sees one model with one set of settings to its end, whatever changes meanwhile. Settings that
//! change in place make a new `Serving` of the same model and threads; a new model makes one of its own, and the old one goes when the last
//! request that began with it has been answered.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::config::{Change, InForce, Overridden, RuntimeToml, Setting, Tunables, changes, settings};
use crate::engine::Engine;
use crate::loading::LoadedModel;

/// A model with its threads and settings.
#[derive(Debug)]
pub struct Serving {
    /// Description, tokenizer, device.
    pub model: Arc<LoadedModel>,
    /// The model threads.
    pub engine: Arc<Engine>,
    /// The settings.
    pub settings: Adopted,
    user: User,
}

/// A set of settings that goes with a model.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// The flags, overrides included.
    pub overridden: Overridden,
    /// The model's `runtime.toml`, as it was when the model was loaded.
    pub file: Arc<RuntimeToml>,
    /// Both, merged.
    pub tunables: Tunables,
    /// What whoever applied the overrides calls them, such as Consul's index.
    pub version: Option<String>,
}

impl Serving {
    /// A model that has just been loaded, and how to hear that nobody uses it any more.
    pub fn new(model: LoadedModel, engine: Engine, settings: Adopted) -> (Self, Users) {
        let (sender, receiver) = channel();
        let (model, engine) = (Arc::new(model), Arc::new(engine));
        (Self { model, engine, settings, user: User(sender) }, Users(receiver))
    }

    /// The same model with settings that need no other; the queue goes by them from now on.
    pub fn adjusted(&self, settings: Adopted) -> Self {
        let (model, engine) = (Arc::clone(&self.model), Arc::clone(&self.engine));
        let limits = settings.tunables.batching.limits(model.pace);
        engine.queue().set_limits(limits, settings.tunables.max_queue);
        Self { model, engine, settings, user: self.user.clone() }
    }

    /// Every setting that may change, with its value and where that comes from.
    pub fn shown(&self) -> BTreeMap<String, Setting> {
        settings(&self.in_force(), &self.settings.overridden, &self.settings.file)
    }

    /// What is different from `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        changes(&before.in_force(), &self.in_force())
    }

    fn in_force(&self) -> InForce<'_> {
        InForce {
            args: &self.settings.overridden.args,
            tunables: &self.settings.tunables,
            max_seq_length: self.model.description.form.text().map(|text| text.max_seq_length),
            instances: self.engine.instances(),
            pace: self.model.pace,
        }
    }
}

/// Held by every `Serving` of a model, and nothing but held.
#[derive(Debug, Clone)]
struct User(#[expect(dead_code, reason = "that it is dropped is the message")] Sender<Infallible>);

/// Tells when no `Serving` of a model is left, and so no request that could still use it.
#[derive(Debug)]
pub struct Users(Receiver<Infallible>);

impl Users {
    /// Waits until all are gone; `false` if some are left after `patience`.
    pub fn wait(&self, patience: Duration) -> bool {
        match self.0.recv_timeout(patience) {
            Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Ok(never) => match never {},
        }
    }
}
