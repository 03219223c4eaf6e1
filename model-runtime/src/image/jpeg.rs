//! JPEG, to the bit as libjpeg-turbo decodes it, which is what Pillow uses.
//!
//! The standard (ITU-T T.81) leaves the last bits of the inverse transform and the upsampling of colour to the decoder. A
//! decoder that makes other choices differs by up to 5 of 255 in a tenth of the bytes, which moved scores by 0.013.

use ::image::RgbImage;
use ::image::metadata::Orientation;
use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

use super::decode::{DecodeError, Format, MAX_BYTES, MAX_PIXELS, check_dimensions, orientation};

/// A progressive image comes in ten scans or so; each costs a pass over all of it, so that thousands of empty ones would
/// keep a thread busy for minutes.
const MAX_SCANS: u32 = 200;

/// The pixels of all scans together, so that a large image has fewer: 40 of 25 megapixels. Without it 190 scans of 24 megapixels, in a file of
/// 150 KB, took 5 to 10 s.
const MAX_SCANNED_PIXELS: u64 = 40 * MAX_PIXELS;

/// Decodes a JPEG to RGB; gives its orientation with it.
///
/// # Errors
/// Too large by its header, cut off, damaged, or of a kind that is not supported (more than 8 bits a channel).
pub(super) fn decode(bytes: &[u8]) -> Result<(RgbImage, Orientation), DecodeError> {
    let damaged = |problem: String| DecodeError::Damaged { format: Format::Jpeg, problem };
    let failed = |error: JpegError| damaged(error.to_string());
    // The dimensions are checked here, for an error that tells them.
    let limits = DecodeLimits {
        max_pixels: u64::MAX,
        max_scans: MAX_SCANS as usize,
        max_memory: Some(MAX_BYTES),
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(failed)?;
    let header = decoder.header();
    let (width, height) = (u64::from(header.width), u64::from(header.height));
    check_dimensions(width, height)?;
    if header.precision != 8 {
        return Err(damaged(format!("it has {} bits a channel; 8 are read", header.precision)));
    }
    let inks = header.components.len() == 4;
    decoder.set_output_format(if inks { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    let most_scans = MAX_SCANNED_PIXELS / (width * height).max(1);
    decoder.set_scan_limit(u32::try_from(most_scans).map_or(MAX_SCANS, |most| most.min(MAX_SCANS)));
    let orientation = orientation(decoder.exif_data());
    let image = decoder.decode_image().map_err(failed)?;
    let rgb = if inks { from_inks(&image.data) } else { image.data };
    let (Ok(width), Ok(height)) = (u32::try_from(image.width), u32::try_from(image.height)) else {
        return Err(DecodeError::TooLarge { width: image.width as u64, height: image.height as u64 });
    };
    let pixels = RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| damaged("the decoder gave too few pixels".to_owned()))?;
    Ok((pixels, orientation))
}

/// CMYK to RGB as Pillow converts it: the inks are taken to be stored inverted, as Adobe's programs do.
fn from_inks(samples: &[u8]) -> Vec<u8> {
    let rgb = |&[cyan, magenta, yellow, key]: &[u8; 4]| {
        let light = u16::from(key);
        [cyan, magenta, yellow].map(|ink| {
            let absorbed = by_255(u16::from(255 - ink), light);
            u8::try_from(light.saturating_sub(absorbed)).unwrap_or(u8::MAX)
        })
    };
    samples.as_chunks::<4>().0.iter().flat_map(rgb).collect()
}

/// `a * b / 255`, rounded as Pillow's `MULDIV255` does; for both at most 255.
fn by_255(a: u16, b: u16) -> u16 {
    let product = a * b + 128;
    (product + (product >> 8)) >> 8
}

#[cfg(test)]
mod tests {
    use super::super::decode;

    #[test]
    fn a_large_image_may_have_fewer_scans() {
        let error = |edge: u16| {
            let [high, low] = edge.to_be_bytes();
            let mut file = b"\xff\xd8\xff\xdb\0\x43\0".to_vec();
            file.extend([1; 64]);
            file.extend(b"\xff\xc2\0\x0b\x08");
            file.extend([high, low, high, low, 1, 1, 0x11, 0]);
            // A code of one bit, for no difference to the block before.
            file.extend(b"\xff\xc4\0\x14\0\x01");
            file.extend([0; 16]);
            for _ in 0..50 {
                file.extend(b"\xff\xda\0\x08\x01\x01\0\0\0\0\0");
            }
            file.extend(b"\xff\xd9");
            decode(&file).map_err(|error| error.to_string())
        };
        assert!(error(5_000).unwrap_err().contains("scan count"));
        assert!(!error(16).is_err_and(|error| error.contains("scan count")));
    }
}
