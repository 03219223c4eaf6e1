//! Bodies of `POST /predict`, for each task. Whatever comes: an answer or an error, no panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model_runtime::backend::Datatype;
use model_runtime::http::parsers::predict_request;
use model_runtime::model::{Extent, Form, TensorForm, TensorSpec, TextForm};
use model_runtime::task::{Function, Pooling, Strategy, Task};

fuzz_target!(|body: &[u8]| {
    // Images come as texts.
    let texts = Form::Text(TextForm {
        inputs: Vec::new(),
        max_seq_length: 512,
        pad_token_id: 0,
        vocab_size: None,
        segments: 1,
    });
    for task in [
        Task::TokenClassification { aggregation: Strategy::First },
        Task::TextClassification { function: Function::Softmax },
        Task::FeatureExtraction { pooling: Pooling::Mean, normalize: true },
        Task::ImageClassification { function: Function::Softmax },
    ] {
        // Either is fine; what matters is that it returns.
        let _ = predict_request(body, &task, &texts);
    }
    let x = TensorSpec {
        name: "x".to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![Extent::Any, Extent::Fixed(2)],
    };
    let y = TensorSpec { name: "y".to_owned(), datatype: Datatype::Int64, shape: vec![Extent::Any] };
    for (inputs, batched) in [(vec![x.clone()], false), (vec![x, y], true)] {
        let tensors = Form::Tensors(TensorForm { inputs, outputs: Vec::new(), batched });
        let _ = predict_request(body, &Task::Tensors, &tensors);
    }
});
