//! Bodies of the Open Inference Protocol: JSON alone, or JSON and binary data. In the input a zero byte stands between the two, which JSON has
//! none of: a length, which the header has, would have to change with each letter.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model_runtime::http::parsers::infer_request;

fuzz_target!(|input: &[u8]| {
    let json_length = input.iter().position(|byte| *byte == 0);
    let (json, data) = input.split_at(json_length.unwrap_or(input.len()));
    let body = [json, data.get(1..).unwrap_or_default()].concat();
    // Either is fine; what matters is that it returns.
    let _ = infer_request(&body, json_length);
});
