-- Schema 6. What the vault states of each erasure, signed by the audit key. A binary of schema 5 would erase without it.
UPDATE schema_version SET version = 6, oldest_binary = 6;

CREATE TABLE erasure_receipts (
    platform_id INTEGER NOT NULL,
    entry_id    BLOB    NOT NULL CHECK (length(entry_id) = 16),
    subject_id  BLOB    NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('erased', 'called_off', 'destroyed')),
    statement   TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (platform_id, entry_id),
    FOREIGN KEY (platform_id, subject_id) REFERENCES subjects
) STRICT, WITHOUT ROWID;
CREATE INDEX erasure_receipts_by_subject ON erasure_receipts (platform_id, subject_id, created_at DESC);
