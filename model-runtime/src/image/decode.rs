//! Bytes to 8-bit RGB, as Pillow's `Image.open(…)`, `ImageOps.exif_transpose` and `convert("RGB")` give it.
//!
//! Alpha is dropped, not blended; of sixteen bits a channel the upper eight stay, but for greyscale, which is cut off at 255;
//! of an animation the first frame is taken. The dimensions are known from the header before a pixel is decoded.

use std::fmt;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::image::codecs::png::PngDecoder;
use ::image::metadata::Orientation;
use ::image::{ColorType, DynamicImage, ImageDecoder, Limits, RgbImage};

use super::{jpeg, webp};

/// Larger images are refused by their header: 25 megapixels, three times what a 4K screen shows. A model sees a small part of that.
pub const MAX_PIXELS: u64 = 25_000_000;

/// The longest edge; JPEG has none that is longer. PNG's may have two thousand million pixels: of an image that is one pixel wide and 25 million high
/// 50 KB of file are enough, and each row is widened to that of the model before rows are put together.
const MAX_EDGE: u64 = 65_535;

/// What a decoder may allocate for one image: 300 MB. A progressive JPEG needs most, 12 bytes a pixel: coefficients of 16 bits and
/// samples of its three channels, and the pixels.
pub(super) const MAX_BYTES: u64 = 12 * MAX_PIXELS;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ITU-T T.81: baseline, extended, progressive; 8 bits a channel.
    Jpeg,
    /// W3C PNG (third edition); of an animated one the default image.
    Png,
    /// RFC 9649, lossy and lossless.
    WebP,
}

impl Format {
    /// Told by the first bytes, whatever the sender calls it.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
        })
    }
}

/// Why there are no pixels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a byte.
    #[error("is empty; send a JPEG, PNG or WebP image")]
    Empty,
    /// None of the formats.
    #[error("is no JPEG, PNG or WebP image")]
    UnknownFormat,
    /// Told by the header; nothing was decoded.
    #[error(
        "is {width} x {height} pixels; at most {MAX_PIXELS} in all and {MAX_EDGE} along an edge are decoded; send it smaller"
    )]
    TooLarge {
        /// Pixels in a row.
        width: u64,
        /// Rows.
        height: u64,
    },
    /// The data does not decode, or ends early.
    #[error("is no {format} image that can be decoded: {problem}")]
    Damaged {
        /// What its first bytes say.
        format: Format,
        /// The decoder's words.
        problem: String,
    },
}

/// Decodes one image and turns it as its EXIF orientation says.
///
/// # Errors
/// The bytes are no image of a known format, one with more than [`MAX_PIXELS`], or one that is damaged or cut off.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = Format::of(bytes).ok_or(DecodeError::UnknownFormat)?;
    let damaged = |problem: String| DecodeError::Damaged { format, problem };
    // Damaged data can make a decoder index out of bounds, which is a panic: the image's fault, not ours.
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Jpeg => jpeg::decode(bytes),
        Format::Png => png(bytes),
        Format::WebP => webp::decode(bytes),
    }));
    let (pixels, orientation) =
        decoded.map_err(|_panic| damaged("its data contradicts itself".to_owned()))??;
    let mut upright = DynamicImage::ImageRgb8(pixels);
    upright.apply_orientation(orientation);
    Ok(upright.into_rgb8())
}

/// Refuses dimensions that would cost too much.
pub(super) fn check_dimensions(width: u64, height: u64) -> Result<(), DecodeError> {
    let fits = width <= MAX_EDGE && height <= MAX_EDGE && width * height <= MAX_PIXELS;
    if fits { Ok(()) } else { Err(DecodeError::TooLarge { width, height }) }
}

/// What EXIF says of the image's orientation; a block that says nothing sensible changes nothing.
pub(super) fn orientation(exif: Option<&[u8]>) -> Orientation {
    let upright = Orientation::NoTransforms;
    exif.map_or(upright, |block| {
        // Some writers of WebP keep the prefix that JPEG's segments have.
        let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
        Orientation::from_exif_chunk(tiff).unwrap_or(upright)
    })
}

fn png(bytes: &[u8]) -> Result<(RgbImage, Orientation), DecodeError> {
    let damaged = |problem: String| DecodeError::Damaged { format: Format::Png, problem };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BYTES);
    let mut decoder =
        PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(|error| damaged(error.to_string()))?;
    let (width, height) = decoder.dimensions();
    check_dimensions(width.into(), height.into())?;
    let orientation =
        orientation(decoder.exif_metadata().map_err(|error| damaged(error.to_string()))?.as_deref());
    let color = decoder.color_type();
    let length = usize::try_from(decoder.total_bytes()).map_err(|error| damaged(error.to_string()))?;
    let mut bytes = vec![0; length];
    decoder.read_image(&mut bytes).map_err(|error| damaged(error.to_string()))?;
    let rgb = to_rgb(bytes, color).ok_or_else(|| damaged(format!("its pixels are {color:?}")))?;
    let pixels = RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| damaged("the decoder gave too few pixels".to_owned()))?;
    Ok((pixels, orientation))
}

/// Pixels of one kind as RGB; none for kinds that these formats do not have.
fn to_rgb(bytes: Vec<u8>, color: ColorType) -> Option<Vec<u8>> {
    // Samples of sixteen bits are in the machine's order.
    let sixteen = || bytes.as_chunks::<2>().0.iter().map(|&pair| u16::from_ne_bytes(pair));
    let upper = || sixteen().map(|sample| sample.to_be_bytes()[0]);
    Some(match color {
        ColorType::Rgb8 => bytes,
        ColorType::Rgba8 => without_alpha(&bytes),
        ColorType::L8 => grey(bytes.iter().copied()),
        ColorType::La8 => grey(bytes.iter().copied().step_by(2)),
        // Pillow reads these as its mode I;16, whose conversion clips.
        ColorType::L16 => grey(sixteen().map(|sample| u8::try_from(sample).unwrap_or(u8::MAX))),
        ColorType::La16 => grey(upper().step_by(2)),
        ColorType::Rgb16 => upper().collect(),
        ColorType::Rgba16 => without_alpha(&upper().collect::<Vec<_>>()),
        _ => return None,
    })
}

fn grey(samples: impl Iterator<Item = u8>) -> Vec<u8> {
    samples.flat_map(|sample| [sample; 3]).collect()
}

pub(super) fn without_alpha(rgba: &[u8]) -> Vec<u8> {
    rgba.as_chunks::<4>().0.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::vectors;
    use super::*;

    #[test]
    fn every_kind_of_file_decodes_to_the_pixels_that_pillow_gives() {
        let rows = vectors::all().decoded;
        assert!(rows.len() > 40);
        for row in rows {
            let image = decode(&row.image).unwrap_or_else(|error| panic!("{}: {error}", row.name));
            assert_eq!((image.width(), image.height()), (row.width, row.height), "{}", row.name);
            let different =
                image.as_raw().iter().zip(&row.rgb).filter(|(ours, theirs)| ours != theirs).count();
            assert_eq!(different, 0, "{}: bytes that differ, of {}", row.name, row.rgb.len());
        }
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        // The first picture of an animation can be whole before its end.
        for row in vectors::all().decoded.into_iter().filter(|row| !row.name.contains("animated")) {
            for kept in [row.image.len() / 4, row.image.len() / 2, row.image.len() * 3 / 4] {
                assert!(decode(&row.image[..kept]).is_err(), "{} cut to {kept} bytes", row.name);
            }
        }
    }

    #[test]
    fn damage_anywhere_in_a_file_is_no_panic() {
        for row in vectors::all().decoded {
            for place in (0..row.image.len()).step_by(7) {
                let mut damaged = row.image.clone();
                damaged[place] ^= 0x5a;
                let _ = decode(&damaged);
                damaged[place..].rotate_left(1);
                let _ = decode(&damaged);
            }
        }
    }

    #[test]
    fn what_is_no_image_is_named() {
        assert_eq!(decode(b"").unwrap_err(), DecodeError::Empty);
        for other in [&b"GIF89a"[..], b"BM", b"\x89PNG", b"<svg/>", b"RIFF\0\0\0\0WAVE"] {
            assert_eq!(decode(other).unwrap_err(), DecodeError::UnknownFormat);
        }
    }

    #[test]
    fn huge_dimensions_are_refused_by_the_header() {
        let png = |width: u32, height: u32| {
            let mut header = b"IHDR".to_vec();
            header.extend(width.to_be_bytes());
            header.extend(height.to_be_bytes());
            header.extend([8, 2, 0, 0, 0]);
            let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
            file.extend(&header);
            file.extend(crc32(&header).to_be_bytes());
            file.extend(b"\0\0\0\x01IDAT\x78");
            file
        };
        let error = decode(&png(5_001, 5_000)).unwrap_err();
        assert_eq!(error, DecodeError::TooLarge { width: 5_001, height: 5_000 });
        assert!(matches!(
            decode(&png(1 << 30, 1 << 30)),
            Err(DecodeError::TooLarge { .. } | DecodeError::Damaged { .. })
        ));
        assert!(matches!(decode(&png(5_000, 5_000)), Err(DecodeError::Damaged { .. })));
        let strip = DecodeError::TooLarge { width: 1, height: 25_000_000 };
        assert_eq!(decode(&png(1, 25_000_000)).unwrap_err(), strip);
        assert!(matches!(decode(&png(65_535, 1)), Err(DecodeError::Damaged { .. })));
        // SOF0 of 65,500 x 65,500.
        let mut jpeg =
            b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\x03\x01\x22\0\x02\x11\x01\x03\x11\x01".to_vec();
        jpeg.extend(b"\xff\xda\0\x0c\x03\x01\0\x02\x11\x03\x11\0\x3f\0");
        assert_eq!(decode(&jpeg).unwrap_err(), DecodeError::TooLarge { width: 65_500, height: 65_500 });
        // VP8X with a canvas of 16,384 x 16,384.
        let mut webp = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0".to_vec();
        webp.extend(b"VP8L\x05\0\0\0\x2f\xff\xff\xff\x0f\0");
        assert!(matches!(decode(&webp), Err(DecodeError::TooLarge { .. } | DecodeError::Damaged { .. })));
    }

    /// As PNG's third edition has it in annex D.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc: u32, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }
}
