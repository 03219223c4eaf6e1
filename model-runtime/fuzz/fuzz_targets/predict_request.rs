//! Bodies of `POST /predict`, for each task of texts. Whatever comes: an answer or an error, no panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model_runtime::http::parsers::predict_request;
use model_runtime::model::{Form, TextForm};
use model_runtime::task::{Function, Pooling, Strategy, Task};

fuzz_target!(|body: &[u8]| {
    let text =
        TextForm { inputs: Vec::new(), max_seq_length: 512, pad_token_id: 0, vocab_size: None, segments: 1 };
    let form = Form::Text(text);
    for task in [
        Task::TokenClassification { aggregation: Strategy::First },
        Task::TextClassification { function: Function::Softmax },
        Task::FeatureExtraction { pooling: Pooling::Mean, normalize: true },
    ] {
        // Either is fine; what matters is that it returns.
        let _ = predict_request(body, &task, &form);
    }
});
