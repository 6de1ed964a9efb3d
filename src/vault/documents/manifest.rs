//! The sealed list of a side's parts.

use minicbor::{Decode, Encode, bytes::ByteArray};

use crate::{
    crypto::{
        aead::{OpenError, SealError},
        document::PartSalt,
        envelope::SubjectKey,
    },
    domain::{
        document::{SideAddress, parts_of},
        ids::ObjectId,
        rng::Rng,
        secret::Sealed,
    },
};

/// What a side consists of.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Manifest {
    /// Bytes.
    #[n(0)]
    pub(super) size: u64,
    /// SHA-256 of all of them.
    #[n(1)]
    pub(super) sha256: ByteArray<32>,
    /// Its parts, in order.
    #[n(2)]
    pub(super) parts: Vec<Listed>,
}

/// A part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Listed {
    /// The object that it lies in.
    #[n(0)]
    object: ByteArray<16>,
    /// Its salt.
    #[n(1)]
    salt: ByteArray<32>,
}

impl Listed {
    pub(super) fn new(object: ObjectId, salt: PartSalt) -> Self {
        Self { object: (*object.as_bytes()).into(), salt: salt.into() }
    }

    pub(super) fn object(&self) -> ObjectId {
        ObjectId::from_bytes(*self.object)
    }

    pub(super) fn salt(&self) -> PartSalt {
        *self.salt
    }
}

impl Manifest {
    pub(super) fn seal(
        &self,
        key: &SubjectKey,
        address: &SideAddress,
        rng: &dyn Rng,
    ) -> Result<Sealed, SealError> {
        // Writing to a vector cannot fail.
        let bytes = minicbor::to_vec(self).map_err(|_| SealError::Refused)?;
        key.seal_manifest(address, &bytes, rng)
    }

    /// Opens it; one that lists another number of parts than its size has is none.
    pub(super) fn open(key: &SubjectKey, address: &SideAddress, sealed: &Sealed) -> Result<Self, OpenError> {
        let bytes = key.open_manifest(address, sealed)?;
        let manifest: Self = minicbor::decode(&bytes).map_err(|_| OpenError::Malformed)?;
        let parts = u32::try_from(manifest.parts.len()).unwrap_or(u32::MAX);
        if parts == parts_of(manifest.size) { Ok(manifest) } else { Err(OpenError::Malformed) }
    }
}
