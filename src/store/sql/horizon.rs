//! Standing plans of the horizon.

use super::{
    decode::{Columns, SqlRow},
    statement::Statement,
};
use crate::{
    domain::{
        horizon::{HorizonPlan, HorizonTerms},
        ids::{HorizonId, PersonId, PlatformId},
    },
    store::{
        Damage,
        rows::{Mac, config::HorizonRow},
    },
};

/// An insert, or an update of the very row that was read.
pub(super) fn put_horizon<'a>(row: &'a HorizonRow, was: Option<&'a Mac>) -> Statement<'a> {
    let plan = &row.plan;
    let statement = Statement::new(if was.is_some() {
        "/* write::update_horizon */ UPDATE horizon_plans SET horizon_days = $3, rotate_days = $4, sha256 = $5, \
         proposer_id = $6, approver_id = $7, state = $8, created_at = $9, expires_at = $10, updated_at = $11, mac = $12 \
         WHERE platform_id = $1 AND plan_id = $2 AND mac = $13"
    } else {
        "/* write::insert_horizon */ INSERT INTO horizon_plans (platform_id, plan_id, horizon_days, rotate_days, sha256, \
         proposer_id, approver_id, state, created_at, expires_at, updated_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    });
    let statement = statement
        .int(PlatformId::VAULT.get())
        .bytes(plan.id.as_bytes())
        .int(plan.terms.horizon_days)
        .int(plan.terms.rotate_days)
        .bytes(&plan.sha256)
        .bytes(plan.proposer.as_bytes())
        .opt_bytes(plan.approver.as_ref().map(|id| PersonId::as_bytes(id).as_slice()))
        .text(plan.state.as_str())
        .int(row.created_at.as_micros())
        .int(plan.expires_at.as_micros())
        .int(row.updated_at.as_micros())
        .bytes(&row.mac);
    match was {
        Some(was) => statement.bytes(was),
        None => statement,
    }
}

impl<R: SqlRow> Columns<'_, R> {
    /// `plan_id, horizon_days, rotate_days, sha256, proposer_id, approver_id, state, created_at, expires_at, updated_at, mac`
    pub(super) fn horizon(&mut self) -> Result<HorizonRow, Damage> {
        let id = HorizonId::from_bytes(self.array("plan_id")?);
        let (horizon_days, rotate_days) = (self.number("horizon_days")?, self.number("rotate_days")?);
        let terms = HorizonTerms { horizon_days, rotate_days };
        let sha256 = self.array("sha256")?;
        let proposer = PersonId::from_bytes(self.array("proposer_id")?);
        let approver = self.optional_array("approver_id")?.map(PersonId::from_bytes);
        let state = self.parse("state")?;
        let (created_at, expires_at) = (self.time("created_at")?, self.time("expires_at")?);
        let plan = HorizonPlan { id, terms, sha256, proposer, approver, state, expires_at };
        Ok(HorizonRow { plan, created_at, updated_at: self.time("updated_at")?, mac: self.array("mac")? })
    }
}
