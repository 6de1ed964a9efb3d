-- Schema 16. Requests of people about their data: what is asked, by when it is answered, how it ended. A binary of schema 15
-- would leave them unanswered.
UPDATE schema_version SET version = 16, oldest_binary = 16;

CREATE TABLE rights_cases (
    platform_id       INTEGER NOT NULL,
    case_id           BLOB    NOT NULL CHECK (length(case_id) = 16),
    subject_id        BLOB,
    kind              TEXT    NOT NULL CHECK (kind IN ('access', 'correction', 'restriction', 'portability', 'erasure', 'anonymisation', 'objection', 'withdrawal')),
    channel           TEXT    NOT NULL,
    site              TEXT    NOT NULL,
    requester         TEXT    NOT NULL CHECK (requester IN ('subject', 'representative')),
    representation    TEXT    NOT NULL,
    reference         TEXT    NOT NULL,
    received_at       INTEGER NOT NULL,
    counts_from       INTEGER NOT NULL CHECK (counts_from >= received_at),
    working_days      INTEGER NOT NULL CHECK (working_days > 0),
    clause            TEXT    NOT NULL,
    calendar_sha256   BLOB    NOT NULL CHECK (length(calendar_sha256) = 32),
    due_at            INTEGER NOT NULL CHECK (due_at > counts_from),
    state             TEXT    NOT NULL CHECK (state IN ('received', 'identity_checked', 'in_work', 'answered', 'refused')),
    identity_method   TEXT    NOT NULL,
    identity_evidence TEXT    NOT NULL,
    identified_at     INTEGER,
    begun_at          INTEGER,
    ended_at          INTEGER,
    reasons           TEXT    NOT NULL,
    ground            TEXT    NOT NULL,
    answer_channel    TEXT    NOT NULL,
    language          TEXT    NOT NULL,
    notice_sha256     BLOB    CHECK (length(notice_sha256) = 32),
    enclosure_sha256  BLOB    CHECK (length(enclosure_sha256) = 32),
    opened_at         INTEGER NOT NULL,
    mac               BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, case_id),
    FOREIGN KEY (platform_id, subject_id) REFERENCES subjects,
    CHECK ((requester = 'representative') = (representation <> '')),
    CHECK ((identified_at IS NULL) = (identity_method = '')),
    CHECK ((identified_at IS NULL) = (identity_evidence = '')),
    CHECK (state <> 'received' OR identified_at IS NULL),
    CHECK (state NOT IN ('identity_checked', 'in_work', 'answered') OR identified_at IS NOT NULL),
    CHECK (state NOT IN ('in_work', 'answered') OR begun_at IS NOT NULL),
    CHECK ((state IN ('answered', 'refused')) = (ended_at IS NOT NULL)),
    CHECK ((ended_at IS NULL) = (notice_sha256 IS NULL)),
    CHECK ((state = 'refused') = (reasons <> ''))
) STRICT, WITHOUT ROWID;
CREATE INDEX rights_cases_by_due ON rights_cases (platform_id, due_at, case_id);
CREATE INDEX rights_cases_open ON rights_cases (platform_id, due_at, case_id) WHERE state IN ('received', 'identity_checked', 'in_work');
CREATE INDEX rights_cases_by_subject ON rights_cases (subject_id, platform_id, due_at, case_id);
