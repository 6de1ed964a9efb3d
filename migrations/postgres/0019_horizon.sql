-- Schema 19. A standing plan lets old versions of keys be destroyed by the calendar. An older binary does not ask for it.
UPDATE schema_version SET version = 19, oldest_binary = 19;

CREATE TABLE horizon_plans (
    platform_id  BIGINT  NOT NULL CHECK (platform_id = 0),
    plan_id      BYTEA   NOT NULL CHECK (length(plan_id) = 16),
    horizon_days BIGINT  NOT NULL CHECK (horizon_days > 0),
    rotate_days  BIGINT  NOT NULL CHECK (rotate_days > 0 AND rotate_days < horizon_days),
    sha256       BYTEA   NOT NULL CHECK (length(sha256) = 32),
    proposer_id  BYTEA   NOT NULL,
    approver_id  BYTEA,
    state        TEXT    NOT NULL CHECK (state IN ('active', 'revoked')),
    created_at   BIGINT  NOT NULL,
    expires_at   BIGINT  NOT NULL CHECK (expires_at > created_at),
    updated_at   BIGINT  NOT NULL,
    mac          BYTEA   NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, plan_id),
    CHECK (approver_id IS NULL OR approver_id <> proposer_id),
    FOREIGN KEY (platform_id, proposer_id) REFERENCES persons,
    FOREIGN KEY (platform_id, approver_id) REFERENCES persons
);
