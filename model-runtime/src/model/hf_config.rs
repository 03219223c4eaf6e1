//! The parts of Hugging Face's `config.json` that running a model needs.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `config.json`; its many other keys are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct HfConfig {
    /// `bert`, `roberta`, ….
    pub model_type: Option<String>,
    /// The model's classes, such as `BertForTokenClassification`.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// `single_label_classification`, `multi_label_classification` or `regression`.
    pub problem_type: Option<String>,
    /// Label number to label.
    #[serde(default)]
    pub id2label: BTreeMap<String, String>,
    /// How many positions the model was trained on.
    pub max_position_embeddings: Option<usize>,
    /// How many kinds of segment the model tells apart; 1 or absent means it takes no `token_type_ids`.
    pub type_vocab_size: Option<usize>,
    /// How many tokens the model has a vector for.
    pub vocab_size: Option<usize>,
    /// The token that fills up short rows.
    pub pad_token_id: Option<i64>,
}

impl HfConfig {
    /// The labels in the order of the model's outputs.
    pub fn labels(&self) -> Result<Vec<String>, String> {
        let mut labels = BTreeMap::new();
        for (id, label) in &self.id2label {
            let id: usize =
                id.parse().map_err(|_| format!("`id2label` has the key `{id}`, which is not a number"))?;
            labels.insert(id, label.clone());
        }
        if labels.is_empty() {
            return Err("`id2label` is missing or empty: export the model with its labels".to_owned());
        }
        if let Some(gap) = (0..labels.len()).find(|id| !labels.contains_key(id)) {
            return Err(format!("`id2label` has {} labels but none with the number {gap}", labels.len()));
        }
        Ok(labels.into_values().collect())
    }

    /// The longest sequence that the model takes, if the file says.
    pub fn longest_sequence(&self) -> Option<usize> {
        let positions = self.max_position_embeddings?;
        // The RoBERTa family counts positions from pad_token_id + 1 on.
        let family = ["roberta", "xlm-roberta", "camembert", "longformer", "mpnet"];
        let offset = match self.model_type.as_deref() {
            Some(kind) if family.contains(&kind) => {
                usize::try_from(self.pad_token_id.unwrap_or(1)).unwrap_or(1) + 1
            }
            _ => 0,
        };
        Some(positions.saturating_sub(offset)).filter(|length| *length > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> HfConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn labels_are_ordered_by_number_not_by_text() {
        let ids: Vec<String> = (0..12).map(|id| format!(r#""{id}": "L{id}""#)).collect();
        let labels = config(&format!(r#"{{"id2label": {{{}}}}}"#, ids.join(","))).labels().unwrap();
        assert_eq!(labels[10], "L10");
        assert_eq!(labels[2], "L2");
    }

    #[test]
    fn labels_with_a_gap_are_refused_by_number() {
        assert!(config(r#"{"id2label": {"0": "O", "2": "X"}}"#).labels().unwrap_err().contains("number 1"));
        assert!(config(r#"{"id2label": {"a": "O"}}"#).labels().unwrap_err().contains("`a`"));
        assert!(config("{}").labels().is_err());
    }

    #[test]
    fn the_roberta_family_loses_its_offset() {
        let bert = config(r#"{"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}"#);
        let roberta =
            config(r#"{"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}"#);
        assert_eq!(bert.longest_sequence(), Some(512));
        assert_eq!(roberta.longest_sequence(), Some(512));
    }
}
