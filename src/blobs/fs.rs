//! A local directory as an object store.
//!
//! What `object_store` 0.14.2 guarantees for one, with `with_fsync(true)` (read in its `local.rs`): a put writes
//! `<name>#<n>` beside the object, fsyncs that file, and then renames it (overwrite) or links it (`PutMode::Create`, which
//! fails where the name is taken); then it fsyncs the directory, and each directory that it had to make, up to the first
//! that was there. So an object is there whole or not at all, and a put that returned is durable. A crash leaves at most
//! a `<name>#<n>`, which no listing shows. Multipart uploads end the same way; deletions are not fsynced.
//!
//! It would also make a missing root anew, and so write to the wrong disk after an unmount. The marker file is against
//! that: see [`super::place`].

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind, Write as _},
    path::Path,
};

use object_store::local::LocalFileSystem;

use super::{error::BlobError, place::Kind};

/// Makes the directory with mode 0700 where it is missing, and marks it where it is empty. Its parent must be there: a
/// missing one is more often a disk that is not mounted than a directory to be made.
pub(super) fn create(path: &Path, kind: &Kind) -> Result<(), BlobError> {
    let failed = |source| BlobError::Directory { what: kind.what, path: path.to_owned(), source };
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Ok(()) => sync_parent(path).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if !path.is_dir() {
                return Err(BlobError::NotADirectory(path.to_owned()));
            }
        }
        Err(error) => return Err(failed(error)),
    }
    if !path.join(kind.marker).try_exists().map_err(failed)? && is_empty(path).map_err(failed)? {
        mark(path, kind.marker, kind.text).map_err(failed)?;
    }
    Ok(())
}

/// A directory that must be there, as an object store.
pub(super) fn open(path: &Path, kind: &Kind) -> Result<LocalFileSystem, BlobError> {
    match fs::read_to_string(path.join(kind.marker)) {
        Ok(found) if found == kind.text => {}
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
            return Err(BlobError::Directory { what: kind.what, path: path.to_owned(), source: error });
        }
        Ok(_) | Err(_) => {
            return Err(BlobError::NotMarked { what: kind.what, place: path.display().to_string() });
        }
    }
    let store = LocalFileSystem::new_with_prefix(path).map_err(|e| BlobError::Directory {
        what: kind.what,
        path: path.to_owned(),
        source: e.into(),
    })?;
    Ok(store.with_fsync(true).with_automatic_cleanup(kind.tidy))
}

/// Nothing but what a file system or another replica's start leaves there.
fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != "lost+found" && !name.as_encoded_bytes().starts_with(b".") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the marker, unless another replica was first.
fn mark(path: &Path, marker: &str, text: &str) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    // As readable as the objects will be: who may enter the directory is what decides.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(path)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path.join(marker)) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => return Err(error.error),
        Ok(_) | Err(_) => {}
    }
    File::open(path)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
