//! The block list: certificates that are refused whatever their authority says, in handshakes and at every call. A file
//! that is read again when it changes.
//!
//! ```text
//! # a key, however many certificates were issued for it
//! key 5f2c…                    SHA-256 of the SubjectPublicKeyInfo, 64 hexadecimal digits
//! # one certificate
//! serial 0a1b… issuer 77d0…    serial number in hexadecimal; SHA-256 of the issuer's name (DER)
//! ```

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;

use super::authn::Mark;

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Why a block list is refused.
#[derive(Debug, thiserror::Error)]
pub enum BlockListError {
    /// It cannot be read.
    #[error("cannot read the block list {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A line says nothing that is understood.
    #[error("{path}, line {line}: expected `key HASH`, or `serial NUMBER issuer HASH`")]
    Line {
        /// The file.
        path: String,
        /// Number of the line, from 1.
        line: usize,
    },
}

/// Certificates that are refused.
#[derive(Debug, Default)]
pub struct BlockList {
    file: Option<PathBuf>,
    marks: ArcSwap<Marks>,
    /// The file as it was last looked at.
    seen: Mutex<Option<Stamp>>,
}

#[derive(Debug, Default)]
struct Marks {
    keys: HashSet<[u8; 32]>,
    certificates: HashSet<(Vec<u8>, [u8; 32])>,
}

/// What of a file changes with its content. None where there is no file.
type Stamp = Option<(SystemTime, u64)>;

impl BlockList {
    /// Reads a list.
    ///
    /// # Errors
    /// [`BlockListError`].
    pub fn open(file: &Path) -> Result<Self, BlockListError> {
        let seen = Mutex::new(Some(stamp(file)));
        let marks = ArcSwap::from_pointee(read(file)?);
        Ok(Self { file: Some(file.to_owned()), marks, seen })
    }

    /// Whether a certificate is refused, as the file stands now. A file that cannot be read any more blocks what it
    /// blocked before, and the operator is told.
    #[must_use]
    pub fn blocks(&self, mark: &Mark) -> bool {
        if let Some(file) = &self.file {
            self.follow(file);
        }
        let marks = self.marks.load();
        marks.keys.contains(&mark.key) || marks.certificates.contains(&(mark.serial.clone(), mark.issuer))
    }

    fn follow(&self, file: &Path) {
        let now = stamp(file);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == Some(now) {
            return;
        }
        *seen = Some(now);
        match read(file) {
            Ok(marks) => {
                tracing::info!(
                    keys = marks.keys.len(),
                    certificates = marks.certificates.len(),
                    "the block list was read again"
                );
                self.marks.store(Arc::new(marks));
            }
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(error, "the block list cannot be read; what it blocked before stays blocked");
            }
        }
    }
}

fn stamp(file: &Path) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(file: &Path) -> Result<Marks, BlockListError> {
    let path = file.display().to_string();
    let failed = |source| BlockListError::Read { path: path.clone(), source };
    if fs::metadata(file).map_err(failed)?.len() > MAX_BYTES {
        return Err(failed(io::Error::other("it has more than 16 MiB")));
    }
    parse(&fs::read_to_string(file).map_err(failed)?).map_err(|line| BlockListError::Line { path, line })
}

/// The marks of a text, or the number of the line that says nothing.
fn parse(text: &str) -> Result<Marks, usize> {
    let mut marks = Marks::default();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let understood = match words.as_slice() {
            [] => Some(()),
            ["key", hash] => sha256(hash).map(|hash| {
                marks.keys.insert(hash);
            }),
            ["serial", serial, "issuer", hash] => {
                serial_number(serial).zip(sha256(hash)).map(|certificate| {
                    marks.certificates.insert(certificate);
                })
            }
            _ => None,
        };
        understood.ok_or(number + 1)?;
    }
    Ok(marks)
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// A serial number as certificates are compared by it: without leading zeros.
fn serial_number(text: &str) -> Option<Vec<u8>> {
    let digits = text.replace(':', "");
    let even = if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") };
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(even.as_bytes()).ok().filter(|b| !b.is_empty())?;
    Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(key: u8, serial: &[u8], issuer: u8) -> Mark {
        Mark { key: [key; 32], serial: serial.to_vec(), issuer: [issuer; 32] }
    }

    #[test]
    fn keys_and_serials_are_read() {
        let text = format!(
            "# lost in Almaty\nkey {}\n\n  serial 0:01:0A issuer {} # one only\nserial 10B issuer {}\n",
            "ab".repeat(32),
            "CD".repeat(32),
            "cd".repeat(32),
        );
        let marks = parse(&text).unwrap();
        assert!(marks.keys.contains(&[0xab; 32]));
        for serial in [&[1, 10][..], &[1, 11]] {
            assert!(marks.certificates.contains(&(serial.to_vec(), [0xcd; 32])), "{serial:?}");
        }
        for bad in ["key", "key ab", "serial 1", "serial x issuer ab", "nonsense", "key ab cd"] {
            assert_eq!(parse(&format!("\n{bad}")).err(), Some(2), "{bad}");
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_blocks_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("blocked.txt");
        assert!(BlockList::open(&file).is_err(), "a list that is named is there");
        fs::write(&file, "").unwrap();
        let list = BlockList::open(&file).unwrap();
        let (stolen, other) = (mark(1, &[1], 1), mark(2, &[2], 2));
        assert!(!list.blocks(&stolen));
        fs::write(&file, format!("key {}\n", "01".repeat(32))).unwrap();
        assert!(list.blocks(&stolen) && !list.blocks(&other));
        fs::write(&file, "key 01\n").unwrap();
        assert!(list.blocks(&stolen));
        fs::remove_file(&file).unwrap();
        assert!(list.blocks(&stolen));
        fs::write(&file, format!("serial 02 issuer {}\n", "02".repeat(32))).unwrap();
        assert!(!list.blocks(&stolen) && list.blocks(&other));
        assert!(!list.blocks(&mark(2, &[2], 1)), "the serial of another issuer");
    }
}
