-- Schema 1. Ids are 16 random bytes; instants are microseconds since the Unix epoch; hashes and MACs are 32 bytes.
-- Keys of platform tables begin with platform_id, so that the schema can be distributed by it. Truth values are 0 and 1.

-- The version of the schema, and the oldest binary (by its own schema version) that may run on it.
CREATE TABLE schema_version (
    sole          INTEGER PRIMARY KEY CHECK (sole = 1),
    version       INTEGER NOT NULL,
    oldest_binary INTEGER NOT NULL
) STRICT;
INSERT INTO schema_version (sole, version, oldest_binary) VALUES (1, 1, 1);

-- The installation's name stands in every log's origin and never changes.
CREATE TABLE installation (
    sole       INTEGER PRIMARY KEY CHECK (sole = 1),
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE platforms (
    platform_id INTEGER PRIMARY KEY CHECK (platform_id >= 0),
    name        TEXT    NOT NULL UNIQUE,
    legal_name  TEXT    NOT NULL,
    bin         TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    CHECK ((platform_id = 0) = (bin = ''))
) STRICT;

-- Root keys live in the KMS; here stands only which versions there are.
CREATE TABLE root_versions (
    version    INTEGER PRIMARY KEY CHECK (version > 0),
    state      TEXT    NOT NULL CHECK (state IN ('pending', 'active', 'retiring', 'disabled', 'destruction_scheduled', 'destroyed')),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE key_versions (
    platform_id INTEGER NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('platform', 'index', 'row', 'request', 'audit')),
    version     INTEGER NOT NULL CHECK (version > 0),
    state       TEXT    NOT NULL CHECK (state IN ('pending', 'active', 'retiring', 'disabled', 'destruction_scheduled', 'destroyed')),
    wrapped     BLOB,
    created_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, kind, version),
    CHECK ((state = 'destroyed') = (wrapped IS NULL))
) STRICT, WITHOUT ROWID;

-- A caller belongs to one platform; its certificate's URI is its name everywhere. Pins are SHA-256 hashes, one after
-- the other.
CREATE TABLE callers (
    spiffe_id   TEXT    PRIMARY KEY,
    caller_id   BLOB    NOT NULL UNIQUE CHECK (length(caller_id) = 16),
    platform_id INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    roles       TEXT    NOT NULL,
    pins        BLOB    NOT NULL CHECK (length(pins) % 32 = 0),
    person_id   BLOB    CHECK (length(person_id) = 16),
    state       TEXT    NOT NULL CHECK (state IN ('enabled', 'disabled')),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    CHECK (person_id IS NULL OR platform_id = 0)
) STRICT;
CREATE UNIQUE INDEX callers_one_name ON callers (platform_id, name) WHERE state = 'enabled';

-- Staff. Rows of persons and their roles are kept with platform 0, under its row key and in its log.
CREATE TABLE persons (
    platform_id INTEGER NOT NULL CHECK (platform_id = 0),
    person_id   BLOB    NOT NULL CHECK (length(person_id) = 16),
    handle      TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('enabled', 'disabled')),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, person_id),
    UNIQUE (platform_id, handle)
) STRICT, WITHOUT ROWID;

CREATE TABLE person_roles (
    platform_id INTEGER NOT NULL CHECK (platform_id = 0),
    person_id   BLOB    NOT NULL,
    role        TEXT    NOT NULL CHECK (role IN ('auditor', 'security_officer', 'data_protection', 'platform_admin')),
    scope       INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('enabled', 'disabled')),
    updated_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, person_id, role, scope),
    FOREIGN KEY (platform_id, person_id) REFERENCES persons
) STRICT, WITHOUT ROWID;

CREATE TABLE recipients (
    platform_id  INTEGER NOT NULL,
    recipient_id BLOB    NOT NULL CHECK (length(recipient_id) = 16),
    name         TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    country      TEXT    NOT NULL CHECK (length(country) = 2),
    purposes     TEXT    NOT NULL,
    valid_from   INTEGER NOT NULL,
    valid_until  INTEGER CHECK (valid_until > valid_from),
    state        TEXT    NOT NULL CHECK (state IN ('active', 'ended')),
    legal_name   TEXT    NOT NULL,
    contract     TEXT    NOT NULL,
    public_key   BLOB    CHECK (length(public_key) = 32),
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    mac          BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, recipient_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX recipients_one_name ON recipients (platform_id, name) WHERE state = 'active';

-- Limits that an operator set; an empty caller_id is for all callers without a limit of their own.
CREATE TABLE budget_limits (
    platform_id    INTEGER NOT NULL,
    caller_id      BLOB    NOT NULL CHECK (length(caller_id) IN (0, 16)),
    kind           TEXT    NOT NULL CHECK (kind IN ('enumeration', 'erasure')),
    max_spent      INTEGER NOT NULL CHECK (max_spent >= 0),
    window_seconds INTEGER NOT NULL CHECK (window_seconds > 0),
    updated_at     INTEGER NOT NULL,
    mac            BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, caller_id, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE policies (
    platform_id INTEGER NOT NULL,
    version     INTEGER NOT NULL CHECK (version > 0),
    text        TEXT    NOT NULL,
    sha256      BLOB    NOT NULL CHECK (length(sha256) = 32),
    created_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, version)
) STRICT, WITHOUT ROWID;

-- One row a platform: every commit advances it by compare-and-swap on size, config_epoch and tighten_seq.
CREATE TABLE heads (
    platform_id  INTEGER PRIMARY KEY,
    size         INTEGER NOT NULL CHECK (size >= 0),
    config_epoch INTEGER NOT NULL CHECK (config_epoch >= 0),
    tighten_seq  INTEGER NOT NULL CHECK (tighten_seq >= 0),
    updated_at   INTEGER NOT NULL,
    root         BLOB    NOT NULL CHECK (length(root) = 32),
    right_edge   BLOB    NOT NULL CHECK (length(right_edge) % 32 = 0),
    checkpoint   TEXT    NOT NULL,
    mac          BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT;

-- The last head of each second.
CREATE TABLE audit_heads (
    platform_id INTEGER NOT NULL,
    second      INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    checkpoint  TEXT    NOT NULL,
    PRIMARY KEY (platform_id, second)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_entries (
    platform_id INTEGER NOT NULL,
    position    INTEGER NOT NULL CHECK (position >= 0),
    entry       BLOB    NOT NULL CHECK (length(entry) <= 65535),
    leaf_hash   BLOB    NOT NULL CHECK (length(leaf_hash) = 32),
    subject_id  BLOB    CHECK (length(subject_id) = 16),
    PRIMARY KEY (platform_id, position)
) STRICT, WITHOUT ROWID;
-- For the question who saw a subject's values. Copied from the entry; the entry is what counts.
CREATE INDEX audit_entries_by_subject ON audit_entries (platform_id, subject_id, position) WHERE subject_id IS NOT NULL;

-- Complete tiles: 256 hashes; root is the hash of the next level.
CREATE TABLE audit_tiles (
    platform_id INTEGER NOT NULL,
    level       INTEGER NOT NULL CHECK (level BETWEEN 0 AND 7),
    tile_index  INTEGER NOT NULL CHECK (tile_index >= 0),
    hashes      BLOB    NOT NULL CHECK (length(hashes) = 8192),
    root        BLOB    NOT NULL CHECK (length(root) = 32),
    PRIMARY KEY (platform_id, level, tile_index)
) STRICT, WITHOUT ROWID;

-- A block on use has a trigger, a requester and a date of review. It outlives an erasure that may be cancelled.
CREATE TABLE subjects (
    platform_id           INTEGER NOT NULL,
    subject_id            BLOB    NOT NULL CHECK (length(subject_id) = 16),
    index_version         INTEGER NOT NULL,
    reference_hash        BLOB    NOT NULL CHECK (length(reference_hash) = 32),
    sealed_reference      BLOB    NOT NULL,
    wrapped_key           BLOB,
    kind                  TEXT    NOT NULL CHECK (kind IN ('natural', 'legal', 'represented')),
    state                 TEXT    NOT NULL CHECK (state IN ('active', 'restricted', 'erased')),
    restriction_trigger   TEXT,
    restriction_requester TEXT,
    restricted_at         INTEGER,
    review_at             INTEGER,
    erased_at             INTEGER,
    destroy_at            INTEGER,
    created_at            INTEGER NOT NULL,
    mac                   BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, subject_id),
    CHECK (wrapped_key IS NOT NULL OR state = 'erased'),
    CHECK ((state = 'erased') = (erased_at IS NOT NULL)),
    CHECK ((erased_at IS NULL) = (destroy_at IS NULL)),
    CHECK ((restriction_trigger IS NULL) = (review_at IS NULL)),
    CHECK (state <> 'active' OR restriction_trigger IS NULL),
    CHECK (state <> 'restricted' OR restriction_trigger IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX subjects_by_reference ON subjects (platform_id, index_version, reference_hash);

-- One current record per subject and field; corrections add versions.
CREATE TABLE records (
    platform_id  INTEGER NOT NULL,
    record_id    BLOB    NOT NULL CHECK (length(record_id) = 16),
    version      INTEGER NOT NULL CHECK (version > 0),
    subject_id   BLOB    NOT NULL,
    field        TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('current', 'superseded')),
    source       TEXT    NOT NULL CHECK (source IN ('subject', 'partner', 'state_database', 'public')),
    sealed_value BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    mac          BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, record_id, version),
    FOREIGN KEY (platform_id, subject_id) REFERENCES subjects
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX records_current ON records (platform_id, subject_id, field) WHERE state = 'current';

-- token_hash is SHA-256 for tokens of 160 bits (hash_version 0), else an HMAC under that version of the index key.
CREATE TABLE tokens (
    platform_id  INTEGER NOT NULL,
    token_hash   BLOB    NOT NULL CHECK (length(token_hash) = 32),
    hash_version INTEGER NOT NULL CHECK (hash_version >= 0),
    token_id     BLOB    NOT NULL CHECK (length(token_id) = 16),
    record_id    BLOB    NOT NULL CHECK (length(record_id) = 16),
    mode         TEXT    NOT NULL CHECK (mode IN ('random', 'deterministic', 'one_time', 'expiring', 'digits')),
    state        TEXT    NOT NULL CHECK (state IN ('active', 'spent', 'revoked')),
    expires_at   INTEGER,
    sealed_token BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    mac          BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, token_hash),
    CHECK ((mode = 'expiring') = (expires_at IS NOT NULL)),
    CHECK (state <> 'spent' OR mode = 'one_time'),
    CHECK ((mode = 'digits') = (hash_version > 0))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX tokens_by_id ON tokens (platform_id, token_id);
CREATE INDEX tokens_by_record ON tokens (platform_id, record_id);
CREATE UNIQUE INDEX tokens_deterministic ON tokens (platform_id, record_id) WHERE mode = 'deterministic' AND state = 'active';

-- The blind index. claims_unique is set only for the current version of a live subject in a unique field.
CREATE TABLE index_entries (
    platform_id   INTEGER NOT NULL,
    field         TEXT    NOT NULL,
    index_version INTEGER NOT NULL,
    value_hash    BLOB    NOT NULL CHECK (length(value_hash) = 32),
    record_id     BLOB    NOT NULL CHECK (length(record_id) = 16),
    claims_unique INTEGER NOT NULL CHECK (claims_unique IN (0, 1)),
    PRIMARY KEY (platform_id, field, index_version, value_hash, record_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX index_entries_unique ON index_entries (platform_id, field, index_version, value_hash) WHERE claims_unique = 1;
CREATE INDEX index_entries_by_record ON index_entries (platform_id, record_id);

-- Law 94-V, Article 8(4). The subject's name and the operator as it was named are in sealed_evidence.
CREATE TABLE consents (
    platform_id           INTEGER NOT NULL,
    consent_id            BLOB    NOT NULL CHECK (length(consent_id) = 16),
    subject_id            BLOB    NOT NULL,
    purpose               TEXT    NOT NULL,
    fields                TEXT    NOT NULL,
    state                 TEXT    NOT NULL CHECK (state IN ('granted', 'withdrawn')),
    act                   TEXT    NOT NULL CHECK (act IN ('tick', 'written', 'electronic_signature', 'one_time_code')),
    given_at              INTEGER NOT NULL,
    expires_at            INTEGER,
    recorded_at           INTEGER NOT NULL,
    withdrawn_at          INTEGER,
    third_party_transfer  INTEGER NOT NULL CHECK (third_party_transfer IN (0, 1)),
    cross_border_transfer INTEGER NOT NULL CHECK (cross_border_transfer IN (0, 1)),
    publication           INTEGER NOT NULL CHECK (publication IN (0, 1)),
    policy_version        INTEGER NOT NULL,
    language              TEXT    NOT NULL CHECK (language IN ('kk', 'ru', 'en')),
    text_sha256           BLOB    NOT NULL CHECK (length(text_sha256) = 32),
    site                  TEXT    NOT NULL,
    sealed_evidence       BLOB    NOT NULL,
    mac                   BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, consent_id),
    FOREIGN KEY (platform_id, subject_id) REFERENCES subjects,
    CHECK ((state = 'withdrawn') = (withdrawn_at IS NOT NULL)),
    CHECK (expires_at IS NULL OR expires_at > given_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX consents_by_subject ON consents (platform_id, subject_id, recorded_at DESC);

CREATE TABLE subject_events (
    platform_id INTEGER NOT NULL,
    event_id    BLOB    NOT NULL CHECK (length(event_id) = 16),
    subject_id  BLOB    NOT NULL,
    name        TEXT    NOT NULL,
    happened_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, event_id),
    FOREIGN KEY (platform_id, subject_id) REFERENCES subjects
) STRICT, WITHOUT ROWID;
CREATE INDEX subject_events_by_subject ON subject_events (platform_id, subject_id);

-- Mutations that were done, for 24 hours: what a retry with the same request id is answered from. No values.
CREATE TABLE requests (
    platform_id INTEGER NOT NULL,
    caller_id   BLOB    NOT NULL CHECK (length(caller_id) = 16),
    request_id  BLOB    NOT NULL CHECK (length(request_id) = 16),
    call        TEXT    NOT NULL,
    body_mac    BLOB    NOT NULL CHECK (length(body_mac) = 32),
    outcome     BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, caller_id, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_time ON requests (platform_id, created_at);

CREATE TABLE budgets (
    platform_id  INTEGER NOT NULL,
    caller_id    BLOB    NOT NULL CHECK (length(caller_id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('enumeration', 'erasure')),
    window_start INTEGER NOT NULL,
    spent        INTEGER NOT NULL CHECK (spent > 0),
    PRIMARY KEY (platform_id, caller_id, kind, window_start)
) STRICT, WITHOUT ROWID;

-- Long or delayed work. A worker's writes are conditional on its fence.
CREATE TABLE operations (
    platform_id  INTEGER NOT NULL,
    operation_id BLOB    NOT NULL CHECK (length(operation_id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('destroy_subject')),
    object_id    BLOB    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'cancelled', 'failed')),
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
CREATE INDEX operations_open ON operations (platform_id, due_at) WHERE state IN ('waiting', 'running');
CREATE UNIQUE INDEX operations_of_object ON operations (platform_id, kind, object_id) WHERE state IN ('waiting', 'running');

-- Running vault processes.
CREATE TABLE replicas (
    name         TEXT    PRIMARY KEY,
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    schema       INTEGER NOT NULL
) STRICT;
