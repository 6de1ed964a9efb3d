//! What is counted: one operation each, as a read of a value does it on its way.

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    sync::Arc,
};

use crate::{
    audit::{
        entry::{Entry, Verdict},
        tree::{LogTree, leaf_hash},
    },
    crypto::{
        aead::Key,
        digest::{IndexKey, RowKey, token_hash},
        envelope::SubjectKey,
        keyring::{IndexKeys, Keyring, WrappingKeys},
    },
    domain::{
        caller::{Caller, CallerState, Role},
        canonical::Canonical,
        consent::{Consent, ConsentAct, ConsentState, ConsentTerms, Language, RecordAddress, SubjectState},
        ids::{CallerId, ConsentId, EntryId, PlatformId, RecordId, SubjectId},
        rng::{RandomUnavailable, Rng},
        secret::Plaintext,
        time::Timestamp,
        token::{Token, TokenState},
    },
    policy::{
        decide::{Ask, Denial, Facts, Permit, decide},
        model::{Policy, View},
    },
};

const LERNA: &str = include_str!("../../../policies/lerna.toml");
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const PLATFORM: PlatformId = PlatformId::new(1);
const SUBJECT: SubjectId = SubjectId::from_bytes([2; 16]);

/// One operation, with everything that it needs.
pub type Operation = Box<dyn FnMut()>;

/// By name. Names stand in `tests/counts/counts`.
pub fn all() -> BTreeMap<&'static str, Operation> {
    let mut all = BTreeMap::new();
    let mut add = |name, operation| assert!(all.insert(name, operation).is_none(), "two of the name {name}");
    add("decide/permit", deciding(Read::of(View::Full)));
    add("decide/denial", deciding(Read { token: TokenState::Revoked, ..Read::of(View::Masked) }));
    add("token/parse", {
        let text = Token::random(&Fixed).expect("a token").reveal();
        Box::new(move || drop(black_box(Token::parse(black_box(&text)))))
    });
    add("token/hash", {
        let token = Token::random(&Fixed).expect("a token");
        Box::new(move || {
            black_box(token_hash(black_box(&token)));
        })
    });
    opening(&mut add);
    logging(&mut add);
    all
}

/// What opens a value: the row's MAC, the subject's key, the value itself; and what seals one.
fn opening(add: &mut impl FnMut(&'static str, Operation)) {
    let ring = || keyring();
    let wrapped = ring().wrap(SUBJECT, &subject_key(), &Fixed).expect("a wrap");
    let value = || Plaintext::new("000000000000".to_owned());
    let sealed = subject_key().seal_value(&address(), &value(), &Fixed).expect("a seal");
    add("row/verify", {
        let (key, image) = (RowKey::new(&key(6)), image());
        let mac = key.mac(&image);
        Box::new(move || key.verify(black_box(&image), black_box(&mac)).expect("its MAC"))
    });
    add("subject-key/unwrap", {
        let ring = ring();
        Box::new(move || drop(black_box(ring.unwrap(SUBJECT, black_box(&wrapped)).expect("the key"))))
    });
    add("value/open", {
        let (key, read) = (subject_key(), Read::of(View::Full));
        let permit = read.decide().expect("a permit");
        Box::new(move || drop(black_box(key.open_value(&permit, black_box(&sealed)).expect("the value"))))
    });
    add("value/seal", {
        let (key, address, value) = (subject_key(), address(), value());
        Box::new(move || {
            drop(black_box(key.seal_value(&address, black_box(&value), &Fixed).expect("a seal")))
        })
    });
}

/// What a commit adds for one read. The tree's figure is of 256 entries: one tile.
fn logging(add: &mut impl FnMut(&'static str, Operation)) {
    add("entry/encode", {
        let entry = entry();
        Box::new(move || drop(black_box(black_box(&entry).encode().expect("bytes"))))
    });
    add("entry/leaf-hash", {
        let bytes = entry().encode().expect("bytes");
        Box::new(move || {
            black_box(leaf_hash(black_box(&bytes)));
        })
    });
    add("tree/append-256", {
        let leaf = leaf_hash(b"leaf");
        Box::new(move || {
            let (mut tree, mut complete) = (LogTree::default(), Vec::new());
            for _ in 0..256 {
                tree.append(black_box(leaf), &mut complete);
            }
            black_box((tree.root(), complete));
        })
    });
}

fn deciding(read: Read) -> Operation {
    Box::new(move || drop(black_box(black_box(&read).decide())))
}

/// A read of an IIN for payments, by a platform's caller, with what is known about it.
struct Read {
    policy: Policy,
    caller: Caller,
    view: View,
    token: TokenState,
    address: RecordAddress,
    consents: Vec<Consent>,
}

impl Read {
    fn of(view: View) -> Self {
        let policy = Policy::parse(LERNA).expect("a shipped policy");
        Self {
            policy,
            caller: caller(),
            view,
            token: TokenState::Active,
            address: address(),
            consents: consents(),
        }
    }

    fn decide(&self) -> Result<Permit, Denial> {
        let purpose = self.consents.first().map(|consent| &consent.terms.purpose).expect("a consent");
        let ask = Ask {
            caller: &self.caller,
            purpose,
            view: self.view,
            recipient: None,
            outreach: None,
            reference: None,
        };
        let facts = Facts {
            token: self.token,
            token_expires_at: None,
            subject: SubjectState::Active,
            quarantined: false,
            address: &self.address,
            collected_at: NOW.plus_micros(-20),
            consents: &self.consents,
            events: &[],
        };
        decide(&self.policy, ask, Some(facts), NOW)
    }
}

fn caller() -> Caller {
    Caller {
        id: CallerId::from_bytes([1; 16]),
        platform: PLATFORM,
        name: "payments".parse().expect("a name"),
        spiffe_id: "spiffe://lerna.kz/payments".parse().expect("an id"),
        roles: vec![Role::Service],
        pins: Vec::new(),
        person: None,
        state: CallerState::Enabled,
    }
}

fn address() -> RecordAddress {
    RecordAddress {
        platform: PLATFORM,
        subject: SUBJECT,
        record: RecordId::from_bytes([3; 16]),
        field: "iin".parse().expect("a field"),
        version: 1,
    }
}

/// One that covers the field, and three of other purposes.
fn consents() -> Vec<Consent> {
    ["payments", "account", "support", "analytics"].into_iter().zip(4..).map(consent).collect()
}

fn consent((purpose, id): (&str, u8)) -> Consent {
    Consent {
        id: ConsentId::from_bytes([id; 16]),
        subject: SUBJECT,
        terms: ConsentTerms {
            purpose: purpose.parse().expect("a purpose"),
            fields: ["iin", "surname"].into_iter().map(|field| field.parse().expect("a field")).collect(),
            outreach: None,
            act: ConsentAct::Tick,
            given_at: NOW.plus_micros(-10),
            expires_at: None,
            third_party_transfer: true,
            cross_border_transfer: true,
            publication: true,
            policy_version: 1,
            language: Language::Ru,
            text_sha256: [5; 32],
            site: "skillbox.kz".parse().expect("a site"),
        },
        state: ConsentState::Granted,
        recorded_at: NOW.plus_micros(-5),
        withdrawn_at: None,
    }
}

/// That of a permit.
fn entry() -> Entry {
    let mut entry =
        Entry::new(EntryId::from_bytes([7; 16]), NOW, PLATFORM, "VaultService/Detokenize", Verdict::Permit);
    entry.caller = Some([1; 16].into());
    entry.purpose = Some("payments".into());
    entry.view = Some("full".into());
    entry.field = Some("iin".into());
    entry.subject = Some([2; 16].into());
    entry.record = Some([3; 16].into());
    entry.token = Some([8; 16].into());
    entry.consent = Some([4; 16].into());
    entry.policy_version = Some(1);
    entry
}

fn image() -> Canonical {
    Canonical::new("tokens")
        .int(1)
        .bytes(&[8; 16])
        .bytes(&[3; 16])
        .text("active")
        .optional_int(None)
        .flag(true)
}

const fn key(byte: u8) -> Key {
    Key::from_bytes(&[byte; 32])
}

fn subject_key() -> SubjectKey {
    SubjectKey::random(&Fixed).expect("a key")
}

fn keyring() -> Keyring {
    let wrapping =
        WrappingKeys { keys: BTreeMap::from([(1, Arc::new(key(1)))]), disabled: BTreeSet::new(), active: 1 };
    let index = BTreeMap::from([(1, Arc::new(IndexKey::new(1, &key(2))))]);
    let index = IndexKeys::new(index, &BTreeSet::from([1]), &BTreeSet::new()).expect("an index key");
    let row = || Arc::new(RowKey::new(&key(3)));
    Keyring::new(PLATFORM, wrapping, index, row(), row()).expect("a keyring")
}

/// The same bytes whenever it is asked: what is counted is not random.
struct Fixed;

impl Rng for Fixed {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomUnavailable> {
        out.fill(9);
        Ok(())
    }
}
