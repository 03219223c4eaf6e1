//! From samples to tensors and back: padding, stacking, taking apart.

use bytes::Bytes;
use tch::{IValue, Kind, Tensor};

use super::super::{Array, Datatype, Device, Granularity, Output, Rows, Sample, TokenIds};
use super::reason::reason;
use super::transfer::{floats, to_device};
use crate::model::{Form, InputName, TensorForm, TextForm};

/// What Hugging Face's models and sentence-transformers call the tensor that matters, in this order of preference.
const OUTPUT_NAMES: [&str; 3] = ["logits", "sentence_embedding", "last_hidden_state"];

/// The arguments of a forward.
pub(super) struct Batch {
    pub(super) inputs: Vec<IValue>,
    /// How many tokens each row has of its own; nothing for samples without tokens.
    tokens: Vec<usize>,
    rows: usize,
}

/// Puts samples together: tokens padded to the longest row, arrays stacked.
pub(super) fn batch(form: &Form, samples: &[&Sample], device: Device) -> Result<Batch, String> {
    if samples.is_empty() {
        return Err("a batch without rows".to_owned());
    }
    match form {
        Form::Text(form) => text_batch(form, samples, device),
        Form::Image(_) => {
            let inputs = stacked(samples, 1, true, device)?;
            Ok(Batch { inputs, tokens: Vec::new(), rows: samples.len() })
        }
        Form::Tensors(form) => {
            let inputs = stacked(samples, form.inputs.len(), form.batched, device)?;
            Ok(Batch { inputs, tokens: Vec::new(), rows: samples.len() })
        }
    }
}

fn text_batch(form: &TextForm, samples: &[&Sample], device: Device) -> Result<Batch, String> {
    let rows = samples.iter().map(|sample| tokens(sample)).collect::<Result<Vec<_>, _>>()?;
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or_default();
    let padded = |name: &InputName| {
        let mut values = Vec::with_capacity(rows.len() * longest);
        for row in &rows {
            let (source, filler) = match name {
                InputName::InputIds => (&row.ids, form.pad_token_id),
                InputName::AttentionMask => (&row.mask, 0),
                InputName::TokenTypeIds => (&row.types, 0),
            };
            values.extend_from_slice(source);
            values.resize(values.len() + longest - source.len(), filler);
        }
        let tensor = Tensor::f_from_slice(&values)?.f_reshape([to_i64(rows.len()), to_i64(longest)])?;
        to_device(tensor, device).map(IValue::Tensor)
    };
    let inputs =
        form.inputs.iter().map(padded).collect::<Result<Vec<_>, _>>().map_err(|error| reason(&error))?;
    Ok(Batch { inputs, tokens: rows.iter().map(|row| row.len()).collect(), rows: rows.len() })
}

fn tokens(sample: &Sample) -> Result<&TokenIds, String> {
    match sample {
        Sample::Tokens(tokens) if !tokens.is_empty() => Ok(tokens),
        Sample::Tokens(_) => Err("a row without tokens".to_owned()),
        Sample::Arrays(_) => Err("a text model was given arrays".to_owned()),
    }
}

/// Input by input, the samples' arrays one behind the other along a new first dimension; without batches the only sample as it is.
fn stacked(samples: &[&Sample], inputs: usize, batched: bool, device: Device) -> Result<Vec<IValue>, String> {
    let all = samples.iter().map(|sample| sample_arrays(sample, inputs)).collect::<Result<Vec<_>, _>>()?;
    if !batched && all.len() > 1 {
        return Err("this model takes one request at a time".to_owned());
    }
    let input = |index: usize| -> Result<IValue, String> {
        let parts: Vec<&Array> = all.iter().filter_map(|arrays| arrays.get(index)).collect();
        let Some(first) = parts.first() else { return Err("a batch without rows".to_owned()) };
        if parts.iter().any(|part| (part.datatype(), part.shape()) != (first.datatype(), first.shape())) {
            return Err("a batch of arrays of different shapes".to_owned());
        }
        let mut shape: Vec<i64> = first.shape().iter().map(|length| to_i64(*length)).collect();
        if batched {
            shape.insert(0, to_i64(parts.len()));
        }
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.bytes().len()).sum());
        parts.iter().for_each(|part| bytes.extend_from_slice(part.bytes()));
        let tensor = Tensor::f_from_data_size(&bytes, &shape, kind(first.datatype()));
        tensor
            .and_then(|tensor| to_device(tensor, device))
            .map(IValue::Tensor)
            .map_err(|error| reason(&error))
    };
    (0..inputs).map(input).collect()
}

fn sample_arrays(sample: &Sample, inputs: usize) -> Result<&[Array], String> {
    match sample {
        Sample::Arrays(arrays) if arrays.len() == inputs => Ok(arrays),
        Sample::Arrays(arrays) => Err(format!("a sample has {} arrays for {inputs} inputs", arrays.len())),
        Sample::Tokens(_) => Err("a model of arrays was given tokens".to_owned()),
    }
}

/// The rows of numbers of each sample, of a model whose task is known.
pub(super) fn rows(output: IValue, batch: &Batch) -> Result<Vec<Output>, String> {
    let output = only_tensor(output)?;
    let shape = output.size();
    let count = to_i64(batch.rows);
    let longest = batch.tokens.iter().copied().max().unwrap_or_default();
    let (granularity, columns) = match *shape.as_slice() {
        [texts, columns] if texts == count => (Granularity::Whole, columns),
        [texts, tokens, columns] if longest > 0 && (texts, tokens) == (count, to_i64(longest)) => {
            (Granularity::Token, columns)
        }
        _ => {
            return Err(format!(
                "the model returned shape {shape:?} for {count} rows of {longest} tokens, neither [batch, columns] nor [batch, tokens, columns]"
            ));
        }
    };
    let columns = usize::try_from(columns).ok().filter(|columns| *columns > 0);
    let columns =
        columns.ok_or_else(|| format!("the model returned shape {shape:?}, which holds no number"))?;
    let values = floats(&output).map_err(|error| reason(&error))?;
    let stride = match granularity {
        Granularity::Whole => columns,
        Granularity::Token => longest * columns,
    };
    let own = |index: usize| match granularity {
        Granularity::Whole => columns,
        // What the model says of the padding is nobody's.
        Granularity::Token => batch.tokens.get(index).copied().unwrap_or_default() * columns,
    };
    Ok(values
        .chunks(stride)
        .enumerate()
        .map(|(index, values)| {
            let values = values.get(..own(index)).unwrap_or(values).to_vec();
            Output::Rows(Rows { values, columns, granularity })
        })
        .collect())
}

/// Each sample's part of every output, of a model of plain tensors.
pub(super) fn arrays(output: IValue, form: &TensorForm, samples: usize) -> Result<Vec<Output>, String> {
    let tensors = named_tensors(output, form)?;
    let whole = tensors.iter().map(array).collect::<Result<Vec<Array>, String>>()?;
    if !form.batched {
        return Ok(vec![Output::Arrays(whole)]);
    }
    let mut parts: Vec<Vec<Array>> = (0..samples).map(|_| Vec::with_capacity(whole.len())).collect();
    for (array, spec) in whole.iter().zip(&form.outputs) {
        let rows = array.rows();
        if rows.len() != samples {
            return Err(format!(
                "output `{}` has the shape {:?} for a batch of {samples}; its first dimension must be the batch, or say `batched = false`",
                spec.name,
                array.shape()
            ));
        }
        parts.iter_mut().zip(rows).for_each(|(part, row)| part.push(row));
    }
    Ok(parts.into_iter().map(Output::Arrays).collect())
}

/// The outputs in the order of the form: a tensor, a tuple or list in this order, or a dictionary with these names.
fn named_tensors(output: IValue, form: &TensorForm) -> Result<Vec<Tensor>, String> {
    let expected = form.outputs.len();
    let tensors: Vec<Tensor> = match output {
        IValue::Tensor(tensor) => vec![tensor],
        IValue::TensorList(tensors) => tensors,
        IValue::Tuple(parts) => {
            let tensor = |part| match part {
                IValue::Tensor(tensor) => Ok(tensor),
                other => Err(format!("the model returned {other:?} within a tuple, not a tensor")),
            };
            parts.into_iter().map(tensor).collect::<Result<_, _>>()?
        }
        IValue::GenericDict(entries) => {
            let mut named = dictionary(entries);
            let take = |name: &String| {
                let place = named.iter().position(|(found, _)| found == name);
                place.map(|place| named.swap_remove(place).1)
            };
            let names: Vec<String> = form.outputs.iter().map(|spec| spec.name.clone()).collect();
            let taken: Option<Vec<Tensor>> = names.iter().map(take).collect();
            taken.ok_or_else(|| {
                format!("the model returned a dictionary without one of {}", names.join(", "))
            })?
        }
        other => return Err(format!("the model returned {other:?}, not tensors")),
    };
    if tensors.len() == expected {
        Ok(tensors)
    } else {
        Err(format!(
            "the model returned {} tensors, but runtime.toml has {expected} output_tensors",
            tensors.len()
        ))
    }
}

fn array(tensor: &Tensor) -> Result<Array, String> {
    let readable = |error: tch::TchError| reason(&error);
    let datatype = datatype(tensor.f_kind().map_err(readable)?)?;
    let shape: Vec<usize> =
        tensor.size().into_iter().filter_map(|length| usize::try_from(length).ok()).collect();
    let on_cpu = tensor.f_to(tch::Device::Cpu).and_then(|tensor| tensor.f_contiguous()).map_err(readable)?;
    let mut bytes = vec![0_u8; on_cpu.numel() * datatype.size()];
    on_cpu.f_copy_data_u8(&mut bytes, on_cpu.numel()).map_err(readable)?;
    Array::new(datatype, shape, Bytes::from(bytes)).map_err(|error| error.to_string())
}

fn kind(datatype: Datatype) -> Kind {
    match datatype {
        Datatype::Bool => Kind::Bool,
        Datatype::Uint8 => Kind::Uint8,
        Datatype::Int8 => Kind::Int8,
        Datatype::Int16 => Kind::Int16,
        Datatype::Int32 => Kind::Int,
        Datatype::Int64 => Kind::Int64,
        Datatype::Fp16 => Kind::Half,
        Datatype::Bf16 => Kind::BFloat16,
        Datatype::Fp32 => Kind::Float,
        Datatype::Fp64 => Kind::Double,
    }
}

fn datatype(found: Kind) -> Result<Datatype, String> {
    let mut all = Datatype::ALL.into_iter();
    all.find(|datatype| kind(*datatype) == found).ok_or_else(|| {
        format!("the model returned a tensor of {found:?}, which the protocol has no name for")
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
            let mut named = dictionary(entries);
            let place =
                OUTPUT_NAMES.iter().find_map(|wanted| named.iter().position(|(name, _)| name == wanted));
            place.map(|place| named.swap_remove(place).1).ok_or_else(|| {
                format!("the model returned a dictionary without a tensor named {}", OUTPUT_NAMES.join(", "))
            })
        }
        other => Err(format!("the model returned {other:?}, not a tensor")),
    }
}

fn dictionary(entries: Vec<(IValue, IValue)>) -> Vec<(String, Tensor)> {
    let named = |entry| match entry {
        (IValue::String(name), IValue::Tensor(tensor)) => Some((name, tensor)),
        _ => None,
    };
    entries.into_iter().filter_map(named).collect()
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
