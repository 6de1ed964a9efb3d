//! What is hashed under the index key, subject by subject.

use std::collections::HashMap;

use super::{Engine, SqlStore, lists::each, statement::Statement};
use crate::{
    domain::{
        consent::RecordAddress,
        ids::{PlatformId, RecordId, SubjectId, TokenRowId},
        secret::Sealed,
    },
    store::{Hashed, HashedValue, IndexMove, StoreError},
};

impl<E: Engine> SqlStore<E> {
    pub(super) async fn read_hashed(
        &self,
        platform: PlatformId,
        versions: IndexMove,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<Hashed>, StoreError> {
        let statement = Statement::any(
            "/* read::hashed */ SELECT subject_id, wrapped_key, sealed_reference, index_version FROM subjects \
             WHERE platform_id = $1 AND subject_id > $2 AND wrapped_key IS NOT NULL ORDER BY subject_id LIMIT $3",
        );
        let statement = statement.int(platform.get()).own_bytes(after.as_bytes().to_vec()).int(limit);
        let rows = self.list("read what is hashed", statement).await?;
        let mut subjects = each(&rows, "subjects", |mut c| {
            Ok(Hashed {
                subject: SubjectId::from_bytes(c.array("subject_id")?),
                wrapped_key: c.sealed("wrapped_key")?,
                sealed_reference: c.sealed("sealed_reference")?,
                index_version: c.number("index_version")?,
                values: Vec::new(),
                tokens: Vec::new(),
            })
        })?;
        let Some(last) = subjects.last().map(|last| last.subject) else { return Ok(subjects) };
        let places: HashMap<_, _> = subjects.iter().enumerate().map(|(at, of)| (of.subject, at)).collect();
        for value in self.hashed_values(platform, versions, after, last).await? {
            if let Some(of) = places.get(&value.address.subject).and_then(|at| subjects.get_mut(*at)) {
                of.values.push(value);
            }
        }
        for (subject, token, sealed) in self.hashed_tokens(platform, versions.to, after, last).await? {
            if let Some(of) = places.get(&subject).and_then(|at| subjects.get_mut(*at)) {
                of.tokens.push((token, sealed));
            }
        }
        Ok(subjects)
    }

    /// Outer joins, so that the records of the few subjects come first and the index is asked by record.
    async fn hashed_values(
        &self,
        platform: PlatformId,
        versions: IndexMove,
        after: SubjectId,
        up_to: SubjectId,
    ) -> Result<Vec<HashedValue>, StoreError> {
        let statement = Statement::any(
            "/* read::hashed_values */ SELECT r.subject_id, r.record_id, r.sealed_value, i.value_hash, r.field, r.version, \
             CAST(CASE WHEN n.record_id IS NULL THEN 0 ELSE 1 END AS bigint) FROM records r \
             LEFT JOIN index_entries i ON i.platform_id = r.platform_id AND i.record_id = r.record_id \
             AND i.index_version = $4 \
             LEFT JOIN index_entries n ON n.platform_id = r.platform_id AND n.record_id = r.record_id \
             AND n.index_version = $5 \
             WHERE r.platform_id = $1 AND r.subject_id > $2 AND r.subject_id <= $3 AND r.state = 'current'",
        );
        let statement = statement
            .int(platform.get())
            .own_bytes(after.as_bytes().to_vec())
            .own_bytes(up_to.as_bytes().to_vec())
            .int(versions.from)
            .int(versions.to);
        let rows = self.list("read what is hashed", statement).await?;
        let values = each(&rows, "records", |mut c| {
            let subject = SubjectId::from_bytes(c.array("subject_id")?);
            let record = RecordId::from_bytes(c.array("record_id")?);
            let sealed_value = c.sealed("sealed_value")?;
            let hash = c.optional_array("value_hash")?;
            let (field, version) = (c.parse("field")?, c.number("version")?);
            let filled = c.flag("filled")?;
            let address = RecordAddress { platform, subject, record, field, version };
            // Free text has no place in the index.
            Ok(hash.map(|hash| HashedValue { address, sealed_value, hash, filled }))
        })?;
        Ok(values.into_iter().flatten().collect())
    }

    async fn hashed_tokens(
        &self,
        platform: PlatformId,
        to: u32,
        after: SubjectId,
        up_to: SubjectId,
    ) -> Result<Vec<(SubjectId, TokenRowId, Sealed)>, StoreError> {
        let statement = Statement::any(
            "/* read::hashed_tokens */ SELECT r.subject_id, t.token_id, t.sealed_token FROM records r \
             LEFT JOIN tokens t ON t.platform_id = r.platform_id AND t.record_id = r.record_id \
             AND t.hash_version > 0 AND t.hash_version <> $4 \
             WHERE r.platform_id = $1 AND r.subject_id > $2 AND r.subject_id <= $3 AND r.state = 'current'",
        );
        let statement = statement
            .int(platform.get())
            .own_bytes(after.as_bytes().to_vec())
            .own_bytes(up_to.as_bytes().to_vec())
            .int(to);
        let rows = self.list("read what is hashed", statement).await?;
        let tokens = each(&rows, "tokens", |mut c| {
            let subject = SubjectId::from_bytes(c.array("subject_id")?);
            let token = c.optional_array("token_id")?.map(TokenRowId::from_bytes);
            let sealed = c.optional_sealed("sealed_token")?;
            Ok(token.zip(sealed).map(|(token, sealed)| (subject, token, sealed)))
        })?;
        Ok(tokens.into_iter().flatten().collect())
    }

    pub(super) async fn count_hashed_by_version(
        &self,
        platform: PlatformId,
    ) -> Result<Vec<(u32, u64)>, StoreError> {
        let statement = Statement::any(
            "/* read::count_hashed */ SELECT version, count(*) FROM \
             (SELECT index_version AS version FROM index_entries WHERE platform_id = $1 UNION ALL \
             SELECT index_version FROM subjects WHERE platform_id = $1 AND wrapped_key IS NOT NULL UNION ALL \
             SELECT hash_version FROM tokens WHERE platform_id = $1 AND hash_version > 0) AS hashed \
             GROUP BY 1 ORDER BY 1",
        );
        let rows = self.list("count what is hashed", statement.int(platform.get())).await?;
        each(&rows, "index_entries", |mut c| Ok((c.number("version")?, c.number("count")?)))
    }
}
