//! How the supervisor was called: kept, so that a reload reads the same places again.

use std::ffi::OsString;
use std::path::PathBuf;

use super::keys::Key;
use super::problem::Problem;
use super::settings::Config;
use super::sources::{CONFIG_VARIABLE, Place, Sources};

/// The flags and the words after `--`. The environment is this process's own.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// The settings that were given as flags, and their words.
    pub flags: Vec<(&'static Key, Vec<String>)>,
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The words after `--`.
    pub worker: Vec<OsString>,
}

/// A valid configuration, and what it was made from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What to do.
    pub config: Config,
    /// The values as they were written.
    pub sources: Sources,
}

impl Invocation {
    /// Reads all sources. Blocks: files are read, programs looked for, interfaces asked.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(&self) -> Result<Loaded, Vec<Problem>> {
        let (sources, problems) = self.sources();
        let config = Config::build(&sources, self.worker.clone(), problems)?;
        Ok(Loaded { config, sources })
    }

    /// The values as they were written, and what is wrong with how.
    pub fn sources(&self) -> (Sources, Vec<Problem>) {
        let (mut sources, mut problems) = (Sources::default(), Vec::new());
        sources.add_flags(self.flags.iter().cloned());
        sources.add_command(&self.worker);
        sources.add_environment(std::env::vars_os(), &mut problems);
        if let Some((file, place)) = self.file() {
            sources.add_file(&file, place, &mut problems);
        }
        (sources, problems)
    }

    /// The file of settings and who named it: the flag, or else the variable. An empty variable names none.
    pub fn file(&self) -> Option<(PathBuf, Place)> {
        let flag = self.file.clone().map(|file| (file, Place::Flag("config")));
        flag.or_else(|| {
            let file = std::env::var_os(CONFIG_VARIABLE).filter(|file| !file.is_empty())?;
            Some((file.into(), Place::Variable(CONFIG_VARIABLE.to_owned())))
        })
    }
}
