//! Where everything was seen to be: looked at on a schedule, logged where it changes, and where an operator wants it so,
//! nothing new is stored while something lies outside.

pub mod report;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use super::{
    Vault,
    access::Call,
    act::{Act, Asker, Flow, Plan, Reply, Scene, reply},
    deed::{Deed, Deeded, Hand},
    error::{VaultError, unreadable},
    tokenize::unavailable,
};
pub use crate::residency::{
    Finding, Seen,
    sites::{Attestation, Site},
};
use crate::{
    audit::{
        entry::{Entry, Verdict},
        head::sign_text,
    },
    crypto::digest::sha256,
    domain::{
        caller::Caller,
        ids::{EntryId, PlatformId},
        territory::{Country, Outside, Use},
        time::Timestamp,
    },
    residency::{
        Place, Residency, Target,
        sites::{Basis, Located},
    },
    store::whereabouts::Whereabouts,
};
use report::Report;

/// Log entries of what changed; by nobody's call.
const CALL: &str = "Residency/Change";
/// Port of a server that names none.
const POSTGRES_PORT: u16 = 5432;

/// What is looked at, and what follows.
#[derive(Debug)]
pub struct ResidencyWatch {
    /// The declared sites.
    pub residency: Arc<Residency>,
    /// Everything that the configuration names.
    pub targets: Vec<Target>,
    /// How often it is looked at.
    pub every: Duration,
    /// Whether nothing new is stored while something lies outside.
    pub stop_writes: bool,
}

/// What was seen at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// When.
    pub at: Timestamp,
    /// What.
    pub findings: Vec<Finding>,
}

impl Sight {
    /// What lies outside.
    pub fn outside(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.seen() == Seen::Outside)
    }
}

/// The watch of an open vault.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) watch: ResidencyWatch,
    last: Mutex<Option<Sight>>,
}

impl Vault {
    /// The same with a watch over where everything is.
    #[must_use]
    pub fn with_residency(self, watch: ResidencyWatch) -> Self {
        Self { residency: Some(Watched { watch, last: Mutex::default() }), ..self }
    }

    /// How often residency is looked at; none where there is no watch.
    #[must_use]
    pub fn residency_interval(&self) -> Option<Duration> {
        self.residency.as_ref().map(|watched| watched.watch.every)
    }

    /// Where data stays, and the declared sites.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn get_sites(&self, caller: &Caller, asker: Asker) -> Result<(Country, Vec<Site>), VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Ask(Call::GetSites)).await?;
        let sites = self.residency.as_ref().ok_or(VaultError::Unavailable)?.watch.residency.sites();
        Ok((sites.home(), sites.all().to_vec()))
    }

    /// Looks where everything is now, for somebody who asks.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn get_residency(&self, caller: &Caller, asker: Asker) -> Result<Sight, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Ask(Call::GetResidency)).await?;
        self.look_at_residency().await
    }

    /// Looks, and answers a report as a note of the audit key.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn residency_report(&self, caller: &Caller, asker: Asker) -> Result<String, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Ask(Call::GetResidencyReport)).await?;
        let sight = self.look_at_residency().await?;
        let sites = self.residency.as_ref().ok_or(VaultError::Unavailable)?.watch.residency.sites();
        let text = Report::new(&self.installation(), sites, &sight).text().map_err(unavailable)?;
        let key = self.audit_key().map_err(unreadable)?;
        sign_text(&text, key.as_ref()).map_err(unavailable)
    }

    /// Looks where everything is now. What changed since the last look is told and logged.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] where there is no watch, the database cannot be asked, or what changed cannot be logged:
    /// it is then found anew by the next look.
    pub async fn look_at_residency(&self) -> Result<Sight, VaultError> {
        let Watched { watch, last } = self.residency.as_ref().ok_or(VaultError::Unavailable)?;
        let mut findings = watch.residency.look(&watch.targets).await;
        // What was found of the rest stands, also where the database gives no answer; perhaps because it was moved.
        let server = self.shared.store.whereabouts().await;
        if let Ok(Some(server)) = &server {
            findings.extend(of_server(&watch.residency, &findings, server).await);
        }
        let look = Sight { at: self.shared.clock.now(), findings };
        let stopped = watch.stop_writes && look.outside().next().is_some();
        self.shared.storage_outside.store(stopped, Ordering::SeqCst);
        let seen = |wanted: Seen| look.findings.iter().filter(|finding| finding.seen() == wanted).count();
        let count = |wanted| u64::try_from(seen(wanted)).unwrap_or(u64::MAX);
        self.meters().set_residency(count(Seen::Outside), count(Seen::Unseen));
        let before = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let changed = changes(before.as_ref(), &look);
        for finding in &changed {
            tell(finding, stopped);
        }
        if !changed.is_empty() {
            let (reply, waiting) = reply();
            self.platform(PlatformId::VAULT)?.lane.submit(ChangeAct { changed, reply })?;
            waiting.answer().await?;
        }
        server.map_err(unavailable)?;
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(look.clone());
        Ok(look)
    }
}

/// Whether the caller may look. What is answered is places of the installation, and nobody's data.
struct Ask(Call);

impl Deed for Ask {
    type Answer = ();

    fn call(&self) -> Call {
        self.0
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        hand.log(|entry| Entry { object_kind: Some("residency".to_owned()), ..entry })?;
        Ok(Deeded::answer(()))
    }
}

/// What the database says of itself, and of who follows it.
async fn of_server(residency: &Residency, known: &[Finding], server: &Whereabouts) -> Vec<Finding> {
    let Some(database) = known.iter().find(|finding| finding.used_for == Use::Database) else {
        return Vec::new();
    };
    let place = database.place.clone();
    let mut found = Vec::new();
    let mut at_server = database.outcome.clone();
    // Loopback is the server's own machine to the server, which need not be this one.
    if let Some(address) = server.address.filter(|address| !address.is_loopback()) {
        at_server = residency.where_is(address);
        found.push(Finding {
            used_for: Use::Database,
            place: format!("{place} as it says itself"),
            address: Some(address),
            outcome: at_server.clone(),
        });
    }
    let finding = |used_for, what: &str, address: Option<IpAddr>, outcome| Finding {
        used_for,
        place: format!("{what} of {place}"),
        address,
        outcome,
    };
    if !server.shown {
        let hidden = "the vault's database user is not of the role pg_monitor, and is not shown who follows the database";
        found.push(finding(Use::Replica, "followers", None, Err(Outside::NotShown(hidden.to_owned()))));
        return found;
    }
    for follower in &server.followers {
        let outcome = match follower.address {
            None => at_server.clone(),
            Some(address) => match residency.where_is(address) {
                Ok(Located { basis: Basis::Here, .. }) | Err(Outside::NoHere) if address.is_loopback() => {
                    at_server.clone()
                }
                other => other,
            },
        };
        let what = format!("follower {}", follower.name);
        found.push(finding(Use::Replica, &what, follower.address, outcome));
    }
    for slot in &server.slots {
        found.push(finding(Use::Replica, &format!("slot {slot}"), None, at_server.clone()));
    }
    if let Some(archive) = &server.archive {
        found.push(finding(Use::Archive, "log archive", None, residency.where_is_archive(archive)));
    }
    for host in &server.upstream {
        let target = match host.strip_prefix('/') {
            Some(_) => {
                found.push(finding(
                    Use::Replica,
                    &format!("primary_conninfo {host}"),
                    None,
                    at_server.clone(),
                ));
                continue;
            }
            None => Target { used_for: Use::Replica, place: Place::Host(host.clone(), POSTGRES_PORT) },
        };
        found.extend(residency.look(&[target]).await.into_iter().map(|seen| {
            finding(Use::Replica, &format!("primary_conninfo {host}"), seen.address, seen.outcome)
        }));
    }
    found
}

/// What is gone of the look before, and what is new: of the first look of a process, what is not inside.
fn changes(before: Option<&Sight>, look: &Sight) -> Vec<(Finding, bool)> {
    let known = before.map(|look| look.findings.as_slice()).unwrap_or_default();
    let new = look.findings.iter().filter(|finding| match before {
        Some(_) => !known.contains(finding),
        None => finding.seen() != Seen::Inside,
    });
    let new = new.map(|finding| (finding.clone(), true));
    let gone = known.iter().filter(|finding| !look.findings.contains(finding)).map(|f| (f.clone(), false));
    gone.chain(new).collect()
}

fn tell((finding, is_new): &(Finding, bool), stopped: bool) {
    let (used_for, place) = (finding.used_for.as_str(), finding.place.as_str());
    match (finding.seen(), finding.refused(), is_new) {
        (Seen::Outside, Some(refused), true) => tracing::error!(
            used_for,
            place,
            writes_stopped = stopped,
            "RESIDENCY: data lies or goes outside the declared sites: {refused}"
        ),
        (Seen::Unseen, Some(refused), true) => tracing::warn!(used_for, place, "{refused}"),
        (Seen::Outside | Seen::Unseen, _, false) => {
            tracing::info!(used_for, place, "residency: this is not seen outside any more");
        }
        _ => tracing::debug!(used_for, place, is_new, "residency changed"),
    }
}

/// One entry for each finding that changed: its use, how it was seen, and the hash of its text.
struct ChangeAct {
    changed: Vec<(Finding, bool)>,
    reply: Reply<()>,
}

impl Act for ChangeAct {
    fn writes(&self) -> bool {
        // It writes no row, but what it tells must not be dropped where nobody waits.
        true
    }

    fn is_abandoned(&self) -> bool {
        false
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        for (finding, is_new) in &self.changed {
            let id = EntryId::random(scene.rng()).map_err(unavailable)?;
            let reason = if *is_new { finding.seen().as_str() } else { "GONE" };
            let platform = scene.context.platform;
            plan.entries.push(Entry {
                object_kind: Some("residency".to_owned()),
                object: Some(finding.used_for.as_str().as_bytes().to_vec()),
                reason: Some(reason.to_owned()),
                detail_sha256: Some(sha256(finding.to_string().as_bytes()).into()),
                ..Entry::new(id, scene.now, platform, CALL, Verdict::Done)
            });
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        self.reply.send(outcome);
    }
}
