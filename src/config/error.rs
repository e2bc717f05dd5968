//! What is wrong with a configuration: where, what, and what would be right.

use std::fmt;
use std::sync::Arc;

use super::Scripts;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ConfigError {
    pub place: Place,
    /// What is wrong and what would be right; never a secret's value.
    pub message: String,
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole.
    File(Arc<str>),
    /// Line and column from 1; columns count characters.
    Line {
        file: Arc<str>,
        line: usize,
        column: usize,
    },
    /// An environment variable.
    Variable(String),
}

/// Everything that is wrong, in the order of the file, then of the environment. Not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    file_missing: bool,
    scripts: Option<Box<Scripts>>,
}

impl ConfigErrors {
    /// `Ok(value)` when nothing is wrong.
    pub(super) fn or<T>(mut errors: Vec<ConfigError>, value: T) -> Result<T, Self> {
        if errors.is_empty() {
            return Ok(value);
        }
        errors.sort_by(|a, b| a.place.cmp(&b.place));
        Err(Self {
            errors,
            file_missing: false,
            scripts: None,
        })
    }

    pub(super) fn missing_file(file: &str) -> Self {
        Self {
            errors: vec![ConfigError {
                place: Place::File(file.into()),
                message: "there is no such file. Every key has a default, so an empty file will \
                          do; the gateway.toml of the sources shows all of them. Another file is \
                          named with --config FILE or WAKEGATE_CONFIG"
                    .to_owned(),
            }],
            file_missing: true,
            scripts: None,
        }
    }

    /// Keeps the part of the configuration that scripts are loaded by, which is right for all that is known.
    pub(super) fn with_scripts(self, scripts: Scripts) -> Self {
        let scripts = Some(Box::new(scripts));
        Self { scripts, ..self }
    }

    /// What scripts are loaded by, when nothing that is wrong concerns them.
    pub fn scripts(&self) -> Option<&Scripts> {
        self.scripts.as_deref()
    }

    /// Whether all that is wrong is that the file is not there.
    pub fn is_file_missing(&self) -> bool {
        self.file_missing
    }
}

impl std::ops::Deref for ConfigErrors {
    type Target = [ConfigError];

    fn deref(&self) -> &[ConfigError] {
        &self.errors
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.write_str(file),
            Self::Line { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for ConfigErrors {
    /// One error a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
