-- Schema 8. Documents: sides with their versions, uploads that are not done, and the objects that parts lie in.
UPDATE schema_version SET version = 8, oldest_binary = 8;

-- One row a version of a side; all rows of one document_id are one set. The manifest lists the parts.
CREATE TABLE documents (
    platform_id     INTEGER NOT NULL,
    upload_id       BLOB    NOT NULL CHECK (length(upload_id) = 16),
    document_id     BLOB    NOT NULL CHECK (length(document_id) = 16),
    subject_id      BLOB    NOT NULL,
    field           TEXT    NOT NULL,
    side            TEXT    NOT NULL CHECK (side IN ('front', 'back', 'face')),
    version         INTEGER NOT NULL CHECK (version > 0),
    state           TEXT    NOT NULL CHECK (state IN ('current', 'superseded')),
    source          TEXT    NOT NULL CHECK (source IN ('subject', 'partner', 'state_database', 'public')),
    media_type      TEXT    NOT NULL,
    size            INTEGER NOT NULL CHECK (size > 0),
    sealed_manifest BLOB    NOT NULL,
    created_at      INTEGER NOT NULL,
    mac             BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, upload_id),
    FOREIGN KEY (platform_id, subject_id) REFERENCES subjects
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX documents_versions ON documents (platform_id, document_id, side, version);
CREATE UNIQUE INDEX documents_current ON documents (platform_id, subject_id, field, side) WHERE state = 'current';
CREATE INDEX documents_by_subject ON documents (platform_id, subject_id);

-- Named by its client's request. A stream writes only while the attempt is its own.
CREATE TABLE uploads (
    platform_id INTEGER NOT NULL,
    upload_id   BLOB    NOT NULL CHECK (length(upload_id) = 16),
    caller_id   BLOB    NOT NULL CHECK (length(caller_id) = 16),
    request_id  BLOB    NOT NULL CHECK (length(request_id) = 16),
    body_mac    BLOB    NOT NULL CHECK (length(body_mac) = 32),
    document_id BLOB    NOT NULL CHECK (length(document_id) = 16),
    subject_id  BLOB    NOT NULL,
    field       TEXT    NOT NULL,
    side        TEXT    NOT NULL CHECK (side IN ('front', 'back', 'face')),
    version     INTEGER NOT NULL CHECK (version > 0),
    source      TEXT    NOT NULL CHECK (source IN ('subject', 'partner', 'state_database', 'public')),
    size        INTEGER NOT NULL CHECK (size > 0),
    attempt     INTEGER NOT NULL CHECK (attempt > 0),
    parts       INTEGER NOT NULL CHECK (parts >= 0),
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, upload_id),
    FOREIGN KEY (platform_id, subject_id) REFERENCES subjects
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX uploads_by_request ON uploads (platform_id, caller_id, request_id);
CREATE INDEX uploads_by_subject ON uploads (platform_id, subject_id);
CREATE INDEX uploads_by_end ON uploads (platform_id, expires_at);

-- The objects in the document store. One that is doomed is deleted there first, and then here.
CREATE TABLE document_parts (
    platform_id INTEGER NOT NULL,
    object_id   BLOB    NOT NULL CHECK (length(object_id) = 16),
    upload_id   BLOB    NOT NULL CHECK (length(upload_id) = 16),
    document_id BLOB    NOT NULL CHECK (length(document_id) = 16),
    subject_id  BLOB    NOT NULL,
    position    INTEGER NOT NULL CHECK (position >= 0),
    doomed      INTEGER NOT NULL CHECK (doomed IN (0, 1)),
    PRIMARY KEY (platform_id, object_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX document_parts_by_upload ON document_parts (platform_id, upload_id, position) WHERE doomed = 0;
CREATE INDEX document_parts_by_document ON document_parts (platform_id, document_id) WHERE doomed = 0;
CREATE INDEX document_parts_by_subject ON document_parts (platform_id, subject_id) WHERE doomed = 0;
CREATE INDEX document_parts_doomed ON document_parts (platform_id) WHERE doomed = 1;
