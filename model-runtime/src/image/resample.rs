//! Resizing, to the bit as Pillow does it (`Resample.c` and `Geometry.c` of Pillow 11).
//!
//! Pillow convolves rows, then columns, with weights in fixed point of 22 bits and a filter that widens with the reduction
//! (antialiasing), each pass rounded to 8 bits. Faster libraries use coarser weights: they differ in the last bit.
//!
//! Only the pixels inside a [`Window`] of the result are computed. So an image a thousand times as wide as high costs no
//! more than another when its middle is all that is wanted.

use std::f64::consts::PI;
use std::ops::Range;

use ::image::RgbImage;

const CHANNELS: usize = 3;
/// Of the weights; what 32 bits leave beside 8 of the sample, a sign, and one for weights that overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// How a pixel is made from its neighbours; the numbers are Pillow's `Resampling`, which `preprocessor_config.json` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// 0
    Nearest,
    /// 1
    Lanczos,
    /// 2
    Bilinear,
    /// 3
    Bicubic,
    /// 4
    Box,
    /// 5
    Hamming,
}

impl Filter {
    /// The filter that Pillow gives this number.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Nearest,
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            4 => Self::Box,
            5 => Self::Hamming,
            _ => return None,
        })
    }

    /// How far it reaches, in pixels of the smaller image.
    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            // Half open, so that a pixel between two counts once.
            Self::Nearest | Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - distance).max(0.0),
            Self::Hamming if distance == 0.0 => 1.0,
            Self::Hamming if distance >= 1.0 => 0.0,
            Self::Hamming => {
                let x = distance * PI;
                x.sin() / x * (0.54 + 0.46 * x.cos())
            }
            Self::Bicubic => {
                const A: f64 = -0.5;
                if distance < 1.0 {
                    ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0
                } else if distance < 2.0 {
                    (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A
                } else {
                    0.0
                }
            }
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    x.sin() / x
}

/// What is wanted of one axis of the resized image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// How long the axis would be, all of it.
    pub(super) length: usize,
    /// Which of its pixels are wanted; within `0..length`.
    pub(super) wanted: Range<usize>,
}

/// The wanted part of `image` resized to `columns.length` by `rows.length`, row by row, three bytes a pixel.
pub(super) fn resize(image: &RgbImage, columns: &Window, rows: &Window, filter: Filter) -> Vec<u8> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    // As Pillow: an axis that keeps its length is not filtered.
    let across = Axis::new(width, columns, filter);
    let down = Axis::new(height, rows, filter);
    let needed = down.reach();
    let stride = width * CHANNELS;
    let source = image.as_raw().get(needed.start * stride..needed.end * stride).unwrap_or_default();
    let narrow = across.of_rows(source, stride);
    down.of_columns(&narrow, columns.wanted.len() * CHANNELS, needed.start)
}

/// For each wanted pixel of one axis, where it comes from.
enum Axis {
    /// Each from one pixel.
    Picked(Vec<usize>),
    /// Each from several neighbours.
    Weighed(Vec<Taps>),
}

/// The neighbours that make one pixel: the first one's place, and all their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Axis {
    fn new(source: usize, window: &Window, filter: Filter) -> Self {
        if source == window.length {
            return Self::Picked(window.wanted.clone().collect());
        }
        let scale = source as f64 / window.length as f64;
        if filter == Filter::Nearest {
            // Added up step by step, as Pillow does: its rounding decides between two neighbours.
            let mut place = scale * 0.5;
            let places = std::iter::repeat_with(|| {
                let here = place as usize;
                place += scale;
                here.min(source - 1)
            });
            let wanted = window.wanted.clone();
            return Self::Picked(places.take(wanted.end).skip(wanted.start).collect());
        }
        Self::Weighed(window.wanted.clone().map(|pixel| Taps::new(source, scale, pixel, filter)).collect())
    }

    /// The pixels of the source that are looked at.
    fn reach(&self) -> Range<usize> {
        let (start, end) = match self {
            Self::Picked(places) => (places.iter().min().copied(), places.iter().max().map(|last| last + 1)),
            Self::Weighed(taps) => (
                taps.iter().map(|taps| taps.first).min(),
                taps.iter().map(|taps| taps.first + taps.weights.len()).max(),
            ),
        };
        start.unwrap_or(0)..end.unwrap_or(0)
    }

    /// Resizes each row of `stride` bytes.
    fn of_rows(&self, rows: &[u8], stride: usize) -> Vec<u8> {
        let pixels = |row: &[u8]| -> Vec<u8> {
            let (row, _) = row.as_chunks::<CHANNELS>();
            match self {
                Self::Picked(places) => {
                    places.iter().filter_map(|&place| row.get(place)).flatten().copied().collect()
                }
                Self::Weighed(taps) => taps
                    .iter()
                    .flat_map(|Taps { first, weights }| {
                        let mut sums = [HALF; CHANNELS];
                        for (pixel, &weight) in row.iter().skip(*first).zip(weights) {
                            for (sum, &sample) in sums.iter_mut().zip(pixel) {
                                *sum += i32::from(sample) * weight;
                            }
                        }
                        sums.map(rounded)
                    })
                    .collect(),
            }
        };
        rows.chunks_exact(stride.max(1)).flat_map(pixels).collect()
    }

    /// Resizes the columns of rows of `stride` bytes, the first of which is row `first_row` of the source.
    fn of_columns(&self, rows: &[u8], stride: usize, first_row: usize) -> Vec<u8> {
        let row = |place: usize| {
            let start = (place - first_row) * stride;
            rows.get(start..start + stride).unwrap_or_default()
        };
        match self {
            Self::Picked(places) => places.iter().flat_map(|&place| row(place)).copied().collect(),
            Self::Weighed(taps) => taps
                .iter()
                .flat_map(|Taps { first, weights }| {
                    // Row by row, so that memory is read in order.
                    let mut sums = vec![HALF; stride];
                    for (place, &weight) in weights.iter().enumerate() {
                        for (sum, &sample) in sums.iter_mut().zip(row(first + place)) {
                            *sum += i32::from(sample) * weight;
                        }
                    }
                    sums.into_iter().map(rounded)
                })
                .collect(),
        }
    }
}

impl Taps {
    /// What makes the pixel number `pixel` of an axis that is `scale` times shorter than its source of `source` pixels.
    fn new(source: usize, scale: f64, pixel: usize, filter: Filter) -> Self {
        let widened = scale.max(1.0);
        let support = filter.support() * widened;
        let center = (pixel as f64 + 0.5) * scale;
        // Conversions cut off, and what is negative becomes 0.
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(source);
        let exact: Vec<f64> = (first..end)
            .map(|place| filter.weight((place as f64 - center + 0.5) * (1.0 / widened)))
            .collect();
        let sum: f64 = exact.iter().sum();
        let one = f64::from(1 << PRECISION_BITS);
        let fixed = |weight: f64| {
            let weight = if sum == 0.0 { weight } else { weight / sum };
            (weight * one + 0.5_f64.copysign(weight)) as i32
        };
        Self { first, weights: exact.into_iter().map(fixed).collect() }
    }
}

/// A sum of weighted samples as a sample, what overshoots cut off.
fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::super::vectors;
    use super::*;

    #[test]
    fn every_filter_gives_the_bytes_that_pillow_gives() {
        let vectors = vectors::all();
        let photo = vectors.photo();
        assert_eq!(vectors.resized.len(), 6 * 7);
        for row in &vectors.resized {
            let whole = |length| Window { length, wanted: 0..length };
            let filter = Filter::from_number(row.filter).unwrap();
            let ours = resize(&photo, &whole(row.width), &whole(row.height), filter);
            let different = ours.iter().zip(&row.rgb).filter(|(ours, theirs)| ours != theirs).count();
            assert_eq!(
                (different, ours.len()),
                (0, row.rgb.len()),
                "{filter:?} to {} x {}",
                row.width,
                row.height
            );
        }
    }

    #[test]
    fn a_window_is_that_part_of_the_whole() {
        let photo = vectors::all().photo();
        for filter in [Filter::Nearest, Filter::Bicubic] {
            let whole = resize(
                &photo,
                &Window { length: 40, wanted: 0..40 },
                &Window { length: 31, wanted: 0..31 },
                filter,
            );
            let part = resize(
                &photo,
                &Window { length: 40, wanted: 13..29 },
                &Window { length: 31, wanted: 8..20 },
                filter,
            );
            let cut: Vec<u8> =
                (8..20).flat_map(|row| &whole[(row * 40 + 13) * 3..(row * 40 + 29) * 3]).copied().collect();
            assert_eq!(part, cut, "{filter:?}");
        }
    }

    #[test]
    fn the_middle_of_an_endless_strip_costs_little() {
        let strip = RgbImage::from_pixel(65_000, 1, ::image::Rgb([7, 8, 9]));
        let length = 224 * 65_000;
        let columns = Window { length, wanted: length / 2..length / 2 + 224 };
        let pixels = resize(&strip, &columns, &Window { length: 224, wanted: 0..224 }, Filter::Bicubic);
        assert_eq!(pixels, [7, 8, 9].repeat(224 * 224));
    }
}
