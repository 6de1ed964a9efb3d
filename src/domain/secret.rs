//! Values in clear and values sealed are different types; only `crypto` turns one into the other.

use zeroize::Zeroizing;

/// A personal value in clear. It has no `Debug`, `Display`, `Clone` or serialisation, and is zeroised on drop.
///
/// ```compile_fail,E0277
/// let value = sandyq::domain::secret::Plaintext::new("synthetic".to_owned());
/// println!("{value:?}");
/// ```
pub struct Plaintext(Zeroizing<String>);

impl Plaintext {
    /// Takes a value over. The caller's own copies are the caller's to zeroise.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value. Callers: the field types (validation, masks), `crypto` (sealing), and `grpc` (the answer to a
    /// permitted caller).
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A sealed blob as `crypto` made it. It says its own format and algorithm; nothing else may look inside.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Bytes that claim to be a sealed blob; `crypto` checks them when it opens them.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for storage.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}
