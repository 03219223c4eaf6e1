//! TorchScript through libtorch.
//!
//! One module is shared by all model threads: a forward only reads it.

mod reason;
mod tensors;

use std::path::Path;

use tch::CModule;

use self::reason::reason;
use super::{Backend, Device, ForwardError, Output, Sample};
use crate::model::{Description, Form, ModelError};

/// The first two forwards are several times slower than later ones: the interpreter profiles, then optimises.
const WARM_UP_FORWARDS: usize = 2;

/// A loaded TorchScript module.
#[derive(Debug)]
pub struct TorchScript {
    module: CModule,
    device: Device,
    form: Form,
    threads: i32,
}

impl TorchScript {
    /// Loads `model.pt`, runs it on the largest sample it may meet, and checks that its outputs are what the task needs. An output comes
    /// with it.
    pub fn load(model: &Description, device: Device, threads: usize) -> Result<(Self, Output), ModelError> {
        let path = model.file("model.pt");
        let problem = |problem: String| ModelError::File { path: path.clone(), problem };
        let threads = i32::try_from(threads).unwrap_or(i32::MAX);
        tch::set_num_threads(threads);
        let _no_grad = tch::no_grad_guard();
        let mut module = load_module(&path, device).map_err(&problem)?;
        module.f_set_eval().map_err(|error| problem(reason(&error)))?;
        let backend = Self { module, device, form: model.form.clone(), threads };

        let (small, longest) = (model.form.trial(), model.form.longest());
        let pair = if model.form.takes_batches() { vec![&small, &small] } else { vec![&small] };
        let trial = || -> Result<Option<Output>, ForwardError> {
            for _ in 0..WARM_UP_FORWARDS {
                backend.forward(&pair)?;
            }
            Ok(backend.forward(&[&longest])?.pop())
        };
        let output = trial().map_err(|error| {
            let (inputs, size) = (model.form.inputs().join(", "), model.form.largest());
            problem(format!("a trial forward({inputs}) with {size} failed: {error}; check what runtime.toml says of its inputs"))
        })?;
        let output = output.ok_or_else(|| problem("the model gave no answer".to_owned()))?;
        model.suits(&output).map_err(&problem)?;
        Ok((backend, output))
    }

    fn run(&self, rows: &[&Sample]) -> Result<Vec<Output>, String> {
        let batch = tensors::batch(&self.form, rows, self.device)?;
        let output = self.module.forward_is(&batch.inputs).map_err(|error| reason(&error))?;
        match &self.form {
            Form::Text(_) | Form::Image(_) => tensors::rows(output, &batch),
            Form::Tensors(form) => tensors::arrays(output, form, rows.len()),
        }
    }
}

impl Backend for TorchScript {
    fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError> {
        // Gradients are switched off per thread, and forwards come from several.
        let _no_grad = tch::no_grad_guard();
        self.run(rows).map_err(ForwardError)
    }

    fn enter_thread(&self) {
        // OpenMP keeps its number of threads per calling thread.
        tch::set_num_threads(self.threads);
    }
}

/// `CModule::to` would cast integer buffers too; loading straight onto the device does not.
fn load_module(path: &Path, device: Device) -> Result<CModule, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size == 0 {
        return Err("the file is empty; export the model again (see examples/export)".to_owned());
    }
    CModule::load_on_device(path, device.into()).map_err(|error| {
        format!("not a loadable TorchScript file: {}; export it again (see examples/export)", reason(&error))
    })
}
