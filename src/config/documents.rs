//! `[documents]`: where parts of documents lie.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::vault::documents::MIN_MEMORY_MIB;

/// Most memory for all streams: 64 GiB.
const MAX_MEMORY_MIB: u32 = 64 << 10;

/// Where documents lie.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentsConfig {
    /// Their directory.
    pub directory: PathBuf,
    /// MiB of memory that all streams of documents share.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u32,
}

const fn default_memory_mib() -> u32 {
    64
}

impl Config {
    /// Where documents lie, where that is configured.
    ///
    /// # Errors
    /// [`ConfigError::Rule`].
    pub fn documents(&self) -> Result<Option<DocumentsConfig>, ConfigError> {
        let Some(documents) = &self.documents else { return Ok(None) };
        if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&documents.memory_mib) {
            let rule = format!("documents.memory_mib must be from {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}");
            return Err(self.rule(&rule));
        }
        let directory = self.resolve(&documents.directory);
        Ok(Some(DocumentsConfig { directory, memory_mib: documents.memory_mib }))
    }
}
