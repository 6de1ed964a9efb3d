-- Schema 2. Acts that wait for a second person. The request is sealed under a key of its own, which goes when the proposal
-- ends: it can name a person. A binary of schema 1 would leave proposals unchecked, so none may run on it.
CREATE TABLE proposals (
    platform_id    BIGINT  NOT NULL,
    proposal_id    BYTEA   NOT NULL CHECK (length(proposal_id) = 16),
    call           TEXT    NOT NULL,
    wrapped_key    BYTEA  ,
    sealed_request BYTEA  ,
    plan_sha256    BYTEA   NOT NULL CHECK (length(plan_sha256) = 32),
    person_id      BYTEA   NOT NULL CHECK (length(person_id) = 16),
    caller_id      BYTEA   NOT NULL CHECK (length(caller_id) = 16),
    created_at     BIGINT  NOT NULL,
    expires_at     BIGINT  NOT NULL CHECK (expires_at > created_at),
    state          TEXT    NOT NULL CHECK (state IN ('open', 'approved', 'rejected', 'expired', 'failed')),
    ended_by       BYTEA   CHECK (length(ended_by) = 16),
    ended_at       BIGINT ,
    reason         TEXT,
    mac            BYTEA   NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, proposal_id),
    CHECK ((state = 'open') = (ended_at IS NULL)),
    CHECK ((state = 'open') = (wrapped_key IS NOT NULL)),
    CHECK ((state = 'open') = (sealed_request IS NOT NULL)),
    CHECK ((state IN ('approved', 'rejected', 'failed')) = (ended_by IS NOT NULL)),
    CHECK ((state = 'failed') = (reason IS NOT NULL)),
    -- Nobody approves an act of their own.
    CHECK (state NOT IN ('approved', 'failed') OR ended_by <> person_id)
);
CREATE UNIQUE INDEX proposals_by_id ON proposals (proposal_id);
CREATE INDEX proposals_by_time ON proposals (platform_id, created_at, proposal_id);
CREATE INDEX proposals_open ON proposals (platform_id, expires_at) WHERE state = 'open';

UPDATE schema_version SET version = 2, oldest_binary = 2;
