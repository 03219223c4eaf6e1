//! How a model wants to be called: the shape of what goes into its `forward`, and of what comes out.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

use super::HfConfig;
use crate::backend::{Array, Datatype, Sample, TokenIds};
use crate::batcher::Limits;
use crate::image::Preprocessor;

/// About the length of a sentence.
const TRIAL_LENGTH: usize = 16;

/// What a model takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Tokens of a text.
    Text(TextForm),
    /// The pixels of an image: one array of FP32, `[3, height, width]`.
    Image(Preprocessor),
    /// Whatever tensors the client sends.
    Tensors(TensorForm),
}

/// A model of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextForm {
    /// The inputs of `forward`, in order.
    pub inputs: Vec<InputName>,
    /// Texts are truncated to so many tokens.
    pub max_seq_length: usize,
    /// What fills up short rows.
    pub pad_token_id: i64,
    /// How many tokens the model has a vector for, if config.json says. A higher id is an error on a CPU, and the end of a CUDA context.
    pub vocab_size: Option<usize>,
    /// How many segments it tells apart; the same holds for them.
    pub segments: usize,
}

/// A model of plain tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorForm {
    /// The inputs of `forward`, in order.
    pub inputs: Vec<TensorSpec>,
    /// Its outputs, in order.
    pub outputs: Vec<TensorSpec>,
    /// Whether every tensor has one more dimension, its first, along which requests are put together. If not, each request goes alone.
    pub batched: bool,
}

/// A tensor that a model takes or returns.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// What its elements are.
    pub datatype: Datatype,
    /// Its length in each dimension, without that of the batch.
    pub shape: Vec<Extent>,
}

/// A tensor's length in one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Always this.
    Fixed(usize),
    /// Any; written as -1.
    Any,
}

/// An input of a text model's `forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputName {
    /// The tokens.
    InputIds,
    /// 1 where there is a token, 0 where there is padding.
    AttentionMask,
    /// The segment of each token.
    TokenTypeIds,
}

impl Form {
    /// A small sample that any healthy model of this form can answer.
    pub fn trial(&self) -> Sample {
        match self {
            Self::Text(text) => text.filler(TRIAL_LENGTH),
            Self::Image(preprocessor) => black(preprocessor),
            Self::Tensors(tensors) => tensors.zeros(),
        }
    }

    /// The largest sample that the model may meet, as far as the form tells.
    pub fn longest(&self) -> Sample {
        match self {
            Self::Text(text) => text.filler(text.max_seq_length),
            Self::Image(preprocessor) => black(preprocessor),
            Self::Tensors(tensors) => tensors.zeros(),
        }
    }

    /// The batches that a model thread runs before it takes any work, so that the first client does not pay for what libtorch does once.
    ///
    /// A sentence twice: TorchScript's interpreter profiles a forward, then optimises. On a GPU also the longest sample and the largest batch
    /// that the limits allow: cuBLAS and cuDNN choose kernels by shape, and each thread has handles, workspaces and a memory pool of its own,
    /// which then asks for all its memory. On a CPU nothing is kept for a shape; the loading has run the longest sample, so that a start is quick.
    pub fn warm_up(&self, limits: &Limits, on_gpu: bool) -> Vec<Vec<Sample>> {
        let mut batches = vec![vec![self.trial()], vec![self.trial()]];
        if on_gpu {
            batches.extend([vec![self.longest()], self.fullest(limits)]);
        }
        batches
    }

    /// As many samples as a batch may have, as long as it then allows.
    fn fullest(&self, limits: &Limits) -> Vec<Sample> {
        let rows = if self.takes_batches() { limits.max_size.min(limits.max_padded_tokens) } else { 1 };
        let sample = match self {
            Self::Text(text) => text.filler((limits.max_padded_tokens / rows.max(1)).max(1)),
            Self::Image(preprocessor) => black(preprocessor),
            Self::Tensors(tensors) => tensors.zeros(),
        };
        vec![sample; rows.max(1)]
    }

    /// The form of a text model, if it is one.
    pub fn text(&self) -> Option<&TextForm> {
        match self {
            Self::Text(text) => Some(text),
            Self::Image(_) | Self::Tensors(_) => None,
        }
    }

    /// Whether several samples can go through the model together.
    pub fn takes_batches(&self) -> bool {
        match self {
            Self::Text(_) | Self::Image(_) => true,
            Self::Tensors(tensors) => tensors.batched,
        }
    }

    /// How large [`Self::longest`] is, for people.
    pub fn largest(&self) -> String {
        match self {
            Self::Text(text) => format!("{} tokens", text.max_seq_length),
            Self::Image(image) => format!("an image of {} x {} pixels", image.width(), image.height()),
            Self::Tensors(_) => "tensors of zeros".to_owned(),
        }
    }

    /// The names of the inputs of `forward`, in order.
    pub fn inputs(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => text.inputs.iter().map(|input| input.as_str()).collect(),
            Self::Image(_) => vec!["pixel_values"],
            Self::Tensors(tensors) => tensors.inputs.iter().map(|input| input.name.as_str()).collect(),
        }
    }
}

/// An image of zeros, which the size that a preprocessor admits always leaves room for.
fn black(preprocessor: &Preprocessor) -> Sample {
    let shape = vec![3, preprocessor.height(), preprocessor.width()];
    Sample::Arrays(Array::zeros(Datatype::Fp32, shape).into_iter().collect())
}

impl TextForm {
    /// A text of so many tokens, but no more than the model takes.
    pub fn filler(&self, length: usize) -> Sample {
        Sample::Tokens(TokenIds::filler(self.pad_token_id, length.min(self.max_seq_length)))
    }
}

impl TensorForm {
    /// An array of zeros for each input; dimensions without a fixed length have the length 1.
    fn zeros(&self) -> Sample {
        Sample::Arrays(self.inputs.iter().filter_map(TensorSpec::zeros).collect())
    }
}

impl TensorSpec {
    /// Whether an array of this datatype and shape is such a tensor.
    ///
    /// # Errors
    /// What it should be.
    pub fn admits(&self, datatype: Datatype, shape: &[usize]) -> Result<(), String> {
        let fits = |(extent, length): (&Extent, &usize)| match extent {
            Extent::Fixed(fixed) => fixed == length,
            Extent::Any => true,
        };
        if datatype != self.datatype {
            return Err(format!("it is of {}, not {}", self.datatype.as_str(), datatype.as_str()));
        }
        if shape.len() != self.shape.len() || !self.shape.iter().zip(shape).all(fits) {
            let wanted: Vec<i64> = self.shape.iter().map(|extent| extent.as_i64()).collect();
            return Err(format!("its shape is {wanted:?}, not {shape:?}"));
        }
        Ok(())
    }

    /// `None` if memory cannot hold it, which the check of the description excludes.
    pub(super) fn zeros(&self) -> Option<Array> {
        let length = |extent: &Extent| match extent {
            Extent::Fixed(length) => *length,
            Extent::Any => 1,
        };
        Array::zeros(self.datatype, self.shape.iter().map(length).collect()).ok()
    }
}

impl Extent {
    /// As the protocols write it.
    pub fn as_i64(self) -> i64 {
        match self {
            Self::Fixed(length) => i64::try_from(length).unwrap_or(i64::MAX),
            Self::Any => -1,
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)? {
            -1 => Ok(Self::Any),
            length => {
                usize::try_from(length).ok().filter(|length| *length > 0).map(Self::Fixed).ok_or_else(|| {
                    D::Error::custom(format!("a length is {length}; write one from 1 on, or -1 for any"))
                })
            }
        }
    }
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.as_i64())
    }
}

impl InputName {
    /// The usual inputs of such a model: segments only where it tells several apart.
    pub fn infer(config: &HfConfig) -> Vec<Self> {
        let mut inputs = vec![Self::InputIds, Self::AttentionMask];
        if config.type_vocab_size.is_some_and(|kinds| kinds > 1) {
            inputs.push(Self::TokenTypeIds);
        }
        inputs
    }

    /// The name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InputIds => "input_ids",
            Self::AttentionMask => "attention_mask",
            Self::TokenTypeIds => "token_type_ids",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &str) -> Result<TensorSpec, String> {
        let text = format!("name = \"x\"\ndatatype = \"FP32\"\nshape = {shape}");
        toml::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_tensor_admits_what_its_shape_leaves_open_and_nothing_else() {
        let tensor = spec("[3, -1]").unwrap();
        assert_eq!(tensor.admits(Datatype::Fp32, &[3, 9]), Ok(()));
        assert!(tensor.admits(Datatype::Fp32, &[4, 9]).unwrap_err().contains("[3, -1], not [4, 9]"));
        assert!(tensor.admits(Datatype::Fp32, &[3]).is_err());
        assert!(tensor.admits(Datatype::Fp64, &[3, 9]).unwrap_err().contains("FP32, not FP64"));
    }

    #[test]
    fn a_length_is_a_number_from_1_on_or_any() {
        for wrong in ["[0]", "[-2]", "[1.5]", "[\"n\"]"] {
            assert!(spec(wrong).is_err(), "{wrong}");
        }
        assert_eq!(spec("[]").unwrap().shape, []);
    }

    #[test]
    fn a_trial_is_as_the_form_says() {
        let tensors = TensorForm { inputs: vec![spec("[3, -1]").unwrap()], outputs: vec![], batched: true };
        let Sample::Arrays(arrays) = Form::Tensors(tensors).trial() else {
            unreachable!("tensors are arrays")
        };
        assert_eq!(arrays[0].shape(), [3, 1]);
        let text =
            TextForm { inputs: vec![], max_seq_length: 8, pad_token_id: 0, vocab_size: None, segments: 1 };
        assert_eq!(Form::Text(text.clone()).trial().size().length, 8);
        assert_eq!(Form::Text(text).longest().size().length, 8);
    }

    #[test]
    fn on_a_gpu_warming_up_ends_with_the_largest_batch_that_the_limits_allow() {
        let limits = |max_size, max_padded_tokens| Limits {
            max_size,
            max_padded_tokens,
            max_padding: 0,
            max_delay: std::time::Duration::ZERO,
        };
        let text = Form::Text(TextForm {
            inputs: vec![],
            max_seq_length: 128,
            pad_token_id: 0,
            vocab_size: None,
            segments: 1,
        });
        let shapes = |form: &Form, limits, on_gpu| -> Vec<(usize, usize)> {
            let batches = form.warm_up(&limits, on_gpu);
            batches.iter().map(|batch| (batch.len(), batch[0].size().length)).collect()
        };
        assert_eq!(shapes(&text, limits(32, 256), false), [(1, 16), (1, 16)]);
        assert_eq!(shapes(&text, limits(64, 16384), true), [(1, 16), (1, 16), (1, 128), (64, 128)]);
        assert_eq!(shapes(&text, limits(32, 5), true).last(), Some(&(5, 1)));
        let tensors = |batched| {
            Form::Tensors(TensorForm { inputs: vec![spec("[3]").unwrap()], outputs: vec![], batched })
        };
        assert_eq!(shapes(&tensors(true), limits(4, 256), true).last(), Some(&(4, 1)));
        assert_eq!(shapes(&tensors(false), limits(4, 256), true).last(), Some(&(1, 1)));
    }
}
