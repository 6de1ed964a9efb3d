-- Schema 18. Everything of a platform is sealed anew under new subject keys. An older binary would take objects that are made
-- ready for orphans.
UPDATE schema_version SET version = 18, oldest_binary = 18;

CREATE TABLE operations_18 (
    platform_id  INTEGER NOT NULL,
    operation_id BLOB    NOT NULL CHECK (length(operation_id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'destroy_key', 'backup', 'rotate_audit_key', 'rotate_root_key', 'destroy_root_key', 'collect_documents', 'rotate_index_key', 'destroy_index_key', 'sweep_retention', 'rekey_platform')),
    object_id    BLOB    NOT NULL CHECK (length(object_id) = 16),
    state        TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'paused', 'done', 'cancelled', 'failed')),
    phase        TEXT    NOT NULL CHECK (phase IN ('', 'activate', 'rewrap', 'fill', 'verify', 'drop', 'announce', 'reseal')),
    key_version  INTEGER NOT NULL CHECK (key_version >= 0),
    resume_after BLOB    NOT NULL CHECK (length(resume_after) IN (0, 16)),
    rate         INTEGER NOT NULL CHECK (rate >= 0),
    created_at   INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    ended_at     INTEGER,
    fence        INTEGER NOT NULL CHECK (fence >= 0),
    lease_until  INTEGER,
    done         INTEGER NOT NULL CHECK (done >= 0),
    total        INTEGER NOT NULL CHECK (total >= done),
    PRIMARY KEY (platform_id, operation_id),
    CHECK ((state IN ('done', 'cancelled', 'failed')) = (ended_at IS NOT NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO operations_18 (platform_id, operation_id, kind, object_id, state, phase, key_version, resume_after, rate,
    created_at, due_at, ended_at, fence, lease_until, done, total)
SELECT platform_id, operation_id, kind, object_id, state, phase, key_version, resume_after, rate, created_at, due_at,
    ended_at, fence, lease_until, done, total FROM operations;
DROP TABLE operations;
ALTER TABLE operations_18 RENAME TO operations;
CREATE INDEX operations_open ON operations (platform_id, due_at) WHERE state IN ('waiting', 'running');
-- One open operation of an object, of whatever kind: a rotation and a rekey of one key are never at work together.
CREATE UNIQUE INDEX operations_of_object ON operations (object_id, platform_id) WHERE state IN ('waiting', 'running', 'paused');
CREATE INDEX operations_newest ON operations (platform_id, created_at DESC, operation_id);
CREATE INDEX operations_by_kind ON operations (platform_id, kind, created_at DESC, operation_id);

-- Objects that stand ready for a document that is sealed anew are doomed = 2.
CREATE TABLE document_parts_18 (
    platform_id INTEGER NOT NULL,
    object_id   BLOB    NOT NULL CHECK (length(object_id) = 16),
    upload_id   BLOB    NOT NULL CHECK (length(upload_id) = 16),
    document_id BLOB    NOT NULL CHECK (length(document_id) = 16),
    subject_id  BLOB    NOT NULL,
    position    INTEGER NOT NULL CHECK (position >= 0),
    doomed      INTEGER NOT NULL CHECK (doomed IN (0, 1, 2)),
    PRIMARY KEY (platform_id, object_id)
) STRICT, WITHOUT ROWID;
INSERT INTO document_parts_18 (platform_id, object_id, upload_id, document_id, subject_id, position, doomed)
SELECT platform_id, object_id, upload_id, document_id, subject_id, position, doomed FROM document_parts;
DROP TABLE document_parts;
ALTER TABLE document_parts_18 RENAME TO document_parts;
CREATE UNIQUE INDEX document_parts_by_upload ON document_parts (platform_id, upload_id, position) WHERE doomed = 0;
CREATE INDEX document_parts_by_document ON document_parts (platform_id, document_id) WHERE doomed = 0;
CREATE INDEX document_parts_by_subject ON document_parts (platform_id, subject_id) WHERE doomed = 0;
CREATE INDEX document_parts_doomed ON document_parts (platform_id) WHERE doomed = 1;
CREATE INDEX document_parts_ready ON document_parts (platform_id) WHERE doomed = 2;

CREATE INDEX records_superseded ON records (subject_id, platform_id) WHERE state = 'superseded';
