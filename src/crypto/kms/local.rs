//! Root keys in a file, sealed under an unseal key in another file.
//!
//! The two files belong on different media (the root file beside the database, the unseal key in a mounted secret):
//! whoever has one of them has nothing. Both are created with mode 0600 and never overwritten.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
};

use data_encoding::{BASE32_NOPAD, BASE64};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Kms, KmsError};
use crate::{
    crypto::aead::{self, Key, OpenError},
    domain::{canonical::Canonical, rng::Rng, secret::Sealed},
};

const UNSEAL_PREFIX: &str = "sandyq-unseal-1:";
const ROOT_FORMAT: &str = "sandyq-root/1";

/// Root keys from a sealed file.
pub struct LocalKms {
    versions: BTreeMap<u32, Key>,
    active: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootFile {
    format: String,
    active: u32,
    /// Sealed key, base64, by version.
    versions: BTreeMap<u32, String>,
}

impl LocalKms {
    /// Makes a root key and writes both files. Neither may exist.
    ///
    /// # Errors
    /// [`KmsError`]; a file that exists is never overwritten.
    pub fn create(root_file: &Path, unseal_file: &Path, rng: &dyn Rng) -> Result<Self, KmsError> {
        let (root, unseal) = (Key::random(rng)?, Key::random(rng)?);
        let sealed = aead::seal(&unseal, &place(1), root.expose(), rng)?;
        let mut text = Zeroizing::new(String::with_capacity(UNSEAL_PREFIX.len() + 64));
        text.push_str(UNSEAL_PREFIX);
        BASE32_NOPAD.encode_append(unseal.expose(), &mut text);
        text.push('\n');
        let file = RootFile {
            format: ROOT_FORMAT.to_owned(),
            active: 1,
            versions: BTreeMap::from([(1, BASE64.encode(sealed.as_bytes()))]),
        };
        let json = serde_json::to_string_pretty(&file)
            .map_err(|e| file_error("cannot write", root_file, e.into()))?;
        write_new(unseal_file, text.as_bytes())?;
        write_new(root_file, json.as_bytes())?;
        Ok(Self { versions: BTreeMap::from([(1, root)]), active: 1 })
    }

    /// Reads both files and opens the root keys.
    ///
    /// # Errors
    /// [`KmsError`].
    pub fn open(root_file: &Path, unseal_file: &Path) -> Result<Self, KmsError> {
        let unseal = read_unseal_key(unseal_file)?;
        let malformed = |problem| KmsError::Malformed { path: root_file.display().to_string(), problem };
        let text = fs::read_to_string(root_file).map_err(|e| file_error("cannot read", root_file, e))?;
        let file: RootFile = serde_json::from_str(&text).map_err(|_| malformed("not a root file"))?;
        if file.format != ROOT_FORMAT {
            return Err(malformed("unknown format"));
        }
        let mut versions = BTreeMap::new();
        for (version, sealed) in &file.versions {
            let blob = BASE64.decode(sealed.as_bytes()).map_err(|_| malformed("not base64"))?;
            let bytes = aead::open(&unseal, &place(*version), &Sealed::from_bytes(blob))
                .map_err(|_| KmsError::WrongUnsealKey { path: root_file.display().to_string() })?;
            let bytes: &[u8; 32] =
                bytes.as_slice().try_into().map_err(|_| malformed("a root key has 32 bytes"))?;
            versions.insert(*version, Key::from_bytes(bytes));
        }
        if !versions.contains_key(&file.active) {
            return Err(malformed("the active version is missing"));
        }
        Ok(Self { versions, active: file.active })
    }

    fn key(&self, version: u32) -> Result<&Key, KmsError> {
        self.versions.get(&version).ok_or(KmsError::DoesNotOpen(OpenError::UnknownKeyVersion(version)))
    }
}

#[async_trait::async_trait]
impl Kms for LocalKms {
    async fn wrap(&self, place: &Canonical, key: &Key, rng: &dyn Rng) -> Result<Sealed, KmsError> {
        Ok(aead::wrap(self.key(self.active)?, self.active, place, key, rng)?)
    }

    async fn unwrap(&self, place: &Canonical, wrapped: &Sealed) -> Result<Key, KmsError> {
        let version = aead::wrap_version(wrapped).map_err(KmsError::DoesNotOpen)?;
        aead::unwrap(self.key(version)?, place, wrapped).map_err(KmsError::DoesNotOpen)
    }
}

fn place(version: u32) -> Canonical {
    Canonical::new("root").int(i64::from(version))
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

fn file_error(action: &'static str, path: &Path, source: io::Error) -> KmsError {
    KmsError::File { action, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRng;

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
