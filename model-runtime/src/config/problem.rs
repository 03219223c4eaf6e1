//! What is wrong with a setting.

use serde::{Deserialize, Serialize};

/// A setting that cannot be taken, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The setting, as `runtime.toml` writes it.
    pub key: String,
    /// A sentence that names it, says what is wrong and what to do.
    pub problem: String,
}

impl Problem {
    /// A duration of nothing.
    pub(super) fn zero(key: &str) -> Self {
        let flag = key.replace('_', "-");
        let problem = format!("{flag} is 0, so no request could succeed; give it a duration such as 30s");
        Self { key: key.to_owned(), problem }
    }
}
