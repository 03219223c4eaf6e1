//! What models do: from logits to the answer. Pure.

mod kind;
pub mod token_classification;

pub use kind::TaskKind;
pub use token_classification::Strategy;
