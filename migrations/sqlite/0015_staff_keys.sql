-- Schema 15. Keys of staff certificates that live on hardware. An older binary would let staff in without them.
UPDATE schema_version SET version = 15, oldest_binary = 15;

CREATE TABLE staff_keys (
    platform_id  INTEGER NOT NULL CHECK (platform_id = 0),
    key_sha256   BLOB    NOT NULL CHECK (length(key_sha256) = 32),
    person_id    BLOB    NOT NULL,
    evidence     TEXT    NOT NULL CHECK (evidence IN ('chain', 'statement')),
    serial       TEXT    NOT NULL,
    device       TEXT    NOT NULL,
    chain        BLOB    NOT NULL,
    proposer_id  BLOB    NOT NULL,
    approver_id  BLOB    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('active', 'withdrawn')),
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    mac          BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, key_sha256),
    CHECK ((evidence = 'chain') = (length(chain) > 0)),
    CHECK (proposer_id <> approver_id AND approver_id <> person_id),
    FOREIGN KEY (platform_id, person_id) REFERENCES persons,
    FOREIGN KEY (platform_id, proposer_id) REFERENCES persons,
    FOREIGN KEY (platform_id, approver_id) REFERENCES persons
) STRICT, WITHOUT ROWID;
