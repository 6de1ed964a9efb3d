//! What is sealed under one subject key, sealed under another. Nothing is released: what was in clear on the way is zeroised.
//! What was sealed anew is opened once more before it is handed out, since it may replace the only other copy.

use zeroize::Zeroizing;

use super::{
    aead::{self, Key, OpenError, SealError},
    envelope::{SubjectKey, SubjectPlace, derive},
    keyring::WrapError,
};
use crate::domain::{canonical::Canonical, consent::RecordAddress, rng::Rng, secret::Sealed};

impl SubjectKey {
    /// Seals a value under another key of the subject, at the same address.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn reseal_value(
        &self,
        to: &Self,
        address: &RecordAddress,
        blob: &Sealed,
        rng: &dyn Rng,
    ) -> Result<Sealed, WrapError> {
        let keys = (self.field_key(address), to.field_key(address));
        reseal(keys, &Self::value_place(address), blob, rng)
    }

    /// The same of what is sealed at another place.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn reseal_at(
        &self,
        to: &Self,
        place: &SubjectPlace,
        blob: &Sealed,
        rng: &dyn Rng,
    ) -> Result<Sealed, WrapError> {
        let place = place.canonical();
        reseal((derive(self.key(), place), derive(to.key(), place)), place, blob, rng)
    }

    /// Whether a value opens at its address. Nothing is released.
    ///
    /// # Errors
    /// [`OpenError`] where it does not.
    pub fn opens_value(&self, address: &RecordAddress, blob: &Sealed) -> Result<(), OpenError> {
        let key = self.field_key(address).ok_or(OpenError::Malformed)?;
        aead::open(&key, &Self::value_place(address), blob).map(drop)
    }

    /// The same of what is sealed at another place.
    ///
    /// # Errors
    /// [`OpenError`] where it does not open.
    pub fn opens_at(&self, place: &SubjectPlace, blob: &Sealed) -> Result<(), OpenError> {
        let place = place.canonical();
        let key = derive(self.key(), place).ok_or(OpenError::Malformed)?;
        aead::open(&key, place, blob).map(drop)
    }
}

fn reseal(
    (from, to): (Option<Key>, Option<Key>),
    place: &Canonical,
    blob: &Sealed,
    rng: &dyn Rng,
) -> Result<Sealed, WrapError> {
    let (from, to) = (from.ok_or(SealError::Refused)?, to.ok_or(SealError::Refused)?);
    let bytes = aead::open(&from, place, blob)?;
    let sealed = aead::seal(&to, place, &bytes, rng)?;
    let again: Zeroizing<Vec<u8>> = aead::open(&to, place, &sealed)?;
    let same = subtle::ConstantTimeEq::ct_eq(again.as_slice(), bytes.as_slice());
    if bool::from(same) { Ok(sealed) } else { Err(OpenError::Forged.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::random::SystemRng,
        domain::{
            ids::{ConsentId, PlatformId, RecordId, SubjectId},
            secret::Plaintext,
        },
    };

    #[test]
    fn what_is_sealed_anew_opens_with_the_new_key_alone() {
        let rng = SystemRng::new();
        let (old, new) = (SubjectKey::random(&rng).unwrap(), SubjectKey::random(&rng).unwrap());
        let (platform, subject) = (PlatformId::new(1), SubjectId::from_bytes([1; 16]));
        let record = RecordId::from_bytes([2; 16]);
        let address = RecordAddress { platform, subject, record, field: "iin".parse().unwrap(), version: 1 };
        let before = old.seal_value(&address, &Plaintext::new("synthetic".to_owned()), &rng).unwrap();
        let after = old.reseal_value(&new, &address, &before, &rng).unwrap();
        assert_eq!(new.opens_value(&address, &after), Ok(()));
        assert_eq!(old.opens_value(&address, &after), Err(OpenError::Forged));
        let moved = RecordAddress { version: 2, ..address.clone() };
        assert!(old.reseal_value(&new, &moved, &before, &rng).is_err(), "it stays at its address");

        let place = SubjectPlace::consent(platform, subject, ConsentId::from_bytes([3; 16]));
        let before = old.seal_at(&place, b"synthetic", &rng).unwrap();
        let after = old.reseal_at(&new, &place, &before, &rng).unwrap();
        assert_eq!(new.opens_at(&place, &after), Ok(()));
        assert_eq!(old.opens_at(&place, &after), Err(OpenError::Forged));
        assert!(new.reseal_at(&old, &place, &before, &rng).is_err());
    }
}
