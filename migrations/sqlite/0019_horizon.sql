-- Schema 19. A standing plan lets old versions of keys be destroyed by the calendar. An older binary does not ask for it.
UPDATE schema_version SET version = 19, oldest_binary = 19;

CREATE TABLE horizon_plans (
    platform_id  INTEGER NOT NULL CHECK (platform_id = 0),
    plan_id      BLOB    NOT NULL CHECK (length(plan_id) = 16),
    horizon_days INTEGER NOT NULL CHECK (horizon_days > 0),
    rotate_days  INTEGER NOT NULL CHECK (rotate_days > 0 AND rotate_days < horizon_days),
    sha256       BLOB    NOT NULL CHECK (length(sha256) = 32),
    proposer_id  BLOB    NOT NULL,
    approver_id  BLOB,
    state        TEXT    NOT NULL CHECK (state IN ('active', 'revoked')),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL CHECK (expires_at > created_at),
    updated_at   INTEGER NOT NULL,
    mac          BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, plan_id),
    CHECK (approver_id IS NULL OR approver_id <> proposer_id),
    FOREIGN KEY (platform_id, proposer_id) REFERENCES persons,
    FOREIGN KEY (platform_id, approver_id) REFERENCES persons
) STRICT, WITHOUT ROWID;
