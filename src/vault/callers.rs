//! Callers: certificates that may call, each of one platform. Their rows lie with the platform, under its row key and
//! in its log; those of staff lie with the vault's own platform and name a person.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::{VaultError, Violation, unreadable},
    page::{Page, PageAsk, Slice},
    persons::{Loss, keep_an_officer},
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        caller::{Caller, CallerState, KeyPin, Role},
        ids::{CallerId, PersonId, PlatformId},
        names::{CallerName, SpiffeId},
    },
    policy::decide::Denial,
    store::{CallerKey, Write, rows::Mac},
};

pub use crate::store::rows::config::CallerRow;

/// Keys that a caller may pin: the one in use, the next, and some to spare.
pub const MAX_PINS: usize = 8;

/// SHA-256, as pins and block lists are made of.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    sha256(bytes)
}

/// A caller as it is to be enrolled.
#[derive(Debug, Clone)]
pub struct NewCaller {
    /// URI of its certificate.
    pub spiffe_id: SpiffeId,
    /// Name, roles and keys.
    pub terms: CallerTerms,
    /// The person behind a staff caller.
    pub person: Option<PersonId>,
}

/// What of a caller can change.
#[derive(Debug, Clone)]
pub struct CallerTerms {
    /// Its name in its platform's policy.
    pub name: CallerName,
    /// Its own roles: of a platform's caller at least one of service and auditor; of a person's none, since they are the
    /// person's; of a machine of the vault auditor alone.
    pub roles: Vec<Role>,
    /// Keys that its certificate may have.
    pub pins: Vec<KeyPin>,
}

impl CallerTerms {
    /// What does not fit a caller of this platform, with this person or none.
    fn violations(&self, platform: PlatformId, person: Option<PersonId>) -> Vec<Violation> {
        let mut found = Vec::new();
        let only =
            |allowed: &[Role]| !self.roles.is_empty() && self.roles.iter().all(|r| allowed.contains(r));
        let staff = platform == PlatformId::VAULT;
        if person.is_some() && !staff {
            found.push(Violation::new("person_id", "persons are staff, whose callers belong to `vault`"));
        } else if person.is_some() && !self.roles.is_empty() {
            found.push(Violation::new(
                "roles",
                "a person's caller has the person's roles, and none of its own",
            ));
        } else if person.is_none() && staff && !only(&[Role::Auditor]) {
            found.push(Violation::new(
                "roles",
                "a machine of the vault is an auditor; others need a person_id",
            ));
        } else if !staff && !only(&[Role::Service, Role::Auditor]) {
            found.push(Violation::new("roles", "a platform's caller is a service, an auditor, or both"));
        }
        if self.pins.len() > MAX_PINS {
            found.push(Violation::new("key_pins", "at most 8"));
        }
        found
    }

    fn sorted(mut self) -> Self {
        self.roles.sort();
        self.roles.dedup();
        self.pins.sort_unstable();
        self.pins.dedup();
        self
    }
}

impl Vault {
    /// Makes a certificate's URI a caller of a platform.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::CertificateTaken`] where it is a caller already, of whichever platform.
    pub async fn enrol_caller(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        new: NewCaller,
    ) -> Result<CallerRow, VaultError> {
        let platform = self.target(caller, &asker, Call::EnrolCaller, platform).await?;
        let place = self.shared.store.place_of_caller(CallerKey::Certificate(&new.spiffe_id)).await;
        let taken = place.map_err(unreadable)?.is_some();
        let domain = self.settings.check(&new.spiffe_id, platform);
        let new = NewCaller { terms: new.terms.sorted(), ..new };
        self.run(platform, caller, asker, Enrol { new, taken, domain }).await
    }

    /// Gives a caller another name, other roles or other keys.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn update_caller(
        &self,
        caller: &Caller,
        asker: Asker,
        id: CallerId,
        terms: CallerTerms,
    ) -> Result<CallerRow, VaultError> {
        self.change_caller(caller, asker, id, Change::Update(terms.sorted())).await
    }

    /// Refuses a caller from now on, also on its open connections.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn disable_caller(
        &self,
        caller: &Caller,
        asker: Asker,
        id: CallerId,
    ) -> Result<CallerRow, VaultError> {
        self.change_caller(caller, asker, id, Change::Disable).await
    }

    /// Lets a disabled caller call again.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn enable_caller(
        &self,
        caller: &Caller,
        asker: Asker,
        id: CallerId,
    ) -> Result<CallerRow, VaultError> {
        self.change_caller(caller, asker, id, Change::Enable).await
    }

    /// Lists callers by platform and name, disabled ones too.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_callers(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        page: PageAsk,
    ) -> Result<Page<CallerRow>, VaultError> {
        self.gather(caller, &asker, Call::ListCallers, platform, page, |_, slice| List(slice)).await
    }

    /// What a caller may do where it belongs: its own roles, or its person's on any platform.
    #[must_use]
    pub fn roles_of(&self, caller: &Caller) -> Vec<Role> {
        let staff = self.shared.staff.load();
        match caller.person {
            None => caller.roles.clone(),
            Some(person) => {
                let mut roles: Vec<_> = staff.roles_of(person).map(|grant| grant.role).collect();
                roles.sort();
                roles.dedup();
                roles
            }
        }
    }

    async fn change_caller(
        &self,
        caller: &Caller,
        asker: Asker,
        id: CallerId,
        change: Change,
    ) -> Result<CallerRow, VaultError> {
        // One that nobody enrolled, and one that the caller may not see, are refused alike.
        let place = self.place_of(id).await?;
        let seen = place.filter(|place| *place == caller.platform || caller.platform == PlatformId::VAULT);
        self.run(seen.unwrap_or(caller.platform), caller, asker, ChangeCaller { id, change }).await
    }

    /// The platform of a caller, as any replica knows it.
    pub(super) async fn place_of(&self, id: CallerId) -> Result<Option<PlatformId>, VaultError> {
        self.find_caller(CallerKey::Id(id)).await.map_err(unreadable)
    }
}

/// Writes a caller's row, new or changed, with its entry; `was` is the MAC of the row that it replaces.
pub(super) fn put_caller(
    hand: &mut Hand<'_, '_>,
    mut row: CallerRow,
    was: Option<Mac>,
) -> Result<CallerRow, VaultError> {
    row.updated_at = hand.scene.now;
    row.mac = hand.scene.keys().row.mac(&row.image());
    log_caller(hand, &row)?;
    hand.plan.reconfigures = true;
    hand.plan.writes.push(Write::PutCaller(row.clone(), was));
    Ok(row)
}

/// The entry of a caller as it stands.
fn log_caller(hand: &mut Hand<'_, '_>, row: &CallerRow) -> Result<(), VaultError> {
    hand.log(|entry| Entry {
        object_kind: Some("caller".to_owned()),
        object: Some(row.caller.id.as_bytes().to_vec()),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(sha256(row.image().as_bytes()).into()),
        ..entry
    })?;
    Ok(())
}

fn find(context: &Context, id: CallerId) -> Result<&CallerRow, Denial> {
    context.callers().find(|row| row.caller.id == id).ok_or(Denial::CallerNotFound)
}

/// Two enabled callers of a platform never share a name.
fn free_name(context: &Context, name: &CallerName, id: CallerId) -> Result<(), Denial> {
    let taken = |row: &CallerRow| {
        row.caller.state == CallerState::Enabled && row.caller.name == *name && row.caller.id != id
    };
    if context.callers().any(taken) { Err(Denial::NameTaken) } else { Ok(()) }
}

/// A person who may act.
pub(super) fn living(staff: &Context, person: PersonId) -> Result<(), Denial> {
    let row = staff.person(person).ok_or(Denial::PersonNotFound)?;
    if row.person.state == CallerState::Enabled { Ok(()) } else { Err(Denial::PersonDisabled) }
}

fn outcome(id: CallerId) -> ItemOutcome {
    ItemOutcome { ids: vec![(*id.as_bytes()).into()], ..ItemOutcome::default() }
}

struct Enrol {
    new: NewCaller,
    /// Whether any platform has the certificate's URI, as the database said before.
    taken: bool,
    domain: Result<(), &'static str>,
}

impl Deed for Enrol {
    type Answer = CallerRow;

    fn call(&self) -> Call {
        Call::EnrolCaller
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<CallerRow>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let (scene, new) = (hand.scene, &self.new);
        let mut violations = new.terms.violations(scene.context.platform, new.person);
        violations.extend(self.domain.err().map(|rule| Violation::new("spiffe_id", rule)));
        if !violations.is_empty() {
            return Err(VaultError::Invalid(violations));
        }
        if self.taken || scene.context.caller(&new.spiffe_id).is_some() {
            return Err(Denial::CertificateTaken.into());
        }
        let id = CallerId::random(scene.rng()).map_err(unavailable)?;
        free_name(scene.context, &new.terms.name, id)?;
        new.person.map_or(Ok(()), |person| living(scene.staff, person))?;
        let caller = Caller {
            id,
            platform: scene.context.platform,
            name: new.terms.name.clone(),
            spiffe_id: new.spiffe_id.clone(),
            roles: new.terms.roles.clone(),
            pins: new.terms.pins.clone(),
            person: new.person,
            state: CallerState::Enabled,
        };
        let row = CallerRow { caller, created_at: scene.now, updated_at: scene.now, mac: [0; 32] };
        Ok(Deeded::changed(put_caller(hand, row, None)?, outcome(id)))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<CallerRow, VaultError> {
        Ok(find(hand.scene.context, CallerId::from_bytes(before.id(0)?))?.clone())
    }
}

enum Change {
    Update(CallerTerms),
    Disable,
    Enable,
}

struct ChangeCaller {
    id: CallerId,
    change: Change,
}

impl ChangeCaller {
    /// The caller as it is to be.
    fn changed(&self, hand: &Hand<'_, '_>, row: &CallerRow) -> Result<Caller, VaultError> {
        let (scene, caller) = (hand.scene, row.caller.clone());
        Ok(match &self.change {
            Change::Update(terms) => {
                let violations = terms.violations(caller.platform, caller.person);
                if !violations.is_empty() {
                    return Err(VaultError::Invalid(violations));
                }
                if caller.state == CallerState::Enabled {
                    free_name(scene.context, &terms.name, caller.id)?;
                }
                let CallerTerms { name, roles, pins } = terms.clone();
                let caller = Caller { name, roles, pins, ..caller };
                let own = caller.id == hand.caller.id && !hand.is_approved();
                if own && !caller.accepts_key(&hand.asker.key) {
                    return Err(Denial::OwnAccount.into());
                }
                caller
            }
            Change::Disable => {
                if caller.id == hand.caller.id {
                    return Err(Denial::OwnAccount.into());
                }
                keep_an_officer(scene.staff, Loss::Caller(caller.id))?;
                Caller { state: CallerState::Disabled, ..caller }
            }
            Change::Enable => {
                free_name(scene.context, &caller.name, caller.id)?;
                caller.person.map_or(Ok(()), |person| living(scene.staff, person))?;
                Caller { state: CallerState::Enabled, ..caller }
            }
        })
    }
}

impl Deed for ChangeCaller {
    type Answer = CallerRow;

    fn call(&self) -> Call {
        match self.change {
            Change::Update(_) => Call::UpdateCaller,
            Change::Disable => Call::DisableCaller,
            Change::Enable => Call::EnableCaller,
        }
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        // Another name, fewer roles or other keys may take a permission away.
        !matches!(self.change, Change::Enable)
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<CallerRow>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let row = find(hand.scene.context, self.id)?.clone();
        let caller = self.changed(hand, &row)?;
        let row = if caller == row.caller {
            log_caller(hand, &row)?;
            row
        } else {
            hand.plan.tightens |= self.tightens();
            let was = row.mac;
            put_caller(hand, CallerRow { caller, ..row }, Some(was))?
        };
        Ok(Deeded::changed(row, outcome(self.id)))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<CallerRow, VaultError> {
        Ok(find(hand.scene.context, self.id)?.clone())
    }
}

struct List(Slice);

impl Deed for List {
    type Answer = Vec<(String, CallerRow)>;

    fn call(&self) -> Call {
        Call::ListCallers
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let rows = hand.scene.context.callers();
        // Disabled callers may share a name.
        let keyed = rows.map(|row| (format!("{}/{}", row.caller.name, row.caller.id), row.clone()));
        let answer = self.0.of(keyed);
        hand.log(|entry| Entry { object_kind: Some("caller".to_owned()), ..entry })?;
        Ok(Deeded::answer(answer))
    }
}
