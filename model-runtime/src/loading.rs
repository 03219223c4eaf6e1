//! From a model directory to something that answers.

use crate::backend::{Devices, Granularity, Output, Pace, Precision, TorchScript, cpu_computes_bf16};
use crate::config::Running;
use crate::image::Preprocessor;
use crate::model::{Description, Form, ModelError};
use crate::text::{TextTokenizer, TokenizerError};

/// What is known and needed beside the model itself.
#[derive(Debug)]
pub struct LoadedModel {
    /// What the files of the directory say.
    pub description: Description,
    /// What makes samples of a client's inputs.
    pub reader: Reader,
    /// Where the model runs.
    pub devices: Devices,
    /// The number format it computes in.
    pub precision: Precision,
    /// How fast it is there.
    pub pace: Pace,
    /// How many numbers a row of the model's output has; a model of plain tensors has no rows.
    pub columns: Option<usize>,
    /// What such a row is about.
    pub granularity: Option<Granularity>,
}

/// What makes samples of a client's inputs.
#[derive(Debug)]
pub enum Reader {
    /// Texts to tokens.
    Text(Box<TextTokenizer>),
    /// Images to pixels.
    Image(Preprocessor),
    /// Tensors are taken as they come.
    Tensors,
}

/// Loads the model onto each device and tries it out there. Takes its time; call it on a thread of its own.
pub fn load(
    description: Description,
    running: &Running,
) -> Result<(LoadedModel, Vec<TorchScript>), ModelError> {
    // Before the first call into libtorch, which notices CUDA only then.
    let devices = running.device.resolve()?;
    let precision = running.precision.resolve(&description.dir, &devices)?;
    if precision == Precision::Bf16 && !devices.is_gpu() && !cpu_computes_bf16() {
        tracing::warn!(
            "this CPU has no bf16 instructions (avx512_bf16, amx_bf16), so bf16 is slower than fp32 on it"
        );
    }
    // Side by side: the tokenizer's vocabulary takes as long to read as the model.
    let (reader, loaded) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| Reader::load(&description));
        let load = |device| TorchScript::load(&description, precision, device, running);
        let loaded: Result<Vec<(TorchScript, Output)>, ModelError> = devices.iter().map(load).collect();
        (reader.join(), loaded)
    });
    let panicked = |_| ModelError::Mismatch("reading tokenizer.json panicked; is it damaged?".to_owned());
    let reader = reader.map_err(panicked)??;
    let (backends, outputs): (Vec<TorchScript>, Vec<Output>) = loaded?.into_iter().unzip();
    let rows = outputs.first().and_then(|output| output.rows().ok());
    let (columns, granularity) = (rows.map(|rows| rows.columns), rows.map(|rows| rows.granularity));
    // Several devices are alike, and there is one at least.
    let pace = backends.first().map_or(Pace::Cpu, TorchScript::pace);
    Ok((LoadedModel { description, reader, devices, precision, pace, columns, granularity }, backends))
}

impl Reader {
    fn load(description: &Description) -> Result<Self, ModelError> {
        match &description.form {
            Form::Text(form) => {
                let path = description.file("tokenizer.json");
                Ok(Self::Text(Box::new(TextTokenizer::load(&path, form.max_seq_length)?)))
            }
            Form::Image(preprocessor) => Ok(Self::Image(preprocessor.clone())),
            Form::Tensors(_) => Ok(Self::Tensors),
        }
    }
}

impl From<TokenizerError> for ModelError {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error)
    }
}
