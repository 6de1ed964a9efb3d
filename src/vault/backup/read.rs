//! Reads a backup: signature, hash, tags, and that its rows are of one moment. Nothing is handed on before its part opened;
//! whoever must know that the whole is whole reads it once without taking anything.

use std::collections::BTreeMap;

use super::{
    BackupError,
    manifest::Manifest,
    stream::{Item, items},
};
use crate::{
    audit::{
        head::{HeadVerifier, origin},
        tree::{Hash, LogTree, leaf_hash},
    },
    blobs::backups::Backups,
    crypto::{
        backup::{BackupKey, PartsHash},
        kms::Kms,
    },
    domain::{ids::BackupId, secret::Sealed},
    store::copy::{Column, Row, Value},
};

/// Takes what a backup holds.
#[async_trait::async_trait]
pub trait Sink: Send {
    /// Rows of this table follow.
    async fn table(&mut self, name: &str, columns: &[Column]) -> Result<(), BackupError>;

    /// Rows of a table.
    async fn rows(&mut self, table: &str, rows: Vec<Row>) -> Result<(), BackupError>;

    /// So many rows were read.
    fn progress(&mut self, rows: u64);
}

/// Takes nothing: the reading itself is what is wanted. It tells how far it is.
pub struct Only<F>(pub F);

#[async_trait::async_trait]
impl<F: FnMut(u64) + Send> Sink for Only<F> {
    async fn table(&mut self, _name: &str, _columns: &[Column]) -> Result<(), BackupError> {
        Ok(())
    }

    async fn rows(&mut self, _table: &str, _rows: Vec<Row>) -> Result<(), BackupError> {
        Ok(())
    }

    fn progress(&mut self, rows: u64) {
        (self.0)(rows);
    }
}

/// A backup that can be read.
pub struct OpenBackup {
    backups: Backups,
    key: BackupKey,
    manifest: Manifest,
    /// Roots of its logs as signed, by platform.
    roots: BTreeMap<u32, Hash>,
}

impl OpenBackup {
    /// Opens a backup whose manifest the trusted key signed. Its parts are not looked at yet.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn open(
        backups: Backups,
        id: BackupId,
        trusted: &HeadVerifier,
        kms: &dyn Kms,
    ) -> Result<Self, BackupError> {
        let manifest = Manifest::open(&backups.manifest(id).await?, trusted)?;
        if manifest.backup != id {
            return Err(BackupError::Manifest("it is of another backup"));
        }
        let mut roots = BTreeMap::new();
        for log in &manifest.logs {
            let head = trusted.open(&log.checkpoint)?;
            let name = log.name.parse().map_err(|_| BackupError::Manifest("a log has no name"))?;
            if head.size != log.size || head.origin != origin(&manifest.installation, &name) {
                return Err(BackupError::Manifest("a log has the head of another"));
            }
            roots.insert(log.platform, head.root);
        }
        if !kms.versions().await?.present.contains(&manifest.root_version) {
            return Err(BackupError::RootGone(manifest.root_version));
        }
        let key = BackupKey::open(manifest.name(), &manifest.wrapped_key()?, kms).await?;
        Ok(Self { backups, key, manifest, roots })
    }

    /// What it holds.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads it from beginning to end.
    ///
    /// # Errors
    /// [`BackupError`] of the first thing that does not hold, or of the sink.
    pub async fn read(&self, sink: &mut dyn Sink) -> Result<(), BackupError> {
        let manifest = &self.manifest;
        let (mut hash, mut bytes, mut seen) = (PartsHash::NONE, 0_u64, Seen::new(self));
        for index in 0..manifest.parts {
            let damaged = |problem: String| BackupError::Part { index, problem };
            let part = self.backups.part(manifest.backup, manifest.attempt, index).await?;
            hash = hash.with(&part);
            bytes = bytes.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
            let last = index + 1 == manifest.parts;
            let opened = self.key.unseal(index, last, &Sealed::from_bytes(part));
            let opened = opened.map_err(|error| damaged(error.to_string()))?;
            for item in
                items(&opened).map_err(|_| damaged("its content is no table and no rows".to_owned()))?
            {
                match item {
                    Item::Table { name, columns } => {
                        sink.table(&name, &columns).await?;
                        seen.table(name, columns)?;
                    }
                    Item::Rows(rows) => {
                        seen.rows(&rows)?;
                        sink.rows(&seen.table, rows).await?;
                    }
                }
            }
            sink.progress(seen.all);
        }
        if bytes != manifest.bytes || !manifest.has_hash(hash) {
            return Err(BackupError::Content("its parts are not those that its manifest was signed for"));
        }
        seen.finish()
    }
}

/// What was read so far, held against the manifest.
struct Seen<'a> {
    manifest: &'a Manifest,
    roots: &'a BTreeMap<u32, Hash>,
    table: String,
    columns: Vec<Column>,
    counts: BTreeMap<String, u64>,
    all: u64,
    trees: BTreeMap<i64, LogTree>,
    heads: BTreeMap<i64, (i64, String, [u8; 32])>,
    names: BTreeMap<i64, String>,
}

impl<'a> Seen<'a> {
    const fn new(backup: &'a OpenBackup) -> Self {
        Self {
            manifest: &backup.manifest,
            roots: &backup.roots,
            table: String::new(),
            columns: Vec::new(),
            counts: BTreeMap::new(),
            all: 0,
            trees: BTreeMap::new(),
            heads: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    fn table(&mut self, name: String, columns: Vec<Column>) -> Result<(), BackupError> {
        if self.counts.insert(name.clone(), 0).is_some() {
            return Err(BackupError::Content("a table is in it twice"));
        }
        (self.table, self.columns) = (name, columns);
        Ok(())
    }

    fn rows(&mut self, rows: &[Row]) -> Result<(), BackupError> {
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let Some(counted) = self.counts.get_mut(&self.table) else {
            return Err(BackupError::Content("rows stand before their table"));
        };
        *counted += count;
        self.all += count;
        for row in rows {
            if row.len() != self.columns.len() {
                return Err(BackupError::Content("a row has other columns than its table"));
            }
            let taken = match self.table.as_str() {
                "audit_entries" => self.entry(row),
                "heads" => self.head(row),
                "platforms" => self.platform(row),
                _ => Some(()),
            };
            taken.ok_or(BackupError::Content("its log is not a log"))?;
        }
        Ok(())
    }

    fn value<'r>(&self, row: &'r Row, name: &str) -> Option<&'r Value> {
        row.get(self.columns.iter().position(|column| column.name == name)?)
    }

    fn int(&self, row: &Row, name: &str) -> Option<i64> {
        if let Some(Value::Int(number)) = self.value(row, name) { Some(*number) } else { None }
    }

    fn text<'r>(&self, row: &'r Row, name: &str) -> Option<&'r str> {
        if let Some(Value::Text(text)) = self.value(row, name) { Some(text) } else { None }
    }

    fn bytes<'r>(&self, row: &'r Row, name: &str) -> Option<&'r [u8]> {
        if let Some(Value::Bytes(bytes)) = self.value(row, name) { Some(bytes) } else { None }
    }

    /// The next entry of a platform's log; none where it is not the next.
    fn entry(&mut self, row: &Row) -> Option<()> {
        let (platform, position) = (self.int(row, "platform_id")?, self.int(row, "position")?);
        let leaf = leaf_hash(self.bytes(row, "entry")?);
        let stored = self.bytes(row, "leaf_hash")? == leaf.0;
        let tree = self.trees.entry(platform).or_default();
        let next = u64::try_from(position).ok()? == tree.size();
        tree.append(leaf, &mut Vec::new());
        (stored && next).then_some(())
    }

    fn head(&mut self, row: &Row) -> Option<()> {
        let head = (
            self.int(row, "size")?,
            self.text(row, "checkpoint")?.to_owned(),
            self.bytes(row, "root")?.try_into().ok()?,
        );
        self.heads.insert(self.int(row, "platform_id")?, head);
        Some(())
    }

    fn platform(&mut self, row: &Row) -> Option<()> {
        let name = self.text(row, "name")?.to_owned();
        self.names.insert(self.int(row, "platform_id")?, name);
        Some(())
    }

    /// Whether rows and logs are what the manifest says.
    fn finish(self) -> Result<(), BackupError> {
        if self.counts != self.manifest.rows {
            return Err(BackupError::Content("it has other rows than its manifest counts"));
        }
        if self.heads.len() != self.manifest.logs.len() || self.names.len() != self.manifest.logs.len() {
            return Err(BackupError::Content("it has other logs than its manifest names"));
        }
        for log in &self.manifest.logs {
            let number = i64::from(log.platform);
            let empty = LogTree::empty();
            let tree = self.trees.get(&number).unwrap_or(&empty);
            let head = self.heads.get(&number).filter(|(size, checkpoint, root)| {
                u64::try_from(*size) == Ok(log.size)
                    && *checkpoint == log.checkpoint
                    && Hash(*root) == tree.root()
            });
            let signed = self.roots.get(&log.platform) == Some(&tree.root());
            if tree.size() != log.size
                || !signed
                || head.is_none()
                || self.names.get(&number) != Some(&log.name)
            {
                return Err(BackupError::Log(log.name.clone()));
            }
        }
        Ok(())
    }
}
