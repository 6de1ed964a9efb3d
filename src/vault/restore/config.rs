//! The last words of a log applied to the configuration of a backup: callers, persons, roles, recipients, keys. What was
//! made since, cannot be made again from its entry; what was changed in a way that no entry tells is refused until somebody
//! sets it anew.

use super::{
    RestoreError,
    newer::{Last, Newer},
    site::{Counts, Site, Step},
};
use crate::{
    crypto::keyring::KeyKind,
    domain::{
        caller::CallerState,
        horizon::HorizonState,
        ids::{PersonId, RecipientId},
        recipient::RecipientState,
        staff_key::StaffKeyState,
    },
    store::{
        ReadKeys, Write,
        rows::{
            Mac,
            config::{
                CallerRow, HorizonRow, KeyState, KeyVersionRow, PersonRow, RecipientRow, RoleGrantRow,
                StaffKeyRow,
            },
            work::RequestRow,
        },
    },
    vault::persons::role_object,
};

/// Requests of one commit.
const AT_ONCE: usize = 256;
const STATES: [CallerState; 2] = [CallerState::Disabled, CallerState::Enabled];

/// What becomes of a row.
enum Becomes {
    /// It is as the log tells already.
    Same,
    /// The log proves this.
    Proved(Write),
    /// The log does not prove what it is: this is the strictest.
    Strict(Option<Write>, Mac),
    /// There is none.
    Lost,
}

impl Site<'_> {
    /// Applies what the entries tell of the configuration. Answers whether a policy version is lost.
    pub(super) async fn apply_config(
        &mut self,
        newer: &Newer,
        counts: &mut Counts,
    ) -> Result<bool, RestoreError> {
        let (mut step, mut policy_lost) = (Step::configuring(), false);
        for name in &newer.platforms {
            step.lost(self, "platform", name.as_bytes(), None)?;
        }
        let lost_key = self.loses_a_key(newer);
        for ((kind, object), last) in &newer.config {
            let becomes = match *kind {
                "caller" => self.caller(object, last),
                "person" => self.person(object, last),
                "role" => self.role(object, last),
                "staff_key" => self.staff_key(object, last),
                "horizon" => self.horizon(object, last),
                "recipient" => self.recipient(object, last),
                "key" => self.key(object, last, lost_key),
                "policy" => self.policy(object),
                "limit" | "budget" => self.limit(object),
                "closure" => {
                    self.context.closure().map_or(Becomes::Lost, |row| Becomes::Strict(None, row.mac))
                }
                _ => Becomes::Lost,
            };
            match becomes {
                Becomes::Same => {}
                Becomes::Proved(write) => {
                    step.applied(&last.call);
                    step.writes.push(write);
                }
                Becomes::Strict(write, mac) => {
                    step.writes.extend(write);
                    step.strict(self, kind, object, mac, &last.call)?;
                }
                Becomes::Lost => {
                    policy_lost |= *kind == "policy";
                    step.lost(self, kind, object, None)?;
                }
            }
        }
        self.commit(step, counts).await?;
        self.apply_requests(newer, counts).await?;
        Ok(policy_lost)
    }

    fn caller(&self, object: &[u8], last: &Last) -> Becomes {
        let Some(row) = self.context.callers().find(|row| row.caller.id.as_bytes() == object) else {
            return Becomes::Lost;
        };
        let sealed = |state| {
            let mut next = CallerRow { updated_at: last.at, ..row.clone() };
            next.caller.state = state;
            next.mac = self.mac(&next.image());
            (next.mac, Write::PutCaller(next, Some(row.mac)))
        };
        proved(row.mac, last, STATES.map(sealed))
    }

    fn person(&self, object: &[u8], last: &Last) -> Becomes {
        let id = object.try_into().map(PersonId::from_bytes);
        let Some(row) = id.ok().and_then(|id| self.context.person(id)) else { return Becomes::Lost };
        let sealed = |state| {
            let mut next = PersonRow { updated_at: last.at, ..row.clone() };
            next.person.state = state;
            next.mac = self.mac(&next.image());
            (next.mac, Write::PutPerson(next, Some(row.mac)))
        };
        proved(row.mac, last, STATES.map(sealed))
    }

    fn role(&self, object: &[u8], last: &Last) -> Becomes {
        let Some(row) = self.context.grants().iter().find(|row| role_object(&row.grant) == object) else {
            return Becomes::Lost;
        };
        let sealed = |state| {
            let mut next = RoleGrantRow { updated_at: last.at, ..row.clone() };
            next.grant.state = state;
            next.mac = self.mac(&next.image());
            (next.mac, Write::PutRole(next, Some(row.mac)))
        };
        proved(row.mac, last, STATES.map(sealed))
    }

    /// A plan that was revoked destroys nothing.
    fn horizon(&self, object: &[u8], last: &Last) -> Becomes {
        let Some(row) = self.context.horizons().iter().find(|row| row.plan.id.as_bytes() == object) else {
            return Becomes::Lost;
        };
        let mut next = HorizonRow { updated_at: last.at, ..row.clone() };
        next.plan.state = HorizonState::Revoked;
        next.mac = self.mac(&next.image());
        proved(row.mac, last, [(next.mac, Write::PutHorizon(next, Some(row.mac)))])
    }

    /// A key that was withdrawn never counts again.
    fn staff_key(&self, object: &[u8], last: &Last) -> Becomes {
        let Some(row) = self.context.staff_keys().iter().find(|row| row.key.sha256 == object) else {
            return Becomes::Lost;
        };
        let mut next = StaffKeyRow { updated_at: last.at, ..row.clone() };
        next.key.state = StaffKeyState::Withdrawn;
        next.mac = self.mac(&next.image());
        proved(row.mac, last, [(next.mac, Write::PutStaffKey(next, Some(row.mac)))])
    }

    fn recipient(&self, object: &[u8], last: &Last) -> Becomes {
        let id = object.try_into().map(RecipientId::from_bytes);
        let rows = self.context.recipients();
        let Some(row) = id.ok().and_then(|id| rows.iter().find(|row| row.recipient.id == id)) else {
            return Becomes::Lost;
        };
        let mut next = RecipientRow { updated_at: last.at, ..row.clone() };
        next.recipient.state = RecipientState::Ended;
        next.offered = None;
        next.mac = self.mac(&next.image());
        proved(row.mac, last, [(next.mac, Write::PutRecipient(next, Some(row.mac)))])
    }

    /// A limit is kept: what it became is known as a number of nobody, and the one before is a limit too.
    fn limit(&self, object: &[u8]) -> Becomes {
        let name = |row: &&crate::store::rows::config::BudgetLimitRow| {
            let caller = row.limit.caller.map(|id| id.to_string()).unwrap_or_default();
            format!("{caller}/{}", row.limit.kind.as_str()).as_bytes() == object
        };
        self.context.limits().iter().find(name).map_or(Becomes::Lost, |row| Becomes::Strict(None, row.mac))
    }

    fn policy(&self, object: &[u8]) -> Becomes {
        let version = std::str::from_utf8(object).ok().and_then(|text| text.parse::<u32>().ok());
        let held = |version| self.context.policies().iter().any(|policy| policy.row.version == version);
        if version.is_some_and(held) { Becomes::Same } else { Becomes::Lost }
    }

    fn key_row(&self, object: &[u8]) -> Option<&KeyVersionRow> {
        let name = |row: &&KeyVersionRow| format!("{}/{}", row.kind, row.version).as_bytes() == object;
        self.context.key_rows().iter().find(name)
    }

    /// Whether a version was made since the backup: then what it took over stays with the version before.
    fn loses_a_key(&self, newer: &Newer) -> bool {
        newer.config.keys().any(|(kind, object)| *kind == "key" && self.key_row(object).is_none())
    }

    fn key(&self, object: &[u8], last: &Last, lost_key: bool) -> Becomes {
        let Some(row) = self.key_row(object) else {
            // Its number is never given to another key.
            let name = std::str::from_utf8(object).ok().and_then(|name| name.split_once('/'));
            let parsed =
                name.and_then(|(kind, version)| Some((kind.parse::<KeyKind>().ok()?, version.parse().ok()?)));
            let Some((kind, version)) = parsed else { return Becomes::Lost };
            // Which root versions there are the KMS knows; what stood here were dates.
            if kind == KeyKind::Root {
                return Becomes::Lost;
            }
            let mut row = KeyVersionRow {
                platform: self.platform,
                kind: kind.as_str().to_owned(),
                version,
                state: KeyState::Destroyed,
                wrapped: None,
                created_at: last.at,
                destroy_at: None,
                mac: [0; 32],
            };
            row.mac = self.mac(&row.image());
            return Becomes::Strict(Some(Write::InsertKey(row.clone())), row.mac);
        };
        if row.mac == last.mac {
            return Becomes::Same;
        }
        let sealed = |state| {
            let wrapped = row.wrapped.clone().filter(|_| state != KeyState::Destroyed);
            [None, row.destroy_at].map(|destroy_at| {
                let mut next = KeyVersionRow { state, wrapped: wrapped.clone(), destroy_at, ..row.clone() };
                next.mac = self.mac(&next.image());
                next
            })
        };
        let mut known = KeyState::ALL.iter().flat_map(|state| sealed(*state));
        match known.find(|next| next.mac == last.mac) {
            // Without its successor it is what opens the data, whatever it became.
            Some(_) if lost_key && row.state == KeyState::Active => Becomes::Strict(None, row.mac),
            // Its index is whole in the backup; that of its successor need not be.
            Some(_) if row.kind == KeyKind::Index.as_str() && row.state == KeyState::Active => {
                Becomes::Strict(None, row.mac)
            }
            Some(next) => Becomes::Proved(Write::UpdateKey(next, row.mac)),
            None if row.state == KeyState::Active => Becomes::Strict(None, row.mac),
            None => {
                let mut next = KeyVersionRow { state: KeyState::Disabled, destroy_at: None, ..row.clone() };
                next.mac = self.mac(&next.image());
                Becomes::Strict(Some(Write::UpdateKey(next.clone(), row.mac)), next.mac)
            }
        }
    }

    /// Requests that were done since the backup: a retry must not do them again, and what came of them is lost. An id that
    /// is on record with another body is refused, so each is put on record with a body that nobody sends.
    async fn apply_requests(&mut self, newer: &Newer, counts: &mut Counts) -> Result<(), RestoreError> {
        let all: Vec<_> = newer.requests.iter().collect();
        for some in all.chunks(AT_ONCE) {
            let requests = some.iter().map(|(key, _)| **key).collect();
            let snapshot = self.read(&ReadKeys { requests, ..ReadKeys::default() }).await?;
            let mut step = Step::default();
            for ((caller, request), (call, at)) in some {
                if snapshot.requests.contains_key(&(*caller, *request)) {
                    continue;
                }
                let mut row = RequestRow {
                    platform: self.platform,
                    caller: *caller,
                    request: *request,
                    call: call.clone(),
                    body_mac: crate::domain::rng::random_bytes(self.rng)?,
                    outcome: Vec::new(),
                    created_at: *at,
                    mac: [0; 32],
                };
                row.mac = self.mac(&row.image());
                step.writes.push(Write::InsertRequest(row));
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }
}

/// The candidate that the log proves; the first where it proves none, which must be the strictest.
fn proved<const N: usize>(held: Mac, last: &Last, candidates: [(Mac, Write); N]) -> Becomes {
    if held == last.mac {
        return Becomes::Same;
    }
    let mut strictest = None;
    for (mac, write) in candidates {
        if mac == last.mac {
            return Becomes::Proved(write);
        }
        strictest.get_or_insert((mac, write));
    }
    strictest.map_or(Becomes::Lost, |(mac, write)| Becomes::Strict(Some(write), mac))
}
