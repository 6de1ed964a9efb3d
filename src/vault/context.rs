//! Policy, callers and keys of one platform, as of one `config_epoch`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::heads::Signatory;
use crate::{
    blobs::BlobError,
    crypto::{
        aead::{Key, OpenError},
        audit_key::AuditKey,
        digest::{IndexKey, RowKey, sha256},
        keyring::{IndexKeys, KeyKind, Keyring, WrappingKeys, key_version_place},
        kms::{Kms, KmsError},
    },
    domain::{
        caller::{Caller, CallerState, Role, RoleGrant},
        ids::{CallerId, PersonId, PlatformId},
        names::{PlatformName, SpiffeId},
        operation::{BudgetKind, BudgetLimit},
        time::Timestamp,
    },
    policy::model::{Policy, PolicyError},
    store::{
        Store, StoreError,
        rows::config::{
            BudgetLimitRow, CallerRow, ClosureRow, HorizonRow, KeyState, KeyVersionRow, PersonRow, PolicyRow,
            RecipientRow, RoleGrantRow, StaffKeyRow,
        },
    },
};

/// Why an installation does not open.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No installation in the database.
    #[error("the database holds no installation; run `sandyq init`")]
    NotInitialised,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The KMS failed, or does not open this installation's keys.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// A key that must exist is missing.
    #[error("platform {platform} has no active {kind} key")]
    KeyMissing {
        /// Platform number.
        platform: u32,
        /// Kind of key.
        kind: &'static str,
    },
    /// Keys do not make a keyring.
    #[error(transparent)]
    Keyring(#[from] OpenError),
    /// A row was changed behind the vault.
    #[error("a row of table {table} does not match its MAC: it was changed behind the vault")]
    Forged {
        /// Table.
        table: &'static str,
    },
    /// The stored policy does not parse.
    #[error("the stored policy is refused")]
    Policy(#[source] PolicyError),
    /// The audit key does not load.
    #[error("the audit key does not load")]
    AuditKey,
    /// A log contradicts its mirror.
    #[error("the log of platform {platform} contradicts its mirror: {problem}")]
    Mirror {
        /// Platform.
        platform: PlatformName,
        /// How.
        problem: &'static str,
    },
    /// What was mirrored cannot be read, so nothing can be held against it.
    #[error("the mirror cannot be read")]
    MirrorUnreadable(#[source] BlobError),
    /// This machine's clock and the database's are too far apart to decide anything by either.
    #[error("this machine's clock is {off_seconds} s from the database's")]
    WrongClock {
        /// How far.
        off_seconds: i64,
    },
    /// A head is not to be believed.
    #[error("the head of platform {platform}'s log is not believed: {problem}")]
    Head {
        /// Platform.
        platform: PlatformName,
        /// Why.
        problem: &'static str,
    },
}

/// Policy, callers and keys of one platform.
pub struct Context {
    /// The epoch they are of.
    pub config_epoch: u64,
    /// The platform.
    pub platform: PlatformId,
    policies: Vec<AppliedPolicy>,
    /// Its keys.
    pub keys: Arc<Keyring>,
    /// What `keys` was made of; a reload asks the KMS only when it changed.
    key_rows: Vec<KeyVersionRow>,
    /// Whether `keys` has every version that may be needed soon.
    has_all_keys: bool,
    /// Who signs every log; of the vault's own platform only, where the audit key is kept.
    signatory: Option<Arc<Signatory>>,
    callers: HashMap<SpiffeId, (CallerRow, Arc<Caller>)>,
    recipients: Vec<RecipientRow>,
    limits: Vec<BudgetLimitRow>,
    persons: HashMap<PersonId, PersonRow>,
    grants: Vec<RoleGrantRow>,
    staff_keys: Vec<StaffKeyRow>,
    horizons: Vec<HorizonRow>,
    closure: Option<ClosureRow>,
}

/// A policy version as applied.
pub struct AppliedPolicy {
    /// The row.
    pub row: PolicyRow,
    /// What it says.
    pub policy: Arc<Policy>,
}

impl Context {
    /// Loads and checks everything; `installation` is its name, which the audit key has. `previous` spares the KMS where the keys are the same.
    pub(crate) async fn load(
        store: &dyn Store,
        kms: &dyn Kms,
        installation: &str,
        platform: PlatformId,
        previous: Option<&Self>,
    ) -> Result<Self, LoadError> {
        let stored = store.config(platform).await?;
        let same = |previous: &&Self| previous.has_all_keys && same_keys(&previous.key_rows, &stored.keys);
        let (keys, signatory, has_all_keys) = if let Some(previous) = previous.filter(same) {
            (Arc::clone(&previous.keys), previous.signatory.clone(), true)
        } else {
            let opener = Opener { kms, platform, keys: &stored.keys, previous };
            let (keys, all) = opener.keyring().await?;
            let (signatory, every) = match platform {
                PlatformId::VAULT => opener.signatory(installation).await?,
                _ => (None, true),
            };
            (Arc::new(keys), signatory, all && every)
        };
        for key in &stored.keys {
            verify(&keys.row, &key.image(), &key.mac, "key_versions")?;
        }
        let mut callers = HashMap::new();
        for row in stored.callers {
            verify(&keys.row, &row.image(), &row.mac, "callers")?;
            let caller = Arc::new(row.caller.clone());
            callers.insert(caller.spiffe_id.clone(), (row, caller));
        }
        for row in &stored.recipients {
            verify(&keys.row, &row.image(), &row.mac, "recipients")?;
        }
        for row in &stored.limits {
            verify(&keys.row, &row.image(), &row.mac, "budget_limits")?;
        }
        for row in &stored.grants {
            verify(&keys.row, &row.image(), &row.mac, "person_roles")?;
        }
        for row in &stored.staff_keys {
            verify(&keys.row, &row.image(), &row.mac, "staff_keys")?;
        }
        for row in &stored.horizons {
            verify(&keys.row, &row.image(), &row.mac, "horizon_plans")?;
        }
        if let Some(row) = &stored.closure {
            verify(&keys.row, &row.image(), &row.mac, "closures")?;
        }
        let mut persons = HashMap::new();
        for row in stored.persons {
            verify(&keys.row, &row.image(), &row.mac, "persons")?;
            persons.insert(row.person.id, row);
        }
        let mut policies = Vec::new();
        for row in stored.policies {
            verify(&keys.row, &row.image(), &row.mac, "policies")?;
            if sha256(row.text.as_bytes()) != row.sha256 {
                return Err(LoadError::Forged { table: "policies" });
            }
            // A text that was read before is not read again.
            let known = previous.and_then(|p| p.policies.iter().find(|known| known.row.sha256 == row.sha256));
            let policy = match known {
                Some(known) => Arc::clone(&known.policy),
                None => Arc::new(Policy::applied(&row.text).map_err(LoadError::Policy)?),
            };
            policies.push(AppliedPolicy { row, policy });
        }
        Ok(Self {
            config_epoch: stored.config_epoch,
            platform,
            policies,
            keys,
            key_rows: stored.keys,
            has_all_keys,
            signatory,
            callers,
            recipients: stored.recipients,
            limits: stored.limits,
            persons,
            grants: stored.grants,
            staff_keys: stored.staff_keys,
            horizons: stored.horizons,
            closure: stored.closure,
        })
    }

    /// Key versions, destroyed ones too, by kind and version.
    #[must_use]
    pub fn key_rows(&self) -> &[KeyVersionRow] {
        &self.key_rows
    }

    /// A key version.
    #[must_use]
    pub fn key(&self, kind: KeyKind, version: u32) -> Option<&KeyVersionRow> {
        self.key_rows.iter().find(|row| row.kind == kind.as_str() && row.version == version)
    }

    /// The number that the next version of a key has. Numbers are never used twice.
    #[must_use]
    pub fn next_version(&self, kind: KeyKind) -> u32 {
        let versions = self.key_rows.iter().filter(|row| row.kind == kind.as_str()).map(|row| row.version);
        versions.max().unwrap_or(0).saturating_add(1)
    }

    /// That a restore closed the platform, or had closed it.
    #[must_use]
    pub const fn closure(&self) -> Option<&ClosureRow> {
        self.closure.as_ref()
    }

    /// Whether a restore closed the platform, and two people have not opened it yet.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closure.as_ref().is_some_and(|row| row.opened_at.is_none())
    }

    /// Who signs every log, as the vault's own platform has it.
    ///
    /// # Errors
    /// [`LoadError::AuditKey`] of any other platform.
    pub(crate) fn signatory(&self) -> Result<&Arc<Signatory>, LoadError> {
        self.signatory.as_ref().ok_or(LoadError::AuditKey)
    }

    /// Whether every version is loaded that is in use, or will be.
    #[must_use]
    pub const fn has_all_keys(&self) -> bool {
        self.has_all_keys
    }

    /// The policy that governs at an instant: the newest whose time has come. None for the vault's own platform, or
    /// before the first policy governs.
    #[must_use]
    pub fn policy(&self, now: Timestamp) -> Option<&Policy> {
        self.policies
            .iter()
            .map(|applied| applied.policy.as_ref())
            .find(|policy| policy.governs_from() <= now)
    }

    /// A version of the policy, whether it governs or not.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&Policy> {
        self.policies.iter().map(|applied| applied.policy.as_ref()).find(|policy| policy.version == number)
    }

    /// Policy versions, newest first.
    #[must_use]
    pub fn policies(&self) -> &[AppliedPolicy] {
        &self.policies
    }

    /// Recipients, ended ones too.
    #[must_use]
    pub fn recipients(&self) -> &[RecipientRow] {
        &self.recipients
    }

    /// What a caller may spend: its own limit, the platform's, or what holds where nobody set one.
    #[must_use]
    pub fn limit(&self, caller: CallerId, kind: BudgetKind) -> BudgetLimit {
        let set = |of: Option<CallerId>| {
            self.limits.iter().map(|row| row.limit).find(|limit| limit.kind == kind && limit.caller == of)
        };
        set(Some(caller)).or_else(|| set(None)).unwrap_or(BudgetLimit::default_of(kind))
    }

    /// Limits that an operator set.
    #[must_use]
    pub fn limits(&self) -> &[BudgetLimitRow] {
        &self.limits
    }

    /// Persons; of the vault's own platform only.
    pub fn persons(&self) -> impl Iterator<Item = &PersonRow> {
        self.persons.values()
    }

    /// A person.
    #[must_use]
    pub fn person(&self, id: PersonId) -> Option<&PersonRow> {
        self.persons.get(&id)
    }

    /// Roles of persons, ended ones too.
    #[must_use]
    pub fn grants(&self) -> &[RoleGrantRow] {
        &self.grants
    }

    /// Hardware keys of persons, withdrawn ones too.
    #[must_use]
    pub fn staff_keys(&self) -> &[StaffKeyRow] {
        &self.staff_keys
    }

    /// Standing plans of the horizon, newest first.
    #[must_use]
    pub fn horizons(&self) -> &[HorizonRow] {
        &self.horizons
    }

    /// Whether a person may act and has a role on a platform.
    #[must_use]
    pub fn person_has(&self, person: PersonId, role: Role, platform: PlatformId) -> bool {
        self.person(person).is_some_and(|row| row.person.state == CallerState::Enabled)
            && self.grants.iter().any(|row| row.grant.person == person && row.grant.covers(role, platform))
    }

    /// Roles that a person has, wherever they hold.
    pub fn roles_of(&self, person: PersonId) -> impl Iterator<Item = &RoleGrant> {
        self.grants
            .iter()
            .map(|row| &row.grant)
            .filter(move |grant| grant.person == person && grant.state == CallerState::Enabled)
    }

    /// The caller with this certificate URI.
    #[must_use]
    pub fn caller(&self, spiffe_id: &SpiffeId) -> Option<Arc<Caller>> {
        self.callers.get(spiffe_id).map(|row| Arc::clone(&row.1))
    }

    /// Every enrolled caller with its row.
    pub fn callers(&self) -> impl Iterator<Item = &CallerRow> {
        self.callers.values().map(|row| &row.0)
    }
}

fn verify(
    row_key: &RowKey,
    image: &crate::domain::canonical::Canonical,
    mac: &[u8; 32],
    table: &'static str,
) -> Result<(), LoadError> {
    row_key.verify(image, mac).map_err(|_| LoadError::Forged { table })
}

/// Whether two lists are of the same versions in the same states.
fn same_keys(some: &[KeyVersionRow], others: &[KeyVersionRow]) -> bool {
    let of = |row: &KeyVersionRow| (row.kind.clone(), row.version, row.state);
    some.iter().map(of).eq(others.iter().map(of))
}

/// Opens keys. What an earlier context opened already is not asked for again, so that a change of states needs no KMS.
struct Opener<'a> {
    kms: &'a dyn Kms,
    platform: PlatformId,
    keys: &'a [KeyVersionRow],
    previous: Option<&'a Context>,
}

impl Opener<'_> {
    /// The keyring, and whether it has every version. One that protects no data now may be missing: a KMS that does not answer must not stop a process that serves.
    async fn keyring(&self) -> Result<(Keyring, bool), LoadError> {
        let missing =
            |kind: KeyKind| LoadError::KeyMissing { platform: self.platform.get(), kind: kind.as_str() };
        let needed = |kind| active(self.keys, kind).ok_or(missing(kind));
        let row = needed(KeyKind::Row)?;
        let row_key = match self.known(row) {
            Some(known) => Arc::clone(&known.row),
            None => Arc::new(RowKey::new(&self.open(KeyKind::Row, row).await?)),
        };
        let row = needed(KeyKind::Request)?;
        let request_key = match self.known(row) {
            Some(known) => Arc::clone(&known.request),
            None => Arc::new(RowKey::new(&self.open(KeyKind::Request, row).await?)),
        };
        needed(KeyKind::Index)?;
        let active = needed(KeyKind::Platform)?.version;
        let mut complete = true;
        let disabled =
            self.versions(KeyKind::Platform, &[KeyState::Disabled, KeyState::DestructionScheduled]);
        let mut wrapping = WrappingKeys { keys: BTreeMap::new(), disabled, active };
        for row in self.of_kind(KeyKind::Platform) {
            if let Some(key) = self.may_miss(row, self.platform_key(row).await, &mut complete)? {
                wrapping.keys.insert(row.version, key);
            }
        }
        let mut loaded = BTreeMap::new();
        for row in self.of_kind(KeyKind::Index) {
            if let Some(key) = self.may_miss(row, self.index_key(row).await, &mut complete)? {
                loaded.insert(row.version, key);
            }
        }
        let of = |state| self.versions(KeyKind::Index, &[state]);
        let index = IndexKeys::new(loaded, &of(KeyState::Active), &of(KeyState::Retiring))?;
        Ok((Keyring::new(self.platform, wrapping, index, row_key, request_key)?, complete))
    }

    /// Versions of a kind that are not destroyed.
    fn of_kind(&self, kind: KeyKind) -> impl Iterator<Item = &KeyVersionRow> {
        let held = move |row: &&KeyVersionRow| row.kind == kind.as_str() && row.state != KeyState::Destroyed;
        self.keys.iter().filter(held)
    }

    fn versions(&self, kind: KeyKind, states: &[KeyState]) -> BTreeSet<u32> {
        self.of_kind(kind).filter(|row| states.contains(&row.state)).map(|row| row.version).collect()
    }

    /// A key that was loaded; none where it was not and no data needs it now.
    fn may_miss<T>(
        &self,
        row: &KeyVersionRow,
        key: Result<T, LoadError>,
        complete: &mut bool,
    ) -> Result<Option<T>, LoadError> {
        match key {
            Ok(key) => Ok(Some(key)),
            Err(error) if matches!(row.state, KeyState::Active | KeyState::Retiring) => Err(error),
            Err(error) => {
                self.tell(row, &error);
                *complete = false;
                Ok(None)
            }
        }
    }

    /// Every version of the audit key but destroyed ones: one that signs no more is known by what it signed.
    async fn signatory(&self, installation: &str) -> Result<(Option<Arc<Signatory>>, bool), LoadError> {
        let missing = LoadError::KeyMissing { platform: 0, kind: KeyKind::Audit.as_str() };
        let active = active(self.keys, KeyKind::Audit).ok_or(missing)?.version;
        let (mut keys, mut complete) = (BTreeMap::new(), true);
        for row in self.of_kind(KeyKind::Audit) {
            match self.audit_key(installation, row).await {
                Ok(key) => {
                    keys.insert(row.version, key);
                }
                Err(error) if row.state == KeyState::Active => return Err(error),
                Err(error) => {
                    self.tell(row, &error);
                    complete = false;
                }
            }
        }
        Ok((Some(Arc::new(Signatory::new(installation.to_owned(), active, keys)?)), complete))
    }

    async fn audit_key(&self, installation: &str, row: &KeyVersionRow) -> Result<Arc<AuditKey>, LoadError> {
        let known = self.before(row).and_then(|before| before.signatory.as_ref()?.key(row.version));
        if let Some(key) = known {
            return Ok(Arc::clone(key));
        }
        let seed = self.open(KeyKind::Audit, row).await?;
        AuditKey::from_seed(installation, &seed).map(Arc::new).map_err(|_| LoadError::AuditKey)
    }

    fn tell(&self, row: &KeyVersionRow, error: &(dyn std::error::Error + 'static)) {
        let (platform, kind, version) = (self.platform.get(), row.kind.as_str(), row.version);
        tracing::error!(platform, kind, version, error, "a key version cannot be loaded");
    }

    /// The context before, where it has the key of this very row.
    fn before(&self, row: &KeyVersionRow) -> Option<&Context> {
        let same = |known: &KeyVersionRow| {
            known.kind == row.kind && known.version == row.version && known.wrapped == row.wrapped
        };
        self.previous.filter(|previous| previous.key_rows.iter().any(same))
    }

    fn known(&self, row: &KeyVersionRow) -> Option<&Keyring> {
        self.before(row).map(|before| before.keys.as_ref())
    }

    async fn platform_key(&self, row: &KeyVersionRow) -> Result<Arc<Key>, LoadError> {
        match self.known(row).and_then(|known| known.loaded(row.version)) {
            Some(key) => Ok(key),
            None => self.open(KeyKind::Platform, row).await.map(Arc::new),
        }
    }

    async fn index_key(&self, row: &KeyVersionRow) -> Result<Arc<IndexKey>, LoadError> {
        match self.known(row).and_then(|known| known.index.loaded(row.version)) {
            Some(key) => Ok(key),
            None => Ok(Arc::new(IndexKey::new(row.version, &self.open(KeyKind::Index, row).await?))),
        }
    }

    async fn open(&self, kind: KeyKind, row: &KeyVersionRow) -> Result<Key, LoadError> {
        unwrap(self.kms, self.platform, kind, row).await
    }
}

fn active(keys: &[KeyVersionRow], kind: KeyKind) -> Option<&KeyVersionRow> {
    keys.iter().find(|k| k.kind == kind.as_str() && k.state == KeyState::Active)
}

async fn unwrap(
    kms: &dyn Kms,
    platform: PlatformId,
    kind: KeyKind,
    row: &KeyVersionRow,
) -> Result<Key, LoadError> {
    let wrapped = row
        .wrapped
        .as_ref()
        .ok_or(LoadError::KeyMissing { platform: platform.get(), kind: kind.as_str() })?;
    Ok(kms.unwrap(&key_version_place(platform, kind, row.version), wrapped).await?)
}
