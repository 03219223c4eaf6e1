//! From settings to a model that is served, in two steps: read what the directory says (quick), then load and start (slow).
//!
//! The start and a hot change take the same way, so that what the one refuses the other refuses, too.

use std::sync::Arc;

use crate::backend::Backend;
use crate::check::run_examples;
use crate::config::{Overridden, Problem, RuntimeToml, RuntimeTomlError, Tunables};
use crate::engine::{Engine, EngineParts, Poison};
use crate::exit::{Exit, Failure};
use crate::loading::load;
use crate::metrics::Metrics;
use crate::model::{Description, ModelError};
use crate::serving::{Adopted, Serving, Users};

/// What is to be loaded, and how it is to be run.
#[derive(Debug)]
pub struct Plan {
    /// What the files of the directory say.
    pub description: Description,
    /// What the settings say.
    pub settings: Adopted,
}

/// Why there is nothing to serve.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The settings contradict each other.
    #[error("{}", .0.iter().map(|problem| problem.problem.as_str()).collect::<Vec<_>>().join("\n"))]
    Settings(Vec<Problem>),
    /// The directory's `runtime.toml` cannot be used.
    #[error(transparent)]
    File(#[from] RuntimeTomlError),
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model does not run as it should.
    #[error("{0}")]
    Run(String),
}

/// How carefully a model is tried before it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// It runs at its longest length. The start must be quick, and there is nothing to lose yet.
    Start,
    /// It also gets its example sentences right, as `check` would say: another model is serving well.
    Replacement,
}

impl Plan {
    /// Reads the model's directory.
    ///
    /// # Errors
    /// Whatever can be found out without loading the model.
    pub fn read(overridden: Overridden, version: Option<String>) -> Result<Self, PlanError> {
        let dir = &overridden.args.model.model;
        let file = RuntimeToml::read(dir)?;
        let mut tunables = Tunables::merge(&overridden.args, &file).map_err(PlanError::Settings)?;
        let description = Description::read(dir, &file, &tunables.running)?;
        tunables.suit(&overridden.args, &file, &description.form);
        Ok(Self { description, settings: Adopted { overridden, file: Arc::new(file), tunables, version } })
    }

    /// Loads the model, tries it, starts its threads and warms them up. Takes its time; call it on a thread of its own.
    ///
    /// # Errors
    /// The model cannot be loaded, or fails when it is tried.
    pub fn carry_out(
        self,
        care: Care,
        cores: usize,
        metrics: &Arc<Metrics>,
        poison: &Arc<Poison>,
    ) -> Result<(Serving, Users), PlanError> {
        let Tunables { running, batching, max_queue, .. } = &self.settings.tunables;
        let (model, backends) = load(self.description, running)?;
        if let (Care::Replacement, Some(backend)) = (care, backends.first()) {
            run_examples(&model, backend).map_err(|failure| PlanError::Run(failure.message))?;
        }
        let on_gpu = model.devices.is_gpu();
        let limits = batching.limits(model.pace);
        let form = &model.description.form;
        let parts = EngineParts {
            limits,
            capacity: *max_queue,
            instances: batching.instances(on_gpu, cores),
            trial: form.trial(),
            warm_up: form.warm_up(&limits, on_gpu),
            metrics: Arc::clone(metrics),
            poison: Arc::clone(poison),
        };
        let backends: Vec<Arc<dyn Backend>> =
            backends.into_iter().map(|backend| Arc::new(backend) as Arc<dyn Backend>).collect();
        let engine = Engine::start(&backends, parts).map_err(PlanError::Run)?;
        Ok(Serving::new(model, engine, self.settings))
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let exit = match error {
            PlanError::Settings(_) | PlanError::File(_) => Exit::Usage,
            PlanError::Model(_) | PlanError::Run(_) => Exit::Model,
        };
        Self { exit, message: error.to_string() }
    }
}
