-- Schema 4. A backup is an operation. A platform that was restored may be closed until two people open it.
UPDATE schema_version SET version = 4, oldest_binary = 4;

ALTER TABLE operations DROP CONSTRAINT operations_3_kind_check;
ALTER TABLE operations ADD CONSTRAINT operations_kind_check
    CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'destroy_key', 'backup'));

-- The last time that a platform was restored, where it must be, or had to be, opened by two people.
CREATE TABLE closures (
    platform_id BIGINT NOT NULL PRIMARY KEY,
    reason      TEXT    NOT NULL CHECK (reason IN ('mirror_missing', 'mirror_damaged', 'mirror_differs', 'policy_lost')),
    closed_at   BIGINT NOT NULL,
    opened_at   BIGINT CHECK (opened_at >= closed_at),
    mac         BYTEA    NOT NULL CHECK (length(mac) = 32)
);
