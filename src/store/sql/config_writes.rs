//! Writes of a platform's configuration: policies, callers, people, recipients, limits, keys.

use super::{statement::Statement, writes::micros};
use crate::{
    domain::{
        caller::Role,
        ids::{PersonId, PlatformId},
        secret::Sealed,
    },
    store::rows::{
        Mac,
        config::{
            BudgetLimitRow, CallerRow, ClosureRow, KeyVersionRow, PersonRow, PolicyRow, RoleGrantRow,
            StaffKeyRow,
        },
    },
};

/// A put is an insert, or an update of the very row that was read.
pub(super) fn put<'a>(
    insert: &'static str,
    update: &'static str,
    was: Option<&'a Mac>,
) -> (Statement<'a>, Option<&'a Mac>) {
    match was {
        None => (Statement::new(insert), None),
        Some(was) => (Statement::new(update), Some(was)),
    }
}

pub(super) fn only_if<'a>((statement, was): (Statement<'a>, Option<&'a Mac>)) -> Statement<'a> {
    match was {
        None => statement,
        Some(was) => statement.bytes(was),
    }
}

pub(super) fn insert_policy(row: &PolicyRow) -> Statement<'_> {
    Statement::new(
        "/* write::insert_policy */ INSERT INTO policies (platform_id, version, text, sha256, created_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .int(row.platform.get())
    .int(row.version)
    .text(&row.text)
    .bytes(&row.sha256)
    .int(row.created_at.as_micros())
    .bytes(&row.mac)
}

pub(super) fn put_caller<'a>(row: &'a CallerRow, was: Option<&'a Mac>) -> Statement<'a> {
    let c = &row.caller;
    let (statement, was) = put(
        "/* write::insert_caller */ INSERT INTO callers (spiffe_id, caller_id, platform_id, name, roles, pins, \
         person_id, state, created_at, updated_at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        "/* write::update_caller */ UPDATE callers SET name = $4, roles = $5, pins = $6, person_id = $7, state = $8, \
         created_at = $9, updated_at = $10, mac = $11 WHERE spiffe_id = $1 AND caller_id = $2 AND platform_id = $3 \
         AND mac = $12",
        was,
    );
    let statement = statement
        .text(c.spiffe_id.as_str())
        .bytes(c.id.as_bytes())
        .int(c.platform.get())
        .text(c.name.as_str())
        .own_text(c.roles.iter().map(|role: &Role| role.as_str()).collect::<Vec<_>>().join(","))
        .own_bytes(c.pins.concat())
        .opt_bytes(c.person.as_ref().map(|id| PersonId::as_bytes(id).as_slice()))
        .text(c.state.as_str())
        .int(row.created_at.as_micros())
        .int(row.updated_at.as_micros())
        .bytes(&row.mac);
    only_if((statement, was))
}

pub(super) fn put_person<'a>(row: &'a PersonRow, was: Option<&'a Mac>) -> Statement<'a> {
    let (statement, was) = put(
        "/* write::insert_person */ INSERT INTO persons (platform_id, person_id, handle, state, created_at, \
         updated_at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        "/* write::update_person */ UPDATE persons SET handle = $3, state = $4, created_at = $5, updated_at = $6, \
         mac = $7 WHERE platform_id = $1 AND person_id = $2 AND mac = $8",
        was,
    );
    let statement = statement
        .int(PlatformId::VAULT.get())
        .bytes(row.person.id.as_bytes())
        .text(row.person.handle.as_str())
        .text(row.person.state.as_str())
        .int(row.created_at.as_micros())
        .int(row.updated_at.as_micros())
        .bytes(&row.mac);
    only_if((statement, was))
}

pub(super) fn put_role<'a>(row: &'a RoleGrantRow, was: Option<&'a Mac>) -> Statement<'a> {
    let (statement, was) = put(
        "/* write::insert_role */ INSERT INTO person_roles (platform_id, person_id, role, scope, state, updated_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        "/* write::update_role */ UPDATE person_roles SET state = $5, updated_at = $6, mac = $7 \
         WHERE platform_id = $1 AND person_id = $2 AND role = $3 AND scope = $4 AND mac = $8",
        was,
    );
    let statement = statement
        .int(PlatformId::VAULT.get())
        .bytes(row.grant.person.as_bytes())
        .text(row.grant.role.as_str())
        .int(row.grant.scope.get())
        .text(row.grant.state.as_str())
        .int(row.updated_at.as_micros())
        .bytes(&row.mac);
    only_if((statement, was))
}

pub(super) fn put_staff_key<'a>(row: &'a StaffKeyRow, was: Option<&'a Mac>) -> Statement<'a> {
    let key = &row.key;
    let [proposer, approver] = &key.attested_by;
    let (statement, was) = put(
        "/* write::insert_staff_key */ INSERT INTO staff_keys (platform_id, key_sha256, person_id, evidence, serial, \
         device, chain, proposer_id, approver_id, state, created_at, updated_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        "/* write::update_staff_key */ UPDATE staff_keys SET person_id = $3, evidence = $4, serial = $5, device = $6, \
         chain = $7, proposer_id = $8, approver_id = $9, state = $10, created_at = $11, updated_at = $12, mac = $13 \
         WHERE platform_id = $1 AND key_sha256 = $2 AND mac = $14",
        was,
    );
    let statement = statement
        .int(PlatformId::VAULT.get())
        .bytes(&key.sha256)
        .bytes(key.person.as_bytes())
        .text(key.evidence.as_str())
        .text(&key.serial)
        .text(&key.device)
        .bytes(&key.chain)
        .bytes(proposer.as_bytes())
        .bytes(approver.as_bytes())
        .text(key.state.as_str())
        .int(row.created_at.as_micros())
        .int(row.updated_at.as_micros())
        .bytes(&row.mac);
    only_if((statement, was))
}

pub(super) fn put_limit<'a>(row: &'a BudgetLimitRow, was: Option<&'a Mac>) -> Statement<'a> {
    let (statement, was) = put(
        "/* write::insert_limit */ INSERT INTO budget_limits (platform_id, caller_id, kind, max_spent, window_seconds, \
         updated_at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        "/* write::update_limit */ UPDATE budget_limits SET max_spent = $4, window_seconds = $5, updated_at = $6, \
         mac = $7 WHERE platform_id = $1 AND caller_id = $2 AND kind = $3 AND mac = $8",
        was,
    );
    let statement = statement
        .int(row.platform.get())
        .bytes(row.limit.caller.as_ref().map_or(&[], |id| id.as_bytes().as_slice()))
        .text(row.limit.kind.as_str())
        .size(row.limit.limit)
        .int(row.limit.window_seconds)
        .int(row.updated_at.as_micros())
        .bytes(&row.mac);
    only_if((statement, was))
}

pub(super) fn put_closure<'a>(row: &'a ClosureRow, was: Option<&'a Mac>) -> Statement<'a> {
    let statement = if was.is_some() {
        Statement::new(
            "/* write::put_closure */ UPDATE closures SET reason = $2, closed_at = $3, opened_at = $4, mac = $5 \
             WHERE platform_id = $1 AND mac = $6",
        )
    } else {
        Statement::new(
            "/* write::put_closure */ INSERT INTO closures (platform_id, reason, closed_at, opened_at, mac) \
             VALUES ($1, $2, $3, $4, $5)",
        )
    };
    let statement = statement
        .int(row.platform.get())
        .text(row.reason.as_str())
        .int(row.closed_at.as_micros())
        .opt_int(micros(row.opened_at))
        .bytes(&row.mac);
    match was {
        Some(was) => statement.bytes(was),
        None => statement,
    }
}

pub(super) fn insert_key(row: &KeyVersionRow) -> Statement<'_> {
    Statement::new(
        "/* write::insert_key */ INSERT INTO key_versions (platform_id, kind, version, state, wrapped, created_at, \
         destroy_at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .int(row.platform.get())
    .text(&row.kind)
    .int(row.version)
    .text(row.state.as_str())
    .opt_bytes(row.wrapped.as_ref().map(Sealed::as_bytes))
    .int(row.created_at.as_micros())
    .opt_int(micros(row.destroy_at))
    .bytes(&row.mac)
}

pub(super) fn update_key<'a>(row: &'a KeyVersionRow, was: &'a Mac) -> Statement<'a> {
    Statement::new(
        "/* write::update_key */ UPDATE key_versions SET state = $4, wrapped = $5, destroy_at = $6, mac = $7 \
         WHERE platform_id = $1 AND kind = $2 AND version = $3 AND mac = $8",
    )
    .int(row.platform.get())
    .text(&row.kind)
    .int(row.version)
    .text(row.state.as_str())
    .opt_bytes(row.wrapped.as_ref().map(Sealed::as_bytes))
    .opt_int(micros(row.destroy_at))
    .bytes(&row.mac)
    .bytes(was)
}
