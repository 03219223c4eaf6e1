//! WebP, by a decoder that believes what a file says of itself; what that could cost is looked at before.

use std::io::Cursor;

use ::image::RgbImage;
use ::image::metadata::Orientation;
use image_webp::{DecodingError, WebPDecoder};

use super::decode::{DecodeError, Format, check_dimensions, orientation, without_alpha};

/// Decodes a WebP file to RGB; gives its orientation with it.
///
/// # Errors
/// Too large by any of its headers, cut off, or damaged.
pub(super) fn decode(bytes: &[u8]) -> Result<(RgbImage, Orientation), DecodeError> {
    let damaged = |problem: String| DecodeError::Damaged { format: Format::WebP, problem };
    let failed = |error: DecodingError| damaged(error.to_string());
    check_lossy_frames(bytes)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    // No chunk is longer than the file. Without a limit one that says it had 4 GB would get them.
    decoder.set_memory_limit(bytes.len());
    let (width, height) = decoder.dimensions();
    check_dimensions(width.into(), height.into())?;
    let orientation = orientation(decoder.exif_metadata().map_err(failed)?.as_deref());
    let length = decoder.output_buffer_size().unwrap_or_default();
    let mut pixels = vec![0; length];
    decoder.read_image(&mut pixels).map_err(failed)?;
    let rgb = if decoder.has_alpha() { without_alpha(&pixels) } else { pixels };
    let image = RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| damaged("the decoder gave too few pixels".to_owned()))?;
    Ok((image, orientation))
}

/// Refuses a file in which a lossy frame is too large, whatever size the file claims for the whole: the decoder compares the two only after it
/// has decoded the frame. Found by how a frame begins (RFC 9649, section 2.5; RFC 6386, section 9.1), so that it does not matter where a decoder
/// looks for frames.
fn check_lossy_frames(bytes: &[u8]) -> Result<(), DecodeError> {
    for window in bytes.windows(18) {
        if let [b'V', b'P', b'8', b' ', _, _, _, _, _, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *window {
            // The upper two bits say how a player should scale it.
            let edge = |low, high| u64::from(u16::from_le_bytes([low, high]) & 0x3fff);
            check_dimensions(edge(w0, w1), edge(h0, h1))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{decode, vectors};
    use super::*;

    /// A chunk of RIFF.
    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap();
        let mut chunk = [&name[..], &length.to_le_bytes(), data].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    }

    /// A file in the extended format with a canvas of 24 x 17.
    fn extended(flags: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
        let header = chunk(b"VP8X", &[flags, 0, 0, 0, 23, 0, 0, 16, 0, 0]);
        chunk(b"RIFF", &[&b"WEBP"[..], &header, &chunks.concat()].concat())
    }

    /// A lossy frame of 24 x 17, without the head of its chunk.
    fn lossy_frame() -> Vec<u8> {
        let file = vectors::all().decoded.into_iter().find(|row| row.name == "WebP").unwrap().image;
        assert_eq!(&file[12..16], b"VP8 ");
        let length = u32::from_le_bytes(file[16..20].try_into().unwrap());
        file[20..20 + usize::try_from(length).unwrap()].to_vec()
    }

    #[test]
    fn a_frame_larger_than_its_canvas_is_not_decoded() {
        let mut frame = lossy_frame();
        assert!(decode(&extended(0, &[chunk(b"VP8 ", &frame)])).is_ok());
        frame[6..10].copy_from_slice(&[0xff, 0x3f, 0xff, 0x7f]);
        let too_large = DecodeError::TooLarge { width: 16_383, height: 16_383 };
        assert_eq!(decode(&extended(0, &[chunk(b"VP8 ", &frame)])), Err(too_large));
    }

    #[test]
    fn a_chunk_that_says_it_had_4_gb_does_not_get_them() {
        const EXIF: u8 = 8;
        let lie = [&b"EXIF"[..], &[0xff; 4]].concat();
        let error = decode(&extended(EXIF, &[chunk(b"VP8 ", &lossy_frame()), lie])).unwrap_err();
        assert!(error.to_string().contains("Memory limit"), "{error}");
    }

    #[test]
    fn an_animation_whose_frame_has_another_size_than_it_says_is_no_panic() {
        const ALPHA_AND_ANIMATION: u8 = 0x12;
        // At the left upper corner, 8 x 8, for a millisecond.
        let place = [0, 0, 0, 0, 0, 0, 7, 0, 0, 7, 0, 0, 1, 0, 0, 0];
        let uncompressed = chunk(b"ALPH", &[0; 1 + 8 * 8]);
        let frame = [&place[..], &uncompressed, &chunk(b"VP8 ", &lossy_frame())].concat();
        let file = extended(ALPHA_AND_ANIMATION, &[chunk(b"ANIM", &[0; 6]), chunk(b"ANMF", &frame)]);
        assert!(matches!(decode(&file), Err(DecodeError::Damaged { .. })));
    }
}
