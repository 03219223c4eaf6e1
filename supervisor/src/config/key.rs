//! What one setting is: its names, what its value looks like, and when a change of it takes effect.

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    One,
    /// Several, separated by commas or given several times; an array in the file.
    List,
    /// Several `name=value`, likewise; a table in the file.
    Map,
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Applies {
    /// With `supervisor reload`.
    Now,
    /// Reloaded, then with the next start of the worker (`supervisor restart worker`).
    WorkerRestart,
    /// Reloaded, then with the next start of the agent (`supervisor restart agent`).
    AgentRestart,
    /// With a new container, since other programs hold on to it, or the entry's identity is made of it.
    ContainerRestart,
}

impl Applies {
    /// As it stands in the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::WorkerRestart => "worker restart",
            Self::AgentRestart => "agent restart",
            Self::ContainerRestart => "container restart",
        }
    }
}

/// What a single word may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Anything.
    Text,
    /// A duration with its unit.
    Duration,
    /// A whole number from the first to the second.
    Number(u32, u32),
    /// One of these.
    Choice(&'static [&'static str]),
    /// `true` or `false`; the flag alone is `true`.
    Switch,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its place in the file: `section.key`, or `key` at the top.
    pub path: &'static str,
    /// Its flag, without the dashes. The variable is `SUPERVISOR_` and this in capitals.
    pub flag: &'static str,
    /// Another flag, and so another variable, that means the same.
    pub alias: Option<&'static str>,
    /// Consul's own variable that means the same. Ours beats it.
    pub of_consul: Option<&'static str>,
    /// What the value looks like.
    pub kind: Kind,
    /// The value's name in the help text. `DURATION`, `BOOL`, `PORT`, `N`, `PERCENT` and `CELSIUS` say what it must be, too.
    pub placeholder: &'static str,
    /// The value when nothing is said; `None` where that depends.
    pub default: Option<&'static str>,
    /// One line for the help text.
    pub help: &'static str,
    /// The words to choose from, if there are few.
    pub choices: &'static [&'static str],
    /// The least and the greatest number, where the placeholder is `N` or its like.
    pub range: (u32, u32),
    /// A word that is taken besides, such as `off`.
    pub word: Option<&'static str>,
    /// When a change takes effect.
    pub applies: Applies,
    /// One of those that most people need: shown by `-h`.
    pub common: bool,
}

impl Key {
    /// A key with one value.
    pub(super) const fn one(
        path: &'static str,
        flag: &'static str,
        placeholder: &'static str,
        default: Option<&'static str>,
        help: &'static str,
    ) -> Self {
        Self {
            path,
            flag,
            alias: None,
            of_consul: None,
            kind: Kind::One,
            placeholder,
            default,
            help,
            choices: &[],
            range: (0, u32::MAX),
            word: None,
            applies: Applies::ContainerRestart,
            common: false,
        }
    }

    /// A key with several values.
    pub(super) const fn list(
        path: &'static str,
        flag: &'static str,
        placeholder: &'static str,
        help: &'static str,
    ) -> Self {
        Self { kind: Kind::List, ..Self::one(path, flag, placeholder, None, help) }
    }

    /// A key with several named values.
    pub(super) const fn map(
        path: &'static str,
        flag: &'static str,
        placeholder: &'static str,
        help: &'static str,
    ) -> Self {
        Self { kind: Kind::Map, ..Self::one(path, flag, placeholder, None, help) }
    }

    /// The value when nothing is said, where it is several.
    pub(super) const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// A change takes effect at this time; without a word about it, with a new container.
    pub(super) const fn applies(self, applies: Applies) -> Self {
        Self { applies, ..self }
    }

    /// The words to choose from.
    pub(super) const fn choices(self, choices: &'static [&'static str]) -> Self {
        Self { choices, ..self }
    }

    /// The least and the greatest number.
    pub(super) const fn range(self, least: u32, most: u32) -> Self {
        Self { range: (least, most), ..self }
    }

    /// This word is taken besides.
    pub(super) const fn or_word(self, word: &'static str) -> Self {
        Self { word: Some(word), ..self }
    }

    /// This flag means the same.
    pub(super) const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    /// This variable of Consul's means the same.
    pub(super) const fn of_consul(self, variable: &'static str) -> Self {
        Self { of_consul: Some(variable), ..self }
    }

    /// Most people need it.
    pub(super) const fn common(self) -> Self {
        Self { common: true, ..self }
    }

    /// The environment variable's name.
    pub fn variable(&self) -> String {
        variable(self.flag)
    }

    /// Whether an environment variable is about this key.
    pub fn is_variable(&self, name: &str) -> bool {
        name == self.variable() || self.alias.is_some_and(|alias| name == variable(alias))
    }

    /// The section of the file, and of the help text.
    pub fn section(&self) -> Option<&'static str> {
        self.path.split_once('.').map(|(section, _)| section)
    }

    /// What a single word of the value may be.
    pub fn shape(&self) -> Shape {
        match self.placeholder {
            _ if !self.choices.is_empty() => Shape::Choice(self.choices),
            "DURATION" => Shape::Duration,
            "BOOL" => Shape::Switch,
            "PORT" => Shape::Number(1, u32::from(u16::MAX)),
            "N" | "PERCENT" | "CELSIUS" => Shape::Number(self.range.0, self.range.1),
            _ => Shape::Text,
        }
    }
}

fn variable(flag: &str) -> String {
    format!("SUPERVISOR_{}", flag.to_uppercase().replace('-', "_"))
}
