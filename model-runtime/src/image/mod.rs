//! From the bytes of an image to the numbers a model takes, as Pillow and transformers compute them.
//!
//! ```text
//!   JPEG, PNG, WebP ─▶ decode ─▶ 8-bit RGB, upright ─▶ preprocess: resize, crop, rescale, normalise ─▶ [3, height, width]
//! ```
//!
//! A model has learnt from pixels that Pillow decoded and resized. A decoder that differs by a few steps in a channel moves
//! the scores in the second decimal, so each step here gives the very same bytes; the tests compare with vectors that Pillow
//! wrote. Pure computation, to be run on the text pool. Nothing is fetched and no file is opened.
//!
//! What differs from the pipeline of transformers, on purpose: it takes an image that is 1 or 3 pixels high for one with the
//! channels first, and fails or answers nonsense; and it answers for JPEGs that are damaged inside, which are refused here.

mod decode;
mod jpeg;
mod preprocess;
mod preprocessor_config;
mod resample;
#[cfg(test)]
mod vectors;
mod webp;

pub use decode::{DecodeError, Format, MAX_PIXELS, decode};
pub use preprocess::Preprocessor;
pub use preprocessor_config::PreprocessorConfigError;
pub use resample::Filter;
