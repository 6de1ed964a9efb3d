-- Schema 1. Ids are 16 random bytes; instants are microseconds since the Unix epoch; hashes and MACs are 32 bytes.
-- Keys of platform tables begin with platform_id, so that the schema can be distributed by it.

-- The version of the schema, and the oldest binary (by its own schema version) that may run on it.
CREATE TABLE schema_version (
    only          INTEGER PRIMARY KEY CHECK (only = 1),
    version       INTEGER NOT NULL,
    oldest_binary INTEGER NOT NULL
) STRICT;
INSERT INTO schema_version (only, version, oldest_binary) VALUES (1, 1, 1);

-- The installation's name stands in every log's origin and never changes.
CREATE TABLE installation (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE platforms (
    platform_id INTEGER PRIMARY KEY CHECK (platform_id >= 0),
    name        TEXT    NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL
) STRICT;

-- Root keys live in the KMS; here stands only which versions there are.
CREATE TABLE root_versions (
    version    INTEGER PRIMARY KEY CHECK (version > 0),
    state      TEXT    NOT NULL CHECK (state IN ('pending', 'active', 'retiring', 'disabled', 'destruction_scheduled', 'destroyed')),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE key_versions (
    platform_id INTEGER NOT NULL REFERENCES platforms,
    kind        TEXT    NOT NULL CHECK (kind IN ('platform', 'index', 'row', 'audit')),
    version     INTEGER NOT NULL CHECK (version > 0),
    state       TEXT    NOT NULL CHECK (state IN ('pending', 'active', 'retiring', 'disabled', 'destruction_scheduled', 'destroyed')),
    wrapped     BLOB,
    created_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, kind, version),
    CHECK ((state = 'destroyed') = (wrapped IS NULL))
) STRICT, WITHOUT ROWID;

-- A caller belongs to one platform; its certificate's URI is its name everywhere.
CREATE TABLE callers (
    spiffe_id   TEXT    PRIMARY KEY,
    caller_id   BLOB    NOT NULL UNIQUE CHECK (length(caller_id) = 16),
    platform_id INTEGER NOT NULL REFERENCES platforms,
    name        TEXT    NOT NULL,
    roles       TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('enabled', 'disabled')),
    updated_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT;
CREATE UNIQUE INDEX callers_one_name ON callers (platform_id, name) WHERE state = 'enabled';

CREATE TABLE policies (
    platform_id INTEGER NOT NULL REFERENCES platforms,
    version     INTEGER NOT NULL CHECK (version > 0),
    text        TEXT    NOT NULL,
    sha256      BLOB    NOT NULL CHECK (length(sha256) = 32),
    created_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, version)
) STRICT, WITHOUT ROWID;

-- One row a platform: every commit advances it by compare-and-swap on size, config_epoch and tighten_seq.
CREATE TABLE heads (
    platform_id  INTEGER PRIMARY KEY REFERENCES platforms,
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
    platform_id INTEGER NOT NULL REFERENCES platforms,
    second      INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    checkpoint  TEXT    NOT NULL,
    PRIMARY KEY (platform_id, second)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_entries (
    platform_id INTEGER NOT NULL REFERENCES platforms,
    position    INTEGER NOT NULL CHECK (position >= 0),
    entry       BLOB    NOT NULL CHECK (length(entry) <= 65535),
    leaf_hash   BLOB    NOT NULL CHECK (length(leaf_hash) = 32),
    PRIMARY KEY (platform_id, position)
) STRICT, WITHOUT ROWID;

-- Complete tiles: 256 hashes; root is the hash of the next level.
CREATE TABLE audit_tiles (
    platform_id INTEGER NOT NULL REFERENCES platforms,
    level       INTEGER NOT NULL CHECK (level BETWEEN 0 AND 7),
    tile_index  INTEGER NOT NULL CHECK (tile_index >= 0),
    hashes      BLOB    NOT NULL CHECK (length(hashes) = 8192),
    root        BLOB    NOT NULL CHECK (length(root) = 32),
    PRIMARY KEY (platform_id, level, tile_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE subjects (
    platform_id      INTEGER NOT NULL REFERENCES platforms,
    subject_id       BLOB    NOT NULL CHECK (length(subject_id) = 16),
    index_version    INTEGER NOT NULL,
    reference_hash   BLOB    NOT NULL CHECK (length(reference_hash) = 32),
    sealed_reference BLOB    NOT NULL,
    wrapped_key      BLOB,
    state            TEXT    NOT NULL CHECK (state IN ('active', 'restricted', 'erased')),
    created_at       INTEGER NOT NULL,
    mac              BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, subject_id),
    CHECK (wrapped_key IS NOT NULL OR state = 'erased')
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX subjects_by_reference ON subjects (platform_id, index_version, reference_hash);

-- One current record per subject and field; corrections add versions.
CREATE TABLE records (
    platform_id  INTEGER NOT NULL REFERENCES platforms,
    record_id    BLOB    NOT NULL CHECK (length(record_id) = 16),
    version      INTEGER NOT NULL CHECK (version > 0),
    subject_id   BLOB    NOT NULL,
    field        TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('current', 'superseded')),
    sealed_value BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    mac          BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, record_id, version),
    FOREIGN KEY (platform_id, subject_id) REFERENCES subjects
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX records_current ON records (platform_id, subject_id, field) WHERE state = 'current';

CREATE TABLE tokens (
    platform_id  INTEGER NOT NULL REFERENCES platforms,
    token_hash   BLOB    NOT NULL CHECK (length(token_hash) = 32),
    token_id     BLOB    NOT NULL CHECK (length(token_id) = 16),
    record_id    BLOB    NOT NULL CHECK (length(record_id) = 16),
    mode         TEXT    NOT NULL CHECK (mode IN ('random')),
    state        TEXT    NOT NULL CHECK (state IN ('active', 'revoked')),
    sealed_token BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    mac          BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, token_hash)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX tokens_by_id ON tokens (platform_id, token_id);
CREATE INDEX tokens_by_record ON tokens (platform_id, record_id);

-- Law 94-V, Article 8(4). The subject's name and the operator as it was named are in sealed_evidence.
CREATE TABLE consents (
    platform_id           INTEGER NOT NULL REFERENCES platforms,
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
