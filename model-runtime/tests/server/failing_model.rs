//! A text classifier that fails as devices fail when it meets certain words, made with libtorch's own tracer: real errors on their real way.

use std::path::Path;

use serde_json::Value;
use tch::{CModule, Kind, Tensor};

use crate::support::{copy_of, other_model, replace};

/// The word for which libtorch's allocator is asked for 2^47 bytes, more than a process can address.
pub(crate) const HUGE: &str = "elephant";
/// The word at which a CUDA context is said to be broken, in libtorch's words.
pub(crate) const DEADLY: &str = "poison";

const DEVICE_ASSERT: &str = "CUDA error: device-side assert triggered";

/// A directory with this model, and the tokenizer and labels of the sentiment model.
pub(crate) fn failing_model() -> tempfile::TempDir {
    let copy = copy_of(&other_model("sentiment"));
    std::fs::remove_file(copy.path().join("model.pt")).unwrap();
    write(copy.path());
    let toml =
        "task = \"text-classification\"\ninputs = [\"input_ids\", \"attention_mask\"]\nmax_seq_length = 64\n";
    replace(copy.path(), "runtime.toml", toml.as_bytes());
    copy
}

fn write(dir: &Path) {
    let _no_grad = tch::no_grad_guard();
    let (huge, deadly) = (token(dir, HUGE), token(dir, DEADLY));
    let mut forward = |inputs: &[Tensor]| {
        let [ids, mask] = inputs else { unreachable!("the trace has two inputs") };
        // A logit for each of the labels: how many tokens there are, and a constant.
        let lengths = mask.sum_dim_intlist([1_i64].as_slice(), true, Kind::Float);
        let logits = Tensor::cat(&[&lengths, &lengths.zeros_like()], 1);
        // Each id once for every 2^44 that its word is to repeat: nothing for all words but one.
        let repeats = ids.eq(huge).to_kind(Kind::Int64).flatten(0, -1) * (1_i64 << 44);
        let repeated = ids.flatten(0, -1).repeat_interleave_self_tensor(&repeats, None, None);
        let harmless = ids.ne(deadly).all();
        let checked = harmless.internal_functional_assert_async(DEVICE_ASSERT, &lengths.sum(Kind::Float));
        vec![logits + repeated.sum(Kind::Float) + checked * 0.0]
    };
    let ids = Tensor::from_slice(&[1_i64, 2, 3, 4, 5, 6]).reshape([2, 3]);
    let inputs = [ids.shallow_clone(), ids.ones_like()];
    let module = CModule::create_by_tracing("failing", "forward", &inputs, &mut forward).unwrap();
    module.save(dir.join("model.pt")).unwrap();
}

/// The number of a word of the tokenizer's vocabulary.
fn token(dir: &Path, word: &str) -> i64 {
    let text = std::fs::read_to_string(dir.join("tokenizer.json")).unwrap();
    let tokenizer: Value = serde_json::from_str(&text).unwrap();
    let id = tokenizer["model"]["vocab"][word].as_i64();
    id.unwrap_or_else(|| panic!("`{word}` is not a word of the tokenizer"))
}
