//! Bodies of the Open Inference Protocol: JSON alone, or JSON of a length that the header claims, with binary data behind it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model_runtime::http::parsers::infer_request;

fuzz_target!(|input: (Option<u16>, &[u8])| {
    let (json_length, body) = input;
    // Either is fine; what matters is that it returns.
    let _ = infer_request(body, json_length.map(usize::from));
});
