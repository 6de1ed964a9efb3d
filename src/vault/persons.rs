//! Persons of the staff and their roles. Two certificates can be one person; roles and approvals are the person's.
//! All rows lie with the vault's own platform.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim},
    callers::put_caller,
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    page::{Page, PageAsk, Slice},
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        caller::{Caller, CallerState, Person, Role, RoleGrant},
        ids::{CallerId, PersonId, PlatformId},
        names::PersonHandle,
    },
    policy::decide::Denial,
    store::{
        Write,
        rows::{
            Mac,
            config::{CallerRow, PersonRow, RoleGrantRow},
        },
    },
};

/// A person with the roles that hold.
#[derive(Debug, Clone)]
pub struct PersonView {
    /// The person.
    pub row: PersonRow,
    /// Roles that hold.
    pub grants: Vec<RoleGrantRow>,
}

impl PersonView {
    fn of(context: &Context, row: &PersonRow) -> Self {
        let held = |grant: &&RoleGrantRow| {
            grant.grant.person == row.person.id && grant.grant.state == CallerState::Enabled
        };
        let mut grants: Vec<_> = context.grants().iter().filter(held).cloned().collect();
        grants.sort_by_key(|row| (row.grant.role, row.grant.scope));
        Self { row: row.clone(), grants }
    }

    fn now(hand: &Hand<'_, '_>, id: PersonId) -> Result<Self, VaultError> {
        let context = hand.scene.context;
        Ok(Self::of(context, context.person(id).ok_or(Denial::PersonNotFound)?))
    }
}

/// A role of a person, and where it holds: on one platform, or on the vault's own and so everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleOf {
    /// Who.
    pub person: PersonId,
    /// What; never [`Role::Service`].
    pub role: Role,
}

impl Vault {
    /// Makes a person known, without roles and certificates.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::NameTaken`] where a person has or had the handle.
    pub async fn enrol_person(
        &self,
        caller: &Caller,
        asker: Asker,
        handle: PersonHandle,
    ) -> Result<PersonView, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Enrol(handle)).await
    }

    /// Takes all roles from a person and disables the person's callers, for good.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::OwnAccount`] and [`Denial::LastOfficer`].
    pub async fn disable_person(
        &self,
        caller: &Caller,
        asker: Asker,
        person: PersonId,
    ) -> Result<PersonView, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Disable(person)).await
    }

    /// Gives a person a role on a platform, or with an empty name on the whole installation.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn grant_role(
        &self,
        caller: &Caller,
        asker: Asker,
        of: RoleOf,
        platform: &str,
    ) -> Result<PersonView, VaultError> {
        let scope = self.target(caller, &asker, Call::GrantRole, platform).await?;
        self.run(PlatformId::VAULT, caller, asker, ChangeRole { of, scope, state: CallerState::Enabled })
            .await
    }

    /// Takes a role from a person, as it was granted. One that the person does not have stays so.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::LastOfficer`].
    pub async fn revoke_role(
        &self,
        caller: &Caller,
        asker: Asker,
        of: RoleOf,
        platform: &str,
    ) -> Result<PersonView, VaultError> {
        let scope = self.target(caller, &asker, Call::RevokeRole, platform).await?;
        self.run(PlatformId::VAULT, caller, asker, ChangeRole { of, scope, state: CallerState::Disabled })
            .await
    }

    /// Lists persons by handle.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_persons(
        &self,
        caller: &Caller,
        asker: Asker,
        page: PageAsk,
    ) -> Result<Page<PersonView>, VaultError> {
        let own = super::install::VAULT;
        self.gather(caller, &asker, Call::ListPersons, own, page, |_, slice| List(slice)).await
    }
}

/// What an act takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    Person(PersonId),
    /// The person's role of security officer for the installation.
    Office(PersonId),
    Caller(CallerId),
}

/// Whether the installation keeps somebody who is its security officer and has a certificate to act with.
///
/// # Errors
/// [`Denial::LastOfficer`].
pub(super) fn keep_an_officer(staff: &Context, loss: Loss) -> Result<(), Denial> {
    let acts = |row: &CallerRow, person: PersonId, without: Option<CallerId>| {
        let caller = &row.caller;
        caller.person == Some(person) && caller.state == CallerState::Enabled && Some(caller.id) != without
    };
    let officers = |without: Option<Loss>| {
        staff.persons().map(|row| row.person.id).any(|id| {
            let caller = without.and_then(|loss| match loss {
                Loss::Caller(caller) => Some(caller),
                Loss::Person(_) | Loss::Office(_) => None,
            });
            without != Some(Loss::Person(id))
                && without != Some(Loss::Office(id))
                && staff.person_has(id, Role::SecurityOfficer, PlatformId::VAULT)
                && staff.callers().any(|row| acts(row, id, caller))
        })
    };
    // Where there is none, nothing can be lost; that nobody is left is then not this act's doing.
    if officers(Some(loss)) || !officers(None) { Ok(()) } else { Err(Denial::LastOfficer) }
}

fn put_person(
    hand: &mut Hand<'_, '_>,
    mut row: PersonRow,
    was: Option<Mac>,
) -> Result<PersonRow, VaultError> {
    row.updated_at = hand.scene.now;
    row.mac = hand.scene.keys().row.mac(&row.image());
    log_person(hand, &row)?;
    hand.plan.reconfigures = true;
    hand.plan.writes.push(Write::PutPerson(row.clone(), was));
    Ok(row)
}

fn log_person(hand: &mut Hand<'_, '_>, row: &PersonRow) -> Result<(), VaultError> {
    hand.log(|entry| Entry {
        object_kind: Some("person".to_owned()),
        object: Some(row.person.id.as_bytes().to_vec()),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(sha256(row.image().as_bytes()).into()),
        ..entry
    })?;
    Ok(())
}

fn put_role(
    hand: &mut Hand<'_, '_>,
    mut row: RoleGrantRow,
    was: Option<Mac>,
) -> Result<RoleGrantRow, VaultError> {
    row.updated_at = hand.scene.now;
    row.mac = hand.scene.keys().row.mac(&row.image());
    log_role(hand, &row)?;
    hand.plan.reconfigures = true;
    hand.plan.writes.push(Write::PutRole(row.clone(), was));
    Ok(row)
}

fn log_role(hand: &mut Hand<'_, '_>, row: &RoleGrantRow) -> Result<(), VaultError> {
    hand.log(|entry| Entry {
        object_kind: Some("role".to_owned()),
        object: Some(role_object(&row.grant)),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(sha256(row.image().as_bytes()).into()),
        ..entry
    })?;
    Ok(())
}

/// `per_…/ROLE/PLATFORM NUMBER`.
pub(super) fn role_object(grant: &RoleGrant) -> Vec<u8> {
    format!("{}/{}/{}", grant.person, grant.role.as_str(), grant.scope.get()).into_bytes()
}

fn outcome(id: PersonId) -> ItemOutcome {
    ItemOutcome { ids: vec![(*id.as_bytes()).into()], ..ItemOutcome::default() }
}

struct Enrol(PersonHandle);

impl Deed for Enrol {
    type Answer = PersonView;

    fn call(&self) -> Call {
        Call::EnrolPerson
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<PersonView>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let scene = hand.scene;
        if scene.context.persons().any(|row| row.person.handle == self.0) {
            return Err(Denial::NameTaken.into());
        }
        let id = PersonId::random(scene.rng()).map_err(unavailable)?;
        let person = Person { id, handle: self.0.clone(), state: CallerState::Enabled };
        let row = PersonRow { person, created_at: scene.now, updated_at: scene.now, mac: [0; 32] };
        let row = put_person(hand, row, None)?;
        Ok(Deeded::changed(PersonView { row, grants: Vec::new() }, outcome(id)))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<PersonView, VaultError> {
        PersonView::now(hand, PersonId::from_bytes(before.id(0)?))
    }
}

struct Disable(PersonId);

impl Deed for Disable {
    type Answer = PersonView;

    fn call(&self) -> Call {
        Call::DisablePerson
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<PersonView>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let context = hand.scene.context;
        let mut view = PersonView::now(hand, self.0)?;
        if hand.caller.person == Some(self.0) {
            return Err(Denial::OwnAccount.into());
        }
        keep_an_officer(context, Loss::Person(self.0))?;
        if view.row.person.state == CallerState::Disabled {
            log_person(hand, &view.row)?;
            return Ok(Deeded::changed(view, outcome(self.0)));
        }
        hand.plan.tightens = true;
        let was = view.row.mac;
        view.row.person.state = CallerState::Disabled;
        view.row = put_person(hand, view.row, Some(was))?;
        for mut row in std::mem::take(&mut view.grants) {
            let was = row.mac;
            row.grant.state = CallerState::Disabled;
            put_role(hand, row, Some(was))?;
        }
        let enabled =
            |row: &&CallerRow| row.caller.person == Some(self.0) && row.caller.state == CallerState::Enabled;
        for row in context.callers().filter(enabled) {
            let caller = Caller { state: CallerState::Disabled, ..row.caller.clone() };
            put_caller(hand, CallerRow { caller, ..row.clone() }, Some(row.mac))?;
        }
        Ok(Deeded::changed(view, outcome(self.0)))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<PersonView, VaultError> {
        PersonView::now(hand, self.0)
    }
}

struct ChangeRole {
    of: RoleOf,
    scope: PlatformId,
    state: CallerState,
}

impl Deed for ChangeRole {
    type Answer = PersonView;

    fn call(&self) -> Call {
        match self.state {
            CallerState::Enabled => Call::GrantRole,
            CallerState::Disabled => Call::RevokeRole,
        }
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        self.state == CallerState::Disabled
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<PersonView>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let (scene, RoleOf { person, role }) = (hand.scene, self.of);
        let mut view = PersonView::now(hand, person)?;
        let granting = self.state == CallerState::Enabled;
        if granting && view.row.person.state == CallerState::Disabled {
            return Err(Denial::PersonDisabled.into());
        }
        if !granting && role == Role::SecurityOfficer && self.scope == PlatformId::VAULT {
            keep_an_officer(scene.context, Loss::Office(person))?;
        }
        let here = |row: &&RoleGrantRow| {
            row.grant.person == person && row.grant.role == role && row.grant.scope == self.scope
        };
        let known = scene.context.grants().iter().find(here);
        match known {
            // A role that was never given is not taken either: the question alone is logged.
            None if !granting => log_person(hand, &view.row)?,
            Some(row) if row.grant.state == self.state => log_role(hand, row)?,
            _ => {
                let grant = RoleGrant { person, role, scope: self.scope, state: self.state };
                let row = RoleGrantRow { grant, updated_at: scene.now, mac: [0; 32] };
                let row = put_role(hand, row, known.map(|row| row.mac))?;
                hand.plan.tightens |= !granting;
                view.grants.retain(|row| !here(&row));
                if granting {
                    view.grants.push(row);
                    view.grants.sort_by_key(|row| (row.grant.role, row.grant.scope));
                }
            }
        }
        Ok(Deeded::changed(view, outcome(person)))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<PersonView, VaultError> {
        PersonView::now(hand, self.of.person)
    }
}

struct List(Slice);

impl Deed for List {
    type Answer = Vec<(String, PersonView)>;

    fn call(&self) -> Call {
        Call::ListPersons
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let context = hand.scene.context;
        let rows = context.persons().map(|row| (row.person.handle.to_string(), PersonView::of(context, row)));
        let answer = self.0.of(rows);
        hand.log(|entry| Entry { object_kind: Some("person".to_owned()), ..entry })?;
        Ok(Deeded::answer(answer))
    }
}
