//! The images of a request: from what the client sent to what the model takes.
//!
//! As transformers' pipelines and Hugging Face's hosted service: Base64 (RFC 4648) in JSON, plainly or as a `data:` URL (RFC 2397), or the file
//! itself as the body. Addresses are refused: a server that fetches what its clients name fetches from inside the network, too.

use base64::Engine as _;
// Some clients leave the padding out.
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT as BASE64;

use super::super::error::ApiError;
use super::request::Inputs;
use crate::backend::{Array, Sample};
use crate::image::{Preprocessor, decode};

/// The media types of image files, for a body that is one.
pub(super) const MEDIA_TYPES: [&str; 3] = ["image/jpeg", "image/png", "image/webp"];

/// What the model takes of each image.
///
/// # Errors
/// One of them is no image; which, and why.
pub(super) fn samples(preprocessor: &Preprocessor, inputs: &Inputs) -> Result<Vec<Option<Sample>>, ApiError> {
    let unusable = |(index, sample): (usize, Result<Sample, String>)| match sample {
        Ok(sample) => Ok(Some(sample)),
        Err(problem) => Err(ApiError::Unusable(format!("input {index} {problem}"))),
    };
    let of_text = |text: &String| file(text).and_then(|file| sample(preprocessor, &file));
    match inputs {
        Inputs::File(file) => std::iter::once(sample(preprocessor, file)).enumerate().map(unusable).collect(),
        Inputs::One(_) | Inputs::Many(_) => {
            inputs.texts().iter().map(of_text).enumerate().map(unusable).collect()
        }
    }
}

/// The bytes of a file that came as text; an error is a phrase to follow the input's number.
fn file(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim_ascii();
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(
            "is an address, and this server fetches nothing; send the image itself in Base64".to_owned()
        );
    }
    let encoded = match text.strip_prefix("data:").map(|url| url.split_once(',')) {
        None => text,
        Some(Some((kind, data))) if kind.ends_with(";base64") => data,
        Some(_) => return Err("is a data: URL without Base64; send data:image/png;base64,…".to_owned()),
    };
    let decoded = if encoded.bytes().any(|byte| byte.is_ascii_whitespace()) {
        // In lines, as MIME and some programs break them.
        let joined: Vec<u8> = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        BASE64.decode(joined)
    } else {
        BASE64.decode(encoded)
    };
    decoded.map_err(|error| format!("is no image in Base64: {error}"))
}

/// The model's input for the image in this file; an error is a phrase to follow the input's number.
pub(in crate::http) fn sample(preprocessor: &Preprocessor, file: &[u8]) -> Result<Sample, String> {
    let image = decode(file).map_err(|error| error.to_string())?;
    let shape = vec![3, preprocessor.height(), preprocessor.width()];
    let pixels = Array::from_f32(shape, &preprocessor.run(&image)).map_err(|error| error.to_string())?;
    Ok(Sample::Arrays(vec![pixels]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_plain_in_lines_as_a_url_and_without_padding() {
        for text in ["aGVsbG8=", " aGVs\r\nbG8=\n", "data:image/png;base64,aGVsbG8=", "aGVsbG8"] {
            assert_eq!(file(text).unwrap(), b"hello", "{text:?}");
        }
    }

    #[test]
    fn what_is_no_base64_is_refused_with_the_reason() {
        assert!(file("https://example.org/cat.jpg").unwrap_err().contains("fetches nothing"));
        assert!(file("data:image/svg+xml,%3Csvg/%3E").unwrap_err().contains("without Base64"));
        assert!(file("data:image/png;base64").unwrap_err().contains("without Base64"));
        assert!(file("/etc/passwd~").unwrap_err().contains("no image in Base64"));
        assert_eq!(file("").unwrap(), b"");
    }
}
