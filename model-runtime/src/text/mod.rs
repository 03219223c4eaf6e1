//! From text to tokens: `tokenizer.json` through the tokenizers library, with offsets in characters.

mod pool;
mod tokenizer;

pub use pool::TextPool;
pub use tokenizer::{TextTokenizer, Token, Tokenized, TokenizerError};
