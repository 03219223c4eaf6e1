//! Reads a model directory, without libtorch: what is there, what the model is, how it wants to be called.

use std::path::{Path, PathBuf};

use super::{Form, HfConfig, InputName, TensorForm, TensorSpec, TextForm};
use crate::backend::{Granularity, Output};
use crate::config::{ModelCard, Running, RuntimeToml};
use crate::image::{Preprocessor, PreprocessorConfigError};
use crate::task::{Function, Pooling, Task, TaskKind};
use crate::text::TokenizerError;

/// Without any word from config.json or runtime.toml, texts are cut here: what nearly all BERT-like models take.
const USUAL_MAX_SEQ_LENGTH: usize = 512;

/// For models of texts that bring no examples of their own: names, places, numbers, several scripts.
const GENERIC_EXAMPLES: [&str; 3] = [
    "My name is Zoë Müller and I live in Berlin.",
    "Ada Lovelace wrote to Charles Babbage from London on 10 July 1843.",
    "東京の田中さんは 👩‍🚀 ada@example.org に手紙を書いた。",
];

/// What the files of the directory say, merged and checked.
#[derive(Debug, Clone)]
pub struct Description {
    /// The directory.
    pub dir: PathBuf,
    /// Name, version, licence, attribution.
    pub card: ModelCard,
    /// What the model does, and how unless a request says otherwise.
    pub task: Task,
    /// How it wants to be called.
    pub form: Form,
    /// The labels in the order of the outputs; a model of vectors or tensors has none.
    pub labels: Vec<String>,
    /// Sentences for `check` and the document of the interface (of texts there are some, own or general ones), or files in the directory with images.
    pub examples: Vec<String>,
}

/// The model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The directory is not there.
    #[error("model directory `{}` {problem}; point --model (MODEL_RUNTIME_MODEL) at a directory with model.pt, tokenizer.json and config.json", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Files are missing.
    #[error("model directory `{}` lacks {missing}; export the model again (see examples/export)", dir.display())]
    Incomplete {
        /// The directory.
        dir: PathBuf,
        /// The names of the missing files.
        missing: String,
    },
    /// A file is there but cannot be used.
    #[error("cannot use `{}`: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// `tokenizer.json` is there but cannot be used.
    #[error(transparent)]
    Tokenizer(TokenizerError),
    /// `preprocessor_config.json` is there but cannot be used.
    #[error(transparent)]
    Preprocessor(#[from] PreprocessorConfigError),
    /// The settings do not suit the model.
    #[error("{0}")]
    Mismatch(String),
    /// The device is not there.
    #[error("device `{device}` cannot be used: {problem}")]
    Device {
        /// What was asked for.
        device: String,
        /// Why not.
        problem: String,
    },
}

impl Description {
    /// Reads the directory, with `file` already read from it.
    pub fn read(dir: &Path, file: &RuntimeToml, running: &Running) -> Result<Self, ModelError> {
        require_directory(dir)?;
        if file.task == Some(TaskKind::Tensors) {
            return Self::of_tensors(dir, file);
        }
        require_files(dir, &["model.pt", "config.json"])?;
        let config_path = dir.join("config.json");
        let problem = |problem: String| ModelError::File { path: config_path.clone(), problem };
        let text = std::fs::read_to_string(&config_path).map_err(|error| problem(error.to_string()))?;
        let config: HfConfig = serde_json::from_str(&text).map_err(|error| problem(error.to_string()))?;
        let kind = match file.task {
            Some(kind) => kind,
            None => TaskKind::infer(&config.architectures).map_err(&problem)?,
        };
        let labels = match kind {
            TaskKind::TokenClassification | TaskKind::TextClassification | TaskKind::ImageClassification => {
                config.labels().map_err(&problem)?
            }
            TaskKind::FeatureExtraction | TaskKind::Tensors => Vec::new(),
        };
        let task = match kind {
            TaskKind::TokenClassification => Task::TokenClassification { aggregation: running.aggregation },
            TaskKind::TextClassification => Task::TextClassification {
                function: file
                    .function_to_apply
                    .unwrap_or_else(|| Function::infer(config.problem_type.as_deref(), labels.len())),
            },
            TaskKind::FeatureExtraction => Task::FeatureExtraction {
                pooling: file.pooling.unwrap_or(Pooling::None),
                normalize: file.normalize.unwrap_or(false),
            },
            TaskKind::ImageClassification => Task::ImageClassification {
                function: file.function_to_apply.unwrap_or_else(|| {
                    Function::infer_for_images(config.problem_type.as_deref(), labels.len())
                }),
            },
            TaskKind::Tensors => Task::Tensors,
        };
        let form = if kind == TaskKind::ImageClassification {
            require_files(dir, &["preprocessor_config.json"])?;
            Form::Image(Preprocessor::read(&dir.join("preprocessor_config.json"))?)
        } else {
            require_files(dir, &["tokenizer.json"])?;
            Form::Text(TextForm {
                inputs: file.inputs.clone().unwrap_or_else(|| InputName::infer(&config)),
                max_seq_length: max_seq_length(&config, running)?,
                pad_token_id: config.pad_token_id.unwrap_or(0),
                vocab_size: config.vocab_size,
                segments: config.type_vocab_size.unwrap_or(1),
            })
        };
        let mut examples = file.examples.clone();
        if examples.is_empty() && form.text().is_some() {
            examples.extend(GENERIC_EXAMPLES.map(str::to_owned));
        }
        Ok(Self { dir: dir.to_owned(), card: card(dir, file), task, form, labels, examples })
    }

    /// A model of plain tensors has no files but `model.pt`, and its inputs and outputs are in runtime.toml.
    fn of_tensors(dir: &Path, file: &RuntimeToml) -> Result<Self, ModelError> {
        require_files(dir, &["model.pt"])?;
        for (key, tensors) in
            [("input_tensors", &file.input_tensors), ("output_tensors", &file.output_tensors)]
        {
            check_tensors(key, tensors).map_err(ModelError::Mismatch)?;
        }
        let form = Form::Tensors(TensorForm {
            inputs: file.input_tensors.clone(),
            outputs: file.output_tensors.clone(),
            batched: file.batched.unwrap_or(true),
        });
        let (card, examples) = (card(dir, file), file.examples.clone());
        Ok(Self { dir: dir.to_owned(), card, task: Task::Tensors, form, labels: Vec::new(), examples })
    }

    /// Whether the model's output is what its task needs.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn suits(&self, output: &Output) -> Result<(), String> {
        let task = self.task.kind();
        let rows = match (output, &self.form) {
            (Output::Rows(rows), _) => rows,
            (Output::Arrays(arrays), Form::Tensors(form)) => {
                return form.outputs.iter().zip(arrays).try_for_each(|(spec, array)| {
                    let admitted = spec.admits(array.datatype(), array.shape());
                    admitted.map_err(|problem| {
                        format!("output `{}` is not as runtime.toml says: {problem}", spec.name)
                    })
                });
            }
            (Output::Arrays(_), Form::Text(_) | Form::Image(_)) => {
                return Err("the model returned arrays where its task needs rows of numbers".to_owned());
            }
        };
        let wanted = match task {
            TaskKind::TokenClassification => Some((Granularity::Token, "[batch, tokens, labels]")),
            TaskKind::TextClassification | TaskKind::ImageClassification => {
                Some((Granularity::Whole, "[batch, labels]"))
            }
            TaskKind::FeatureExtraction | TaskKind::Tensors => None,
        };
        let Some((granularity, shape)) = wanted else { return Ok(()) };
        if rows.granularity != granularity {
            let found = match rows.granularity {
                Granularity::Token => "token",
                Granularity::Whole => "text",
            };
            return Err(format!(
                "{} needs an output of shape {shape}, but the model returns a row for each {found}; \
                 check `task` in runtime.toml and `architectures` in config.json",
                task.as_str()
            ));
        }
        if rows.columns != self.labels.len() {
            return Err(format!(
                "the model scores {} labels, but `id2label` in config.json has {}; export both from the same model",
                rows.columns,
                self.labels.len()
            ));
        }
        Ok(())
    }

    /// The path of one of the model's files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        self.card.name.as_deref().unwrap_or_default()
    }
}

fn require_directory(dir: &Path) -> Result<(), ModelError> {
    let problem = |problem: String| Err(ModelError::Directory { dir: dir.to_owned(), problem });
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => problem("is not a directory".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => problem("does not exist".to_owned()),
        Err(error) => problem(format!("cannot be read ({error})")),
    }
}

fn require_files(dir: &Path, names: &[&str]) -> Result<(), ModelError> {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !dir.join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ModelError::Incomplete { dir: dir.to_owned(), missing: missing.join(", ") })
}

fn card(dir: &Path, file: &RuntimeToml) -> ModelCard {
    let mut card = file.model.clone();
    card.name.get_or_insert_with(|| directory_name(dir));
    card
}

/// Clients name tensors, and a trial must fit into memory.
fn check_tensors(key: &str, tensors: &[TensorSpec]) -> Result<(), String> {
    if tensors.is_empty() {
        return Err(format!(
            "task = \"tensors\" needs [[{key}]] with name, datatype and shape in runtime.toml, one for each in the order of forward"
        ));
    }
    for (index, tensor) in tensors.iter().enumerate() {
        let before = tensors.get(..index).unwrap_or_default();
        if tensor.name.is_empty() || before.iter().any(|other| other.name == tensor.name) {
            return Err(format!(
                "each of [[{key}]] in runtime.toml needs a name of its own, not `{}`",
                tensor.name
            ));
        }
        if tensor.zeros().is_none() {
            return Err(format!("the shape of `{}` in [[{key}]] of runtime.toml is too large", tensor.name));
        }
    }
    Ok(())
}

fn max_seq_length(config: &HfConfig, running: &Running) -> Result<usize, ModelError> {
    match (running.max_seq_length, config.longest_sequence()) {
        (Some(wished), Some(longest)) if wished > longest => Err(ModelError::Mismatch(format!(
            "max-seq-length is {wished}, but the model takes at most {longest} tokens (config.json); lower it"
        ))),
        (Some(wished), _) if wished < 3 => Err(ModelError::Mismatch(format!(
            "max-seq-length is {wished}, which leaves no room for text between the special tokens; raise it to at least 3"
        ))),
        (Some(wished), _) => Ok(wished),
        (None, longest) => Ok(longest.unwrap_or(USUAL_MAX_SEQ_LENGTH)),
    }
}

fn directory_name(dir: &Path) -> String {
    let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    real.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{DeviceChoice, PrecisionChoice};
    use crate::task::Strategy;

    const CONFIG: &str = r#"{"architectures": ["BertForTokenClassification"], "model_type": "bert",
        "id2label": {"0": "O", "1": "B-PER"}, "max_position_embeddings": 512, "type_vocab_size": 2}"#;

    fn running(max_seq_length: Option<usize>) -> Running {
        Running {
            device: DeviceChoice::Cpu,
            precision: PrecisionChoice::Auto,
            threads: 1,
            lone_threads: 1,
            max_seq_length,
            aggregation: Strategy::None,
        }
    }

    fn model_dir(config: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("model.pt", ""), ("tokenizer.json", "{}"), ("config.json", config)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn read(dir: &Path, max_seq_length: Option<usize>) -> Result<Description, ModelError> {
        Description::read(dir, &RuntimeToml::default(), &running(max_seq_length))
    }

    #[test]
    fn what_runtime_toml_leaves_out_is_inferred_from_config_json() {
        let dir = model_dir(CONFIG);
        let model = read(dir.path(), None).unwrap();
        assert_eq!(model.task.kind(), TaskKind::TokenClassification);
        assert_eq!(model.form.inputs(), ["input_ids", "attention_mask", "token_type_ids"]);
        assert_eq!(model.form.text().unwrap().max_seq_length, 512);
        assert!(!model.name().is_empty());
    }

    #[test]
    fn a_missing_directory_and_missing_files_are_named() {
        let dir = model_dir(CONFIG);
        std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
        assert!(read(dir.path(), None).unwrap_err().to_string().contains("lacks tokenizer.json;"));
        let error = read(&dir.path().join("nowhere"), None).unwrap_err().to_string();
        assert!(error.contains("nowhere` does not exist") && error.contains("--model"), "{error}");
    }

    #[test]
    fn a_model_of_images_needs_its_preprocessor_and_no_tokenizer() {
        let config = CONFIG.replace("BertForTokenClassification", "ViTForImageClassification");
        let dir = model_dir(&config);
        std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
        let error = read(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("lacks preprocessor_config.json;"), "{error}");
        let preprocessor = |text| std::fs::write(dir.path().join("preprocessor_config.json"), text).unwrap();
        preprocessor(r#"{"image_processor_type": "SamImageProcessor"}"#);
        assert!(read(dir.path(), None).unwrap_err().to_string().contains("preprocessor_config.json"));
        preprocessor(
            r#"{"image_processor_type": "ViTImageProcessor", "do_resize": true, "size": 32, "resample": 2, "do_normalize": false}"#,
        );
        let model = read(dir.path(), None).unwrap();
        assert_eq!(model.task, Task::ImageClassification { function: Function::Softmax });
        assert_eq!(model.form.inputs(), ["pixel_values"]);
        let crate::backend::Sample::Arrays(arrays) = model.form.trial() else {
            unreachable!("an image is an array")
        };
        assert_eq!(arrays[0].shape(), [3, 32, 32]);
    }

    #[test]
    fn a_length_that_the_model_cannot_take_is_refused() {
        let dir = model_dir(CONFIG);
        assert!(read(dir.path(), Some(513)).unwrap_err().to_string().contains("at most 512"));
        assert!(read(dir.path(), Some(2)).unwrap_err().to_string().contains("at least 3"));
        assert_eq!(read(dir.path(), Some(64)).unwrap().form.text().unwrap().max_seq_length, 64);
    }

    #[test]
    fn a_damaged_config_and_an_unknown_architecture_name_the_file() {
        let broken = read(model_dir("{").path(), None).unwrap_err().to_string();
        assert!(broken.contains("config.json"), "{broken}");
        let other = read(model_dir(r#"{"architectures": ["GPT2LMHeadModel"]}"#).path(), None)
            .unwrap_err()
            .to_string();
        assert!(other.contains("GPT2LMHeadModel") && other.contains("token-classification"), "{other}");
    }

    #[test]
    fn a_model_of_tensors_needs_model_pt_and_what_runtime_toml_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("model.pt"), "").unwrap();
        let read =
            |text: &str| Description::read(dir.path(), &RuntimeToml::parse(text).unwrap(), &running(None));
        let x = "[[input_tensors]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [4]\n";
        let y = "[[output_tensors]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1]\n";
        let model = read(&format!("task = \"tensors\"\n{x}{y}")).unwrap();
        assert_eq!(model.task, Task::Tensors);
        assert_eq!(model.form.inputs(), ["x"]);
        let error = |text: &str| read(&format!("task = \"tensors\"\n{text}")).unwrap_err().to_string();
        assert!(error(x).contains("[[output_tensors]]"));
        assert!(error(&format!("{x}{x}{y}")).contains("a name of its own"));
        let huge = x.replace("[4]", "[9000000000000000000]");
        assert!(error(&format!("{huge}{y}")).contains("too large"));
    }
}
