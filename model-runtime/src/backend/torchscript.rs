//! TorchScript through libtorch.
//!
//! One module is shared by all model threads: a forward only reads it. The tensors are padded here, row by row, to the
//! longest row of the batch.

use std::path::Path;

use tch::{CModule, IValue, Kind, Tensor};

use super::{Backend, Device, ForwardError, Granularity, InputName, Output, TokenIds};
use crate::model::{Description, ModelError};

/// The first two forwards are several times slower than later ones: the interpreter profiles, then optimises.
const WARM_UP_FORWARDS: usize = 2;
/// About the length of a sentence.
const WARM_UP_LENGTH: usize = 16;

/// What Hugging Face's models and sentence-transformers call the tensor that matters, in this order of preference.
const OUTPUT_NAMES: [&str; 3] = ["logits", "sentence_embedding", "last_hidden_state"];

/// A loaded TorchScript module.
#[derive(Debug)]
pub struct TorchScript {
    module: CModule,
    device: Device,
    inputs: Vec<InputName>,
    pad_token_id: i64,
    threads: i32,
}

impl TorchScript {
    /// Loads `model.pt`, runs it at the longest length it may meet, and checks that its outputs are what the task needs. The number of
    /// columns comes with it.
    pub fn load(model: &Description, device: Device, threads: usize) -> Result<(Self, usize), ModelError> {
        let path = model.file("model.pt");
        let problem = |problem: String| ModelError::File { path: path.clone(), problem };
        let threads = i32::try_from(threads).unwrap_or(i32::MAX);
        tch::set_num_threads(threads);
        let _no_grad = tch::no_grad_guard();
        let mut module = load_module(&path, device).map_err(&problem)?;
        module.f_set_eval().map_err(|error| problem(reason(&error)))?;
        let (inputs, pad_token_id) = (model.inputs.clone(), model.pad_token_id);
        let backend = Self { module, device, inputs, pad_token_id, threads };

        let longest = TokenIds::filler(model.pad_token_id, model.max_seq_length);
        let short = TokenIds::filler(model.pad_token_id, WARM_UP_LENGTH.min(model.max_seq_length));
        let trial = || -> Result<Option<Output>, ForwardError> {
            for _ in 0..WARM_UP_FORWARDS {
                backend.forward(&[&short, &short])?;
            }
            Ok(backend.forward(&[&longest])?.pop())
        };
        let names: Vec<&str> = backend.inputs.iter().map(|input| input.as_str()).collect();
        let output = trial().map_err(|error| {
            problem(format!(
                "a trial forward({}) with {} tokens failed: {error}; check `inputs` and `max_seq_length` in runtime.toml",
                names.join(", "),
                model.max_seq_length
            ))
        })?;
        let output = output.ok_or_else(|| problem("the model gave no answer".to_owned()))?;
        model.suits(&output).map_err(&problem)?;
        Ok((backend, output.columns))
    }

    fn input(&self, name: InputName, rows: &[&TokenIds], longest: usize) -> Result<Tensor, tch::TchError> {
        let mut values = Vec::with_capacity(rows.len() * longest);
        for row in rows {
            let (source, filler) = match name {
                InputName::InputIds => (&row.ids, self.pad_token_id),
                InputName::AttentionMask => (&row.mask, 0),
                InputName::TokenTypeIds => (&row.types, 0),
            };
            values.extend_from_slice(source);
            values.resize(values.len() + longest - source.len(), filler);
        }
        let shape = [to_i64(rows.len()), to_i64(longest)];
        Tensor::f_from_slice(&values)?.f_reshape(shape)?.f_to(self.device.into())
    }

    fn run(&self, rows: &[&TokenIds]) -> Result<Vec<Output>, String> {
        let readable = |error: tch::TchError| reason(&error);
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or_default();
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for name in &self.inputs {
            inputs.push(IValue::Tensor(self.input(*name, rows, longest).map_err(readable)?));
        }
        let output = only_tensor(self.module.forward_is(&inputs).map_err(readable)?)?;
        let shape = output.size();
        let (batch, longest_i64) = (to_i64(rows.len()), to_i64(longest));
        let (granularity, columns) = match *shape.as_slice() {
            [texts, columns] if texts == batch => (Granularity::Text, columns),
            [texts, tokens, columns] if (texts, tokens) == (batch, longest_i64) => {
                (Granularity::Token, columns)
            }
            _ => {
                return Err(format!(
                    "the model returned shape {shape:?} for {batch} rows of {longest} tokens, neither [batch, columns] nor [batch, tokens, columns]"
                ));
            }
        };
        let columns = usize::try_from(columns).ok().filter(|columns| *columns > 0);
        let columns =
            columns.ok_or_else(|| format!("the model returned shape {shape:?}, which holds no number"))?;
        let on_cpu = output.f_to(tch::Device::Cpu).and_then(|output| output.f_to_kind(Kind::Float));
        let flat = on_cpu.and_then(|output| output.f_reshape([-1])).map_err(readable)?;
        let values = Vec::<f32>::try_from(&flat).map_err(readable)?;
        let (stride, own): (usize, fn(&TokenIds) -> usize) = match granularity {
            Granularity::Text => (columns, |_| 1),
            Granularity::Token => (longest * columns, TokenIds::len),
        };
        Ok(rows
            .iter()
            .zip(values.chunks(stride))
            .map(|(row, values)| {
                // What the model says of the padding is nobody's.
                let values = values.get(..own(row) * columns).unwrap_or(values).to_vec();
                Output { values, columns, granularity }
            })
            .collect())
    }
}

impl Backend for TorchScript {
    fn forward(&self, rows: &[&TokenIds]) -> Result<Vec<Output>, ForwardError> {
        if rows.is_empty() || rows.iter().any(|row| row.is_empty()) {
            return Err(ForwardError("a batch without rows, or a row without tokens".to_owned()));
        }
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

/// The tensor, whether the model returns it plainly, first in a tuple, or under its name in a dictionary.
fn only_tensor(output: IValue) -> Result<Tensor, String> {
    match output {
        IValue::Tensor(tensor) => Ok(tensor),
        IValue::Tuple(parts) => match parts.into_iter().next() {
            Some(IValue::Tensor(tensor)) => Ok(tensor),
            _ => Err("the model returned a tuple that does not start with a tensor".to_owned()),
        },
        IValue::GenericDict(entries) => {
            let mut named: Vec<(String, Tensor)> = entries
                .into_iter()
                .filter_map(|entry| match entry {
                    (IValue::String(name), IValue::Tensor(tensor)) => Some((name, tensor)),
                    _ => None,
                })
                .collect();
            let place =
                OUTPUT_NAMES.iter().find_map(|wanted| named.iter().position(|(name, _)| name == wanted));
            place.map(|place| named.swap_remove(place).1).ok_or_else(|| {
                format!("the model returned a dictionary without a tensor named {}", OUTPUT_NAMES.join(", "))
            })
        }
        other => Err(format!("the model returned {other:?}, not a tensor")),
    }
}

/// The one line of a torch error that says what happened.
///
/// libtorch appends the C++ stack ("Exception raised from …"), and TorchScript puts a whole traceback before its last line.
fn reason(error: &tch::TchError) -> String {
    let text = match error {
        tch::TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    one_line(&text)
}

fn one_line(text: &str) -> String {
    let message = text.split("Exception raised from").next().unwrap_or(text);
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let in_script = lines.iter().any(|line| line.starts_with("Traceback of TorchScript"));
    let chosen = if in_script { lines.last() } else { lines.first() };
    chosen.map_or_else(|| "unknown torch error".to_owned(), |line| (*line).to_owned())
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_torchscript_traceback_the_last_line_is_kept() {
        let text = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript, serialized \
                    code (most recent call last):\n  File \"code/x.py\", line 10, in forward\nRuntimeError: index out of range\n";
        assert_eq!(one_line(text), "RuntimeError: index out of range");
    }

    #[test]
    fn of_a_cpp_error_the_first_line_is_kept() {
        let text = "PytorchStreamReader failed reading zip archive\nException raised from valid at x.cpp:175 (most recent \
                    call first):\nframe #0: c10::Error\n";
        assert_eq!(one_line(text), "PytorchStreamReader failed reading zip archive");
        assert_eq!(one_line(""), "unknown torch error");
    }
}
