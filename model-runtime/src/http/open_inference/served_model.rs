//! The one model that is served, by the names that paths call it.

use super::super::error::ApiError;
use crate::loading::LoadedModel;

/// What Triton calls the first version of a model, for models that say nothing of theirs.
const FIRST_VERSION: &str = "1";

/// The name and the version of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServedModel<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
}

impl<'a> ServedModel<'a> {
    pub(super) fn of(model: &'a LoadedModel) -> Self {
        let description = &model.description;
        Self {
            name: description.name(),
            version: description.card.version.as_deref().unwrap_or(FIRST_VERSION),
        }
    }

    /// This model, if it is the one that a path names.
    ///
    /// # Errors
    /// It is another, or another version.
    pub(super) fn asked_for(self, path: &ModelPath) -> Result<Self, ApiError> {
        let is_this =
            path.name == self.name && path.version.as_deref().is_none_or(|version| version == self.version);
        if is_this {
            return Ok(self);
        }
        let version =
            path.version.as_deref().map(|version| format!(" version {version}")).unwrap_or_default();
        Err(ApiError::NoSuchModel {
            asked: format!("{}{version}", path.name),
            served: format!("`{}` version {}", self.name, self.version),
        })
    }
}

/// `/v2/models/{name}[/versions/{version}]`.
#[derive(Debug, serde::Deserialize)]
pub(in crate::http) struct ModelPath {
    name: String,
    version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_or_version_is_told_which_is_served() {
        let ner = ServedModel { name: "ner", version: "1.4" };
        let asked = |name: &str, version: Option<&str>| {
            ner.asked_for(&ModelPath { name: name.to_owned(), version: version.map(str::to_owned) })
        };
        assert!(asked("ner", None).is_ok() && asked("ner", Some("1.4")).is_ok());
        let error = asked("ner", Some("2")).unwrap_err().to_string();
        assert!(error.contains("`ner version 2`") && error.contains("`ner` version 1.4"), "{error}");
        assert!(asked("NER", None).is_err());
    }
}
