//! From scored tokens to words, and from words to entities.
//!
//! ```text
//!   tokens   Ma  ##ria   -   Jo  ##sé      B-PER B-PER I-PER I-PER O
//!   words    Maria       -   José          one label each, by the strategy (not for none and simple)
//!   groups   Maria-José                    neighbours of one label; a B- starts a new group
//! ```

use super::{Classifier, Entity, JoinTokens, Scored, Strategy};

/// A token or word with its one label.
#[derive(Debug, Clone)]
struct Labelled {
    label: String,
    score: f32,
    word: String,
    start: usize,
    end: usize,
}

impl<J: JoinTokens> Classifier<'_, J> {
    pub(super) fn aggregate(&self, scored: &[Scored<'_>], strategy: Strategy) -> Vec<Entity> {
        match strategy {
            Strategy::None => scored.iter().map(|token| self.single(token)).collect(),
            Strategy::Simple => self.group(scored.iter().map(|token| self.labelled(token)).collect()),
            Strategy::First | Strategy::Average | Strategy::Max => self.group(self.words(scored, strategy)),
        }
    }

    fn labelled(&self, scored: &Scored<'_>) -> Labelled {
        let (column, score) = best(&scored.scores);
        let token = scored.token;
        let label = self.label(column).to_owned();
        Labelled { label, score, word: token.word.clone(), start: token.start, end: token.end }
    }

    fn single(&self, scored: &Scored<'_>) -> Entity {
        let Labelled { label, score, word, start, end } = self.labelled(scored);
        let index = Some(scored.token.index);
        Entity { entity: Some(label), entity_group: None, score, index, word, start, end }
    }

    fn words(&self, scored: &[Scored<'_>], strategy: Strategy) -> Vec<Labelled> {
        let words = scored.chunk_by(|_, next| next.token.continues_word);
        words.filter_map(|word| self.word(word, strategy)).collect()
    }

    /// One label for the tokens of one word.
    fn word(&self, tokens: &[Scored<'_>], strategy: Strategy) -> Option<Labelled> {
        let (first, last) = (tokens.first()?, tokens.last()?);
        let (column, score) = match strategy {
            Strategy::Average => best(&mean(tokens)),
            // The first of equally sure tokens, as Python's max.
            Strategy::Max => tokens
                .iter()
                .map(|token| best(&token.scores))
                .reduce(|surest, next| if next.1 > surest.1 { next } else { surest })?,
            Strategy::First | Strategy::None | Strategy::Simple => best(&first.scores),
        };
        Some(Labelled {
            label: self.label(column).to_owned(),
            score,
            word: self.joiner.join(tokens.iter().map(|token| token.token.word.clone()).collect()),
            start: first.token.start,
            end: last.token.end,
        })
    }

    /// Joins neighbours of one label.
    fn group(&self, parts: Vec<Labelled>) -> Vec<Entity> {
        let groups = parts.chunk_by(|one, next| {
            let ((_, tag), (begins, next_tag)) = (split(&one.label), split(&next.label));
            tag == next_tag && !begins
        });
        groups.filter_map(|group| self.entity(group)).collect()
    }

    fn entity(&self, group: &[Labelled]) -> Option<Entity> {
        let (first, last) = (group.first()?, group.last()?);
        let sum: f32 = group.iter().map(|part| part.score).sum();
        Some(Entity {
            entity: None,
            entity_group: Some(first.label.split_once('-').map_or(&*first.label, |(_, tag)| tag).to_owned()),
            score: sum / group.len() as f32,
            index: None,
            word: self.joiner.join(group.iter().map(|part| part.word.clone()).collect()),
            start: first.start,
            end: last.end,
        })
    }
}

/// The best column and its score; the first one of equals.
fn best(scores: &[f32]) -> (usize, f32) {
    let start = (0, f32::NEG_INFINITY);
    scores
        .iter()
        .enumerate()
        .fold(start, |best, (column, &score)| if score > best.1 { (column, score) } else { best })
}

fn mean(tokens: &[Scored<'_>]) -> Vec<f32> {
    let mut sums = vec![0.0_f32; tokens.first().map_or(0, |token| token.scores.len())];
    for token in tokens {
        sums.iter_mut().zip(&token.scores).for_each(|(sum, score)| *sum += score);
    }
    sums.iter_mut().for_each(|sum| *sum /= tokens.len() as f32);
    sums
}

/// Whether a label begins an entity (`B-`), and its tag. Labels without prefix continue.
fn split(label: &str) -> (bool, &str) {
    match (label.strip_prefix("B-"), label.strip_prefix("I-")) {
        (Some(tag), _) => (true, tag),
        (None, Some(tag)) => (false, tag),
        (None, None) => (false, label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Granularity, Rows};
    use crate::text::Token;

    struct WordPieces;
    impl JoinTokens for WordPieces {
        fn join(&self, tokens: Vec<String>) -> String {
            tokens.join(" ").replace(" ##", "")
        }
    }

    const LABELS: [&str; 4] = ["O", "B-PER", "I-PER", "B-LOC"];

    /// Tokens with a favoured label each and the logit it gets over the others' 0.
    fn entities(strategy: Strategy, tokens: &[(&str, usize, f32)]) -> Vec<(String, String, usize, usize)> {
        let labels = LABELS.map(str::to_owned);
        let mut values = Vec::new();
        let mut list = Vec::new();
        let mut at = 0;
        for (index, &(word, label, logit)) in tokens.iter().enumerate() {
            let continues_word = word.starts_with("##");
            let length = word.trim_start_matches("##").len();
            at += usize::from(!continues_word && index > 0);
            list.push(Token { index, word: word.to_owned(), start: at, end: at + length, continues_word });
            at += length;
            values.extend((0..4).map(|column| if column == label { logit } else { 0.0 }));
        }
        let classifier = Classifier { labels: &labels, joiner: &WordPieces };
        let logits = Rows { values, columns: 4, granularity: Granularity::Token };
        let found = classifier.entities(&list, &logits, strategy, &["O".to_owned()]).unwrap();
        let name = |entity: &Entity| entity.entity.clone().or(entity.entity_group.clone()).unwrap();
        found.iter().map(|entity| (name(entity), entity.word.clone(), entity.start, entity.end)).collect()
    }

    fn entity(label: &str, word: &str, start: usize, end: usize) -> (String, String, usize, usize) {
        (label.to_owned(), word.to_owned(), start, end)
    }

    #[test]
    fn none_gives_each_token_its_full_label() {
        let found = entities(Strategy::None, &[("ma", 1, 5.0), ("##ria", 2, 5.0), ("went", 0, 5.0)]);
        assert_eq!(found, [entity("B-PER", "ma", 0, 2), entity("I-PER", "##ria", 2, 5)]);
    }

    #[test]
    fn simple_joins_neighbours_and_b_starts_anew() {
        let found = entities(
            Strategy::Simple,
            &[("ma", 1, 5.0), ("##ria", 2, 5.0), ("zoe", 1, 5.0), ("paris", 3, 5.0)],
        );
        assert_eq!(
            found,
            [entity("PER", "maria", 0, 5), entity("PER", "zoe", 6, 9), entity("LOC", "paris", 10, 15)]
        );
    }

    #[test]
    fn a_word_whose_tokens_disagree_is_settled_by_the_strategy() {
        let word = [("zo", 1, 2.0), ("##e", 3, 5.0), ("##x", 3, 0.5)];
        assert_eq!(entities(Strategy::First, &word), [entity("PER", "zoex", 0, 4)]);
        assert_eq!(entities(Strategy::Max, &word), [entity("LOC", "zoex", 0, 4)]);
        assert_eq!(entities(Strategy::Average, &word), [entity("LOC", "zoex", 0, 4)]);
        let simple = entities(Strategy::Simple, &word);
        assert_eq!(simple.len(), 3, "two B- labels in one word make two entities: {simple:?}");
    }

    #[test]
    fn an_o_between_two_parts_separates_them() {
        let found = entities(Strategy::First, &[("ann", 1, 5.0), ("and", 0, 5.0), ("bob", 2, 5.0)]);
        assert_eq!(found, [entity("PER", "ann", 0, 3), entity("PER", "bob", 8, 11)]);
    }

    #[test]
    fn labels_without_prefix_join_with_their_like() {
        assert_eq!(split("PER"), (false, "PER"));
        assert_eq!(split("B-PER-X"), (true, "PER-X"));
        assert!(entities(Strategy::Simple, &[]).is_empty());
    }
}
