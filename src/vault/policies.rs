//! Policies: checked, applied, listed. A version is the text that an operator applied; what is in force at an instant
//! the text itself says.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::{VaultError, unreadable},
    page::MAX_PAGE,
    replay::ItemOutcome,
};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{caller::Caller, ids::PlatformId, names::PlatformName, platform::Platform, time::Timestamp},
    policy::{
        decide::Denial,
        model::{Policy, Problem, claims},
    },
    store::{Write, rows::config::PolicyRow},
};

/// A version of a platform's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyView {
    /// The platform.
    pub platform: PlatformId,
    /// Version.
    pub version: u32,
    /// SHA-256 of the text.
    pub sha256: [u8; 32],
    /// When the vault took it.
    pub applied_at: Timestamp,
    /// When it takes effect by its own words (rule R30).
    pub effective_at: Timestamp,
    /// From when the vault decides by it.
    pub governs_from: Timestamp,
    /// Whether it governs now.
    pub governs: bool,
}

impl PolicyView {
    fn of(row: &PolicyRow, policy: &Policy, governing: Option<u32>) -> Self {
        Self {
            platform: row.platform,
            version: row.version,
            sha256: row.sha256,
            applied_at: row.created_at,
            effective_at: policy.effective_at(),
            governs_from: policy.governs_from().max(row.created_at),
            governs: governing == Some(row.version),
        }
    }
}

/// What a check of a text found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What is wrong with it; nothing where it can be applied.
    pub problems: Vec<Problem>,
    /// Version that it says it is.
    pub version: Option<u32>,
    /// Platform that it names.
    pub platform: Option<PlatformName>,
}

/// What came of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The version, in the database; or as it would be, where only a check was asked for.
    Version(PolicyView),
    /// The text is refused.
    Refused(Vec<Problem>),
}

/// Versions of a policy, newest first, with their texts; and whether there are more.
pub type Versions = (Vec<(PolicyView, String)>, bool);

impl Vault {
    /// Checks a text on its own.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn validate_policy(
        &self,
        caller: &Caller,
        asker: Asker,
        text: &str,
    ) -> Result<Checked, VaultError> {
        let (version, platform) = claims(text);
        let home = self.home_of(caller, &asker, Call::ValidatePolicy, platform.as_ref()).await?;
        let problems = Policy::check(text).err().unwrap_or_default();
        self.run(home, caller, asker, Validate(sha256(text.as_bytes()))).await?;
        Ok(Checked { problems, version, platform })
    }

    /// Makes a text the next version of the policy of the platform that it names; with `validate_only` says what would
    /// come of it.
    ///
    /// # Errors
    /// [`VaultError`]. A text that is refused is an answer.
    pub async fn apply_policy(
        &self,
        caller: &Caller,
        asker: Asker,
        text: String,
        validate_only: bool,
    ) -> Result<Applied, VaultError> {
        let (_, named) = claims(&text);
        let home = self.home_of(caller, &asker, Call::ApplyPolicy, named.as_ref()).await?;
        let platform = self.described(home).filter(|platform| named.as_ref() == Some(&platform.name));
        let checked = Policy::check(&text);
        let sha256 = sha256(text.as_bytes());
        let deed = Apply { text, sha256, checked, platform, validate_only, applied: false };
        self.run(home, caller, asker, deed).await
    }

    /// One version with its text; the one in force, where none is named.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::PolicyNotFound`].
    pub async fn get_policy(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        version: Option<u32>,
    ) -> Result<(PolicyView, String), VaultError> {
        let platform = self.target(caller, &asker, Call::GetPolicy, platform).await?;
        let governing = self.run(platform, caller, asker.clone(), Read(Call::GetPolicy)).await?;
        let wanted = version.or(governing);
        let found = match wanted {
            Some(wanted) => self.versions(platform, wanted.saturating_add(1), 1, governing).await?.0,
            None => Vec::new(),
        };
        Ok(found.into_iter().find(|(view, _)| Some(view.version) == wanted).ok_or(Denial::PolicyNotFound)?)
    }

    /// Versions below `below`, newest first.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_policies(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        size: usize,
        below: Option<u32>,
    ) -> Result<Versions, VaultError> {
        let platform = self.target(caller, &asker, Call::ListPolicies, platform).await?;
        let governing = self.run(platform, caller, asker, Read(Call::ListPolicies)).await?;
        self.versions(platform, below.unwrap_or(u32::MAX), size.min(MAX_PAGE), governing).await
    }

    /// Stored versions, each believed. Older ones than a context holds are read from the database alone.
    async fn versions(
        &self,
        platform: PlatformId,
        below: u32,
        size: usize,
        governing: Option<u32>,
    ) -> Result<Versions, VaultError> {
        let limit = u32::try_from(size + 1).unwrap_or(u32::MAX);
        let rows = self.shared.store.policies(platform, below, limit).await.map_err(unreadable)?;
        let context = self.context(platform)?;
        let more = rows.len() > size;
        let mut versions = Vec::new();
        for row in rows.into_iter().take(size) {
            let believed = context.keys.row.verify(&row.image(), &row.mac).is_ok()
                && sha256(row.text.as_bytes()) == row.sha256;
            let policy = Policy::applied(&row.text).ok().filter(|_| believed).ok_or(Denial::DataDamaged)?;
            versions.push((PolicyView::of(&row, &policy, governing), row.text));
        }
        Ok((versions, more))
    }

    /// The platform in whose log a call about a text stands: the one that the text names, or the first on which the
    /// caller may make the call.
    async fn home_of(
        &self,
        caller: &Caller,
        asker: &Asker,
        call: Call,
        named: Option<&PlatformName>,
    ) -> Result<PlatformId, VaultError> {
        self.find_platforms().await.map_err(unreadable)?;
        let seen = self.in_view(caller, asker, call, "").await?;
        let home = seen.iter().find(|(name, _)| Some(name) == named).or(seen.first());
        Ok(home.map_or(caller.platform, |(_, id)| *id))
    }
}

struct Validate([u8; 32]);

impl Deed for Validate {
    type Answer = ();

    fn call(&self) -> Call {
        Call::ValidatePolicy
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        log_text(hand, self.0)?;
        Ok(Deeded::answer(()))
    }
}

/// The entry of a text that changed nothing: no version, no row.
fn log_text(hand: &mut Hand<'_, '_>, sha256: [u8; 32]) -> Result<(), VaultError> {
    hand.log(|entry| Entry {
        object_kind: Some("policy".to_owned()),
        detail_sha256: Some(sha256.into()),
        ..entry
    })?;
    Ok(())
}

struct Apply {
    text: String,
    sha256: [u8; 32],
    checked: Result<Policy, Vec<Problem>>,
    /// The platform that the text names, where there is one that the caller may change.
    platform: Option<Platform>,
    validate_only: bool,
    /// Whether it came to be a version.
    applied: bool,
}

impl Apply {
    /// The policy, where it can be the next version.
    fn next(&self, context: &Context) -> Result<&Policy, Vec<Problem>> {
        let policy = self.checked.as_ref().map_err(Clone::clone)?;
        let problem = |place: &str, rule: String| Problem { line: 0, place: place.to_owned(), rule };
        let mut problems = Vec::new();
        match &self.platform {
            None => {
                let rule = format!("this vault has no platform {} that you may change", policy.operator.name);
                problems.push(problem("platform.name", rule));
            }
            Some(platform) if platform.bin != policy.operator.bin => {
                let rule = "the platform was created for an operator with another BIN".to_owned();
                problems.push(problem("platform.bin", rule));
            }
            Some(_) => {}
        }
        if let Some(newest) = context.policies().first().filter(|_| self.platform.is_some())
            && policy.version <= newest.row.version
        {
            let rule = format!(
                "version {} is applied already; a changed policy needs a higher number",
                newest.row.version
            );
            problems.push(problem("version.number", rule));
        }
        if problems.is_empty() { Ok(policy) } else { Err(problems) }
    }
}

impl Deed for Apply {
    type Answer = Applied;

    fn call(&self) -> Call {
        Call::ApplyPolicy
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        // A new version may bar what the one before allowed.
        self.applied
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Applied>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        self.applied = false;
        let (context, now) = (hand.scene.context, hand.scene.now);
        let policy = match self.next(context) {
            Ok(policy) => policy,
            Err(problems) => {
                log_text(hand, self.sha256)?;
                return Ok(Deeded::changed(Applied::Refused(problems), ItemOutcome::default()));
            }
        };
        let mut row = PolicyRow {
            platform: context.platform,
            version: policy.version,
            text: self.text.clone(),
            sha256: self.sha256,
            created_at: now,
            mac: [0; 32],
        };
        row.mac = hand.scene.keys().row.mac(&row.image());
        let governing = context.policy(now).map(|policy| policy.version);
        let governing = if policy.governs_from() <= now { Some(policy.version) } else { governing };
        let view = PolicyView::of(&row, policy, governing);
        if self.validate_only {
            log_text(hand, self.sha256)?;
            return Ok(Deeded::changed(Applied::Version(view), ItemOutcome::default()));
        }
        hand.log(|entry| Entry {
            object_kind: Some("policy".to_owned()),
            object: Some(row.version.to_string().into_bytes()),
            policy_version: Some(row.version),
            row_mac: Some(row.mac.into()),
            detail_sha256: Some(row.sha256.into()),
            ..entry
        })?;
        self.applied = true;
        hand.plan.reconfigures = true;
        hand.plan.tightens = true;
        hand.plan.writes.push(Write::InsertPolicy(row));
        let numbers = vec![i64::from(view.version)];
        Ok(Deeded::changed(Applied::Version(view), ItemOutcome { numbers, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Applied, VaultError> {
        let context = hand.scene.context;
        let governing = context.policy(hand.scene.now).map(|policy| policy.version);
        // Where the first time came to nothing, the same is found again.
        let Ok(version) = before.number(0) else {
            return Ok(Applied::Refused(self.next(context).err().unwrap_or_default()));
        };
        let applied = context.policies().iter().find(|applied| i64::from(applied.row.version) == version);
        let applied = applied.ok_or(Denial::PolicyNotFound)?;
        Ok(Applied::Version(PolicyView::of(&applied.row, &applied.policy, governing)))
    }
}

/// Asks for texts; answers the version in force.
struct Read(Call);

impl Deed for Read {
    type Answer = Option<u32>;

    fn call(&self) -> Call {
        self.0
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Option<u32>>, VaultError> {
        hand.log(|entry| Entry { object_kind: Some("policy".to_owned()), ..entry })?;
        let scene = hand.scene;
        Ok(Deeded::answer(scene.context.policy(scene.now).map(|policy| policy.version)))
    }
}
