-- Schema 14. The end of retention is destroyed by an operation. An older binary does not know it.
UPDATE schema_version SET version = 14, oldest_binary = 14;

CREATE TABLE operations_14 (
    platform_id  INTEGER NOT NULL,
    operation_id BLOB    NOT NULL CHECK (length(operation_id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'destroy_key', 'backup', 'rotate_audit_key', 'rotate_root_key', 'destroy_root_key', 'collect_documents', 'rotate_index_key', 'destroy_index_key', 'sweep_retention')),
    object_id    BLOB    NOT NULL CHECK (length(object_id) = 16),
    state        TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'paused', 'done', 'cancelled', 'failed')),
    phase        TEXT    NOT NULL CHECK (phase IN ('', 'activate', 'rewrap', 'fill', 'verify', 'drop', 'announce')),
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
INSERT INTO operations_14 (platform_id, operation_id, kind, object_id, state, phase, key_version, resume_after, rate,
    created_at, due_at, ended_at, fence, lease_until, done, total)
SELECT platform_id, operation_id, kind, object_id, state, phase, key_version, resume_after, rate, created_at, due_at,
    ended_at, fence, lease_until, done, total FROM operations;
DROP TABLE operations;
ALTER TABLE operations_14 RENAME TO operations;
CREATE INDEX operations_open ON operations (platform_id, due_at) WHERE state IN ('waiting', 'running');
CREATE UNIQUE INDEX operations_of_object ON operations (object_id, platform_id, kind) WHERE state IN ('waiting', 'running', 'paused');
CREATE INDEX operations_newest ON operations (platform_id, created_at DESC, operation_id);
CREATE INDEX operations_by_kind ON operations (platform_id, kind, created_at DESC, operation_id);
