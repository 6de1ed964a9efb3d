//! Documents: their rows in commits, and the parts of uploads, which are written beside the log. A part is durable before
//! its upload counts it, and an upload that is gone counts none.

use super::{
    Engine, Purpose, SqlStore, database,
    decode::{Columns, SqlRow},
    statement::{Statement, Touches},
};
use crate::{
    domain::{
        consent::RecordAddress,
        document::SideAddress,
        ids::{CallerId, DocumentId, ObjectId, PlatformId, RecordId, RequestId, SubjectId, UploadId},
    },
    store::{
        Damage, StoreError,
        rows::{
            Mac,
            documents::{DocumentRow, PartRow, UploadRow},
        },
    },
};

pub(super) fn insert_document(row: &DocumentRow) -> Statement<'_> {
    let record = &row.address.record;
    Statement::new(
        "/* write::insert_document */ INSERT INTO documents (platform_id, upload_id, document_id, subject_id, field, \
         side, version, state, source, media_type, size, sealed_manifest, created_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .int(record.platform.get())
    .bytes(row.id.as_bytes())
    .bytes(record.record.as_bytes())
    .bytes(record.subject.as_bytes())
    .text(record.field.as_str())
    .text(row.address.side.as_str())
    .int(record.version)
    .text(row.state.as_str())
    .text(row.source.as_str())
    .text(row.media_type.as_str())
    .size(row.size)
    .bytes(row.sealed_manifest.as_bytes())
    .int(row.created_at.as_micros())
    .bytes(&row.mac)
}

pub(super) fn update_document<'a>(row: &'a DocumentRow, was: &'a Mac) -> Statement<'a> {
    Statement::new(
        "/* write::update_document */ UPDATE documents SET state = $3, mac = $4 \
         WHERE platform_id = $1 AND upload_id = $2 AND mac = $5",
    )
    .int(row.address.record.platform.get())
    .bytes(row.id.as_bytes())
    .text(row.state.as_str())
    .bytes(&row.mac)
    .bytes(was)
}

pub(super) fn insert_upload(row: &UploadRow) -> Statement<'_> {
    let record = &row.address.record;
    Statement::new(
        "/* write::insert_upload */ INSERT INTO uploads (platform_id, upload_id, caller_id, request_id, body_mac, \
         document_id, subject_id, field, side, version, source, size, attempt, parts, created_at, expires_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .int(record.platform.get())
    .bytes(row.id.as_bytes())
    .bytes(row.caller.as_bytes())
    .bytes(row.request.as_bytes())
    .bytes(&row.body_mac)
    .bytes(record.record.as_bytes())
    .bytes(record.subject.as_bytes())
    .text(record.field.as_str())
    .text(row.address.side.as_str())
    .int(record.version)
    .text(row.source.as_str())
    .size(row.size)
    .int(row.attempt)
    .int(row.parts)
    .int(row.created_at.as_micros())
    .int(row.expires_at.as_micros())
    .bytes(&row.mac)
}

/// The upload goes on at a part: what follows it is sent again.
pub(super) fn take_upload(row: &UploadRow, was: u32) -> Vec<Statement<'_>> {
    let platform = row.address.record.platform;
    vec![
        Statement::new(
            "/* write::take_upload */ UPDATE uploads SET attempt = $3, parts = $4 \
             WHERE platform_id = $1 AND upload_id = $2 AND attempt = $5 AND parts >= $4",
        )
        .int(platform.get())
        .bytes(row.id.as_bytes())
        .int(row.attempt)
        .int(row.parts)
        .int(was),
        Statement::any(
            "/* write::take_upload */ UPDATE document_parts SET doomed = 1 \
             WHERE platform_id = $1 AND upload_id = $2 AND position >= $3 AND doomed = 0",
        )
        .int(platform.get())
        .bytes(row.id.as_bytes())
        .int(row.parts),
    ]
}

/// The upload is done: its parts are those of the document.
pub(super) fn end_upload(row: &UploadRow) -> Statement<'_> {
    Statement::new(
        "/* write::end_upload */ DELETE FROM uploads \
         WHERE platform_id = $1 AND upload_id = $2 AND attempt = $3 AND parts = $4",
    )
    .int(row.address.record.platform.get())
    .bytes(row.id.as_bytes())
    .int(row.attempt)
    .int(row.parts)
}

/// The upload goes, and with it its parts. The row goes first: whoever adds a part holds it.
pub(super) fn drop_upload(row: &UploadRow) -> Vec<Statement<'_>> {
    vec![
        Statement::new(
            "/* write::drop_upload */ DELETE FROM uploads WHERE platform_id = $1 AND upload_id = $2 AND attempt = $3",
        )
        .int(row.address.record.platform.get())
        .bytes(row.id.as_bytes())
        .int(row.attempt),
        Statement::any(
            "/* write::drop_upload */ UPDATE document_parts SET doomed = 1 \
             WHERE platform_id = $1 AND upload_id = $2 AND doomed = 0",
        )
        .int(row.address.record.platform.get())
        .bytes(row.id.as_bytes()),
    ]
}

/// A set goes: uploads, objects and rows of every side and version.
pub(super) fn delete_document(platform: PlatformId, id: &DocumentId) -> Vec<Statement<'_>> {
    let of = |statement: Statement<'static>| statement.int(platform.get()).own_bytes(id.as_bytes().to_vec());
    vec![
        of(Statement::any(
            "/* write::delete_document */ DELETE FROM uploads WHERE platform_id = $1 AND document_id = $2",
        )),
        of(Statement::any(
            "/* write::delete_document */ UPDATE document_parts SET doomed = 1 \
             WHERE platform_id = $1 AND document_id = $2 AND doomed = 0",
        )),
        of(Statement::any(
            "/* write::delete_document */ DELETE FROM documents WHERE platform_id = $1 AND document_id = $2",
        )),
    ]
}

/// The documents of a subject whose key is destroyed.
pub(super) fn destroy_documents(platform: PlatformId, subject: SubjectId) -> [Statement<'static>; 3] {
    let of =
        |statement: Statement<'static>| statement.int(platform.get()).own_bytes(subject.as_bytes().to_vec());
    [
        of(Statement::any(
            "/* write::destroy_uploads */ DELETE FROM uploads WHERE platform_id = $1 AND subject_id = $2",
        )),
        of(Statement::any(
            "/* write::destroy_parts */ UPDATE document_parts SET doomed = 1 \
             WHERE platform_id = $1 AND subject_id = $2 AND doomed = 0",
        )),
        of(Statement::any(
            "/* write::destroy_documents */ DELETE FROM documents WHERE platform_id = $1 AND subject_id = $2",
        )),
    ]
}

impl<R: SqlRow> Columns<'_, R> {
    /// bytes `upload_id, document_id, subject_id, sealed_manifest, mac`, texts `field, side, state, source, media_type`,
    /// numbers `version, size, created_at`
    pub(super) fn document(&mut self, platform: PlatformId) -> Result<DocumentRow, Damage> {
        let id = UploadId::from_bytes(self.array("upload_id")?);
        let record = RecordId::from_bytes(self.array("document_id")?);
        let subject = SubjectId::from_bytes(self.array("subject_id")?);
        let sealed_manifest = self.sealed("sealed_manifest")?;
        let mac = self.array("mac")?;
        let (field, side) = (self.parse("field")?, self.parse("side")?);
        let (state, source) = (self.parse("state")?, self.parse("source")?);
        let media_type = self.parse("media_type")?;
        let record = RecordAddress { platform, subject, record, field, version: self.number("version")? };
        Ok(DocumentRow {
            id,
            address: SideAddress { record, side },
            state,
            source,
            media_type,
            size: self.number("size")?,
            sealed_manifest,
            created_at: self.time("created_at")?,
            mac,
        })
    }

    /// bytes `upload_id, caller_id, request_id, body_mac, document_id, subject_id, mac`, texts `field, side, source`,
    /// numbers `version, size, attempt, parts, created_at, expires_at`
    pub(super) fn upload(&mut self, platform: PlatformId) -> Result<UploadRow, Damage> {
        let id = UploadId::from_bytes(self.array("upload_id")?);
        let caller = CallerId::from_bytes(self.array("caller_id")?);
        let request = RequestId::from_bytes(self.array("request_id")?);
        let body_mac = self.array("body_mac")?;
        let record = RecordId::from_bytes(self.array("document_id")?);
        let subject = SubjectId::from_bytes(self.array("subject_id")?);
        let mac = self.array("mac")?;
        let (field, side, source) = (self.parse("field")?, self.parse("side")?, self.parse("source")?);
        let record = RecordAddress { platform, subject, record, field, version: self.number("version")? };
        Ok(UploadRow {
            id,
            caller,
            request,
            body_mac,
            address: SideAddress { record, side },
            source,
            size: self.number("size")?,
            attempt: self.number("attempt")?,
            parts: self.number("parts")?,
            created_at: self.time("created_at")?,
            expires_at: self.time("expires_at")?,
            mac,
        })
    }

    /// `object_id, upload_id, position`
    fn part(&mut self, platform: PlatformId) -> Result<PartRow, Damage> {
        Ok(PartRow {
            platform,
            object: ObjectId::from_bytes(self.array("object_id")?),
            upload: UploadId::from_bytes(self.array("upload_id")?),
            position: self.number("position")?,
        })
    }
}

impl<E: Engine> SqlStore<E> {
    /// Counts a part that is durable, where the upload is still at it and still this attempt's.
    pub(super) async fn add_part(
        &self,
        upload: &UploadRow,
        position: u32,
        object: ObjectId,
    ) -> Result<bool, StoreError> {
        let failed = || database("count a part");
        let record = &upload.address.record;
        let count = Statement::new(
            "/* documents::count_part */ UPDATE uploads SET parts = $3 \
             WHERE platform_id = $1 AND upload_id = $2 AND attempt = $4 AND parts = $5",
        )
        .int(record.platform.get())
        .bytes(upload.id.as_bytes())
        .int(position.saturating_add(1))
        .int(upload.attempt)
        .int(position);
        let insert = Statement::new(
            "/* documents::count_part */ INSERT INTO document_parts (platform_id, object_id, upload_id, document_id, \
             subject_id, position, doomed) VALUES ($1, $2, $3, $4, $5, $6, 0)",
        )
        .int(record.platform.get())
        .bytes(object.as_bytes())
        .bytes(upload.id.as_bytes())
        .bytes(record.record.as_bytes())
        .bytes(record.subject.as_bytes())
        .int(position);
        let mut tx = self.engine.begin(Purpose::Write).await.map_err(failed())?;
        for statement in [count, insert] {
            let expected = statement.touches;
            let touched = self.engine.execute_in(&mut tx, statement).await.map_err(failed())?;
            if expected == Touches::One && touched != 1 {
                self.engine.rollback(tx).await.map_err(failed())?;
                return Ok(false);
            }
        }
        self.engine.commit(tx).await.map_err(failed())?;
        Ok(true)
    }

    pub(super) async fn read_parts_of(
        &self,
        platform: PlatformId,
        upload: UploadId,
    ) -> Result<Vec<PartRow>, StoreError> {
        let statement = Statement::any(
            "/* documents::parts_of */ SELECT object_id, upload_id, position FROM document_parts \
             WHERE platform_id = $1 AND upload_id = $2 AND doomed = 0 ORDER BY position",
        );
        self.parts(statement.int(platform.get()).bytes(upload.as_bytes()), platform).await
    }

    pub(super) async fn read_parts_between(
        &self,
        platform: PlatformId,
        (first, last): (UploadId, UploadId),
    ) -> Result<Vec<PartRow>, StoreError> {
        let statement = Statement::any(
            "/* documents::parts_between */ SELECT object_id, upload_id, position FROM document_parts \
             WHERE platform_id = $1 AND upload_id BETWEEN $2 AND $3 AND doomed = 0 UNION ALL \
             SELECT object_id, upload_id, position FROM document_parts \
             WHERE platform_id = $1 AND upload_id BETWEEN $2 AND $3 AND doomed = 2",
        );
        let statement = statement.int(platform.get()).bytes(first.as_bytes()).bytes(last.as_bytes());
        self.parts(statement, platform).await
    }

    pub(super) async fn read_documents_between(
        &self,
        platform: PlatformId,
        (first, last): (UploadId, UploadId),
        limit: u32,
    ) -> Result<Vec<(UploadId, Result<DocumentRow, Damage>)>, StoreError> {
        let statement = Statement::any(
            "/* documents::documents_between */ SELECT upload_id, upload_id, document_id, subject_id, \
             sealed_manifest, mac, field, side, state, source, media_type, version, size, created_at FROM documents \
             WHERE platform_id = $1 AND upload_id BETWEEN $2 AND $3 ORDER BY upload_id LIMIT $4",
        );
        let statement =
            statement.int(platform.get()).bytes(first.as_bytes()).bytes(last.as_bytes()).int(limit);
        let rows = self.engine.fetch(statement).await.map_err(database("read documents"))?;
        let row = |row| {
            let mut columns = Columns::new(row, "documents");
            Ok((UploadId::from_bytes(columns.array("upload_id")?), columns.document(platform)))
        };
        rows.iter().map(row).collect()
    }

    pub(super) async fn read_uploads_between(
        &self,
        platform: PlatformId,
        (first, last): (UploadId, UploadId),
    ) -> Result<Vec<UploadRow>, StoreError> {
        let statement = Statement::any(
            "/* documents::uploads_between */ SELECT upload_id, caller_id, request_id, body_mac, document_id, \
             subject_id, mac, field, side, source, version, size, attempt, parts, created_at, expires_at \
             FROM uploads WHERE platform_id = $1 AND upload_id BETWEEN $2 AND $3",
        );
        let statement = statement.int(platform.get()).bytes(first.as_bytes()).bytes(last.as_bytes());
        let rows = self.engine.fetch(statement).await.map_err(database("read uploads"))?;
        rows.iter().map(|row| Ok(Columns::new(row, "uploads").upload(platform)?)).collect()
    }

    pub(super) async fn read_doomed_parts(
        &self,
        platform: PlatformId,
        limit: u32,
    ) -> Result<Vec<PartRow>, StoreError> {
        let statement = Statement::any(
            "/* documents::doomed_parts */ SELECT object_id, upload_id, position FROM document_parts \
             WHERE platform_id = $1 AND doomed = 1 LIMIT $2",
        );
        self.parts(statement.int(platform.get()).int(limit), platform).await
    }

    async fn parts(
        &self,
        statement: Statement<'_>,
        platform: PlatformId,
    ) -> Result<Vec<PartRow>, StoreError> {
        let rows = self.engine.fetch(statement).await.map_err(database("read parts"))?;
        rows.iter().map(|row| Ok(Columns::new(row, "document_parts").part(platform)?)).collect()
    }

    /// Forgets objects that are deleted.
    pub(super) async fn delete_doomed(&self, parts: &[PartRow]) -> Result<(), StoreError> {
        let failed = || database("forget parts");
        let mut tx = self.engine.begin(Purpose::Write).await.map_err(failed())?;
        for part in parts {
            let statement = Statement::any(
                "/* documents::forget_parts */ DELETE FROM document_parts \
                 WHERE platform_id = $1 AND object_id = $2 AND doomed = 1",
            );
            let statement = statement.int(part.platform.get()).bytes(part.object.as_bytes());
            self.engine.execute_in(&mut tx, statement).await.map_err(failed())?;
        }
        self.engine.commit(tx).await.map_err(failed())
    }
}
