//! What models do: from numbers to the answer. Pure.

pub mod classification;
pub mod feature_extraction;
mod kind;
pub mod token_classification;

pub use classification::Function;
pub use feature_extraction::Pooling;
pub use kind::TaskKind;
pub use token_classification::Strategy;

/// What the model does with its input, and how unless a request says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Labels tokens.
    TokenClassification {
        /// How tokens become entities.
        aggregation: Strategy,
    },
    /// Labels the text.
    TextClassification {
        /// How logits become scores.
        function: Function,
    },
    /// Vectors.
    FeatureExtraction {
        /// How the tokens' vectors become the text's.
        pooling: Pooling,
        /// Whether vectors are given the length 1.
        normalize: bool,
    },
    /// Labels the image.
    ImageClassification {
        /// How logits become scores.
        function: Function,
    },
    /// Whatever its tensors mean.
    Tensors,
}

impl Task {
    /// Which task it is.
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::TokenClassification { .. } => TaskKind::TokenClassification,
            Self::TextClassification { .. } => TaskKind::TextClassification,
            Self::FeatureExtraction { .. } => TaskKind::FeatureExtraction,
            Self::ImageClassification { .. } => TaskKind::ImageClassification,
            Self::Tensors => TaskKind::Tensors,
        }
    }
}

/// Probabilities that sum up to 1. The highest logit is taken off first, so that nothing overflows.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut scores: Vec<f32> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
    scores
}
