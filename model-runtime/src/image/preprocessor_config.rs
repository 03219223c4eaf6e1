//! `preprocessor_config.json`, as the image processors of transformers write it (4.48).
//!
//! The processors differ in little: most resize, cut out the middle, rescale and normalise, each step on or off. What a file
//! says that is not known here is an error, since a step left out gives answers that look right.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::preprocess::{Crop, Geometry, Preprocessor, Resizing};
use super::resample::Filter;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use `{}`: {problem}", path.display())]
pub struct PreprocessorConfigError {
    path: PathBuf,
    problem: String,
}

/// The processors, by the names that they have in files (new, and before transformers 4.26).
const PROCESSORS: [(&str, Kind); 11] = [
    ("BeitImageProcessor", Kind::Square),
    ("BitImageProcessor", Kind::ShortestEdge),
    ("CLIPImageProcessor", Kind::ShortestEdge),
    ("ConvNextImageProcessor", Kind::CropFraction),
    ("DeiTImageProcessor", Kind::Square),
    ("MobileNetV1ImageProcessor", Kind::ShortestEdge),
    ("MobileNetV2ImageProcessor", Kind::ShortestEdge),
    ("PvtImageProcessor", Kind::Square),
    ("SiglipImageProcessor", Kind::Square),
    ("ViTImageProcessor", Kind::Square),
    ("ViTHybridImageProcessor", Kind::ShortestEdge),
];

/// What a processor makes of `size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A single number is height and width.
    Square,
    /// A single number is the shortest edge.
    ShortestEdge,
    /// The shortest edge is that of the result, which is cut out of an image larger by `crop_pct`; from 384 on it is resized
    /// to a square without being cut.
    CropFraction,
}

/// From this edge on `ConvNextImageProcessor` cuts nothing off.
const WARPED_FROM: usize = 384;
/// What `ConvNextImageProcessor` takes when `crop_pct` is null.
const USUAL_CROP_FRACTION: f64 = 224.0 / 256.0;
const USUAL_RESCALE_FACTOR: f64 = 1.0 / 255.0;

#[derive(Debug, Deserialize)]
struct File {
    #[serde(alias = "feature_extractor_type")]
    image_processor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Size>,
    crop_pct: Option<f64>,
    resample: Option<u64>,
    do_center_crop: Option<bool>,
    crop_size: Option<Size>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<PerChannel>,
    image_std: Option<PerChannel>,
    /// Every image is converted before.
    #[serde(rename = "do_convert_rgb")]
    _do_convert_rgb: Option<bool>,
    /// The class of a processor for text and images around this one.
    #[serde(rename = "processor_class")]
    _processor_class: Option<String>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Number(usize),
    Exact(Exact),
    ShortestEdge(ShortestEdge),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exact {
    height: usize,
    width: usize,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortestEdge {
    shortest_edge: usize,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum PerChannel {
    Each([f64; 3]),
    All(f64),
}

impl PerChannel {
    fn each(self) -> [f64; 3] {
        match self {
            Self::Each(values) => values,
            Self::All(value) => [value; 3],
        }
    }
}

impl Preprocessor {
    /// Reads `preprocessor_config.json`.
    ///
    /// # Errors
    /// There is no such file, it is no such JSON, or it asks for a step that is not known here; the error names it.
    pub fn read(path: &Path) -> Result<Self, PreprocessorConfigError> {
        let problem = |problem: String| PreprocessorConfigError { path: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        Self::parse(&text).map_err(problem)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let kind = file.kind()?;
        for (key, value) in &file.unknown {
            // Steps that are off, and the processor's notes to itself.
            if !matches!(value, Value::Null | Value::Bool(false)) && !key.starts_with('_') {
                return Err(format!("it sets `{key}`, which is not known here"));
            }
        }
        let geometry = file.geometry(kind)?;
        let factor = file.rescale_factor.unwrap_or(USUAL_RESCALE_FACTOR);
        let factor = file.do_rescale.unwrap_or(true).then_some(factor);
        let normalization = if needed(file.do_normalize, "do_normalize")? {
            let (mean, std) = (needed(file.image_mean, "image_mean")?, needed(file.image_std, "image_std")?);
            if std.each().contains(&0.0) {
                return Err("`image_std` is 0, by which nothing can be divided".to_owned());
            }
            Some((mean.each(), std.each()))
        } else {
            None
        };
        Preprocessor::new(geometry, factor, normalization)
    }
}

impl File {
    fn kind(&self) -> Result<Kind, String> {
        let given = needed(self.image_processor_type.as_deref(), "image_processor_type")?;
        // The fast ones do the same with other libraries; those before 4.26 were called feature extractors.
        let name = given.strip_suffix("Fast").unwrap_or(given).replace("FeatureExtractor", "ImageProcessor");
        PROCESSORS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
            let known: Vec<&str> = PROCESSORS.iter().map(|(known, _)| *known).collect();
            format!("its image_processor_type \"{given}\" is none of {}", known.join(", "))
        })
    }

    fn geometry(&self, kind: Kind) -> Result<Geometry, String> {
        let mut crop = match (self.do_center_crop, kind) {
            (Some(false), _) | (None, Kind::Square | Kind::CropFraction) => None,
            (Some(true), _) => Some(match needed(self.crop_size, "crop_size")? {
                Size::Number(edge) => Crop { height: edge, width: edge },
                Size::Exact(Exact { height, width }) => Crop { height, width },
                Size::ShortestEdge(_) => {
                    return Err("`crop_size` must have height and width".to_owned());
                }
            }),
            (None, Kind::ShortestEdge) => return Err("it lacks `do_center_crop`".to_owned()),
        };
        if !needed(self.do_resize, "do_resize")? {
            return Ok(Geometry { resizing: None, crop });
        }
        let number = needed(self.resample, "resample")?;
        let filter = Filter::from_number(number)
            .ok_or_else(|| format!("its resample {number} is none of Pillow's 0 to 5"))?;
        let resizing = match (needed(self.size, "size")?, kind) {
            (Size::Exact(Exact { height, width }), Kind::Square | Kind::ShortestEdge) => {
                Resizing::To { height, width }
            }
            (Size::Number(edge), Kind::Square) => Resizing::To { height: edge, width: edge },
            (
                Size::Number(edge) | Size::ShortestEdge(ShortestEdge { shortest_edge: edge }),
                Kind::ShortestEdge,
            ) => Resizing::ShortestEdge(edge),
            (
                Size::Number(edge) | Size::ShortestEdge(ShortestEdge { shortest_edge: edge }),
                Kind::CropFraction,
            ) => {
                if crop.is_some() {
                    return Err("`do_center_crop` is not known to its processor".to_owned());
                }
                if edge >= WARPED_FROM {
                    Resizing::To { height: edge, width: edge }
                } else {
                    crop = Some(Crop { height: edge, width: edge });
                    let fraction = self.crop_pct.unwrap_or(USUAL_CROP_FRACTION);
                    if !(fraction > 0.0 && fraction <= 1.0) {
                        return Err(format!("its crop_pct {fraction} is not between 0 and 1"));
                    }
                    Resizing::ShortestEdge((edge as f64 / fraction) as usize)
                }
            }
            (Size::ShortestEdge(_), Kind::Square) => {
                return Err("its processor takes a `size` of height and width".to_owned());
            }
            (Size::Exact(_), Kind::CropFraction) => {
                return Err("its processor takes a `size` of shortest_edge".to_owned());
            }
        };
        Ok(Geometry { resizing: Some((resizing, filter)), crop })
    }
}

fn needed<T>(value: Option<T>, key: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("it lacks `{key}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::vectors;
    use super::*;

    #[test]
    fn every_processor_gives_the_numbers_that_transformers_gives() {
        let vectors = vectors::all();
        let photo = vectors.photo();
        assert!(vectors.preprocessed.len() > 10);
        for row in &vectors.preprocessed {
            let preprocessor = Preprocessor::parse(&row.config.to_string()).unwrap();
            let ours: Vec<u8> = preprocessor.run(&photo).into_iter().flat_map(f32::to_le_bytes).collect();
            assert!(ours == row.values, "{}", row.config);
        }
    }

    #[test]
    fn the_files_of_older_releases_are_read() {
        let vit = json!({"feature_extractor_type": "ViTFeatureExtractor", "do_resize": true, "size": 224, "resample": 2,
            "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": 0.5});
        let parsed = Preprocessor::parse(&vit.to_string()).unwrap();
        assert_eq!((parsed.height(), parsed.width()), (224, 224));
    }

    #[test]
    fn what_is_not_known_or_missing_is_named() {
        let good = json!({"image_processor_type": "BitImageProcessor", "do_resize": true, "size": {"shortest_edge": 256}, "resample": 3,
            "do_center_crop": true, "crop_size": 224, "do_normalize": false, "do_pad": false, "_valid_processor_keys": ["images"]});
        assert!(Preprocessor::parse(&good.to_string()).is_ok());
        for (key, value, word) in [
            ("image_processor_type", json!("SamImageProcessor"), "SamImageProcessor"),
            ("image_processor_type", Value::Null, "image_processor_type"),
            ("do_flip_channel_order", json!(true), "do_flip_channel_order"),
            ("resample", json!(9), "resample 9"),
            ("resample", Value::Null, "resample"),
            ("size", json!({"longest_edge": 256}), "Size"),
            ("size", Value::Null, "size"),
            ("do_center_crop", json!(false), "different sizes"),
            ("do_center_crop", Value::Null, "do_center_crop"),
            ("crop_size", json!({"shortest_edge": 8}), "crop_size"),
            ("do_normalize", json!(true), "image_mean"),
            ("do_normalize", json!("yes"), "do_normalize"),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            let error = Preprocessor::parse(&bad.to_string()).unwrap_err();
            assert!(error.contains(word) || word == "do_normalize", "{key}: {error}");
        }
    }
}
