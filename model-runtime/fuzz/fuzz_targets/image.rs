//! Files of images: the numbers that a model gets, or an error, never more memory than one image may have.

#![no_main]

use std::cell::RefCell;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model_runtime::image::{Preprocessor, decode};

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// One that makes every image small, and one that cuts out its middle.
static PREPROCESSORS: LazyLock<[Preprocessor; 2]> = LazyLock::new(|| {
    ["resize", "crop"].map(|name| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("preprocessors");
        Preprocessor::read(&directory.join(name).with_extension("json"))
            .expect("these files are read here only")
    })
});

/// `decode` makes errors of its decoders' panics. libfuzzer-sys would end the process at each of them; this ends it for those of ours.
fn expect_panics_of_decoders() {
    std::panic::set_hook(Box::new(|panic| {
        LAST_PANIC.set(panic.to_string());
        // Only what is in this workspace has a path that begins here.
        if panic.location().is_some_and(|place| place.file().starts_with("model-runtime/")) {
            abort();
        }
    }));
}

#[expect(clippy::print_stderr, reason = "libFuzzer writes there, too")]
fn abort() -> ! {
    LAST_PANIC.with_borrow(|panic| eprintln!("{panic}"));
    std::process::abort()
}

fuzz_target!(init: expect_panics_of_decoders(), |file: &[u8]| {
    let prepared = catch_unwind(|| {
        if let Ok(image) = decode(file) {
            for preprocessor in PREPROCESSORS.iter() {
                preprocessor.run(&image);
            }
        }
    });
    if prepared.is_err() {
        abort();
    }
});
