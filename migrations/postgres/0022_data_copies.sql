-- Schema 22. Copies of data outside the vault, on paper and exported, each with the day by which it is destroyed. A binary of schema
-- 21 would let that day pass without a word.
UPDATE schema_version SET version = 22, oldest_binary = 22;

CREATE TABLE data_copies (
    platform_id BIGINT  NOT NULL,
    copy_id     BYTEA   NOT NULL CHECK (length(copy_id) = 16),
    kind        TEXT    NOT NULL CHECK (kind IN ('paper', 'file', 'medium')),
    purpose     TEXT    NOT NULL,
    fields      TEXT    NOT NULL CHECK (fields <> ''),
    subject_id  BYTEA   CHECK (length(subject_id) = 16),
    holder      TEXT    NOT NULL CHECK (holder <> ''),
    reference   TEXT    NOT NULL,
    made_at     BIGINT  NOT NULL,
    destroy_by  BIGINT  NOT NULL CHECK (destroy_by > made_at),
    recorded_at BIGINT  NOT NULL,
    ended_at    BIGINT  CHECK (ended_at >= made_at),
    outcome     TEXT    NOT NULL CHECK (outcome IN ('', 'destroyed', 'handed_over')),
    act         TEXT    NOT NULL,
    mac         BYTEA   NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, copy_id),
    CHECK ((ended_at IS NULL) = (outcome = '')),
    CHECK ((ended_at IS NULL) = (act = ''))
);
CREATE INDEX data_copies_by_end ON data_copies (platform_id, destroy_by, copy_id);
CREATE INDEX data_copies_open ON data_copies (platform_id, destroy_by, copy_id) WHERE ended_at IS NULL;
