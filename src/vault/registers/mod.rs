//! Registers that the law asks an operator to keep (Law 94-V, Article 22; Order 179/НҚ; rules R45 to R48): copies outside the vault,
//! each with the day by which it is destroyed, and an export of all of them that the audit key signs.

mod export;
mod rows;
pub mod statement;

use super::{
    Vault,
    access::Call,
    act::{Asker, Scene},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::{VaultError, Violation},
    replay::ItemOutcome,
    subjects::{SubjectName, may_manage},
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    domain::{
        caller::Caller,
        data_copy::{CopyEnd, CopyFacts, CopyKind, CopyMisstep, DataCopy},
        ids::{CopyId, PlatformId},
        names::{FieldName, PurposeName},
        reference::Reference,
        time::Timestamp,
    },
    policy::{
        decide::Denial,
        model::{Policy, Start},
    },
    store::{ReadKeys, Write, copies::WhichCopies, rows::copies::CopyRow},
};
pub use export::{RegisterLines, RegisterPiece, RegisterSpan};

/// Copies on one page.
pub const MAX_PAGE: usize = 100;

/// A copy as it is to be registered.
#[derive(Clone)]
pub struct NewCopy {
    /// What it is.
    pub kind: CopyKind,
    /// What it is made for.
    pub purpose: PurposeName,
    /// Which data stand in it.
    pub fields: Vec<FieldName>,
    /// Whose; none where it is of more people.
    pub subject: Option<SubjectName>,
    /// The office that keeps it.
    pub holder: Reference,
    /// The operator's own number of it.
    pub reference: Option<Reference>,
    /// When it was made.
    pub made_at: Timestamp,
    /// By when it is destroyed.
    pub destroy_by: Timestamp,
}

impl NewCopy {
    /// What the policy in force does not take. A copy is kept no longer than the data themselves could be, had they been
    /// stored, and consented to, when it was made.
    fn violations(&self, policy: &Policy) -> Vec<Violation> {
        let Some(purpose) = policy.purpose(&self.purpose) else {
            return vec![Violation::new("purpose", "the policy does not declare this purpose")];
        };
        let mut found = Vec::new();
        for (i, field) in self.fields.iter().enumerate() {
            if !purpose.covers(field) {
                found.push(Violation::new(format!("fields[{i}]"), "the purpose does not cover this field"));
            }
        }
        if self.destroy_by <= self.made_at {
            found.push(Violation::new("destroy_time", "lies not after the time at which the copy was made"));
        }
        let dated = |start: &Start| matches!(start, Start::Collection | Start::Consent);
        let ends = policy.terms_of(purpose).filter(|term| dated(&term.from));
        if ends.map(|term| term.length.after(self.made_at)).any(|end| self.destroy_by > end) {
            found.push(Violation::new("destroy_time", "lies after the end of what the purpose keeps"));
        }
        found
    }
}

/// A copy as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyView {
    /// The copy.
    pub copy: DataCopy,
    /// Whether its day is over and it has not ended.
    pub overdue: bool,
}

/// Which copies are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedCopies {
    /// All.
    All,
    /// Those that have not ended.
    Open,
    /// Those of them whose day is over.
    Overdue,
}

/// Where a copy stands in a list: by when it is destroyed, and its id.
pub type CopyPlace = (Timestamp, CopyId);

impl Vault {
    /// Registers a copy of data outside the vault.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn register_copy(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        new: NewCopy,
    ) -> Result<CopyView, VaultError> {
        let platform = self.target(caller, &asker, Call::RegisterCopy, platform).await?;
        let id = self.run(platform, caller, asker, Add(new)).await?;
        self.copy_as_stored(platform, id).await
    }

    /// Records how a copy ended.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn end_copy(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: CopyId,
        end: CopyEnd,
    ) -> Result<CopyView, VaultError> {
        let platform = self.target(caller, &asker, Call::EndCopy, platform).await?;
        let mut found = None;
        // None is read for a caller who may not ask, whom the deed refuses with an entry.
        if self.may_ask(Call::EndCopy, caller, platform) {
            found = self.shared.store.data_copy(platform, id).await.map_err(unavailable)?;
        }
        self.run(platform, caller, asker, End { found, end }).await?;
        self.copy_as_stored(platform, id).await
    }

    /// Copies in the order in which they are to be destroyed, after one; and the place of the last, where more may follow.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn copies(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        which: ListedCopies,
        after: Option<CopyPlace>,
        size: usize,
    ) -> Result<(Vec<CopyView>, Option<CopyPlace>), VaultError> {
        let platform = self.target(caller, &asker, Call::ListCopies, platform).await?;
        let size = size.clamp(1, MAX_PAGE);
        let after = after.unwrap_or((Timestamp::from_micros(i64::MIN), CopyId::from_bytes([0; 16])));
        let now = self.shared.clock.now();
        let mut found = Vec::new();
        if self.may_ask(Call::ListCopies, caller, platform) {
            // One more than the page takes, to know whether there are more.
            let limit = u32::try_from(size + 1).map_err(unavailable)?;
            let which = match which {
                ListedCopies::All => WhichCopies::All,
                ListedCopies::Open => WhichCopies::Open,
                ListedCopies::Overdue => WhichCopies::Overdue(now),
            };
            found =
                self.shared.store.data_copies(platform, which, after, limit).await.map_err(unavailable)?;
        }
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().map(|row| (row.copy.facts.destroy_by, row.copy.id)).filter(|_| more);
        let copies = self.run(platform, caller, asker, List(found)).await?;
        Ok((copies.into_iter().map(|copy| view(copy, now)).collect(), next))
    }

    /// The copy after a step: what a caller is answered is what is stored.
    async fn copy_as_stored(&self, platform: PlatformId, id: CopyId) -> Result<CopyView, VaultError> {
        let row = self.shared.store.data_copy(platform, id).await.map_err(unavailable)?;
        let (row, context) = (row.ok_or(Denial::CopyNotFound)?, self.context(platform)?);
        context.keys.row.verify(&row.image(), &row.mac).map_err(|_| Denial::DataDamaged)?;
        Ok(view(row.copy, self.shared.clock.now()))
    }
}

fn view(copy: DataCopy, now: Timestamp) -> CopyView {
    CopyView { overdue: copy.is_overdue(now), copy }
}

/// Believes a row that was read beside the batch.
fn believed<'r>(scene: &Scene<'_>, row: Option<&'r CopyRow>) -> Result<&'r CopyRow, Denial> {
    let row = row.ok_or(Denial::CopyNotFound)?;
    let verified = scene.keys().row.verify(&row.image(), &row.mac);
    verified.map_err(|e| scene.damaged("data_copies", &e))?;
    Ok(row)
}

/// A row of a copy, with its MAC.
fn sealed(scene: &Scene<'_>, copy: DataCopy) -> CopyRow {
    let mut row = CopyRow { platform: scene.context.platform, copy, mac: [0; 32] };
    row.mac = scene.keys().row.mac(&row.image());
    row
}

/// What the log says of a copy.
fn about(row: &CopyRow, reference: Option<&Reference>, entry: Entry) -> Entry {
    let facts = &row.copy.facts;
    Entry {
        purpose: Some(facts.purpose.to_string()),
        subject: facts.subject.map(|id| (*id.as_bytes()).into()),
        object_kind: Some("copy".to_owned()),
        object: Some(row.copy.id.as_bytes().to_vec()),
        row_mac: Some(row.mac.into()),
        reference: reference.map(Reference::to_string),
        ..entry
    }
}

struct Add(NewCopy);

impl Deed for Add {
    type Answer = CopyId;

    fn call(&self) -> Call {
        Call::RegisterCopy
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        if let Some(subject) = &self.0.subject {
            subject.reads(context, keys);
        }
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<CopyId>, VaultError> {
        let scene = hand.scene;
        may_manage(scene, hand.caller)?;
        let new = self.0.clone();
        let violations = new.violations(scene.policy()?);
        if !violations.is_empty() {
            return Err(VaultError::Invalid(violations));
        }
        let subject = new.subject.as_ref().map(|name| name.find(scene)).transpose()?.map(|row| row.id);
        let id = CopyId::random(scene.rng()).map_err(unavailable)?;
        let facts = CopyFacts {
            kind: new.kind,
            purpose: new.purpose,
            fields: new.fields,
            subject,
            holder: new.holder,
            reference: new.reference,
            made_at: new.made_at,
            destroy_by: new.destroy_by,
        };
        let row = sealed(scene, DataCopy { id, facts, recorded_at: scene.now, end: None });
        hand.log(|entry| about(&row, row.copy.facts.reference.as_ref(), entry))?;
        hand.plan.writes.push(Write::PutCopy(row, None));
        let ids = vec![(*id.as_bytes()).into()];
        Ok(Deeded::changed(id, ItemOutcome { ids, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<CopyId, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        Ok(CopyId::from_bytes(before.id(0)?))
    }
}

struct End {
    /// As it was a moment ago.
    found: Option<CopyRow>,
    end: CopyEnd,
}

impl Deed for End {
    type Answer = ();

    fn call(&self) -> Call {
        Call::EndCopy
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        let was = believed(hand.scene, self.found.as_ref())?;
        let ended = was.copy.ended(self.end.clone()).map_err(|misstep| match misstep {
            CopyMisstep::Ended => Denial::CopyEnded.into(),
            CopyMisstep::TooEarly => {
                VaultError::invalid("end_time", "lies before the time at which the copy was made")
            }
        })?;
        let row = sealed(hand.scene, ended);
        hand.log(|entry| about(&row, Some(&self.end.act), entry))?;
        hand.plan.writes.push(Write::PutCopy(row, Some(was.mac)));
        Ok(Deeded::changed((), ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<(), VaultError> {
        may_manage(hand.scene, hand.caller)?;
        believed(hand.scene, self.found.as_ref())?;
        Ok(())
    }
}

struct List(Vec<CopyRow>);

impl Deed for List {
    type Answer = Vec<DataCopy>;

    fn call(&self) -> Call {
        Call::ListCopies
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let count = u64::try_from(self.0.len()).ok();
        hand.log(|entry| Entry { object_kind: Some("copy".to_owned()), count, ..entry })?;
        let one = |row: &CopyRow| Ok(believed(hand.scene, Some(row))?.copy.clone());
        Ok(Deeded::answer(self.0.iter().map(one).collect::<Result<_, VaultError>>()?))
    }
}
