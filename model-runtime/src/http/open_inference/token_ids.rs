//! A model of texts, asked by token ids, for clients that tokenise themselves: `input_ids`, and perhaps `attention_mask` and
//! `token_type_ids`, INT64 \[n, tokens\].
//!
//! Every number is checked against what the model has a vector for: an index beyond is an error on a CPU, and on a GPU it ends the CUDA
//! context and all requests with it.

use std::time::Duration;

use super::super::error::ApiError;
use super::super::inference::{Reading, reserve};
use super::request::InferRequest;
use super::signature::TensorMetadata;
use super::tensor::{Content, Tensor};
use crate::backend::{Datatype, Sample, TokenIds};
use crate::loading::Reader;
use crate::model::{InputName, TextForm};
use crate::serving::Serving;

pub(super) fn metadata(form: &TextForm) -> Vec<TensorMetadata> {
    let input = |input: &InputName| TensorMetadata::new(input.as_str(), Datatype::Int64.as_str(), [-1, -1]);
    form.inputs.iter().map(input).collect()
}

/// Samples of the request's ids.
pub(super) fn read(
    serving: &Serving,
    form: &TextForm,
    request: &InferRequest,
) -> Result<Reading<()>, ApiError> {
    if let Some(name) = request.parameters.keys().next() {
        return Err(ApiError::Unusable(format!(
            "`parameters.{name}` is for texts; for token ids there is none"
        )));
    }
    let vocabulary = match &serving.model.reader {
        Reader::Text(tokenizer) => form.vocab_size.unwrap_or_else(|| tokenizer.vocabulary_size()),
        Reader::Image(_) | Reader::Tensors => {
            return Err(ApiError::Internal("token ids for a model without a tokenizer".to_owned()));
        }
    };
    let ids = TokenRows::of(form, vocabulary, &request.inputs).map_err(ApiError::Unusable)?;
    let reservation = reserve(serving, ids.texts)?;
    let samples = ids.samples().into_iter().map(Some).collect();
    Ok(Reading { asked: (), samples, reservation, preparation: Duration::ZERO, limit: None })
}

/// The checked numbers of a request: `texts` rows of `length` tokens.
#[derive(Debug)]
struct TokenRows {
    texts: usize,
    length: usize,
    ids: Vec<i64>,
    mask: Option<Vec<i64>>,
    types: Option<Vec<i64>>,
}

impl TokenRows {
    fn of(form: &TextForm, vocabulary: usize, inputs: &[Tensor]) -> Result<Self, String> {
        let taken = || form.inputs.iter().map(|input| input.as_str()).collect::<Vec<_>>().join(", ");
        let is_taken = |tensor: &&Tensor| form.inputs.iter().any(|input| input.as_str() == tensor.name);
        if let Some(other) = inputs.iter().find(|tensor| !is_taken(tensor)) {
            return Err(format!(
                "the model has no input `{}`; it takes {} or {}",
                other.name,
                super::texts_and_images::TEXT,
                taken()
            ));
        }
        let find = |input: InputName| inputs.iter().find(|tensor| tensor.name == input.as_str());
        let ids = find(InputName::InputIds).ok_or_else(|| {
            format!(
                "there is neither `{}` nor `{}`; send one of them",
                super::texts_and_images::TEXT,
                InputName::InputIds.as_str()
            )
        })?;
        let &[texts, length] = ids.content.shape() else {
            return Err(format!(
                "`input_ids` has the shape {:?}; it must be [texts, tokens]",
                ids.content.shape()
            ));
        };
        if texts == 0 || length == 0 {
            return Err("`input_ids` is empty; send at least one token".to_owned());
        }
        if length > form.max_seq_length {
            return Err(format!(
                "`input_ids` has {length} tokens a text; the model takes at most {}",
                form.max_seq_length
            ));
        }
        let numbers = |input: InputName, count: usize| match find(input) {
            Some(tensor) => numbers_below(tensor, ids.content.shape(), count).map(Some),
            None => Ok(None),
        };
        Ok(Self {
            texts,
            length,
            ids: numbers_below(ids, ids.content.shape(), vocabulary)?,
            mask: numbers(InputName::AttentionMask, 2)?,
            types: numbers(InputName::TokenTypeIds, form.segments)?,
        })
    }

    fn samples(&self) -> Vec<Sample> {
        let row = |numbers: &Option<Vec<i64>>, index: usize, otherwise: i64| match numbers {
            Some(numbers) => numbers.iter().skip(index * self.length).take(self.length).copied().collect(),
            None => vec![otherwise; self.length],
        };
        let ids = self.ids.chunks_exact(self.length).enumerate();
        ids.map(|(index, ids)| {
            Sample::Tokens(TokenIds {
                ids: ids.to_vec(),
                mask: row(&self.mask, index, 1),
                types: row(&self.types, index, 0),
            })
        })
        .collect()
    }
}

/// INT64 of this shape, each from 0 up to but without `count`.
fn numbers_below(tensor: &Tensor, shape: &[usize], count: usize) -> Result<Vec<i64>, String> {
    let Tensor { name, content } = tensor;
    let array = match content {
        Content::Numbers(array) if array.datatype() == Datatype::Int64 && array.shape() == shape => array,
        other => {
            return Err(format!(
                "`{name}` must be INT64 of shape {shape:?}, not {} of shape {:?}",
                other.datatype(),
                other.shape()
            ));
        }
    };
    let numbers: Vec<i64> =
        array.bytes().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    let is_known = |number: &i64| usize::try_from(*number).is_ok_and(|number| number < count);
    match numbers.iter().find(|number| !is_known(number)) {
        Some(number) => {
            Err(format!("`{name}` holds {number}; this model takes 0 to {}", count.saturating_sub(1)))
        }
        None => Ok(numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Array;

    fn form() -> TextForm {
        TextForm {
            inputs: vec![InputName::InputIds, InputName::AttentionMask, InputName::TokenTypeIds],
            max_seq_length: 4,
            pad_token_id: 0,
            vocab_size: Some(100),
            segments: 2,
        }
    }

    fn tensor(name: &str, shape: &[usize], numbers: &[i64]) -> Tensor {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let array = Array::new(Datatype::Int64, shape.to_vec(), bytes.into()).unwrap();
        Tensor { name: name.to_owned(), content: Content::Numbers(array) }
    }

    fn error(inputs: &[Tensor]) -> String {
        TokenRows::of(&form(), 100, inputs).unwrap_err()
    }

    #[test]
    fn each_row_is_a_sample_and_what_is_left_out_is_filled_in() {
        let ids = tensor("input_ids", &[2, 2], &[1, 2, 3, 99]);
        let mask = tensor("attention_mask", &[2, 2], &[1, 1, 1, 0]);
        let samples = TokenRows::of(&form(), 100, &[mask, ids]).unwrap().samples();
        let second = TokenIds { ids: vec![3, 99], mask: vec![1, 0], types: vec![0, 0] };
        assert_eq!(samples[1], Sample::Tokens(second));
        assert_eq!(samples.len(), 2);
    }

    #[test]
    fn what_would_be_an_index_out_of_range_is_refused() {
        assert!(
            error(&[tensor("input_ids", &[1, 2], &[1, 100])]).contains("holds 100; this model takes 0 to 99")
        );
        assert!(error(&[tensor("input_ids", &[1, 2], &[-1, 1])]).contains("holds -1"));
        assert!(error(&[tensor("input_ids", &[1, 5], &[1; 5])]).contains("at most 4"));
        let ids = || tensor("input_ids", &[1, 2], &[1, 1]);
        assert!(error(&[ids(), tensor("token_type_ids", &[1, 2], &[0, 2])]).contains("0 to 1"));
        assert!(error(&[ids(), tensor("attention_mask", &[1, 2], &[0, 2])]).contains("0 to 1"));
        assert!(error(&[ids(), tensor("attention_mask", &[1, 1], &[1])]).contains("of shape [1, 2]"));
        assert!(error(&[ids(), tensor("positions", &[1, 2], &[0, 1])]).contains("no input `positions`"));
        assert!(error(&[tensor("input_ids", &[2], &[1, 1])]).contains("[texts, tokens]"));
        assert!(error(&[tensor("input_ids", &[0, 2], &[])]).contains("empty"));
    }
}
