//! Parts of a document's side, sealed with AES-256-GCM each under a key of its own, and the manifest that lists them.
//!
//! ```text
//! offset  length
//!      0       1   format, 1
//!      1       1   algorithm: 3 AES-256-GCM under the part's derived key
//!      2      32   salt, random
//!     34      12   nonce, random
//!     46       n   ciphertext
//!             16   tag
//! ```
//!
//! The key follows from the subject key, the document, side and version, and the salt, so each salt has sealed one message
//! only. The associated data are the header and the place: platform, subject, document, field, side, version, index, and
//! whether it is the last. The manifest names each part's salt: a part that was moved, swapped, cut, left out, or that an
//! older attempt left does not open in its place. ring does the bulk, and does not zeroise its key schedule.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest,
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    aead::{self, Key, NONCE_BYTES, OpenError, SealError},
    envelope::{SubjectKey, derive, place},
    keyring::WrapError,
};
use crate::domain::{
    authority::ReleaseAuthority,
    canonical::Canonical,
    document::{MediaType, PART_BYTES, Side, SideAddress},
    rng::{Rng, random_bytes},
    secret::Sealed,
};

const HEADER: [u8; 2] = [1, 3];
const SALT_BYTES: usize = 32;
const SALT: usize = HEADER.len();
const NONCE: usize = SALT + SALT_BYTES;
const BODY: usize = NONCE + NONCE_BYTES;
const TAG_BYTES: usize = 16;

/// Most bytes of a sealed part.
pub const MAX_SEALED_PART: usize = BODY + PART_BYTES + TAG_BYTES;

/// The salt of a part, by which its manifest knows it.
pub type PartSalt = [u8; SALT_BYTES];

/// Where in a side a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartPlace {
    /// From 0.
    pub index: u32,
    /// Whether it is the last.
    pub last: bool,
}

/// The bytes of a part, in clear, while they come in. Zeroised on drop.
pub struct OpenPart {
    /// Room for the header, salt and nonce, then the bytes: so nothing is copied when it is sealed.
    buffer: Zeroizing<Vec<u8>>,
}

impl Default for OpenPart {
    fn default() -> Self {
        let mut buffer = Vec::with_capacity(MAX_SEALED_PART);
        buffer.resize(BODY, 0);
        Self { buffer: Zeroizing::new(buffer) }
    }
}

impl OpenPart {
    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_sub(BODY)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes as many of these bytes as there is room for, and answers how many.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(PART_BYTES.saturating_sub(self.len()));
        self.buffer.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        taken
    }

    /// The bytes, to tell what they are.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.buffer.get(BODY..).unwrap_or_default()
    }
}

/// A part as it is stored, with its salt.
pub struct SealedPart {
    /// The object's bytes.
    pub bytes: Vec<u8>,
    /// Its salt.
    pub salt: PartSalt,
}

/// SHA-256 of content that comes in parts.
#[derive(Clone)]
pub struct ContentHash(digest::Context);

impl Default for ContentHash {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl ContentHash {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all of it.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        let mut out = [0_u8; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }

    /// Whether the content has this hash.
    #[must_use]
    pub fn is(self, sha256: &[u8; 32]) -> bool {
        self.0.finish().as_ref().ct_eq(sha256).into()
    }
}

impl SubjectKey {
    /// Seals a part at its place.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_part(
        &self,
        address: &SideAddress,
        at: PartPlace,
        part: OpenPart,
        rng: &dyn Rng,
    ) -> Result<SealedPart, SealError> {
        let salt: PartSalt = random_bytes(rng)?;
        let nonce = random_bytes::<NONCE_BYTES>(rng)?;
        let key = self.part_key(address, &salt).ok_or(SealError::Refused)?;
        // From here on the buffer holds ciphertext, or nothing.
        let OpenPart { mut buffer } = part;
        let head = buffer.iter_mut().zip(HEADER.iter().chain(&salt).chain(&nonce));
        head.for_each(|(byte, value)| *byte = *value);
        let aad = Aad::from(associated_data(address, at));
        let body = buffer.get_mut(BODY..).ok_or(SealError::Refused)?;
        let tag = cipher(&key)
            .and_then(|key| {
                key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, body).ok()
            })
            .ok_or(SealError::Refused)?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(SealedPart { bytes: std::mem::take(&mut *buffer), salt })
    }

    /// Opens a part that `permit` allows, as the manifest knows it.
    ///
    /// # Errors
    /// [`OpenError`] where the object is another than the manifest's, or does not open at its place.
    pub fn open_part(
        &self,
        permit: &impl ReleaseAuthority,
        side: Side,
        at: PartPlace,
        salt: &PartSalt,
        object: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.open_at(&SideAddress { record: permit.address().clone(), side }, at, salt, object)
    }

    /// Adds a stored part to a hash, and answers its salt and what content that begins so is. Nothing is released.
    ///
    /// # Errors
    /// [`OpenError`] where it does not open at its place.
    pub fn hash_part(
        &self,
        address: &SideAddress,
        at: PartPlace,
        object: Vec<u8>,
        hash: &mut ContentHash,
    ) -> Result<(PartSalt, Option<MediaType>), OpenError> {
        let salt = salt_of(&object).ok_or(OpenError::Malformed)?;
        let part = self.open_at(address, at, &salt, object)?;
        hash.update(&part);
        Ok((salt, MediaType::sniff(&part)))
    }

    /// Seals a stored part under another key of the subject, at the same place; the content is added to a hash.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn reseal_part(
        &self,
        to: &Self,
        (address, at): (&SideAddress, PartPlace),
        (salt, object): (&PartSalt, Vec<u8>),
        hash: &mut ContentHash,
        rng: &dyn Rng,
    ) -> Result<SealedPart, WrapError> {
        let clear = self.open_at(address, at, salt, object)?;
        hash.update(&clear);
        let mut part = OpenPart::default();
        if part.fill(&clear) < clear.len() {
            return Err(OpenError::Malformed.into());
        }
        Ok(to.seal_part(address, at, part, rng)?)
    }

    /// Seals the manifest of a side.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_manifest(
        &self,
        address: &SideAddress,
        manifest: &[u8],
        rng: &dyn Rng,
    ) -> Result<Sealed, SealError> {
        let place = side_place("documents.manifest", address);
        aead::seal(&derive(self.key(), &place).ok_or(SealError::Refused)?, &place, manifest, rng)
    }

    /// Opens it. It says how the content lies, and its hash, but holds none of it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_manifest(
        &self,
        address: &SideAddress,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let place = side_place("documents.manifest", address);
        aead::open(&derive(self.key(), &place).ok_or(OpenError::Malformed)?, &place, sealed)
    }

    fn open_at(
        &self,
        address: &SideAddress,
        at: PartPlace,
        salt: &PartSalt,
        object: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let mut object = Zeroizing::new(object);
        if object.get(..SALT) != Some(&HEADER) {
            return Err(OpenError::Malformed);
        }
        if salt_of(&object).as_ref() != Some(salt) {
            return Err(OpenError::Forged);
        }
        let nonce = object.get(NONCE..BODY).and_then(|nonce| <[u8; NONCE_BYTES]>::try_from(nonce).ok());
        let nonce = Nonce::assume_unique_for_key(nonce.ok_or(OpenError::Malformed)?);
        let key = self.part_key(address, salt).and_then(|key| cipher(&key)).ok_or(OpenError::Malformed)?;
        let aad = Aad::from(associated_data(address, at));
        // The plaintext comes to stand at the beginning.
        let opened = key.open_within(nonce, aad, &mut object, BODY..).map(|plain| plain.len());
        object.truncate(opened.map_err(|_| OpenError::Forged)?);
        Ok(object)
    }

    fn part_key(&self, address: &SideAddress, salt: &PartSalt) -> Option<Key> {
        let info = Canonical::new("part key")
            .bytes(address.record.record.as_bytes())
            .text(address.side.as_str())
            .int(i64::from(address.record.version))
            .bytes(salt);
        derive(self.key(), &info)
    }
}

fn cipher(key: &Key) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key.expose()).ok().map(LessSafeKey::new)
}

fn salt_of(object: &[u8]) -> Option<PartSalt> {
    object.get(SALT..NONCE)?.try_into().ok()
}

fn side_place(label: &str, address: &SideAddress) -> Canonical {
    let record = &address.record;
    place(label, record.platform, record.subject)
        .bytes(record.record.as_bytes())
        .text(record.field.as_str())
        .text(address.side.as_str())
        .int(i64::from(record.version))
}

fn associated_data(address: &SideAddress, at: PartPlace) -> Vec<u8> {
    let place = side_place("documents.part", address).int(i64::from(at.index)).flag(at.last);
    [HEADER.as_slice(), place.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::random::SystemRng,
        domain::{
            consent::RecordAddress,
            ids::{PlatformId, RecordId, SubjectId},
        },
    };

    struct Leave(RecordAddress);
    impl ReleaseAuthority for Leave {
        fn address(&self) -> &RecordAddress {
            &self.0
        }
    }

    fn address() -> SideAddress {
        let record = RecordAddress {
            platform: PlatformId::new(1),
            subject: SubjectId::from_bytes([1; 16]),
            record: RecordId::from_bytes([2; 16]),
            field: "id_image".parse().unwrap(),
            version: 1,
        };
        SideAddress { record, side: Side::Front }
    }

    fn part(bytes: &[u8]) -> OpenPart {
        let mut part = OpenPart::default();
        assert_eq!(part.fill(bytes), bytes.len());
        part
    }

    const AT: PartPlace = PartPlace { index: 3, last: false };

    fn open(
        key: &SubjectKey,
        at: &SideAddress,
        place: PartPlace,
        salt: &PartSalt,
        bytes: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        key.open_part(&Leave(at.record.clone()), at.side, place, salt, bytes.to_vec()).map(|p| p.to_vec())
    }

    #[test]
    fn a_part_opens_at_its_place_alone() {
        let rng = SystemRng::new();
        let key = SubjectKey::random(&rng).unwrap();
        let sealed = key.seal_part(&address(), AT, part(b"synthetic"), &rng).unwrap();
        assert_eq!(open(&key, &address(), AT, &sealed.salt, &sealed.bytes).unwrap(), b"synthetic");
        let changes: [fn(&mut SideAddress, &mut PartPlace); 8] = [
            |a, _| a.record.platform = PlatformId::new(2),
            |a, _| a.record.subject = SubjectId::from_bytes([9; 16]),
            |a, _| a.record.record = RecordId::from_bytes([9; 16]),
            |a, _| a.record.field = "face".parse().unwrap(),
            |a, _| a.record.version = 2,
            |a, _| a.side = Side::Back,
            |_, p| p.index = 4,
            |_, p| p.last = true,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let (mut moved, mut place) = (address(), AT);
            change(&mut moved, &mut place);
            let opened = open(&key, &moved, place, &sealed.salt, &sealed.bytes);
            assert_eq!(opened.err(), Some(OpenError::Forged), "part {i}");
        }
        let other = SubjectKey::random(&rng).unwrap();
        assert!(open(&other, &address(), AT, &sealed.salt, &sealed.bytes).is_err(), "another subject's key");
        // The same bytes sealed again at the same place are another part, which the manifest does not know.
        let again = key.seal_part(&address(), AT, part(b"synthetic"), &rng).unwrap();
        assert_eq!(open(&key, &address(), AT, &sealed.salt, &again.bytes).err(), Some(OpenError::Forged));
    }

    #[test]
    fn no_changed_part_opens() {
        let rng = SystemRng::new();
        let key = SubjectKey::random(&rng).unwrap();
        let sealed = key.seal_part(&address(), AT, part(b"synthetic"), &rng).unwrap();
        for at in 0..sealed.bytes.len() {
            let mut flipped = sealed.bytes.clone();
            flipped[at] ^= 1;
            assert!(open(&key, &address(), AT, &sealed.salt, &flipped).is_err(), "byte {at}");
            assert!(open(&key, &address(), AT, &sealed.salt, &sealed.bytes[..at]).is_err(), "cut to {at}");
        }
        let longer = [sealed.bytes.as_slice(), &[0]].concat();
        assert!(open(&key, &address(), AT, &sealed.salt, &longer).is_err());
    }

    #[test]
    fn the_hash_is_of_the_content() {
        let rng = SystemRng::new();
        let key = SubjectKey::random(&rng).unwrap();
        let (mut clear, mut stored) = (ContentHash::default(), ContentHash::default());
        for (index, bytes) in [b"one".as_slice(), b"two"].into_iter().enumerate() {
            let at = PartPlace { index: u32::try_from(index).unwrap(), last: index == 1 };
            let sealed = key.seal_part(&address(), at, part(bytes), &rng).unwrap();
            clear.update(bytes);
            assert_eq!(key.hash_part(&address(), at, sealed.bytes, &mut stored).unwrap().0, sealed.salt);
        }
        let sha256 = super::super::digest::sha256(b"onetwo");
        assert!(clear.is(&sha256) && stored.clone().is(&sha256));
        assert!(!stored.is(&[0; 32]));
    }

    #[test]
    fn a_part_takes_no_more_than_it_holds() {
        let mut part = OpenPart::default();
        assert_eq!(part.fill(&vec![7; PART_BYTES - 1]), PART_BYTES - 1);
        assert_eq!(part.fill(&[8, 9]), 1);
        assert_eq!((part.fill(&[9]), part.len()), (0, PART_BYTES));
    }

    #[test]
    fn a_manifest_opens_at_its_side_alone() {
        let rng = SystemRng::new();
        let key = SubjectKey::random(&rng).unwrap();
        let sealed = key.seal_manifest(&address(), b"list", &rng).unwrap();
        assert_eq!(*key.open_manifest(&address(), &sealed).unwrap(), b"list");
        let mut moved = address();
        moved.record.version = 2;
        assert!(key.open_manifest(&moved, &sealed).is_err());
        moved = SideAddress { side: Side::Back, ..address() };
        assert!(key.open_manifest(&moved, &sealed).is_err());
    }
}
