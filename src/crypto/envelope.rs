//! The envelope of one subject: a subject key, field keys derived from it, and values sealed under those.

use ring::hkdf;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    aead::{self, Key, OpenError, SealError},
    digest::IndexKey,
};
use crate::domain::{
    authority::ReleaseAuthority,
    canonical::Canonical,
    consent::RecordAddress,
    ids::{ConsentId, PlatformId, SubjectId, TokenRowId},
    rng::{RandomUnavailable, Rng},
    secret::{Plaintext, Sealed},
    token::AnyToken,
};

/// The key of one subject. Destroying its wraps makes everything of the subject unreadable.
pub struct SubjectKey(Key);

impl SubjectKey {
    /// A new random subject key.
    ///
    /// # Errors
    /// [`RandomUnavailable`] when the source fails.
    pub fn random(rng: &dyn Rng) -> Result<Self, RandomUnavailable> {
        Key::random(rng).map(Self)
    }

    pub(super) const fn from_key(key: Key) -> Self {
        Self(key)
    }

    pub(super) const fn key(&self) -> &Key {
        &self.0
    }

    /// Whether another is the same key, compared in constant time.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.expose().ct_eq(other.0.expose()).into()
    }

    /// Seals a value at its address.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_value(
        &self,
        address: &RecordAddress,
        value: &Plaintext,
        rng: &dyn Rng,
    ) -> Result<Sealed, SealError> {
        let key = self.field_key(address).ok_or(SealError::Refused)?;
        aead::seal(&key, &Self::value_place(address), value.expose().as_bytes(), rng)
    }

    /// Opens the one value that `permit` allows.
    ///
    /// Without a permit this does not compile:
    ///
    /// ```compile_fail,E0277
    /// # use sandyq::{crypto::envelope::SubjectKey, domain::{consent::RecordAddress, secret::Sealed}};
    /// fn read(key: &SubjectKey, address: &RecordAddress, blob: &Sealed) {
    ///     let _value = key.open_value(address, blob);
    /// }
    /// ```
    ///
    /// # Errors
    /// [`OpenError`] where the blob does not belong to the permit's address.
    pub fn open_value(&self, permit: &impl ReleaseAuthority, blob: &Sealed) -> Result<Plaintext, OpenError> {
        let address = permit.address();
        let bytes = self.open(address, blob)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| OpenError::Malformed)?;
        Ok(Plaintext::new(text.to_owned()))
    }

    /// Whether the sealed value equals `candidate`, compared in constant time. Nothing is released.
    ///
    /// # Errors
    /// [`OpenError`] where the blob does not open at the address.
    pub fn value_equals(
        &self,
        address: &RecordAddress,
        blob: &Sealed,
        candidate: &Plaintext,
    ) -> Result<bool, OpenError> {
        let bytes = self.open(address, blob)?;
        Ok(bytes.as_slice().ct_eq(candidate.expose().as_bytes()).into())
    }

    /// Hashes of a sealed value under versions of the index key, in their order. Nothing is released.
    ///
    /// # Errors
    /// [`OpenError`] where the blob does not open at the address.
    pub fn value_hashes<const N: usize>(
        &self,
        address: &RecordAddress,
        blob: &Sealed,
        keys: [&IndexKey; N],
    ) -> Result<[[u8; 32]; N], OpenError> {
        let bytes = self.open(address, blob)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| OpenError::Malformed)?;
        let value = Plaintext::new(text.to_owned());
        Ok(keys.map(|key| key.value(&address.field, &value)))
    }

    /// Hash of the platform's sealed reference under a version of the index key. Nothing is released.
    ///
    /// # Errors
    /// [`OpenError`] where the blob does not belong to the place.
    pub fn reference_hash(
        &self,
        place: &SubjectPlace,
        blob: &Sealed,
        key: &IndexKey,
    ) -> Result<[u8; 32], OpenError> {
        let own = derive(&self.0, &place.0).ok_or(OpenError::Malformed)?;
        let bytes = aead::open(&own, &place.0, blob)?;
        let reference = std::str::from_utf8(&bytes).map_err(|_| OpenError::Malformed)?;
        Ok(key.subject_reference(reference))
    }

    /// Seals something else of the subject at a place of its own.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_at(&self, place: &SubjectPlace, bytes: &[u8], rng: &dyn Rng) -> Result<Sealed, SealError> {
        let key = derive(&self.0, &place.0).ok_or(SealError::Refused)?;
        aead::seal(&key, &place.0, bytes, rng)
    }

    /// Opens a token that was sealed beside its hash, for a replay or a look-up. Its text is the platform's own.
    ///
    /// # Errors
    /// [`OpenError`] where the blob does not belong to the place.
    pub fn open_token(&self, place: &SubjectPlace, blob: &Sealed) -> Result<AnyToken, OpenError> {
        let key = derive(&self.0, &place.0).ok_or(OpenError::Malformed)?;
        let bytes = aead::open(&key, &place.0, blob)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| OpenError::Malformed)?;
        AnyToken::parse(text).map_err(|_| OpenError::Malformed)
    }

    fn open(&self, address: &RecordAddress, blob: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let key = self.field_key(address).ok_or(OpenError::Malformed)?;
        aead::open(&key, &Self::value_place(address), blob)
    }

    pub(super) fn value_place(address: &RecordAddress) -> Canonical {
        place("records.value", address.platform, address.subject)
            .bytes(address.record.as_bytes())
            .text(address.field.as_str())
            .int(i64::from(address.version))
    }

    pub(super) fn field_key(&self, address: &RecordAddress) -> Option<Key> {
        let info = Canonical::new("field key")
            .bytes(address.record.as_bytes())
            .text(address.field.as_str())
            .int(i64::from(address.version));
        derive(&self.0, &info)
    }
}

/// A place, other than a record, where something of a subject is sealed.
pub struct SubjectPlace(Canonical);

impl SubjectPlace {
    pub(super) const fn canonical(&self) -> &Canonical {
        &self.0
    }

    /// The platform's reference to the subject.
    #[must_use]
    pub fn reference(platform: PlatformId, subject: SubjectId) -> Self {
        Self(place("subjects.reference", platform, subject))
    }

    /// A token, sealed beside its hash.
    #[must_use]
    pub fn token(platform: PlatformId, subject: SubjectId, token: TokenRowId) -> Self {
        Self(place("tokens.sealed", platform, subject).bytes(token.as_bytes()))
    }

    /// The evidence of a consent.
    #[must_use]
    pub fn consent(platform: PlatformId, subject: SubjectId, consent: ConsentId) -> Self {
        Self(place("consents.evidence", platform, subject).bytes(consent.as_bytes()))
    }
}

/// The place of a subject key's wrap.
#[must_use]
pub(super) fn subject_key_place(platform: PlatformId, subject: SubjectId) -> Canonical {
    place("subjects.wrapped_key", platform, subject)
}

pub(super) fn place(label: &str, platform: PlatformId, subject: SubjectId) -> Canonical {
    Canonical::new(label).int(i64::from(platform.get())).bytes(subject.as_bytes())
}

/// HKDF-SHA256 (RFC 5869) of a 256-bit key; `info` separates the uses. `None` only past 255 blocks of output.
pub(super) fn derive(key: &Key, info: &Canonical) -> Option<Key> {
    const SALT: &[u8] = b"sandyq/1 subject";
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(key.expose());
    let mut out = Zeroizing::new([0_u8; 32]);
    let info = [info.as_bytes()];
    prk.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(out.as_mut_slice())).ok()?;
    Some(Key::from_bytes(&out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::random::SystemRng, domain::ids::RecordId};

    struct Leave(RecordAddress);
    impl ReleaseAuthority for Leave {
        fn address(&self) -> &RecordAddress {
            &self.0
        }
    }

    fn address() -> RecordAddress {
        RecordAddress {
            platform: PlatformId::new(1),
            subject: SubjectId::from_bytes([1; 16]),
            record: RecordId::from_bytes([2; 16]),
            field: "iin".parse().unwrap(),
            version: 1,
        }
    }

    /// Each part of the address on its own: a value moved there does not open.
    #[test]
    fn a_moved_value_does_not_open() {
        let rng = SystemRng::new();
        let key = SubjectKey::random(&rng).unwrap();
        let value = Plaintext::new("991231600002".to_owned());
        let blob = key.seal_value(&address(), &value, &rng).unwrap();
        assert_eq!(
            key.open_value(&Leave(address()), &blob).map(|p| p.expose().to_owned()).unwrap(),
            value.expose()
        );

        let changes: [fn(&mut RecordAddress); 5] = [
            |a| a.platform = PlatformId::new(2),
            |a| a.subject = SubjectId::from_bytes([9; 16]),
            |a| a.record = RecordId::from_bytes([9; 16]),
            |a| a.field = "phone".parse().unwrap(),
            |a| a.version = 2,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut moved = address();
            change(&mut moved);
            assert_eq!(
                key.open_value(&Leave(moved.clone()), &blob).err(),
                Some(OpenError::Forged),
                "part {i}"
            );
            assert!(key.value_equals(&moved, &blob, &value).is_err(), "part {i}");
        }
        let other = SubjectKey::random(&rng).unwrap();
        assert_eq!(
            other.open_value(&Leave(address()), &blob).err(),
            Some(OpenError::Forged),
            "another subject's key"
        );
    }

    #[test]
    fn equality_is_told_without_release() {
        let rng = SystemRng::new();
        let key = SubjectKey::random(&rng).unwrap();
        let blob = key.seal_value(&address(), &Plaintext::new("991231600002".to_owned()), &rng).unwrap();
        for (candidate, equal) in [("991231600002", true), ("991231600301", false), ("", false)] {
            let candidate = Plaintext::new(candidate.to_owned());
            assert_eq!(key.value_equals(&address(), &blob, &candidate), Ok(equal));
        }
    }

    #[test]
    fn places_do_not_open_each_other() {
        let rng = SystemRng::new();
        let key = SubjectKey::random(&rng).unwrap();
        let (platform, subject) = (PlatformId::new(1), SubjectId::from_bytes([1; 16]));
        let places = || {
            [
                SubjectPlace::reference(platform, subject),
                SubjectPlace::token(platform, subject, TokenRowId::from_bytes([3; 16])),
                SubjectPlace::token(platform, subject, TokenRowId::from_bytes([4; 16])),
                SubjectPlace::consent(platform, subject, ConsentId::from_bytes([3; 16])),
                SubjectPlace::reference(PlatformId::new(2), subject),
            ]
        };
        for (i, sealed_at) in places().iter().enumerate() {
            let blob = key.seal_at(sealed_at, b"synthetic", &rng).unwrap();
            for (j, opened_at) in places().iter().enumerate() {
                let opened = aead::open(&derive(&key.0, &opened_at.0).unwrap(), &opened_at.0, &blob);
                assert_eq!(opened.is_ok(), i == j, "{i} at {j}");
            }
        }
    }
}
