//! What is sealed under the keys of subjects, and its exchange for what is sealed under new ones.

use std::collections::HashMap;

use super::{
    Engine, Purpose, SqlStore, database,
    list_writes::{byte_columns, exactly, over_rows},
    lists::each,
    statement::{Dialect, Statement, Touches},
};
use crate::{
    domain::{
        consent::RecordAddress,
        ids::{ConsentId, ObjectId, PlatformId, RecordId, SubjectId, TokenRowId},
    },
    store::{
        Resealed, SealedCounts, SealedOf, StoreError, Swap,
        rows::documents::{DocumentRow, PartRow},
    },
};

/// Rows of subject, key before, key now, reference before, reference now.
const KEYS: &str = "/* commit::reseal */ UPDATE subjects SET wrapped_key = {2}, sealed_reference = {4} \
     FROM {rows} WHERE platform_id = $1 AND subject_id = {0} AND wrapped_key = {1} AND sealed_reference = {3}";

/// Rows of id, sealed before, sealed now.
const VALUES: &str = "/* commit::reseal */ UPDATE records SET sealed_value = {2} FROM {rows} \
     WHERE platform_id = $1 AND record_id = {0} AND sealed_value = {1}";
const TOKENS: &str = "/* commit::reseal */ UPDATE tokens SET sealed_token = {2} FROM {rows} \
     WHERE platform_id = $1 AND token_id = {0} AND sealed_token = {1}";
const CONSENTS: &str = "/* commit::reseal */ UPDATE consents SET sealed_evidence = {2} FROM {rows} \
     WHERE platform_id = $1 AND consent_id = {0} AND sealed_evidence = {1}";
const MANIFESTS: &str = "/* commit::reseal */ UPDATE documents SET sealed_manifest = {2} FROM {rows} \
     WHERE platform_id = $1 AND upload_id = {0} AND sealed_manifest = {1}";
/// Rows of documents' row ids.
const DOOM: &str = "/* commit::reseal */ UPDATE document_parts SET doomed = 1 FROM {rows} \
     WHERE platform_id = $1 AND upload_id = {0} AND doomed = 0";
/// Rows of objects.
const USE: &str = "/* commit::reseal */ UPDATE document_parts SET doomed = 0 FROM {rows} \
     WHERE platform_id = $1 AND object_id = {0} AND doomed = 2";

/// Touches one row where so much as `$2` is sealed under the keys of the subjects in the rows, and none otherwise.
fn whole(dialect: &Dialect) -> String {
    let find = |row, index, on: &str| dialect.find(row, index, on);
    let now = "s.subject_id = {0}";
    let current = find("records s", "records_current", &format!("{now} AND s.state = 'current'"));
    let older = find("records s", "records_superseded", &format!("{now} AND s.state = 'superseded'"));
    let tokens = find("tokens t", "tokens_by_record", "t.record_id = s.record_id");
    let consents = find("consents s", "consents_by_subject", now);
    let documents = find("documents s", "documents_by_subject", now);
    let uploads = find("uploads s", "uploads_by_subject", now);
    let counts = [current.clone(), older, format!("{current} {tokens}"), consents, documents, uploads];
    let counts = counts.map(|joins| format!("(SELECT count(*) FROM {{rows}} {joins})")).join(" + ");
    format!("/* commit::reseal */ UPDATE heads SET size = size WHERE platform_id = $1 AND $2 = {counts}")
}

/// The statements in one dialect.
pub(super) struct SealedWrites {
    keys: &'static str,
    values: &'static str,
    tokens: &'static str,
    consents: &'static str,
    manifests: &'static str,
    doom: &'static str,
    used: &'static str,
    whole: &'static str,
}

impl SealedWrites {
    pub(super) fn new(dialect: &Dialect) -> Self {
        let swap = |template| over_rows::<3>(dialect, 2, template);
        Self {
            keys: over_rows::<5>(dialect, 2, KEYS),
            values: swap(VALUES),
            tokens: swap(TOKENS),
            consents: swap(CONSENTS),
            manifests: swap(MANIFESTS),
            doom: over_rows::<1>(dialect, 2, DOOM),
            used: over_rows::<1>(dialect, 2, USE),
            whole: over_rows::<1>(dialect, 3, &whole(dialect)),
        }
    }

    /// Everything of these subjects is exchanged, and nothing of them is left that was not.
    pub(super) fn statements<'a>(&self, platform: PlatformId, rows: &'a [Resealed]) -> Vec<Statement<'a>> {
        let id = platform.get();
        let keys = rows.iter().map(|of| {
            let (key, reference) = (&of.key, &of.reference);
            [
                key.id.as_bytes().as_slice(),
                key.before.as_bytes(),
                key.after.as_bytes(),
                reference.before.as_bytes(),
                reference.after.as_bytes(),
            ]
        });
        let mut statements = vec![exactly(self.keys, rows.len()).int(id).rows(byte_columns(keys))];
        let mut swaps = |sql, swaps: Vec<[&'a [u8]; 3]>| {
            if !swaps.is_empty() {
                let count = swaps.len();
                statements.push(exactly(sql, count).int(id).rows(byte_columns(swaps.into_iter())));
            }
        };
        swaps(self.values, each_swap(rows, |of| &of.values, |id| id.as_bytes()));
        swaps(self.tokens, each_swap(rows, |of| &of.tokens, |id| id.as_bytes()));
        swaps(self.consents, each_swap(rows, |of| &of.consents, |id| id.as_bytes()));
        swaps(self.manifests, each_swap(rows, |of| &of.documents, |id| id.as_bytes()));
        let documents: Vec<_> = rows.iter().flat_map(|of| &of.documents).collect();
        if !documents.is_empty() {
            let ids = documents.iter().map(|swap| [swap.id.as_bytes().as_slice()]);
            statements.push(Statement::any(self.doom).int(id).rows(byte_columns(ids)));
        }
        let objects: Vec<_> = rows.iter().flat_map(|of| &of.objects).collect();
        if !objects.is_empty() {
            let count = objects.len();
            let ids = objects.into_iter().map(|object| [object.as_bytes().as_slice()]);
            statements.push(exactly(self.used, count).int(id).rows(byte_columns(ids)));
        }
        let counts =
            rows.iter().map(|of| of.values.len() + of.tokens.len() + of.consents.len() + of.documents.len());
        let subjects = rows.iter().map(|of| [of.key.id.as_bytes().as_slice()]);
        let count = u64::try_from(counts.sum::<usize>()).unwrap_or(u64::MAX);
        let whole = Statement::touching(self.whole, Touches::One).int(id).size(count);
        statements.push(whole.rows(byte_columns(subjects)));
        statements
    }
}

fn each_swap<'a, I: 'a>(
    rows: &'a [Resealed],
    swaps: impl Fn(&'a Resealed) -> &'a Vec<Swap<I>>,
    id: impl Fn(&'a I) -> &'a [u8; 16],
) -> Vec<[&'a [u8]; 3]> {
    let swaps = rows.iter().flat_map(swaps);
    swaps.map(|swap| [id(&swap.id).as_slice(), swap.before.as_bytes(), swap.after.as_bytes()]).collect()
}

impl<E: Engine> SqlStore<E> {
    /// Read by several statements: the commit states that all of it is as it was.
    pub(super) async fn read_sealed(
        &self,
        platform: PlatformId,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<SealedOf>, StoreError> {
        let statement = Statement::any(
            "/* read::sealed */ SELECT subject_id, wrapped_key, sealed_reference FROM subjects \
             WHERE platform_id = $1 AND subject_id > $2 AND wrapped_key IS NOT NULL ORDER BY subject_id LIMIT $3",
        );
        let statement = statement.int(platform.get()).own_bytes(after.as_bytes().to_vec()).int(limit);
        let rows = self.list("read what is sealed", statement).await?;
        let mut subjects = each(&rows, "subjects", |mut c| {
            Ok(SealedOf {
                subject: SubjectId::from_bytes(c.array("subject_id")?),
                wrapped_key: c.sealed("wrapped_key")?,
                reference: c.sealed("sealed_reference")?,
                values: Vec::new(),
                tokens: Vec::new(),
                consents: Vec::new(),
                documents: Vec::new(),
                uploads: Vec::new(),
            })
        })?;
        let Some(last) = subjects.last().map(|last| last.subject) else { return Ok(subjects) };
        self.add_sealed(platform, (after, last), &mut subjects).await?;
        Ok(subjects)
    }

    async fn add_sealed(
        &self,
        platform: PlatformId,
        (after, last): (SubjectId, SubjectId),
        subjects: &mut [SealedOf],
    ) -> Result<(), StoreError> {
        let places: HashMap<_, _> = subjects.iter().enumerate().map(|(at, of)| (of.subject, at)).collect();
        let mut put = |subject: SubjectId, add: &mut dyn FnMut(&mut SealedOf)| {
            if let Some(of) = places.get(&subject).and_then(|at| subjects.get_mut(*at)) {
                add(of);
            }
        };
        let of = |sql| {
            Statement::any(sql)
                .int(platform.get())
                .own_bytes(after.as_bytes().to_vec())
                .own_bytes(last.as_bytes().to_vec())
        };
        let values =
            of("/* read::sealed */ SELECT subject_id, record_id, sealed_value, field, version FROM records \
             WHERE platform_id = $1 AND subject_id > $2 AND subject_id <= $3 AND state = 'current' UNION ALL \
             SELECT subject_id, record_id, sealed_value, field, version FROM records \
             WHERE platform_id = $1 AND subject_id > $2 AND subject_id <= $3 AND state = 'superseded'");
        let rows = self.list("read sealed values", values).await?;
        for (address, sealed) in each(&rows, "records", |mut c| {
            let subject = SubjectId::from_bytes(c.array("subject_id")?);
            let record = RecordId::from_bytes(c.array("record_id")?);
            let sealed = c.sealed("sealed_value")?;
            let (field, version) = (c.parse("field")?, c.number("version")?);
            Ok((RecordAddress { platform, subject, record, field, version }, sealed))
        })? {
            put(address.subject, &mut |of| of.values.push((address.clone(), sealed.clone())));
        }
        let tokens = of("/* read::sealed */ SELECT r.subject_id, t.token_id, t.sealed_token FROM records r \
             LEFT JOIN tokens t ON t.platform_id = r.platform_id AND t.record_id = r.record_id \
             WHERE r.platform_id = $1 AND r.subject_id > $2 AND r.subject_id <= $3 AND r.state = 'current'");
        let rows = self.list("read sealed tokens", tokens).await?;
        for (subject, token) in each(&rows, "tokens", |mut c| {
            let subject = SubjectId::from_bytes(c.array("subject_id")?);
            let token = c.optional_array("token_id")?.map(TokenRowId::from_bytes);
            Ok((subject, token.zip(c.optional_sealed("sealed_token")?)))
        })? {
            put(subject, &mut |of| of.tokens.extend(token.clone()));
        }
        let consents = of("/* read::sealed */ SELECT subject_id, consent_id, sealed_evidence FROM consents \
             WHERE platform_id = $1 AND subject_id > $2 AND subject_id <= $3");
        let rows = self.list("read sealed consents", consents).await?;
        for (subject, consent, sealed) in each(&rows, "consents", |mut c| {
            let subject = SubjectId::from_bytes(c.array("subject_id")?);
            Ok((subject, ConsentId::from_bytes(c.array("consent_id")?), c.sealed("sealed_evidence")?))
        })? {
            put(subject, &mut |of| of.consents.push((consent, sealed.clone())));
        }
        let documents =
            of("/* read::sealed */ SELECT upload_id, document_id, subject_id, sealed_manifest, mac, field, \
             side, state, source, media_type, version, size, created_at FROM documents \
             WHERE platform_id = $1 AND subject_id > $2 AND subject_id <= $3");
        let rows = self.list("read documents", documents).await?;
        for row in each(&rows, "documents", |mut c| c.document(platform))? {
            put(row.address.record.subject, &mut |of| of.documents.push(row.clone()));
        }
        let uploads = of(
            "/* read::sealed */ SELECT upload_id, caller_id, request_id, body_mac, document_id, subject_id, \
             mac, field, side, source, version, size, attempt, parts, created_at, expires_at FROM uploads \
             WHERE platform_id = $1 AND subject_id > $2 AND subject_id <= $3",
        );
        let rows = self.list("read uploads", uploads).await?;
        for row in each(&rows, "uploads", |mut c| c.upload(platform))? {
            put(row.address.record.subject, &mut |of| of.uploads.push(row.clone()));
        }
        Ok(())
    }

    pub(super) async fn count_all_sealed(&self, platform: PlatformId) -> Result<SealedCounts, StoreError> {
        let statement = Statement::any(
            "/* read::count_sealed */ SELECT \
             (SELECT count(*) FROM subjects WHERE platform_id = $1 AND wrapped_key IS NOT NULL), \
             (SELECT count(*) FROM records WHERE platform_id = $1), \
             (SELECT count(*) FROM document_parts WHERE platform_id = $1 AND doomed = 0)",
        );
        let rows = self.list("count what is sealed", statement.int(platform.get())).await?;
        let counts = each(&rows, "subjects", |mut c| {
            Ok(SealedCounts {
                subjects: c.number("count")?,
                values: c.number("count")?,
                parts: c.number("count")?,
            })
        })?;
        Ok(counts.into_iter().next().unwrap_or_default())
    }

    pub(super) async fn insert_ready(
        &self,
        document: &DocumentRow,
        parts: &[PartRow],
    ) -> Result<(), StoreError> {
        let failed = || database("make parts ready");
        let record = &document.address.record;
        let mut tx = self.engine.begin(Purpose::Write).await.map_err(failed())?;
        for part in parts {
            let insert = Statement::new(
                "/* documents::ready_parts */ INSERT INTO document_parts (platform_id, object_id, upload_id, \
                 document_id, subject_id, position, doomed) VALUES ($1, $2, $3, $4, $5, $6, 2)",
            );
            let insert = insert
                .int(part.platform.get())
                .bytes(part.object.as_bytes())
                .bytes(part.upload.as_bytes())
                .bytes(record.record.as_bytes())
                .bytes(record.subject.as_bytes())
                .int(part.position);
            self.engine.execute_in(&mut tx, insert).await.map_err(failed())?;
        }
        self.engine.commit(tx).await.map_err(failed())
    }

    pub(super) async fn doom_ready_parts(
        &self,
        platform: PlatformId,
        which: Option<&[ObjectId]>,
    ) -> Result<u64, StoreError> {
        let failed = || database("drop parts that stood ready");
        let mut tx = self.engine.begin(Purpose::Write).await.map_err(failed())?;
        let mut doomed = 0;
        match which {
            None => {
                let all = Statement::any(
                    "/* documents::doom_ready */ UPDATE document_parts SET doomed = 1 \
                     WHERE platform_id = $1 AND doomed = 2",
                );
                let all = all.int(platform.get());
                doomed += self.engine.execute_in(&mut tx, all).await.map_err(failed())?;
            }
            Some(objects) => {
                for object in objects {
                    let one = Statement::any(
                        "/* documents::doom_ready */ UPDATE document_parts SET doomed = 1 \
                         WHERE platform_id = $1 AND object_id = $2 AND doomed = 2",
                    );
                    let one = one.int(platform.get()).bytes(object.as_bytes());
                    doomed += self.engine.execute_in(&mut tx, one).await.map_err(failed())?;
                }
            }
        }
        self.engine.commit(tx).await.map_err(failed())?;
        Ok(doomed)
    }
}
