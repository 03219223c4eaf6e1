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
