//! `[documents]`: where parts of documents lie.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    Config, ConfigError,
    storage::{BucketConfig, Storage, Stored},
};
use crate::{domain::territory::Use, vault::documents::MIN_MEMORY_MIB};

/// Most memory for all streams: 64 GiB.
const MAX_MEMORY_MIB: u32 = 64 << 10;

/// Where documents lie: in a directory, or in a bucket.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentsConfig {
    /// Their directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Their bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<BucketConfig>,
    /// MiB of memory that all streams of documents share.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u32,
}

const fn default_memory_mib() -> u32 {
    64
}

impl Config {
    /// MiB of memory for streams of documents, where a place for them is configured.
    ///
    /// # Errors
    /// [`ConfigError::Rule`].
    pub fn documents(&self) -> Result<Option<u32>, ConfigError> {
        let Some(documents) = &self.documents else { return Ok(None) };
        if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&documents.memory_mib) {
            let rule = format!("documents.memory_mib must be from {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}");
            return Err(self.rule(&rule));
        }
        self.check_stored(documents.stored())?;
        Ok(Some(documents.memory_mib))
    }

    /// The place of documents, with its secret read.
    ///
    /// # Errors
    /// [`ConfigError`], also where others may read the secret.
    pub fn documents_place(&self) -> Result<Option<Storage>, ConfigError> {
        self.documents.as_ref().map(|documents| self.storage(documents.stored())).transpose()
    }
}

impl DocumentsConfig {
    pub(super) const fn stored(&self) -> Stored<'_> {
        Stored {
            table: "documents",
            directory: self.directory.as_ref(),
            s3: self.s3.as_ref(),
            used_for: Use::Documents,
        }
    }
}
