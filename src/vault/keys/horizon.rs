//! The horizon: old versions of platform, index and root keys are destroyed when they are as old as a backup may be, so that
//! nothing that was erased longer ago opens, from whichever copy. Two people approve that once, in advance, for every run: a
//! standing plan, bound to what the configuration says, which expires, and which any one officer ends.

use std::time::Duration;

use super::{KeyKind, KeyState, KeyVersionRow, rotation::key_kind};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        caller::Caller,
        horizon::{HorizonPlan, HorizonState, HorizonTerms},
        ids::{HorizonId, PlatformId},
        operation::Operation,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        Write,
        rows::{Mac, config::HorizonRow},
    },
    vault::{
        Vault, VaultOptions,
        access::Call,
        act::{Asker, Claim, Scene},
        context::Context,
        deed::{Deed, Deeded, Hand},
        error::{VaultError, Violation},
        replay::ItemOutcome,
        tokenize::unavailable,
    },
};

/// Keys that what was erased could be opened or found by.
pub(super) const OF_DATA: [KeyKind; 3] = [KeyKind::Platform, KeyKind::Index, KeyKind::Root];

/// Shortest horizon that a plan can have: a version is made, replaced, announced for a day, and destroyed in it.
const LEAST_HORIZON_DAYS: u32 = 7;
/// Longest time that a plan holds.
const MOST_VALID_DAYS: u32 = 366;
/// How long before its time a version's destruction is scheduled, so that people see it.
const NOTICE: Duration = Duration::from_hours(48);
/// How long it is announced at least.
const LEAST_NOTICE: Duration = Duration::from_hours(24);

fn days(days: u32) -> Duration {
    Duration::from_secs(86_400 * u64::from(days))
}

/// The terms that a configuration has; none without a horizon that is long enough.
pub(in crate::vault) fn terms(options: &VaultOptions) -> Option<HorizonTerms> {
    let horizon_days = options.backup_horizon_days.filter(|days| *days >= LEAST_HORIZON_DAYS)?;
    let configured = options.rotate_every.map(|every| every.as_secs() / 86_400);
    let rotate_days = configured.and_then(|days| u32::try_from(days).ok()).unwrap_or(horizon_days / 2);
    Some(HorizonTerms { horizon_days, rotate_days })
}

fn hash(terms: HorizonTerms) -> [u8; 32] {
    sha256(terms.image().as_bytes())
}

/// The standing plan that holds now, for what the configuration says now.
pub(in crate::vault) fn in_force<'a>(
    staff: &'a Context,
    options: &VaultOptions,
    now: Timestamp,
) -> Option<&'a HorizonPlan> {
    let sha256 = hash(terms(options)?);
    let holds = |plan: &&HorizonPlan| {
        plan.state == HorizonState::Active && plan.expires_at > now && plan.sha256 == sha256
    };
    staff.horizons().iter().map(|row| &row.plan).find(holds)
}

impl HorizonPlan {
    /// How old a version becomes before it is replaced.
    pub(super) fn rotate_every(&self) -> Duration {
        days(self.terms.rotate_days)
    }

    /// When a version is destroyed whose destruction is scheduled now; none where it is too early for that.
    pub(super) fn destroy_at(&self, row: &KeyVersionRow, now: Timestamp) -> Option<Timestamp> {
        let at = row.created_at.plus(days(self.terms.horizon_days));
        (row.state == KeyState::Retiring && now.plus(NOTICE) >= at).then(|| at.max(now.plus(LEAST_NOTICE)))
    }

    /// What an operation has in the place of an object that destroys a version under this plan. No other has the same: an
    /// object has one operation at a time.
    pub(super) fn object(&self, kind: KeyKind, version: u32) -> [u8; 16] {
        let mut object = *self.id.as_bytes();
        let kind = OF_DATA.iter().zip(0..).find(|(of, _)| **of == kind).map_or(u8::MAX, |(_, number)| number);
        let tail = [kind].into_iter().chain(version.to_be_bytes());
        for (to, from) in object.iter_mut().skip(11).zip(tail) {
            *to = from;
        }
        object
    }
}

/// Whether an operation destroys a version under a plan that holds no more.
pub(super) fn is_called_off(operation: &Operation, scene: &Scene<'_>) -> bool {
    let is_of =
        |plan: &HorizonPlan| plan.object(key_kind(operation.kind), operation.key_version) == operation.object;
    let holds = in_force(scene.staff, &scene.shared.options, scene.now);
    scene.staff.horizons().iter().any(|row| is_of(&row.plan)) && !holds.is_some_and(is_of)
}

/// A plan as it is to be approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewHorizon {
    /// What it lets happen; the configuration must say the same.
    pub terms: HorizonTerms,
    /// Days that it holds.
    pub valid_days: u32,
}

/// How the horizon stands.
#[derive(Debug, Clone)]
pub struct HorizonView {
    /// The newest plan, where there is one.
    pub row: Option<HorizonRow>,
    /// Whether it holds now.
    pub in_force: bool,
    /// What stands in the way, in words.
    pub problems: Vec<String>,
}

impl Vault {
    /// Lets old versions be destroyed by the calendar, each time without asking again. It takes the place of any plan before.
    ///
    /// # Errors
    /// [`VaultError`]; invalid where the configuration says something else.
    pub async fn schedule_horizon(
        &self,
        caller: &Caller,
        asker: Asker,
        new: NewHorizon,
    ) -> Result<HorizonRow, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Schedule(new)).await
    }

    /// Ends the standing plan. What it scheduled is called off when its time comes.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::HorizonNotFound`].
    pub async fn revoke_horizon(&self, caller: &Caller, asker: Asker) -> Result<HorizonRow, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Revoke).await
    }

    /// How the horizon stands.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn horizon(&self, caller: &Caller, asker: Asker) -> Result<HorizonView, VaultError> {
        let mut view = self.run(PlatformId::VAULT, caller, asker, Look).await?;
        for (platform, name) in self.platforms() {
            let disabled = |row: &&KeyVersionRow| {
                row.state == KeyState::Disabled && OF_DATA.iter().any(|kind| row.kind == kind.as_str())
            };
            for row in self.context(platform)?.key_rows().iter().filter(disabled) {
                view.problems.push(format!(
                    "{name}: {}/{} is disabled, and kept until somebody enables or destroys it",
                    row.kind, row.version
                ));
            }
        }
        Ok(view)
    }

    /// Whether a plan holds now, as far as this process knows; none where no horizon is configured.
    #[must_use]
    pub fn horizon_holds(&self) -> Option<bool> {
        let options = &self.shared.options;
        options.backup_horizon_days?;
        Some(in_force(&self.shared.staff.load(), options, self.shared.clock.now()).is_some())
    }
}

struct Schedule(NewHorizon);

impl Schedule {
    fn check(&self, options: &VaultOptions) -> Result<(), VaultError> {
        let mut found = Vec::new();
        match terms(options) {
            None => found.push(Violation::new(
                "horizon_days",
                "the configuration has no backup.horizon_days of at least 7",
            )),
            Some(terms) => {
                if terms.horizon_days != self.0.terms.horizon_days {
                    found.push(Violation::new("horizon_days", "is another than backup.horizon_days"));
                }
                if terms.rotate_days != self.0.terms.rotate_days {
                    found.push(Violation::new(
                        "rotate_days",
                        "is another than keys.rotate_days, or without it half of backup.horizon_days",
                    ));
                }
            }
        }
        if !(1..=MOST_VALID_DAYS).contains(&self.0.valid_days) {
            found.push(Violation::new("valid_days", "must be 1 to 366"));
        }
        if found.is_empty() { Ok(()) } else { Err(VaultError::Invalid(found)) }
    }
}

impl Deed for Schedule {
    type Answer = HorizonRow;

    fn call(&self) -> Call {
        Call::ScheduleHorizon
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<HorizonRow>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let scene = hand.scene;
        self.check(&scene.shared.options)?;
        let proposer = hand.caller.person.ok_or(Denial::PersonRequired)?;
        let approver = if hand.is_approved() { scene.caller(hand.asker)?.person } else { None };
        for row in scene.staff.horizons().iter().filter(|row| row.plan.state == HorizonState::Active) {
            revoke(hand, row)?;
        }
        let NewHorizon { terms, valid_days } = self.0;
        let plan = HorizonPlan {
            id: HorizonId::random(scene.rng()).map_err(unavailable)?,
            terms,
            sha256: hash(terms),
            proposer,
            approver,
            state: HorizonState::Active,
            expires_at: scene.now.plus(days(valid_days)),
        };
        let row = HorizonRow { plan, created_at: scene.now, updated_at: scene.now, mac: [0; 32] };
        Ok(Deeded::changed(put(hand, row, None)?, ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<HorizonRow, VaultError> {
        newest(hand).map_err(Into::into)
    }
}

struct Revoke;

impl Deed for Revoke {
    type Answer = HorizonRow;

    fn call(&self) -> Call {
        Call::RevokeHorizon
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<HorizonRow>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let row = newest(hand)?;
        let row = if row.plan.state == HorizonState::Active {
            revoke(hand, &row)?
        } else {
            log(hand, &row)?;
            row
        };
        Ok(Deeded::changed(row, ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<HorizonRow, VaultError> {
        newest(hand).map_err(Into::into)
    }
}

struct Look;

impl Deed for Look {
    type Answer = HorizonView;

    fn call(&self) -> Call {
        Call::GetHorizon
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<HorizonView>, VaultError> {
        hand.log(|entry| Entry { object_kind: Some("horizon".to_owned()), ..entry })?;
        let (scene, row) = (hand.scene, newest(hand).ok());
        let options = &scene.shared.options;
        let in_force = in_force(scene.staff, options, scene.now).is_some();
        let mut problems = Vec::new();
        if terms(options).is_none() {
            problems.push("the configuration has no backup.horizon_days of at least 7".to_owned());
        }
        problems.extend(row.as_ref().filter(|_| !in_force).map(|row| {
            if row.plan.state == HorizonState::Revoked {
                "the plan was revoked: nothing is destroyed by it".to_owned()
            } else if row.plan.expires_at <= scene.now {
                "the plan expired: nothing is destroyed by it".to_owned()
            } else {
                "the configuration says something else than the plan: nothing is destroyed by it".to_owned()
            }
        }));
        if row.is_none() {
            problems.push("no plan was approved: nothing is destroyed by the calendar".to_owned());
        }
        Ok(Deeded::answer(HorizonView { row, in_force, problems }))
    }
}

fn newest(hand: &Hand<'_, '_>) -> Result<HorizonRow, Denial> {
    hand.scene.staff.horizons().first().cloned().ok_or(Denial::HorizonNotFound)
}

fn revoke(hand: &mut Hand<'_, '_>, row: &HorizonRow) -> Result<HorizonRow, VaultError> {
    let mut next = row.clone();
    next.plan.state = HorizonState::Revoked;
    put(hand, next, Some(row.mac))
}

fn put(hand: &mut Hand<'_, '_>, mut row: HorizonRow, was: Option<Mac>) -> Result<HorizonRow, VaultError> {
    row.updated_at = hand.scene.now;
    row.mac = hand.scene.keys().row.mac(&row.image());
    log(hand, &row)?;
    hand.plan.reconfigures = true;
    hand.plan.writes.push(Write::PutHorizon(row.clone(), was));
    Ok(row)
}

fn log(hand: &mut Hand<'_, '_>, row: &HorizonRow) -> Result<(), VaultError> {
    hand.log(|entry| Entry {
        object_kind: Some("horizon".to_owned()),
        object: Some(row.plan.id.as_bytes().to_vec()),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(row.plan.sha256.into()),
        ..entry
    })?;
    Ok(())
}
