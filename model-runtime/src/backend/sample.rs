//! What goes into the model: one row of a batch.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::LazyLock;

use super::Array;
use crate::batcher::Size;

/// One text as the model takes it. The three rows are equally long and never empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenIds {
    /// The tokens.
    pub ids: Vec<i64>,
    /// 1 where there is a token.
    pub mask: Vec<i64>,
    /// The segment of each token.
    pub types: Vec<i64>,
}

impl TokenIds {
    /// `length` tokens of the number `id`, for warm-up.
    pub fn filler(id: i64, length: usize) -> Self {
        Self { ids: vec![id; length], mask: vec![1; length], types: vec![0; length] }
    }

    /// How many tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// One row of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sample {
    /// A text; in a batch it is padded to the longest.
    Tokens(TokenIds),
    /// An array for each input of the model, without the dimension of the batch: an image, or whatever a client sends. Only samples of the
    /// same shapes go together.
    Arrays(Vec<Array>),
}

impl Sample {
    /// What the batcher goes by. An array counts as one token: there is nothing to pad.
    pub fn size(&self) -> Size {
        match self {
            Self::Tokens(tokens) => Size { class: TEXTS, length: tokens.len() },
            Self::Arrays(arrays) => Size { class: class(arrays), length: 1 },
        }
    }
}

/// The class of all texts.
const TEXTS: u64 = 0;

/// The same number for the same datatypes and shapes. Different ones have different numbers but for a chance of 2^-64, which nobody can force
/// from outside; the model then refuses the batch, and each sample has its own chance.
fn class(arrays: &[Array]) -> u64 {
    static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let mut hasher = HASHES.build_hasher();
    for array in arrays {
        (array.datatype(), array.shape()).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::Datatype;
    use super::*;

    #[test]
    fn samples_of_one_shape_are_of_one_class() {
        let sample = |datatype, shape: &[usize]| {
            Sample::Arrays(vec![Array::zeros(datatype, shape.to_vec()).unwrap()]).size()
        };
        let size = sample(Datatype::Fp32, &[2, 3]);
        assert_eq!(size, sample(Datatype::Fp32, &[2, 3]));
        assert_ne!(size.class, sample(Datatype::Fp32, &[3, 2]).class);
        assert_ne!(size.class, sample(Datatype::Int32, &[2, 3]).class);
        assert_eq!(Sample::Tokens(TokenIds::filler(1, 7)).size(), Size { class: TEXTS, length: 7 });
    }
}
