//! `tokenizer.json`: text in; ids for the model and places in the text out.

use std::path::{Path, PathBuf};

use tokenizers::{Decoder as _, Encoding, Model as _, ModelWrapper, Tokenizer, TruncationParams};

use crate::backend::TokenIds;
use crate::task::token_classification::JoinTokens;

/// A token that stands for a piece of the text (special tokens do not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its place among the model's inputs.
    pub index: usize,
    /// The token as the vocabulary writes it.
    pub word: String,
    /// Where its text starts, in characters (Unicode code points, as in Python).
    pub start: usize,
    /// Where its text ends, in characters.
    pub end: usize,
    /// Whether it belongs to the same word as the token before it.
    pub continues_word: bool,
}

/// One text, tokenised.
#[derive(Debug, Clone)]
pub struct Tokenized {
    /// For the model.
    pub ids: TokenIds,
    /// The tokens that stand for text.
    pub tokens: Vec<Token>,
    /// Whether the end of the text was cut off.
    pub truncated: bool,
}

/// The tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use `{}`: {problem}", path.display())]
pub struct TokenizerError {
    path: PathBuf,
    problem: String,
}

/// A loaded tokenizer that truncates at a fixed length and never pads.
#[derive(Debug)]
pub struct TextTokenizer {
    inner: Tokenizer,
    max_length: usize,
    /// The id of the token for what the vocabulary does not have.
    unknown: Option<u32>,
    /// Whether the vocabulary marks tokens that continue a word (`##`), so that the tokenizer knows words.
    knows_words: bool,
}

impl TextTokenizer {
    /// Reads `tokenizer.json`; texts will be cut to `max_length` tokens, special ones included.
    pub fn load(path: &Path, max_length: usize) -> Result<Self, TokenizerError> {
        let problem = |problem: String| TokenizerError { path: path.to_owned(), problem };
        let mut inner = Tokenizer::from_file(path).map_err(|error| problem(error.to_string()))?;
        // Padding is done batch by batch, in the backend.
        inner.with_padding(None);
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        inner.with_truncation(Some(truncation)).map_err(|error| problem(error.to_string()))?;
        let model = inner.get_model();
        let (unknown, prefix) = match model {
            ModelWrapper::WordPiece(model) => {
                (Some(model.unk_token.clone()), Some(&model.continuing_subword_prefix))
            }
            ModelWrapper::BPE(model) => (model.unk_token.clone(), model.continuing_subword_prefix.as_ref()),
            ModelWrapper::WordLevel(model) => (Some(model.unk_token.clone()), None),
            ModelWrapper::Unigram(_) => (None, None),
        };
        let knows_words = prefix.is_some_and(|prefix| !prefix.is_empty());
        let unknown = unknown.and_then(|token| model.token_to_id(&token));
        Ok(Self { inner, max_length, unknown, knows_words })
    }

    /// Tokenises one text.
    pub fn encode(&self, text: &str) -> Result<Tokenized, String> {
        let encoding = self.inner.encode_char_offsets(text, true).map_err(|error| error.to_string())?;
        let wide = |values: &[u32]| values.iter().map(|&value| i64::from(value)).collect();
        let ids = TokenIds {
            ids: wide(encoding.get_ids()),
            mask: wide(encoding.get_attention_mask()),
            types: wide(encoding.get_type_ids()),
        };
        let truncated = !encoding.get_overflowing().is_empty();
        Ok(Tokenized { ids, tokens: self.tokens(text, &encoding), truncated })
    }

    /// Texts are cut to so many tokens, special ones included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The size of the vocabulary.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    fn tokens(&self, text: &str, encoding: &Encoding) -> Vec<Token> {
        // Characters by number are needed only for some tokens; most texts never look.
        let characters = std::cell::OnceCell::new();
        let characters = || characters.get_or_init(|| text.chars().collect::<Vec<char>>()).as_slice();
        let (offsets, words) = (encoding.get_offsets(), encoding.get_word_ids());
        let special = encoding.get_special_tokens_mask();
        let mut tokens: Vec<Token> = Vec::with_capacity(offsets.len());
        let mut last_word = None;
        for (index, ((&(start, end), &word_id), &special)) in
            offsets.iter().zip(words).zip(special).enumerate()
        {
            if special != 0 {
                last_word = None;
                continue;
            }
            let mut word = encoding.get_tokens().get(index).cloned().unwrap_or_default();
            let mut continues_word = if self.knows_words {
                word_id.is_some() && word_id == last_word
            } else {
                !starts_after_space(characters(), start)
            };
            if encoding.get_ids().get(index).copied() == self.unknown && self.unknown.is_some() {
                word = characters().get(start..end).unwrap_or_default().iter().collect();
                continues_word = false;
            }
            last_word = word_id;
            tokens.push(Token { index, word, start, end, continues_word });
        }
        tokens
    }
}

/// For vocabularies that know no words: a word starts the text, or has a space just before it or as its first character.
fn starts_after_space(characters: &[char], start: usize) -> bool {
    start == 0
        || characters
            .get(start - 1..)
            .is_some_and(|rest| rest.iter().take(2).any(|character| *character == ' '))
}

impl JoinTokens for TextTokenizer {
    fn join(&self, tokens: Vec<String>) -> String {
        match self.inner.get_decoder() {
            Some(decoder) => decoder.decode(tokens.clone()).unwrap_or_else(|_| tokens.join(" ")),
            None => tokens.join(" "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small BERT tokenizer: lower-cases, strips accents, splits punctuation and CJK.
    const WORD_PIECES: &str = r###"{"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [
            {"id": 0, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 1, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 2, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 3, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "zo": 4, "##e": 5, "andre": 6, "nunez": 7, "東": 8, "京": 9, "lives": 10, ".": 11}}}"###;

    fn tokenizer(max_length: usize) -> TextTokenizer {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), WORD_PIECES).unwrap();
        TextTokenizer::load(file.path(), max_length).unwrap()
    }

    /// Each token with the text it points at.
    fn tokens(text: &str) -> Vec<(String, String, bool)> {
        let characters: Vec<char> = text.chars().collect();
        let tokenized = tokenizer(512).encode(text).unwrap();
        let pointed = |token: &Token| characters[token.start..token.end].iter().collect();
        tokenized
            .tokens
            .iter()
            .map(|token| (token.word.clone(), pointed(token), token.continues_word))
            .collect()
    }

    fn token(word: &str, text: &str, continues_word: bool) -> (String, String, bool) {
        (word.to_owned(), text.to_owned(), continues_word)
    }

    #[test]
    fn offsets_count_characters_after_emoji_and_cjk() {
        assert_eq!(
            tokens("👩‍🚀🇩🇪 Zoë 東京."),
            [
                token("👩‍🚀🇩🇪", "👩‍🚀🇩🇪", false),
                token("zo", "Zo", false),
                token("##e", "ë", true),
                token("東", "東", false),
                token("京", "京", false),
                token(".", ".", false)
            ]
        );
    }

    #[test]
    fn a_word_with_combining_marks_is_not_glued_to_the_word_before() {
        let found = tokens("Andre\u{301} Nu\u{303}n\u{303}ez");
        assert_eq!(found, [token("andre", "Andre", false), token("nunez", "Nu\u{303}n\u{303}ez", false)]);
    }

    #[test]
    fn an_unknown_word_is_shown_as_the_text_has_it() {
        assert_eq!(tokens("Xyzzy lives"), [token("Xyzzy", "Xyzzy", false), token("lives", "lives", false)]);
    }

    #[test]
    fn truncation_keeps_the_closing_special_token_and_is_reported() {
        let cut = tokenizer(4).encode("zo zo zo zo").unwrap();
        assert_eq!(cut.ids.ids, [2, 4, 4, 3]);
        assert!(cut.truncated);
        let whole = tokenizer(4).encode("zo zo").unwrap();
        assert!(!whole.truncated);
    }

    #[test]
    fn a_text_without_anything_to_say_has_no_tokens() {
        for empty in ["", "   ", "\u{200b}", "\u{0}"] {
            assert!(tokenizer(8).encode(empty).unwrap().tokens.is_empty(), "{empty:?}");
        }
    }

    #[test]
    fn a_damaged_tokenizer_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{").unwrap();
        let error = TextTokenizer::load(file.path(), 8).unwrap_err().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }

    #[test]
    fn without_sub_word_marks_words_are_told_by_spaces() {
        let text: Vec<char> = "in Paris".chars().collect();
        assert!(starts_after_space(&text, 0) && starts_after_space(&text, 2) && starts_after_space(&text, 3));
        assert!(!starts_after_space(&text, 4) && !starts_after_space(&text, 1));
    }
}
