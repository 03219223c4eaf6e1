//! How tokens become entities: Hugging Face's five aggregation strategies.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How tokens become entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Each token for itself
    None,
    /// Neighbouring tokens with the same label form an entity
    Simple,
    /// A word has the label of its first token
    First,
    /// A word has the label with the best mean score over its tokens
    Average,
    /// A word has the label of its surest token
    Max,
}

impl Strategy {
    /// The strategy of this name; names are taken in any case, as Hugging Face does.
    pub fn from_name(name: &str) -> Option<Self> {
        <Self as ValueEnum>::from_str(name, true).ok()
    }

    /// The strategy's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Simple => "simple",
            Self::First => "first",
            Self::Average => "average",
            Self::Max => "max",
        }
    }
}
