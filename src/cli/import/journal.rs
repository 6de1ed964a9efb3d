//! The journal of an import: what it is about, which requests are on their way, and up to where it is done.
//!
//! ```text
//! {"import":{…}}          first: the input, who imports, and what is the same for all rows
//! {"begin":{…}}           a batch, with its request id; synchronised before the request is sent
//! {"done":{…}}            up to where everything is stored and written; the results were synchronised before
//! {"end":{}}              the last row is done
//! ```
//!
//! Batches are done in the order of the input, so what is carried on is one place and the few batches after it, each under the
//! id that it was sent with: the vault does it once. No value stands here.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

use super::{Format, rows::Place};
use crate::cli::output::{Failure, exit};

/// What every journal begins with.
const BEGINS: &[u8] = b"{\"import\":";
/// A line is some hundred bytes long; paths may add to the first.
const MAX_LINE: usize = 64 * 1024;

/// What an import is about. A run that carries it on must be about the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Of this format.
    pub(super) version: u32,
    /// Bytes of the input, and its last change in nanoseconds since 1970: it is the same file.
    pub(super) input_bytes: u64,
    pub(super) input_changed: String,
    pub(super) format: Format,
    pub(super) delimiter: u8,
    pub(super) platform: String,
    pub(super) caller: String,
    pub(super) source: i32,
    pub(super) source_reference: String,
    pub(super) kind: i32,
    pub(super) out: PathBuf,
    pub(super) report: PathBuf,
}

/// A batch that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begun {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) request_id: String,
}

/// How far everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    pub(super) to: Place,
    /// Rows of which the values are stored.
    pub(super) stored: u64,
    /// Rows that were refused.
    pub(super) refused: u64,
    /// Bytes of the results, and of the report, up to here.
    pub(super) out_bytes: u64,
    pub(super) report_bytes: u64,
}

impl Done {
    pub(super) const NOTHING: Self =
        Self { to: Place::START, stored: 0, refused: 0, out_bytes: 0, report_bytes: 0 };
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Entry {
    Import(Header),
    Begin(Begun),
    Done(Done),
    End {},
}

/// What a journal tells of an import that was begun.
pub(super) struct Told {
    pub(super) header: Header,
    pub(super) done: Done,
    /// Batches after it, in order.
    pub(super) begun: Vec<Begun>,
    pub(super) ended: bool,
}

impl Told {
    fn and(mut self, entry: Entry) -> Self {
        match entry {
            Entry::Import(_) => {}
            Entry::Begin(begun) => {
                // One that stands there again is sent under another id.
                self.begun.retain(|other| other.from != begun.from);
                self.begun.push(begun);
                self.begun.sort_by_key(|begun| begun.from.rows);
            }
            Entry::Done(done) => {
                self.begun.retain(|begun| begun.from.rows >= done.to.rows);
                self.done = done;
            }
            Entry::End {} => self.ended = true,
        }
        self
    }
}

/// A journal that is open; nobody else has it open.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens a journal, and tells what stands in it; nothing where it is new.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<Told>), Failure> {
        let refuse = |e: &dyn std::fmt::Display| {
            Failure::new(exit::FAILED, format!("cannot use {}: {e}", path.display()))
        };
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = opened.map_err(|e| refuse(&e))?;
        file.try_lock().map_err(|_| refuse(&"another import is at work with it"))?;
        sync_directory(path)?;
        let mut journal = Self { file, path: path.to_owned() };
        let told = journal.read()?;
        Ok((journal, told))
    }

    /// What stands in it. A line that a death cut off is cut away.
    fn read(&mut self) -> Result<Option<Told>, Failure> {
        let (mut told, mut valid, mut line, mut number) = (None::<Told>, 0_u64, Vec::new(), 0_u64);
        let mut reader = BufReader::new(&self.file);
        loop {
            line.clear();
            let read =
                std::io::Read::take(&mut reader, u64::try_from(MAX_LINE)?).read_until(b'\n', &mut line)?;
            number += 1;
            if line.last() != Some(&b'\n') {
                // The end, or a line that was cut off: what follows it was never written.
                // Another file than a journal is nobody's to cut.
                let begun = told.is_some() || BEGINS.starts_with(&line) || line.starts_with(BEGINS);
                if line.len() == MAX_LINE || !begun {
                    return Err(self.damaged(number));
                }
                break;
            }
            let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { return Err(self.damaged(number)) };
            told = match (entry, told) {
                (Entry::Import(header), None) => {
                    Some(Told { header, done: Done::NOTHING, begun: Vec::new(), ended: false })
                }
                (Entry::Import(_), Some(_)) | (_, None) => return Err(self.damaged(number)),
                (entry, Some(told)) => Some(told.and(entry)),
            };
            valid += u64::try_from(read)?;
        }
        self.file.set_len(valid)?;
        self.file.seek(SeekFrom::Start(valid))?;
        // Each begins where the one before it ends: they were begun in the order of the input.
        let mut at = told.as_ref().map_or(Place::START, |told| told.done.to);
        for begun in told.iter().flat_map(|told| &told.begun) {
            if begun.from != at {
                return Err(self.damaged(number));
            }
            at = begun.to;
        }
        Ok(told)
    }

    fn damaged(&self, line: u64) -> Failure {
        let path = self.path.display();
        let message =
            format!("line {line} of {path} is no journal of an import: name another with --journal");
        Failure::new(exit::FAILED, message)
    }

    fn write(&mut self, entry: &Entry) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        Ok(self.file.sync_data()?)
    }

    pub(super) fn import(&mut self, header: &Header) -> Result<(), Failure> {
        self.write(&Entry::Import(header.clone()))
    }

    pub(super) fn begin(&mut self, begun: &Begun) -> Result<(), Failure> {
        self.write(&Entry::Begin(begun.clone()))
    }

    pub(super) fn done(&mut self, done: Done) -> Result<(), Failure> {
        self.write(&Entry::Done(done))
    }

    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.write(&Entry::End {})
    }
}

/// Bytes of a file, and when it was changed last: what tells whether it is still the same.
pub(super) fn identity(path: &Path) -> Result<(u64, String), Failure> {
    let metadata = std::fs::metadata(path).map_err(|e| super::rows::cannot_read(path, &e))?;
    if !metadata.is_file() {
        let why = "an import that broke off is carried on from the middle of its input";
        return Err(Failure::new(exit::FAILED, format!("{} is no file: {why}", path.display())));
    }
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((metadata.len(), changed.as_nanos().to_string()))
}

/// A file that was just made is found again after a power cut.
fn sync_directory(path: &Path) -> Result<(), Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(File::open(dir)?.sync_all()?)
}

/// A file that grows with what is done: results, or the report.
pub(super) struct Results {
    file: File,
    /// Lines that are not written yet.
    waiting: Vec<u8>,
    pub(super) bytes: u64,
}

impl Results {
    /// A new file that its owner alone may read.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file =
            made.map_err(|e| Failure::new(exit::FAILED, format!("cannot make {}: {e}", path.display())))?;
        sync_directory(path)?;
        Ok(Self { file, waiting: Vec::new(), bytes: 0 })
    }

    /// One that was made before, and is there up to so many bytes: what stands after them was not done yet.
    pub(super) fn reopen(path: &Path, bytes: u64) -> Result<Self, Failure> {
        let refuse = |e: &dyn std::fmt::Display| {
            Failure::new(exit::FAILED, format!("cannot carry on with {}: {e}", path.display()))
        };
        // Whoever died before it was made has written nothing.
        let mut options = OpenOptions::new();
        let options = options.write(true).create(bytes == 0).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(|e| refuse(&e))?;
        if file.metadata()?.len() < bytes {
            return Err(refuse(&"it is shorter than the journal says"));
        }
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(Self { file, waiting: Vec::new(), bytes })
    }

    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.waiting, value)?;
        self.waiting.push(b'\n');
        Ok(())
    }

    /// Writes what waits; it is durable when this returns.
    pub(super) fn write(&mut self) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.waiting)?;
        self.file.sync_data()?;
        self.bytes += u64::try_from(self.waiting.len())?;
        self.waiting.clear();
        Ok(())
    }
}
