-- Schema 3. Long work on keys: an operation has a phase, a cursor, a throttle, and may be paused. What it works on is an
-- object of 16 bytes, or the kind of key that is rotated.
UPDATE schema_version SET version = 3, oldest_binary = 3;

CREATE TABLE operations_3 (
    platform_id  BIGINT NOT NULL,
    operation_id BYTEA    NOT NULL CHECK (length(operation_id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'destroy_key')),
    object_id    BYTEA    NOT NULL CHECK (length(object_id) = 16),
    state        TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'paused', 'done', 'cancelled', 'failed')),
    phase        TEXT    NOT NULL CHECK (phase IN ('', 'activate', 'rewrap', 'verify')),
    key_version  BIGINT NOT NULL CHECK (key_version >= 0),
    resume_after BYTEA    NOT NULL CHECK (length(resume_after) IN (0, 16)),
    rate         BIGINT NOT NULL CHECK (rate >= 0),
    created_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    ended_at     BIGINT,
    fence        BIGINT NOT NULL CHECK (fence >= 0),
    lease_until  BIGINT,
    done         BIGINT NOT NULL CHECK (done >= 0),
    total        BIGINT NOT NULL CHECK (total >= done),
    PRIMARY KEY (platform_id, operation_id),
    CHECK ((state IN ('done', 'cancelled', 'failed')) = (ended_at IS NOT NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL))
);
INSERT INTO operations_3 (platform_id, operation_id, kind, object_id, state, phase, key_version, resume_after, rate,
    created_at, due_at, ended_at, fence, lease_until, done, total)
SELECT platform_id, operation_id, kind, object_id, state, '', 0, '', 0, created_at, due_at, ended_at, fence, lease_until,
    done, total FROM operations;
DROP TABLE operations;
ALTER TABLE operations_3 RENAME TO operations;
CREATE INDEX operations_open ON operations (platform_id, due_at) WHERE state IN ('waiting', 'running');
CREATE UNIQUE INDEX operations_of_object ON operations (platform_id, kind, object_id) WHERE state IN ('waiting', 'running', 'paused');
CREATE INDEX operations_newest ON operations (platform_id, created_at DESC, operation_id);

-- When a key version that waits for its destruction is destroyed.
ALTER TABLE key_versions ADD COLUMN destroy_at BIGINT;

-- Since when the process is known to have every key version that there was.
ALTER TABLE replicas ADD COLUMN keys_loaded_at BIGINT NOT NULL DEFAULT 0;
