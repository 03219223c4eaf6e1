//! Files of images: pixels or an error, never more memory than one image may have.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model_runtime::image::decode;

fuzz_target!(|file: &[u8]| {
    // Either is fine; what matters is that it returns.
    let _ = decode(file);
});
