//! What a rotation of the index key does with each subject. Its values get a place in the index of the new version beside
//! the one that they have; its reference and its tokens of 12 digits have one hash each, which moves.
//!
//! Every process writes values to both indexes from the moment when the new version is active, and finds references and
//! tokens under either. Values are found by the old index, and unique in it, until the new one is whole: a place is copied
//! with its claim, and only while the old one is there. So what one index has claimed, the other has too.

use super::piece::{Piece, Planned, Slice};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::{
        aead::OpenError,
        digest::IndexKey,
        envelope::{SubjectKey, SubjectPlace},
        keyring::Keyring,
    },
    domain::{
        ids::{EntryId, PlatformId, SubjectId, TokenRowId},
        operation::{Cursor, Operation, Phase},
        token::{AnyToken, TokenHash},
    },
    policy::decide::Denial,
    store::{
        Hashed, HashedValue, IndexMove, Many, Place, ReadKeys, Write,
        rows::{Mac, SubjectRow, TokenRow},
    },
    vault::{
        Vault,
        act::{Claim, Plan, Scene},
        error::VaultError,
        tokenize::unavailable,
    },
};

/// The entry of a row whose hash moved.
pub(in crate::vault) const MOVED: &str = "Operation/MoveHash";

impl Vault {
    pub(super) async fn index_slice(
        &self,
        keys: &Keyring,
        taken: &Operation,
        after: SubjectId,
        rows: u32,
    ) -> Result<Slice, VaultError> {
        let (from, to) = (keys.index.current(), keys.index.newest());
        let versions = IndexMove { from: from.version, to: to.version };
        let read = self.shared.store.hashed(taken.platform, versions, after, rows).await;
        let read = read.map_err(unavailable)?;
        let (rows, last) = (read.len(), read.last().map(|of| of.subject));
        if taken.phase == Phase::Drop {
            let next = last.map(Cursor::from);
            return Ok(Slice { piece: Piece::Dropped(last), rows, next, damaged: false });
        }
        let mut hashing = Hashing { keys, from, to, filling: Filling::new(versions), damaged: false };
        for of in read {
            hashing.subject(taken.platform, &of);
        }
        let Hashing { filling, damaged, .. } = hashing;
        Ok(Slice { piece: Piece::Index(filling), rows, next: last.map(Cursor::from), damaged })
    }
}

/// Hashes anew what a slice read.
struct Hashing<'a> {
    keys: &'a Keyring,
    from: &'a IndexKey,
    to: &'a IndexKey,
    filling: Filling,
    damaged: bool,
}

impl Hashing<'_> {
    fn subject(&mut self, platform: PlatformId, of: &Hashed) {
        let key = match self.keys.unwrap(of.subject, &of.wrapped_key) {
            Ok(key) => key,
            Err(error) => return self.damage(of.subject, "subjects", error),
        };
        if of.index_version != self.to.version {
            let place = SubjectPlace::reference(platform, of.subject);
            match key.reference_hash(&place, &of.sealed_reference, self.to) {
                Ok(hash) => self.filling.references.push((of.subject, hash)),
                Err(error) => self.damage(of.subject, "subjects", error),
            }
        }
        for value in of.values.iter().filter(|value| !value.filled) {
            match self.value(&key, value) {
                Ok(place) => self.filling.places.push(place),
                Err(error) => self.damage(of.subject, "records", error),
            }
        }
        for (token, sealed) in &of.tokens {
            match key.open_token(&SubjectPlace::token(platform, of.subject, *token), sealed) {
                Ok(AnyToken::Digits(digits)) => {
                    self.filling.tokens.push((*token, of.subject, self.to.digits_token(&digits)));
                }
                Ok(AnyToken::Random(_)) => self.damage(of.subject, "tokens", OpenError::Malformed),
                Err(error) => self.damage(of.subject, "tokens", error),
            }
        }
    }

    /// The place of a value. One that stands under another hash than the value's own would be found by nobody.
    fn value(&self, key: &SubjectKey, value: &HashedValue) -> Result<Place, OpenError> {
        let [from, to] = key.value_hashes(&value.address, &value.sealed_value, [self.from, self.to])?;
        if from == value.hash {
            Ok(Place { record: value.address.record, from, to })
        } else {
            Err(OpenError::Forged)
        }
    }

    fn damage(&mut self, subject: SubjectId, table: &'static str, error: OpenError) {
        tracing::error!(%subject, table, %error, "what is hashed cannot be hashed anew");
        self.damaged = true;
    }
}

/// Hashes of some subjects under the new version.
pub(super) struct Filling {
    versions: IndexMove,
    places: Vec<Place>,
    references: Vec<(SubjectId, [u8; 32])>,
    tokens: Vec<(TokenRowId, SubjectId, TokenHash)>,
}

impl Filling {
    const fn new(versions: IndexMove) -> Self {
        Self { versions, places: Vec::new(), references: Vec::new(), tokens: Vec::new() }
    }

    /// Rows that carry a MAC are changed as they are at the commit.
    pub(super) fn reads(&self, keys: &mut ReadKeys) {
        keys.subjects.extend(self.references.iter().map(|(subject, _)| *subject));
        keys.token_rows.extend(self.tokens.iter().map(|(token, ..)| *token));
    }

    pub(super) fn plan(&self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Planned, VaultError> {
        let to = self.versions.to;
        let (mut subjects, mut tokens, mut damaged) = (Vec::new(), Vec::new(), false);
        for (id, hash) in &self.references {
            match moved_subject(scene, to, *id, *hash) {
                Ok(None) => {}
                Ok(Some(_)) if !plan.claim(Claim::SubjectRow(*id)) => return Ok(Planned::Later),
                Ok(Some((row, was))) => {
                    plan.entries.push(Entry {
                        object_kind: Some("subject".to_owned()),
                        subject: Some((*id.as_bytes()).into()),
                        row_mac: Some(row.mac.into()),
                        ..entry(scene)?
                    });
                    subjects.push((row, was));
                }
                Err(_) => damaged = true,
            }
        }
        for (id, subject, hash) in &self.tokens {
            match moved_token(scene, to, *id, *hash) {
                Ok(None) => {}
                Ok(Some((_, was))) if !plan.claim(Claim::Token(was.hash)) => return Ok(Planned::Later),
                Ok(Some((row, was))) => {
                    plan.entries.push(Entry {
                        object_kind: Some("token".to_owned()),
                        subject: Some((*subject.as_bytes()).into()),
                        record: Some((*row.record.as_bytes()).into()),
                        token: Some((*id.as_bytes()).into()),
                        row_mac: Some(row.mac.into()),
                        ..entry(scene)?
                    });
                    tokens.push((row, was.mac));
                }
                Err(_) => damaged = true,
            }
        }
        let changed = self.places.len() + subjects.len() + tokens.len();
        if !self.places.is_empty() {
            plan.writes.push(Write::Many(Many::FillIndex(self.versions, self.places.clone())));
        }
        if !subjects.is_empty() {
            plan.writes.push(Write::Many(Many::MoveSubjects(subjects)));
        }
        if !tokens.is_empty() {
            plan.writes.push(Write::Many(Many::MoveTokens(tokens)));
        }
        Ok(Planned::Ready { changed: u64::try_from(changed).unwrap_or(u64::MAX), damaged })
    }
}

/// A subject as it is now, with its reference hashed anew, and its MAC before; none where it is gone, or done already.
fn moved_subject(
    scene: &Scene<'_>,
    to: u32,
    id: SubjectId,
    hash: [u8; 32],
) -> Result<Option<(SubjectRow, Mac)>, Denial> {
    if !scene.snapshot.subjects.contains_key(&id) {
        return Ok(None);
    }
    let row = scene.subject(id)?;
    if row.index_version == to || row.wrapped_key.is_none() {
        return Ok(None);
    }
    let mut next = SubjectRow { index_version: to, reference_hash: hash, ..row.clone() };
    next.mac = scene.keys().row.mac(&next.image());
    Ok(Some((next, row.mac)))
}

/// The same of a token; with the row before.
fn moved_token<'a>(
    scene: &'a Scene<'_>,
    to: u32,
    id: TokenRowId,
    hash: TokenHash,
) -> Result<Option<(TokenRow, &'a TokenRow)>, Denial> {
    let Some(old) = scene.snapshot.token_hashes.get(&id) else { return Ok(None) };
    let Some(found) = scene.token(old)? else { return Ok(None) };
    if found.token.hash_version == to {
        return Ok(None);
    }
    let mut next = TokenRow { hash, hash_version: to, ..found.token.clone() };
    next.mac = scene.keys().row.mac(&next.image());
    Ok(Some((next, found.token)))
}

fn entry(scene: &Scene<'_>) -> Result<Entry, VaultError> {
    let id = EntryId::random(scene.rng()).map_err(unavailable)?;
    Ok(Entry::new(id, scene.now, scene.context.platform, MOVED, Verdict::Done))
}
