//! Rows of a platform's configuration: policies, callers, people, recipients, limits, keys. All of them grant.

use super::{Mac, platform_row};
use crate::domain::{
    caller::{Caller, Person, Role, RoleGrant},
    canonical::Canonical,
    code::coded,
    horizon::HorizonPlan,
    ids::PlatformId,
    names::PurposeName,
    operation::BudgetLimit,
    recipient::{Abroad, Recipient, RecipientCondition},
    reference::Reference,
    secret::Sealed,
    staff_key::StaffKey,
    time::Timestamp,
};

coded!(
    /// Where a key version stands.
    KeyState, "key state" {
        /// Made, not yet loaded everywhere.
        Pending = "pending",
        /// Protects new data.
        Active = "active",
        /// Opens old data only.
        Retiring = "retiring",
        /// Refused for a time.
        Disabled = "disabled",
        /// Waits for its destruction.
        DestructionScheduled = "destruction_scheduled",
        /// Gone.
        Destroyed = "destroyed",
    }
);

/// A policy version.
#[derive(Debug, Clone)]
pub struct PolicyRow {
    /// Platform.
    pub platform: PlatformId,
    /// Version.
    pub version: u32,
    /// The TOML.
    pub text: String,
    /// SHA-256 of the TOML.
    pub sha256: [u8; 32],
    /// Created.
    pub created_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl PolicyRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("policies", self.platform)
            .int(i64::from(self.version))
            .bytes(&self.sha256)
            .int(self.created_at.as_micros())
    }
}

/// A caller.
#[derive(Debug, Clone)]
pub struct CallerRow {
    /// The caller.
    pub caller: Caller,
    /// Enrolled.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl CallerRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let c = &self.caller;
        let image = platform_row("callers", c.platform)
            .text(c.spiffe_id.as_str())
            .bytes(c.id.as_bytes())
            .text(c.name.as_str())
            .texts(c.roles.iter().map(|r: &Role| r.as_str()))
            .bytes(&c.pins.concat())
            .text(c.state.as_str())
            .int(self.created_at.as_micros())
            .int(self.updated_at.as_micros());
        match &c.person {
            None => image.flag(false),
            Some(person) => image.flag(true).bytes(person.as_bytes()),
        }
    }
}

/// A person of the staff; kept with platform 0.
#[derive(Debug, Clone)]
pub struct PersonRow {
    /// The person.
    pub person: Person,
    /// Enrolled.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl PersonRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("persons", PlatformId::VAULT)
            .bytes(self.person.id.as_bytes())
            .text(self.person.handle.as_str())
            .text(self.person.state.as_str())
            .int(self.created_at.as_micros())
            .int(self.updated_at.as_micros())
    }
}

/// A role of a person; kept with platform 0.
#[derive(Debug, Clone)]
pub struct RoleGrantRow {
    /// The grant.
    pub grant: RoleGrant,
    /// Granted, or ended.
    pub updated_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl RoleGrantRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("person_roles", PlatformId::VAULT)
            .bytes(self.grant.person.as_bytes())
            .text(self.grant.role.as_str())
            .int(i64::from(self.grant.scope.get()))
            .text(self.grant.state.as_str())
            .int(self.updated_at.as_micros())
    }
}

/// A key of a person's certificates that lives on hardware; kept with platform 0.
#[derive(Debug, Clone)]
pub struct StaffKeyRow {
    /// The key.
    pub key: StaffKey,
    /// Enrolled.
    pub created_at: Timestamp,
    /// Enrolled, or withdrawn.
    pub updated_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl StaffKeyRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let key = &self.key;
        let [proposer, approver] = &key.attested_by;
        platform_row("staff_keys", PlatformId::VAULT)
            .bytes(&key.sha256)
            .bytes(key.person.as_bytes())
            .text(key.evidence.as_str())
            .text(&key.serial)
            .text(&key.device)
            .bytes(&key.chain)
            .bytes(proposer.as_bytes())
            .bytes(approver.as_bytes())
            .text(key.state.as_str())
            .int(self.created_at.as_micros())
            .int(self.updated_at.as_micros())
    }
}

/// A standing plan of the horizon; kept with platform 0.
#[derive(Debug, Clone)]
pub struct HorizonRow {
    /// The plan.
    pub plan: HorizonPlan,
    /// Approved.
    pub created_at: Timestamp,
    /// Approved, or revoked.
    pub updated_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl HorizonRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let plan = &self.plan;
        let image = platform_row("horizon_plans", PlatformId::VAULT)
            .bytes(plan.id.as_bytes())
            .int(i64::from(plan.terms.horizon_days))
            .int(i64::from(plan.terms.rotate_days))
            .bytes(&plan.sha256)
            .bytes(plan.proposer.as_bytes())
            .text(plan.state.as_str())
            .int(self.created_at.as_micros())
            .int(plan.expires_at.as_micros())
            .int(self.updated_at.as_micros());
        match &plan.approver {
            None => image.flag(false),
            Some(approver) => image.flag(true).bytes(approver.as_bytes()),
        }
    }
}

/// A key that two people enrolled for a recipient, and that nobody has shown to hold yet.
#[derive(Debug, Clone)]
pub struct OfferedKey {
    /// X25519 public key.
    pub public_key: [u8; 32],
    /// What the challenge is bound to: HPKE's `info`.
    pub statement: String,
    /// The challenge: HPKE's encapsulated key, and the answer sealed.
    pub sealed: [u8; 80],
    /// SHA-256 of the answer, which is 32 random bytes.
    pub answer_sha256: [u8; 32],
    /// From when on no answer counts.
    pub expires_at: Timestamp,
    /// Wrong answers so far.
    pub wrong: u8,
}

/// A recipient of a platform's values.
#[derive(Debug, Clone)]
pub struct RecipientRow {
    /// Platform.
    pub platform: PlatformId,
    /// The recipient.
    pub recipient: Recipient,
    /// Registered name.
    pub legal_name: String,
    /// The contract, in the platform's numbering; empty where there is none.
    pub contract: String,
    /// On what it receives, where it is abroad; none where that was not asked for yet.
    pub abroad: Option<Abroad>,
    /// What it has promised.
    pub conditions: Vec<RecipientCondition>,
    /// X25519 public key (RFC 9180), for sealed releases.
    pub public_key: Option<[u8; 32]>,
    /// When its holder proved it; none of a key from before there were challenges.
    pub key_proved_at: Option<Timestamp>,
    /// A key that waits for its holder's answer.
    pub offered: Option<Box<OfferedKey>>,
    /// Registered.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl RecipientRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let r = &self.recipient;
        let image = platform_row("recipients", self.platform)
            .bytes(r.id.as_bytes())
            .text(r.name.as_str())
            .text(r.kind.as_str())
            .text(r.country.as_str())
            .texts(r.purposes.iter().map(PurposeName::as_str))
            .int(r.valid_from.as_micros())
            .optional_int(r.valid_until.map(Timestamp::as_micros))
            .text(r.state.as_str())
            .text(&self.legal_name)
            .text(&self.contract)
            .bytes(self.public_key.as_ref().map_or(&[], <[u8; 32]>::as_slice))
            .int(self.created_at.as_micros())
            .int(self.updated_at.as_micros());
        // Named where they stand: rows from before there were such columns keep their MAC.
        let image = match &self.abroad {
            None => image,
            Some(abroad) => image
                .text("abroad")
                .text(abroad.safeguard.as_str())
                .text(abroad.reference.as_ref().map_or("", Reference::as_str)),
        };
        let image = match self.conditions.as_slice() {
            [] => image,
            some => image.text("conditions").texts(some.iter().map(|condition| condition.as_str())),
        };
        let image = match self.key_proved_at {
            None => image,
            Some(at) => image.text("proved").int(at.as_micros()),
        };
        match &self.offered {
            None => image,
            Some(key) => image
                .text("offered")
                .bytes(&key.public_key)
                .text(&key.statement)
                .bytes(&key.sealed)
                .bytes(&key.answer_sha256)
                .int(key.expires_at.as_micros())
                .int(key.wrong.into()),
        }
    }
}

/// A limit that an operator set.
#[derive(Debug, Clone)]
pub struct BudgetLimitRow {
    /// Platform.
    pub platform: PlatformId,
    /// The limit.
    pub limit: BudgetLimit,
    /// Set when.
    pub updated_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl BudgetLimitRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("budget_limits", self.platform)
            .bytes(self.limit.caller.as_ref().map_or(&[], |c| c.as_bytes().as_slice()))
            .text(self.limit.kind.as_str())
            .int(i64::try_from(self.limit.limit).unwrap_or(i64::MAX))
            .int(i64::from(self.limit.window_seconds))
            .int(self.updated_at.as_micros())
    }
}

coded!(
    /// Why a platform was closed when it was restored.
    ClosureReason, "reason of a closure" {
        /// There is nothing to replay from.
        MirrorMissing = "mirror_missing",
        /// What was mirrored does not hold, or ends before what it promises.
        MirrorDamaged = "mirror_damaged",
        /// The mirror is of another history than the backup.
        MirrorDiffers = "mirror_differs",
        /// A policy version newer than the backup is lost, and an older one would be in force.
        PolicyLost = "policy_lost",
    }
);

/// That a platform was closed by a restore; open again where two people said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosureRow {
    /// Platform.
    pub platform: PlatformId,
    /// Why.
    pub reason: ClosureReason,
    /// Closed.
    pub closed_at: Timestamp,
    /// Opened again.
    pub opened_at: Option<Timestamp>,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl ClosureRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("closures", self.platform)
            .text(self.reason.as_str())
            .int(self.closed_at.as_micros())
            .optional_int(self.opened_at.map(Timestamp::as_micros))
    }
}

/// A wrapped key.
#[derive(Debug, Clone)]
pub struct KeyVersionRow {
    /// Platform.
    pub platform: PlatformId,
    /// Kind, by its code.
    pub kind: String,
    /// Version, from 1.
    pub version: u32,
    /// State.
    pub state: KeyState,
    /// The key under the root; none once it is destroyed.
    pub wrapped: Option<Sealed>,
    /// Created.
    pub created_at: Timestamp,
    /// When it is destroyed, where that is scheduled.
    pub destroy_at: Option<Timestamp>,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl KeyVersionRow {
    /// What the MAC covers. The wrap is bound to its place by itself.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let image = platform_row("key_versions", self.platform)
            .text(&self.kind)
            .int(i64::from(self.version))
            .text(self.state.as_str())
            .int(self.created_at.as_micros());
        match self.destroy_at {
            None => image,
            Some(at) => image.int(at.as_micros()),
        }
    }
}
