//! RGB pixels to the model's input: resize, cut out the middle, rescale, normalise; each step as transformers does it.

use std::ops::Range;

use ::image::RgbImage;

use super::resample::{Filter, Window, resize};

/// Of the result; models of images that take larger ones do not exist, and a slip of the pen must not cost gigabytes.
const MAX_EDGE: usize = 4096;

/// How a model wants its images; every image becomes `[3, height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    resizing: Option<(Resizing, Filter)>,
    height: usize,
    width: usize,
    /// What each of the 256 values of a channel becomes: red, green, blue.
    values: [Vec<f32>; 3],
}

/// The steps that change an image's size; each may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) resizing: Option<(Resizing, Filter)>,
    pub(super) crop: Option<Crop>,
}

/// How large an image is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resizing {
    /// Just so, whatever that does to its shape.
    To { height: usize, width: usize },
    /// The shorter edge so long, the longer one in proportion.
    ShortestEdge(usize),
}

/// What is cut out of the middle. An image that is smaller is framed in black.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crop {
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Preprocessor {
    /// The steps in their order; a step that is `None` is left out.
    ///
    /// # Errors
    /// The images would differ in size, so that they fit in no batch, or the size is none that can be worked with.
    pub(super) fn new(
        geometry: Geometry,
        rescale_factor: Option<f64>,
        normalization: Option<([f64; 3], [f64; 3])>,
    ) -> Result<Self, String> {
        let Geometry { resizing, crop } = geometry;
        let (height, width) = match (resizing, crop) {
            (_, Some(Crop { height, width })) | (Some((Resizing::To { height, width }, _)), None) => {
                (height, width)
            }
            (Some((Resizing::ShortestEdge(_), _)) | None, None) => {
                return Err(
                    "images would keep different sizes; it must crop, or resize to a height and a width"
                        .to_owned(),
                );
            }
        };
        let resized = match resizing {
            Some((Resizing::To { height, width }, _)) => [height, width],
            Some((Resizing::ShortestEdge(edge), _)) => [edge, edge],
            None => [height, width],
        };
        if let Some(edge) =
            resized.into_iter().chain([height, width]).find(|edge| !(1..=MAX_EDGE).contains(edge))
        {
            return Err(format!("it makes edges of {edge} pixels; 1 to {MAX_EDGE} are possible"));
        }
        // A channel has 256 values: a table gives what numpy would, in the same steps and the same precision.
        let table = |channel: usize| {
            let value = |sample: u8| {
                let rescaled =
                    rescale_factor.map_or(f32::from(sample), |factor| (f64::from(sample) * factor) as f32);
                let of = |values: &[f64; 3]| values.get(channel).copied().unwrap_or_default() as f32;
                normalization.as_ref().map_or(rescaled, |(mean, std)| (rescaled - of(mean)) / of(std))
            };
            (0..=u8::MAX).map(value).collect()
        };
        Ok(Self { resizing, height, width, values: [table(0), table(1), table(2)] })
    }

    /// The height of what the model gets.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The width of what the model gets.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The model's input for this image: `3 * height * width` numbers, channel by channel, row by row.
    pub fn run(&self, image: &RgbImage) -> Vec<f32> {
        let (height, width) = (image.height() as usize, image.width() as usize);
        let (resized_height, resized_width, filter) = match self.resizing {
            Some((Resizing::To { height, width }, filter)) => (height, width, filter),
            Some((Resizing::ShortestEdge(edge), filter)) => {
                let (height, width) = in_proportion(height, width, edge);
                (height, width, filter)
            }
            None => (height, width, Filter::Nearest),
        };
        let (rows, top) = middle(resized_height, self.height);
        let (columns, left) = middle(resized_width, self.width);
        let (down, across) = (rows.wanted.len(), columns.wanted.len());
        let pixels = resize(image, &columns, &rows, filter);
        let mut planes = Vec::with_capacity(3 * self.height * self.width);
        for (channel, values) in self.values.iter().enumerate() {
            let value = |sample: u8| values.get(usize::from(sample)).copied().unwrap_or_default();
            let black = value(0);
            planes.resize(planes.len() + top * self.width, black);
            for row in pixels.chunks_exact((3 * across).max(1)).take(down) {
                planes.resize(planes.len() + left, black);
                planes.extend(row.iter().skip(channel).step_by(3).map(|&sample| value(sample)));
                planes.resize(planes.len() + self.width - left - across, black);
            }
            planes.resize(planes.len() + (self.height - top - down) * self.width, black);
        }
        planes
    }
}

/// Height and width with the shorter edge `edge` long; the longer one is cut off to whole pixels, in the floating point of Python.
fn in_proportion(height: usize, width: usize, edge: usize) -> (usize, usize) {
    let (short, long) = (height.min(width), height.max(width));
    let longer = ((edge * long) as f64 / short as f64) as usize;
    if width <= height { (longer, edge) } else { (edge, longer) }
}

/// The middle of an axis: what is taken of it, and how much is empty before that where the axis is too short.
fn middle(length: usize, wanted: usize) -> (Window, usize) {
    let taken: Range<usize> = if length >= wanted {
        let start = (length - wanted) / 2;
        start..start + wanted
    } else {
        0..length
    };
    (Window { length, wanted: taken }, wanted.saturating_sub(length).div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_rest_is_cut_or_framed_as_numpy_rounds() {
        assert_eq!(middle(10, 7), (Window { length: 10, wanted: 1..8 }, 0));
        assert_eq!(middle(7, 10), (Window { length: 7, wanted: 0..7 }, 2));
        assert_eq!(middle(8, 8), (Window { length: 8, wanted: 0..8 }, 0));
    }

    #[test]
    fn proportions_are_kept_and_the_longer_edge_cut_off_to_whole_pixels() {
        assert_eq!(in_proportion(300, 451, 256), (256, 384));
        assert_eq!(in_proportion(451, 300, 256), (384, 256));
        assert_eq!(in_proportion(5, 5, 256), (256, 256));
    }

    #[test]
    fn images_of_different_sizes_are_no_batch_and_are_refused() {
        let only = |resizing, crop| Preprocessor::new(Geometry { resizing, crop }, None, None);
        assert!(only(None, None).unwrap_err().contains("different sizes"));
        let shortest = Some((Resizing::ShortestEdge(224), Filter::Bicubic));
        assert!(only(shortest, None).unwrap_err().contains("different sizes"));
        assert!(only(shortest, Some(Crop { height: 224, width: 0 })).unwrap_err().contains("edges of 0"));
        assert!(
            only(Some((Resizing::ShortestEdge(1 << 20), Filter::Box)), Some(Crop { height: 1, width: 1 }))
                .is_err()
        );
    }
}
