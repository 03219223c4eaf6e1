//! Arrays of numbers as JSON: lists of lists, or one flat list in row-major order. Both protocols write numbers so.

mod read;
mod write;

pub(super) use read::{read_array, read_strings, shape_of};
pub(super) use write::{Flat, Nested, first_not_finite};

#[cfg(test)]
mod round_trips;
