//! Keys that the heads of one log are believed by, as the log itself hands over from one to the next.
//!
//! The first keys come from outside. An entry announces the next one, and the first head that covers the entry is signed
//! by both, the old key and the new: whoever held the old key vouched for the new one. From that size on only the new key
//! counts, so an old key that leaks later signs nothing that is believed.

use signed_note::{StandardVerifier, Verifier as _};

use super::{
    entry::{Entry, Verdict},
    head::{BadHead, HeadVerifier, SignedHead},
};

/// The call of an entry that announces an audit key.
pub const ANNOUNCE: &str = "Audit/AnnounceKey";
/// The kind of object of such an entry; the object is the verifier key.
pub const AUDIT_KEY: &str = "audit_key";

/// The verifier key that an entry announces.
#[must_use]
pub fn announced(entry: &Entry) -> Option<&str> {
    let announces = entry.call == ANNOUNCE
        && entry.verdict == Verdict::Done.as_str()
        && entry.object_kind.as_deref() == Some(AUDIT_KEY);
    entry.object.as_deref().filter(|_| announces).and_then(|object| std::str::from_utf8(object).ok())
}

/// A log that went over to another audit key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Entries of the first head that both keys signed.
    pub size: u64,
    /// The verifier key from then on.
    pub key: String,
}

struct Link {
    key: StandardVerifier,
    /// Size of the first head that it may sign.
    from: u64,
    /// Size of the last one.
    until: Option<u64>,
}

/// The keys of one log, from its beginning.
pub struct Chain {
    links: Vec<Link>,
    /// Announced by an entry at that position, and confirmed by no head yet.
    announced: Vec<(u64, String, StandardVerifier)>,
    handovers: Vec<Handover>,
}

impl Chain {
    /// Begins with keys from outside.
    #[must_use]
    pub fn new(trusted: HeadVerifier) -> Self {
        let links = trusted.into_keys().into_iter().map(|key| Link { key, from: 0, until: None }).collect();
        Self { links, announced: Vec::new(), handovers: Vec::new() }
    }

    /// Takes the entry at a position.
    pub fn take(&mut self, position: u64, entry: &Entry) {
        let Some(text) = announced(entry) else { return };
        if let Ok(key) = StandardVerifier::new(text)
            && self.links.iter().any(|link| link.key.name() == key.name())
        {
            self.announced.push((position, text.to_owned(), key));
        }
    }

    /// Whether a key signed the head that counts at its size.
    ///
    /// # Errors
    /// [`BadHead::Unsigned`], [`BadHead::Replaced`].
    pub fn admit(&self, signed: &SignedHead) -> Result<(), BadHead> {
        let size = signed.head().size;
        let mut problem = BadHead::Unsigned;
        for link in self.links.iter().filter(|link| signed.is_signed_by(&link.key)) {
            if size >= link.from && link.until.is_none_or(|until| size <= until) {
                return Ok(());
            }
            problem = BadHead::Replaced;
        }
        Err(problem)
    }

    /// Takes an admitted head whose root is that of the log at its size: announced keys that signed it too count from
    /// here, and those that signed it with them no longer.
    pub fn confirm(&mut self, signed: &SignedHead) {
        let size = signed.head().size;
        while let Some(at) =
            self.announced.iter().position(|(position, _, key)| *position < size && signed.is_signed_by(key))
        {
            let (_, text, key) = self.announced.remove(at);
            let id = key.key_id();
            for link in self.links.iter_mut().filter(|link| link.key.key_id() != id) {
                if link.until.is_none() && signed.is_signed_by(&link.key) {
                    link.until = Some(size);
                }
            }
            if !self.links.iter().any(|link| link.key.key_id() == id && link.until.is_none()) {
                self.links.push(Link { key, from: size, until: None });
            }
            self.handovers.push(Handover { size, key: text });
        }
    }

    /// The handovers so far.
    #[must_use]
    pub fn handovers(&self) -> &[Handover] {
        &self.handovers
    }
}

#[cfg(test)]
mod tests {
    use signed_note::Signer;

    use super::*;
    use crate::{
        audit::{head::Head, tree::Hash},
        crypto::{aead::Key, audit_key::AuditKey},
        domain::{
            ids::{EntryId, PlatformId},
            time::Timestamp,
        },
    };

    fn key(seed: u8) -> AuditKey {
        AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[seed; 32])).unwrap()
    }

    fn head(size: u64, keys: &[&dyn Signer]) -> SignedHead {
        let head = Head { origin: "vault.example.kz/lerna".into(), size, root: Hash([1; 32]) };
        SignedHead::parse(&head.sign_by(keys).unwrap()).unwrap()
    }

    fn announcement(of: &str) -> Entry {
        let id = EntryId::from_bytes([9; 16]);
        let entry = Entry::new(id, Timestamp::from_micros(1), PlatformId::new(1), ANNOUNCE, Verdict::Done);
        Entry { object_kind: Some(AUDIT_KEY.into()), object: Some(of.as_bytes().to_vec()), ..entry }
    }

    fn chain(first: &AuditKey) -> Chain {
        Chain::new(HeadVerifier::new(&first.verifier_key()).unwrap())
    }

    #[test]
    fn a_key_counts_from_the_head_that_both_signed() {
        let (first, second, third) = (key(1), key(2), key(3));
        let mut chain = chain(&first);
        assert_eq!(chain.admit(&head(5, &[&first])), Ok(()));
        chain.take(6, &announcement(&second.verifier_key()));
        assert_eq!(chain.admit(&head(7, &[&second])), Err(BadHead::Unsigned), "announced is not enough");
        let both = head(7, &[&first, &second]);
        assert_eq!(chain.admit(&both), Ok(()));
        chain.confirm(&both);
        for (size, signer, expected) in [
            (7, &second, Ok(())),
            (8, &second, Ok(())),
            (8, &first, Err(BadHead::Replaced)),
            (7, &first, Ok(())),
            (3, &first, Ok(())),
            (3, &second, Err(BadHead::Replaced)),
            (9, &third, Err(BadHead::Unsigned)),
        ] {
            assert_eq!(chain.admit(&head(size, &[signer])), expected, "{size}");
        }
        chain.take(9, &announcement(&third.verifier_key()));
        chain.confirm(&head(10, &[&second, &third]));
        assert_eq!(chain.admit(&head(11, &[&third])), Ok(()));
        assert_eq!(chain.admit(&head(11, &[&second])), Err(BadHead::Replaced));
        let seen: Vec<_> = chain.handovers().iter().map(|handover| handover.size).collect();
        assert_eq!(seen, [7, 10]);
    }

    #[test]
    fn nothing_less_than_an_entry_and_both_signatures_hands_over() {
        let (first, second) = (key(1), key(2));
        let refused = |chain: &Chain| chain.admit(&head(9, &[&second])) == Err(BadHead::Unsigned);
        let mut unannounced = chain(&first);
        unannounced.confirm(&head(7, &[&first, &second]));
        assert!(refused(&unannounced));
        let mut unsigned = chain(&first);
        unsigned.take(6, &announcement(&second.verifier_key()));
        unsigned.confirm(&head(7, &[&first]));
        assert!(refused(&unsigned));
        let mut later = chain(&first);
        later.take(7, &announcement(&second.verifier_key()));
        later.confirm(&head(7, &[&first, &second]));
        assert!(refused(&later), "the head does not cover the entry");
        let mut elsewhere = chain(&first);
        let other = AuditKey::from_seed("other.example.kz", &Key::from_bytes(&[2; 32])).unwrap();
        elsewhere.take(6, &announcement(&other.verifier_key()));
        elsewhere.confirm(&head(7, &[&first, &other]));
        assert!(elsewhere.admit(&head(8, &[&other])).is_err(), "a key of another installation");
        let mut denied = chain(&first);
        denied.take(6, &Entry { verdict: "deny".into(), ..announcement(&second.verifier_key()) });
        denied.confirm(&head(7, &[&first, &second]));
        assert!(refused(&denied));
    }

    #[test]
    fn keys_from_outside_count_everywhere_until_one_hands_over() {
        let (first, second, third) = (key(1), key(2), key(3));
        let keys = [&first, &third].map(AuditKey::verifier_key).join("\n");
        let mut chain = Chain::new(HeadVerifier::new(&keys).unwrap());
        chain.take(6, &announcement(&second.verifier_key()));
        chain.confirm(&head(7, &[&first, &second]));
        assert_eq!(chain.admit(&head(9, &[&first])), Err(BadHead::Replaced));
        assert_eq!(chain.admit(&head(9, &[&third])), Ok(()));
    }
}
