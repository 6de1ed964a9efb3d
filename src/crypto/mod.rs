//! Keys and seals. Key bytes never leave this room, and values in clear leave it only against a
//! [`crate::domain::authority::ReleaseAuthority`].
//!
//! ```text
//! root key            in the KMS
//!  └ platform key     wrapped by the root; likewise index key, row key, audit key
//!     └ subject key   wrapped by the platform key; the wrap names its version
//!        ├ field key  HKDF-SHA256(subject key, record, field, version); seals one value
//!        └ part key   HKDF-SHA256(subject key, document, side, version, salt of the part); seals one part
//! ```

pub mod aead;
pub mod audit_key;
pub mod backup;
pub mod digest;
pub mod document;
pub mod envelope;
pub mod keyring;
pub mod kms;
pub mod random;
pub mod release;
mod reseal;
