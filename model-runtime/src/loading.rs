//! From a model directory to something that answers.

use crate::backend::{Device, TorchScript};
use crate::config::Running;
use crate::model::{Description, ModelError};
use crate::text::{TextTokenizer, TokenizerError};

/// What is known and needed beside the model itself.
#[derive(Debug)]
pub struct LoadedModel {
    /// What the files of the directory say.
    pub description: Description,
    /// Texts to tokens.
    pub tokenizer: TextTokenizer,
    /// Where the model runs.
    pub device: Device,
    /// How many numbers a row of the model's output has.
    pub columns: usize,
}

/// Loads the model and tries it out. Takes its time; call it on a thread of its own.
pub fn load(description: Description, running: &Running) -> Result<(LoadedModel, TorchScript), ModelError> {
    // Before the first call into libtorch, which notices CUDA only then.
    let device = running.device.resolve()?;
    // Side by side: the tokenizer's vocabulary takes as long to read as the model.
    let (tokenizer, backend) = std::thread::scope(|scope| {
        let (path, max_length) = (description.file("tokenizer.json"), description.max_seq_length);
        let tokenizer = scope.spawn(move || TextTokenizer::load(&path, max_length));
        let backend = TorchScript::load(&description, device, running.threads);
        (tokenizer.join(), backend)
    });
    let panicked = |_| ModelError::Mismatch("reading tokenizer.json panicked; is it damaged?".to_owned());
    let tokenizer = tokenizer.map_err(panicked)??;
    let (backend, columns) = backend?;
    Ok((LoadedModel { description, tokenizer, device, columns }, backend))
}

impl From<TokenizerError> for ModelError {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(error)
    }
}
