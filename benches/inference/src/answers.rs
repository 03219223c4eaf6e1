//! Whether an answer is right: the entities that every server must find in a text, whatever its way to write them.

use anyhow::Context as _;
use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Deserialize;

use crate::load::Answer;

/// Batches of another shape sum in another order.
const TOLERANCE: f64 = 1e-3;

/// What counts of an entity. How its text is spelt (`word`) is each server's own affair.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Entity {
    entity_group: String,
    score: f64,
    start: usize,
    end: usize,
}

/// How two servers' entities of one text compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    Equal,
    /// The same entities, surer or less sure.
    OtherScores,
    Different,
}

/// What came of comparing answers.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// How many have the same entities.
    pub(crate) same: usize,
    /// The first of those that are not equal in everything.
    pub(crate) first_difference: Option<String>,
}

/// The entities of an answer, if it is one.
pub(crate) fn read(status: StatusCode, body: &Bytes) -> anyhow::Result<Vec<Entity>> {
    anyhow::ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(body));
    serde_json::from_slice(body).with_context(|| String::from_utf8_lossy(body).into_owned())
}

/// Fails at an answer that is none. `expected` is by the number of the text.
pub(crate) fn compare(answers: &[Answer], expected: &[Vec<Entity>]) -> anyhow::Result<Comparison> {
    let mut comparison = Comparison::default();
    for answer in answers {
        let found = read(answer.status, &answer.body)?;
        let wanted = expected.get(answer.number).context("an answer to no question")?;
        let likeness = likeness(&found, wanted);
        comparison.same += usize::from(likeness != Likeness::Different);
        if likeness != Likeness::Equal && comparison.first_difference.is_none() {
            comparison.first_difference =
                Some(format!("text {}: {found:?} instead of {wanted:?}", answer.number));
        }
    }
    Ok(comparison)
}

fn likeness(found: &[Entity], wanted: &[Entity]) -> Likeness {
    let pairs = || found.iter().zip(wanted);
    let place = |entity: &Entity| (entity.entity_group.clone(), entity.start, entity.end);
    if found.len() != wanted.len() || pairs().any(|(one, other)| place(one) != place(other)) {
        Likeness::Different
    } else if pairs().any(|(one, other)| (one.score - other.score).abs() > TOLERANCE) {
        Likeness::OtherScores
    } else {
        Likeness::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(answer: &str) -> anyhow::Result<Comparison> {
        let expected = br#"[{"entity_group": "NAME", "score": 0.9, "word": "Zoe", "start": 0, "end": 3}]"#;
        let expected = read(StatusCode::OK, &Bytes::from_static(expected))?;
        let body = Bytes::copy_from_slice(answer.as_bytes());
        compare(&[Answer { number: 0, status: StatusCode::OK, body }], &[expected])
    }

    #[test]
    fn the_spelling_of_a_word_and_the_last_digits_of_a_score_do_not_matter() {
        let same =
            compared(r#"[{"entity_group": "NAME", "score": 0.9001, "word": "zoe", "start": 0, "end": 3}]"#)
                .unwrap();
        assert_eq!((same.same, same.first_difference), (1, None));
    }

    #[test]
    fn another_score_is_told_though_the_entities_are_the_same() {
        let surer = compared(r#"[{"entity_group": "NAME", "score": 0.95, "start": 0, "end": 3}]"#).unwrap();
        assert_eq!((surer.same, surer.first_difference.is_some()), (1, true));
    }

    #[test]
    fn a_missing_entity_or_another_place_is_a_difference() {
        for answer in ["[]", r#"[{"entity_group": "NAME", "score": 0.9, "start": 0, "end": 4}]"#] {
            let other = compared(answer).unwrap();
            assert_eq!((other.same, other.first_difference.is_some()), (0, true), "{answer}");
        }
    }

    #[test]
    fn an_error_in_json_is_no_answer() {
        assert!(compared(r#"{"error": "overloaded"}"#).is_err());
        assert!(read(StatusCode::SERVICE_UNAVAILABLE, &Bytes::from_static(b"[]")).is_err());
    }
}
