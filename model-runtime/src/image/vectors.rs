//! What Pillow and transformers make of small images, as `examples/export/image_vectors.py` wrote it down.

use ::image::RgbImage;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct Vectors {
    #[serde(deserialize_with = "bytes")]
    photo: Vec<u8>,
    pub(super) decoded: Vec<Decoded>,
    pub(super) resized: Vec<Resized>,
    pub(super) preprocessed: Vec<Preprocessed>,
}

#[derive(Deserialize)]
pub(super) struct Decoded {
    pub(super) name: String,
    #[serde(deserialize_with = "bytes")]
    pub(super) image: Vec<u8>,
    pub(super) width: u32,
    pub(super) height: u32,
    #[serde(deserialize_with = "bytes")]
    pub(super) rgb: Vec<u8>,
}

#[derive(Deserialize)]
pub(super) struct Resized {
    pub(super) filter: u64,
    pub(super) width: usize,
    pub(super) height: usize,
    #[serde(deserialize_with = "bytes")]
    pub(super) rgb: Vec<u8>,
}

#[derive(Deserialize)]
pub(super) struct Preprocessed {
    pub(super) config: Value,
    /// Numbers of 32 bits, the low byte first.
    #[serde(deserialize_with = "bytes")]
    pub(super) values: Vec<u8>,
}

impl Vectors {
    pub(super) fn photo(&self) -> RgbImage {
        super::decode(&self.photo).unwrap()
    }
}

pub(super) fn all() -> Vectors {
    serde_json::from_str(include_str!("../../tests/expected/images.json")).unwrap()
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}
