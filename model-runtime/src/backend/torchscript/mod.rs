//! TorchScript through libtorch.
//!
//! One module is shared by all model threads of a device: a forward only reads it.

mod packing;
mod reason;
mod tensors;
mod transfer;

use std::path::Path;
use std::time::{Duration, Instant};

use tch::CModule;

use self::packing::equal_but_for_rounding;
use self::reason::{one_line, reason};
use super::cuda::use_own_stream;
use super::{Backend, Device, ForwardError, Output, Pace, Precision, Sample};
use crate::config::Running;
use crate::model::{Description, Form, ModelError};

/// The first two forwards are several times slower than later ones: the interpreter profiles, then optimises.
const WARM_UP_FORWARDS: usize = 2;
/// A shorter one is quick. What two threads save of it they lose in waiting for each other at each of its operators: a forward of 0.3 ms took 0.6 ms with two.
const QUICK_FORWARD: Duration = Duration::from_millis(2);

/// A loaded TorchScript module.
#[derive(Debug)]
pub struct TorchScript {
    module: CModule,
    device: Device,
    form: Form,
    threads: i32,
    lone_threads: i32,
    pace: Pace,
}

impl TorchScript {
    /// Loads the model's file of this precision, runs it on the largest sample it may meet, and checks that its outputs are what the task needs. An output comes
    /// with it.
    pub fn load(
        model: &Description,
        precision: Precision,
        device: Device,
        running: &Running,
    ) -> Result<(Self, Output), ModelError> {
        let path = model.file(precision.file());
        let problem = |problem: String| ModelError::File { path: path.clone(), problem };
        let count = |threads: usize| i32::try_from(threads).unwrap_or(i32::MAX);
        let (threads, lone_threads) = (count(running.threads), count(running.lone_threads));
        let pace = match device {
            Device::Cpu => Pace::Cpu,
            Device::Cuda(_) => Pace::Gpu,
        };
        one_inter_op_thread();
        tch::set_num_threads(threads);
        let _no_grad = tch::no_grad_guard();
        let open = || -> Result<CModule, ModelError> {
            let mut module = load_module(&path, device).map_err(&problem)?;
            module.f_set_eval().map_err(|error| problem(reason(&error)))?;
            Ok(module)
        };
        let mut backend =
            Self { module: open()?, device, form: model.form.clone(), threads, lone_threads, pace };

        let (small, longest) = (model.form.trial(), model.form.longest());
        let pair = if model.form.takes_batches() { vec![&small, &small] } else { vec![&small] };
        let failed = |error: ForwardError| {
            let (inputs, size) = (model.form.inputs().join(", "), model.form.largest());
            problem(format!(
                "a trial forward({inputs}) with {size} failed: {error}; check what runtime.toml says of its inputs"
            ))
        };
        let before = backend.forward(&[&small]).map_err(failed)?;
        if matches!(device, Device::Cpu) && !backend.pack(&small, &before) {
            backend.module = open()?;
        }
        let trial = || -> Result<(Duration, Option<Output>), ForwardError> {
            let mut began = Instant::now();
            for _ in 0..WARM_UP_FORWARDS {
                began = Instant::now();
                backend.forward(&pair)?;
            }
            let time = began.elapsed();
            // By far the longest part of the load: with all cores it is over sooner, also for those whom another model serves meanwhile.
            backend.set_alone(true);
            let output = backend.forward(&[&longest]);
            backend.set_alone(false);
            Ok((time, output?.pop()))
        };
        let (time, output) = trial().map_err(failed)?;
        if backend.pace == Pace::Cpu && time < QUICK_FORWARD {
            backend.pace = Pace::QuickOnCpu;
            backend.lone_threads = threads;
        }
        let output = output.ok_or_else(|| problem("the model gave no answer".to_owned()))?;
        model.suits(&output).map_err(&problem)?;
        Ok((backend, output))
    }

    /// Packs the linear layers; `false` if the model then answers the sample otherwise than `before`, and must be loaded anew.
    fn pack(&mut self, sample: &Sample, before: &[Output]) -> bool {
        match frozen_graph::pack(&mut self.module) {
            Ok(0) => true,
            Ok(layers) => {
                let same = self.forward(&[sample]).is_ok_and(|after| equal_but_for_rounding(before, &after));
                if same {
                    tracing::info!(layers, "linear layers packed");
                } else {
                    tracing::warn!(
                        "the model answers otherwise with packed linear layers: it runs as it is, which is slower"
                    );
                }
                same
            }
            Err(message) => {
                tracing::info!(
                    reason = one_line(&message),
                    "the model cannot be frozen: its linear layers stay as they are, which is slower"
                );
                true
            }
        }
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

impl TorchScript {
    /// How fast it has been found to be.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// As [`Backend::enter_thread`], with another number of CPU threads inside this thread's forwards.
    pub fn enter_thread_with(&self, threads: usize) {
        self.enter_thread();
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    }
}

impl Backend for TorchScript {
    fn forward(&self, rows: &[&Sample]) -> Result<Vec<Output>, ForwardError> {
        // Gradients are switched off per thread, and forwards come from several.
        let _no_grad = tch::no_grad_guard();
        self.run(rows).map_err(ForwardError::from_message)
    }

    fn enter_thread(&self) {
        // OpenMP keeps its number of threads per calling thread.
        tch::set_num_threads(self.threads);
        if let Device::Cuda(gpu) = self.device {
            use_own_stream(gpu);
        }
    }

    fn set_alone(&self, alone: bool) {
        // On a GPU they only prepare work.
        if matches!(self.device, Device::Cpu) {
            tch::set_num_threads(if alone { self.lone_threads } else { self.threads });
        }
    }
}

/// libtorch runs the branches that a model forks in a pool of as many threads as there are cores; here the cores already have model threads, each with a
/// forward of its own. Once a process: libtorch takes the number before the pool's first work, and only then.
fn one_inter_op_thread() {
    static SET: std::sync::Once = std::sync::Once::new();
    SET.call_once(|| tch::set_num_interop_threads(1));
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
