//! `[mirror]`: where the second copy of every log lies.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    Config, ConfigError,
    storage::{BucketConfig, Storage, Stored},
};
use crate::domain::{replica::ReplicaName, territory::Use};

/// The mirror of the log.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// Its directory, on another disk than the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Its bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<BucketConfig>,
    /// Whether every process over this database names this same place.
    #[serde(default)]
    pub shared: bool,
    /// Name of this process among those that share the mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaName>,
}

impl MirrorConfig {
    pub(super) const fn stored(&self) -> Stored<'_> {
        Stored {
            table: "mirror",
            directory: self.directory.as_ref(),
            s3: self.s3.as_ref(),
            used_for: Use::Mirror,
        }
    }
}

/// Name of the one process that does not share its mirror.
const ONLY_REPLICA: &str = "sandyq-0";

impl Config {
    /// The place of the mirror with its secret read, where there is one.
    ///
    /// # Errors
    /// [`ConfigError`], also where others may read the secret.
    pub fn mirror_place(&self) -> Result<Option<Storage>, ConfigError> {
        self.mirror.as_ref().map(|mirror| self.storage(mirror.stored())).transpose()
    }

    /// The name of this process among those that share the database and the mirror.
    ///
    /// # Errors
    /// [`ConfigError::Rule`] where a shared mirror names none.
    pub fn replica(&self) -> Result<ReplicaName, ConfigError> {
        match &self.mirror {
            Some(MirrorConfig { replica: Some(replica), .. }) => Ok(replica.clone()),
            Some(MirrorConfig { shared: true, .. }) => {
                Err(self.rule("a shared [mirror] needs `replica`, another name for each process"))
            }
            _ => ONLY_REPLICA.parse().map_err(|_| self.rule("mirror.replica")),
        }
    }

    /// What may be said of a mirror.
    pub(super) fn check_mirror(&self) -> Result<(), ConfigError> {
        let Some(mirror) = &self.mirror else { return Ok(()) };
        if mirror.shared && self.database.sqlite.is_some() {
            return Err(self.rule("mirror.shared: an SQLite database has one process only"));
        }
        self.check_stored(mirror.stored())
    }
}
