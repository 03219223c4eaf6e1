//! From a model directory to something that answers.

use crate::backend::{Device, Granularity, TorchScript};
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
    pub device: Device,
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

/// Loads the model and tries it out. Takes its time; call it on a thread of its own.
pub fn load(description: Description, running: &Running) -> Result<(LoadedModel, TorchScript), ModelError> {
    // Before the first call into libtorch, which notices CUDA only then.
    let device = running.device.resolve()?;
    // Side by side: the tokenizer's vocabulary takes as long to read as the model.
    let (reader, backend) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| Reader::load(&description));
        let backend = TorchScript::load(&description, device, running.threads);
        (reader.join(), backend)
    });
    let panicked = |_| ModelError::Mismatch("reading tokenizer.json panicked; is it damaged?".to_owned());
    let reader = reader.map_err(panicked)??;
    let (backend, output) = backend?;
    let rows = output.rows().ok();
    let (columns, granularity) = (rows.map(|rows| rows.columns), rows.map(|rows| rows.granularity));
    Ok((LoadedModel { description, reader, device, columns, granularity }, backend))
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
