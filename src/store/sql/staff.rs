//! Hardware keys of staff, and how many subjects an installation has: by that number they are required.

use super::{
    Engine, SqlStore, database,
    decode::{Columns, SqlRow},
    statement::Statement,
};
use crate::{
    domain::{ids::PersonId, staff_key::StaffKey},
    store::{Damage, StoreError, rows::config::StaffKeyRow},
};

impl<R: SqlRow> Columns<'_, R> {
    /// `key_sha256, person_id, evidence, serial, device, chain, proposer_id, approver_id, state, created_at, updated_at,
    /// mac`
    pub(super) fn staff_key(&mut self) -> Result<StaffKeyRow, Damage> {
        let sha256 = self.array("key_sha256")?;
        let person = PersonId::from_bytes(self.array("person_id")?);
        let evidence = self.parse("evidence")?;
        let (serial, device) = (self.text("serial")?.to_owned(), self.text("device")?.to_owned());
        let chain = self.bytes("chain")?.to_vec();
        let proposer = PersonId::from_bytes(self.array("proposer_id")?);
        let approver = PersonId::from_bytes(self.array("approver_id")?);
        let (attested_by, state) = ([proposer, approver], self.parse("state")?);
        let key = StaffKey { sha256, person, evidence, serial, device, chain, attested_by, state };
        let (created_at, updated_at) = (self.time("created_at")?, self.time("updated_at")?);
        Ok(StaffKeyRow { key, created_at, updated_at, mac: self.array("mac")? })
    }
}

impl<E: Engine> SqlStore<E> {
    pub(super) async fn read_subject_count(&self, up_to: u64) -> Result<u64, StoreError> {
        let statement = Statement::any(
            "/* read::subject_count */ SELECT count(*) FROM (SELECT 1 FROM subjects LIMIT $1) AS counted",
        );
        let failed = || database("count subjects");
        let rows = self.engine.fetch(statement.size(up_to)).await.map_err(failed())?;
        let missing = Damage { table: "subjects", column: "count" };
        Ok(Columns::new(rows.first().ok_or(missing)?, "subjects").number("count")?)
    }
}
