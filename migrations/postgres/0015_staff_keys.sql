-- Schema 15. Keys of staff certificates that live on hardware. An older binary would let staff in without them.
UPDATE schema_version SET version = 15, oldest_binary = 15;

CREATE TABLE staff_keys (
    platform_id  BIGINT  NOT NULL CHECK (platform_id = 0),
    key_sha256   BYTEA   NOT NULL CHECK (length(key_sha256) = 32),
    person_id    BYTEA   NOT NULL,
    evidence     TEXT    NOT NULL CHECK (evidence IN ('chain', 'statement')),
    serial       TEXT    NOT NULL,
    device       TEXT    NOT NULL,
    chain        BYTEA   NOT NULL,
    proposer_id  BYTEA   NOT NULL,
    approver_id  BYTEA   NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('active', 'withdrawn')),
    created_at   BIGINT  NOT NULL,
    updated_at   BIGINT  NOT NULL,
    mac          BYTEA   NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, key_sha256),
    CHECK ((evidence = 'chain') = (length(chain) > 0)),
    CHECK (proposer_id <> approver_id AND approver_id <> person_id),
    FOREIGN KEY (platform_id, person_id) REFERENCES persons,
    FOREIGN KEY (platform_id, proposer_id) REFERENCES persons,
    FOREIGN KEY (platform_id, approver_id) REFERENCES persons
);
