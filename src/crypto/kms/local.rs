//! Root keys in a file, sealed under an unseal key in another file.
//!
//! The two files belong on different media (the root file beside the database, the unseal key in a mounted secret):
//! whoever has one of them has nothing. Both are created with mode 0600. The unseal key is never written again; the root
//! file is replaced in one step where versions change, so a crash leaves the old file or the new one. Both are read at
//! each call: the process holds no root key while it serves.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use data_encoding::{BASE32_NOPAD, BASE64};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Kms, KmsError, RootVersions};
use crate::{
    crypto::aead::{self, Key, OpenError},
    domain::{canonical::Canonical, rng::Rng, secret::Sealed},
};

const UNSEAL_PREFIX: &str = "sandyq-unseal-1:";
const ROOT_FORMAT: &str = "sandyq-root/1";

/// Root keys in a sealed file.
#[derive(Clone)]
pub struct LocalKms {
    root_file: PathBuf,
    unseal_file: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootFile {
    format: String,
    active: u32,
    /// Sealed key, base64, by version.
    versions: BTreeMap<u32, String>,
}

impl RootFile {
    fn versions(&self) -> RootVersions {
        RootVersions { active: self.active, present: self.versions.keys().copied().collect() }
    }
}

/// Both files, read and opened.
struct Opened {
    unseal: Key,
    file: RootFile,
    keys: BTreeMap<u32, Key>,
}

impl Opened {
    fn key(&self, version: u32) -> Result<&Key, KmsError> {
        self.keys.get(&version).ok_or(KmsError::DoesNotOpen(OpenError::UnknownKeyVersion(version)))
    }

    /// Seals a new root key as a version of the file.
    fn add(&mut self, version: u32, rng: &dyn Rng) -> Result<(), KmsError> {
        let sealed = aead::seal(&self.unseal, &place(version), Key::random(rng)?.expose(), rng)?;
        self.file.versions.insert(version, BASE64.encode(sealed.as_bytes()));
        Ok(())
    }
}

impl LocalKms {
    /// Root keys in these files, which need not be there yet.
    #[must_use]
    pub fn new(root_file: &Path, unseal_file: &Path) -> Self {
        Self { root_file: root_file.to_owned(), unseal_file: unseal_file.to_owned() }
    }

    /// Makes a root key and writes both files. Neither may exist.
    ///
    /// # Errors
    /// [`KmsError`]; a file that exists is never overwritten.
    pub fn create(root_file: &Path, unseal_file: &Path, rng: &dyn Rng) -> Result<Self, KmsError> {
        let file = RootFile { format: ROOT_FORMAT.to_owned(), active: 1, versions: BTreeMap::new() };
        let mut opened = Opened { unseal: Key::random(rng)?, file, keys: BTreeMap::new() };
        opened.add(1, rng)?;
        let mut text = Zeroizing::new(String::with_capacity(UNSEAL_PREFIX.len() + 64));
        text.push_str(UNSEAL_PREFIX);
        BASE32_NOPAD.encode_append(opened.unseal.expose(), &mut text);
        text.push('\n');
        let json = encode(&opened.file, root_file)?;
        write_new(unseal_file, text.as_bytes())?;
        write_new(root_file, json.as_bytes())?;
        Ok(Self::new(root_file, unseal_file))
    }

    /// Root keys in files that are there and open.
    ///
    /// # Errors
    /// [`KmsError`].
    pub fn open(root_file: &Path, unseal_file: &Path) -> Result<Self, KmsError> {
        let kms = Self::new(root_file, unseal_file);
        kms.read().map(|_| kms)
    }

    fn read(&self) -> Result<Opened, KmsError> {
        let root_file = &self.root_file;
        if !root_file.exists() && !self.unseal_file.exists() {
            return Err(KmsError::NoRoot);
        }
        let malformed = |problem| KmsError::Malformed { path: root_file.display().to_string(), problem };
        let text = fs::read_to_string(root_file).map_err(|e| file_error("cannot read", root_file, e))?;
        let unseal = read_unseal_key(&self.unseal_file)?;
        let file: RootFile = serde_json::from_str(&text).map_err(|_| malformed("not a root file"))?;
        if file.format != ROOT_FORMAT {
            return Err(malformed("unknown format"));
        }
        let mut keys = BTreeMap::new();
        for (version, sealed) in &file.versions {
            let blob = BASE64.decode(sealed.as_bytes()).map_err(|_| malformed("not base64"))?;
            let bytes = aead::open(&unseal, &place(*version), &Sealed::from_bytes(blob))
                .map_err(|_| KmsError::WrongUnsealKey { path: root_file.display().to_string() })?;
            let bytes: &[u8; 32] =
                bytes.as_slice().try_into().map_err(|_| malformed("a root key has 32 bytes"))?;
            keys.insert(*version, Key::from_bytes(bytes));
        }
        if !keys.contains_key(&file.active) {
            return Err(malformed("the active version is missing"));
        }
        Ok(Opened { unseal, file, keys })
    }

    /// The same off the runtime's threads: a disk that hangs must not stop the vault.
    async fn read_aside(&self) -> Result<Opened, KmsError> {
        let kms = self.clone();
        let read = tokio::task::spawn_blocking(move || kms.read()).await;
        read.map_err(|error| KmsError::unavailable("the root file was not read", &error))?
    }

    /// Changes the root file as the only one who does.
    fn change<T>(&self, edit: impl FnOnce(&mut Opened) -> Result<T, KmsError>) -> Result<T, KmsError> {
        // The file itself, where the configured path is a link to it.
        let path =
            self.root_file.canonicalize().map_err(|e| file_error("cannot read", &self.root_file, e))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let cannot_write = |e| file_error("cannot write", &path, e);
        let dir = File::open(dir).map_err(cannot_write)?;
        dir.lock().map_err(cannot_write)?;
        let mut opened = self.read()?;
        let done = edit(&mut opened)?;
        replace(&path, &dir, encode(&opened.file, &path)?.as_bytes()).map_err(cannot_write)?;
        Ok(done)
    }
}

#[async_trait::async_trait]
impl Kms for LocalKms {
    fn describe(&self) -> String {
        format!("local root key in {}, unsealed by {}", self.root_file.display(), self.unseal_file.display())
    }

    async fn wrap(&self, place: &Canonical, key: &Key, rng: &dyn Rng) -> Result<Sealed, KmsError> {
        let opened = self.read_aside().await?;
        let active = opened.file.active;
        Ok(aead::wrap(opened.key(active)?, active, place, key, rng)?)
    }

    async fn unwrap(&self, place: &Canonical, wrapped: &Sealed) -> Result<Key, KmsError> {
        let version = aead::wrap_version(wrapped).map_err(KmsError::DoesNotOpen)?;
        aead::unwrap(self.read_aside().await?.key(version)?, place, wrapped).map_err(KmsError::DoesNotOpen)
    }

    async fn make_first(&self, rng: &dyn Rng) -> Result<(), KmsError> {
        Self::create(&self.root_file, &self.unseal_file, rng).map(drop)
    }

    async fn versions(&self) -> Result<RootVersions, KmsError> {
        Ok(self.read_aside().await?.file.versions())
    }

    async fn add_version(&self, rng: &dyn Rng) -> Result<u32, KmsError> {
        self.change(|opened| {
            let newest = opened.file.versions.last_key_value().map_or(0, |(version, _)| *version);
            let version = newest + 1;
            opened.add(version, rng)?;
            Ok(version)
        })
    }

    async fn activate(&self, version: u32) -> Result<(), KmsError> {
        self.change(|opened| {
            opened.file.versions().require(version)?;
            opened.file.active = version;
            Ok(())
        })
    }

    async fn destroy(&self, version: u32) -> Result<(), KmsError> {
        self.change(|opened| {
            opened.file.versions().may_destroy(version)?;
            opened.file.versions.remove(&version);
            Ok(())
        })
    }
}

fn place(version: u32) -> Canonical {
    Canonical::new("root").int(i64::from(version))
}

fn encode(file: &RootFile, path: &Path) -> Result<String, KmsError> {
    serde_json::to_string_pretty(file).map_err(|e| file_error("cannot write", path, e.into()))
}

fn read_unseal_key(path: &Path) -> Result<Key, KmsError> {
    let malformed = KmsError::Malformed { path: path.display().to_string(), problem: "not an unseal key" };
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|e| file_error("cannot read", path, e))?);
    let Some(body) = text.trim_end().strip_prefix(UNSEAL_PREFIX) else {
        return Err(malformed);
    };
    let Ok(bytes) = BASE32_NOPAD.decode(body.as_bytes()).map(Zeroizing::new) else {
        return Err(malformed);
    };
    let Ok(bytes) = <&[u8; 32]>::try_from(bytes.as_slice()) else {
        return Err(malformed);
    };
    Ok(Key::from_bytes(bytes))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KmsError> {
    let write = || -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| file_error("cannot create", path, e))
}

/// Puts other bytes in a file's place. Whatever happens, the old file is there or the new one, complete; what a crash
/// leaves under the other name is of no use without the unseal key, and goes with the next change.
fn replace(path: &Path, dir: &File, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::metadata(path)?.permissions())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    dir.sync_all()
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> KmsError {
    KmsError::File { action, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRng;

    #[test]
    fn a_change_that_stops_halfway_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (root, unseal) = (dir.path().join("root"), dir.path().join("unseal"));
        let rng = SystemRng::new();
        let kms = LocalKms::create(&root, &unseal, &rng).unwrap();
        let before = fs::read(&root).unwrap();
        // What a crash between writing and renaming leaves.
        fs::write(dir.path().join("root.new"), &before[..before.len() / 2]).unwrap();
        assert!(kms.read().is_ok());
        let failed = kms.change(|opened| {
            opened.add(2, &rng)?;
            Err::<(), _>(KmsError::NoRoot)
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&root).unwrap(), before, "a change that fails changes nothing");
        kms.change(|opened| opened.add(2, &rng)).unwrap();
        assert_eq!(kms.read().unwrap().file.versions().present, [1, 2].into());
        assert!(!dir.path().join("root.new").exists());
    }

    #[tokio::test]
    async fn a_root_opens_only_with_its_own_unseal_key() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let rng = SystemRng::new();
        let original = LocalKms::create(&at("root"), &at("unseal"), &rng).unwrap();
        LocalKms::create(&at("root2"), &at("unseal2"), &rng).unwrap();
        let place = Canonical::new("t");
        let wrapped = original.wrap(&place, &Key::from_bytes(&[5; 32]), &rng).await.unwrap();

        let opened = LocalKms::open(&at("root"), &at("unseal")).unwrap();
        assert_eq!(opened.unwrap(&place, &wrapped).await.unwrap().expose(), &[5; 32]);
        assert!(opened.unwrap(&Canonical::new("u"), &wrapped).await.is_err(), "another place");

        let wrong = LocalKms::open(&at("root"), &at("unseal2")).err().unwrap();
        assert!(matches!(wrong, KmsError::WrongUnsealKey { .. }), "{wrong}");
        let other = LocalKms::open(&at("root2"), &at("unseal2")).unwrap();
        let error = other.unwrap(&place, &wrapped).await.err().unwrap();
        assert!(matches!(error, KmsError::DoesNotOpen(_)), "{error}");

        assert!(LocalKms::create(&at("root"), &at("unseal3"), &rng).is_err(), "never overwritten");
        assert!(LocalKms::open(&at("root"), &at("unseal")).is_ok());
        #[cfg(unix)]
        for file in ["root", "unseal"] {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&fs::metadata(at(file)).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }
}
