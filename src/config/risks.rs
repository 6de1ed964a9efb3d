//! Settings that a production vault should not have: each is refused unless the configuration names it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Database, RootKey};

/// A setting that weakens a guarantee. `accept_risks` names those that an operator takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// There is no second copy of the logs.
    NoMirror,
    /// The second copy of the logs lies with the database.
    MirrorBesideDatabase,
    /// The root key and what unseals it lie in one directory.
    UnsealKeyBesideRoot,
    /// Nothing proves that the PostgreSQL server over the network is the operator's.
    DatabaseNotVerified,
}

impl Risk {
    /// Its name in `accept_risks`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoMirror => "no-mirror",
            Self::MirrorBesideDatabase => "mirror-beside-database",
            Self::UnsealKeyBesideRoot => "unseal-key-beside-root",
            Self::DatabaseNotVerified => "database-not-verified",
        }
    }

    /// What can happen, and what would mend it.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::NoMirror => {
                "there is no [mirror]: a log that is cut back in the database is not found, and withdrawals are \
                 acknowledged without a second copy"
            }
            Self::MirrorBesideDatabase => {
                "the mirror lies in the database's directory: who loses or edits one has the other; put it on another \
                 disk or machine"
            }
            Self::UnsealKeyBesideRoot => {
                "root_key.unseal_key lies beside root_key.file: one copied directory opens every value; put it on \
                 another medium"
            }
            Self::DatabaseNotVerified => {
                "database.postgres reaches a server over the network without sslmode=verify-full: another one could \
                 answer"
            }
        }
    }
}

/// The risks that a configuration takes.
///
/// # Errors
/// [`ConfigError`] names those that are not accepted, and accepted ones that are not there: a list that is longer than
/// the truth hides what is added to it.
pub(super) fn accepted(config: &Config) -> Result<Vec<Risk>, ConfigError> {
    let taken = taken(config)?;
    let refused: Vec<String> = taken
        .iter()
        .filter(|risk| !config.accept_risks.contains(risk))
        .map(|risk| format!("{}; or name {:?} in accept_risks", risk.says(), risk.as_str()))
        .collect();
    if !refused.is_empty() {
        return Err(config.rule(&refused.join("\n")));
    }
    match config.accept_risks.iter().find(|risk| !taken.contains(risk)) {
        Some(unused) => {
            Err(config.rule(&format!("accept_risks names {:?}, which is no risk here", unused.as_str())))
        }
        None => Ok(taken),
    }
}

fn taken(config: &Config) -> Result<Vec<Risk>, ConfigError> {
    let mut taken = Vec::new();
    let database = config.database()?;
    let mirror = config.mirror.as_ref();
    let mirror_directory =
        mirror.and_then(|mirror| mirror.directory.as_ref()).map(|path| config.resolve(path));
    match (mirror_directory, &database) {
        _ if mirror.is_none() => taken.push(Risk::NoMirror),
        (Some(mirror), Database::Sqlite(file)) if directory(&mirror).starts_with(directory(file)) => {
            taken.push(Risk::MirrorBesideDatabase);
        }
        _ => {}
    }
    if let RootKey::Local { file, unseal_key } = config.root_key()?
        && directory(&file) == directory(&unseal_key)
    {
        taken.push(Risk::UnsealKeyBesideRoot);
    }
    if let Database::Postgres(options) = &database
        && !options.verifies_server().map_err(|error| config.rule(&error.to_string()))?
    {
        taken.push(Risk::DatabaseNotVerified);
    }
    Ok(taken)
}

/// The real directory that a file or a directory lies in.
fn directory(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    parent.canonicalize().unwrap_or_else(|_| parent.to_owned())
}
