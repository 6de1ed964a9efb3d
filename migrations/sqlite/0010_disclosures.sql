-- Schema 10. Values that leave are paid from budgets, by the hour and by the day, each purpose apart.
UPDATE schema_version SET version = 10, oldest_binary = 10;

CREATE TABLE budget_limits_10 (
    platform_id    INTEGER NOT NULL,
    caller_id      BLOB    NOT NULL CHECK (length(caller_id) IN (0, 16)),
    kind           TEXT    NOT NULL CHECK (kind IN ('enumeration', 'erasure', 'disclosure_hour', 'disclosure_day')),
    max_spent      INTEGER NOT NULL CHECK (max_spent >= 0),
    window_seconds INTEGER NOT NULL CHECK (window_seconds > 0),
    updated_at     INTEGER NOT NULL,
    mac            BLOB    NOT NULL CHECK (length(mac) = 32),
    PRIMARY KEY (platform_id, caller_id, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO budget_limits_10 (platform_id, caller_id, kind, max_spent, window_seconds, updated_at, mac)
SELECT platform_id, caller_id, kind, max_spent, window_seconds, updated_at, mac FROM budget_limits;
DROP TABLE budget_limits;
ALTER TABLE budget_limits_10 RENAME TO budget_limits;

CREATE TABLE budgets_10 (
    platform_id  INTEGER NOT NULL,
    caller_id    BLOB    NOT NULL CHECK (length(caller_id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('enumeration', 'erasure', 'disclosure_hour', 'disclosure_day')),
    purpose      TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    spent        INTEGER NOT NULL CHECK (spent > 0),
    PRIMARY KEY (platform_id, caller_id, kind, purpose, window_start),
    CHECK ((purpose <> '') = (kind IN ('disclosure_hour', 'disclosure_day')))
) STRICT, WITHOUT ROWID;
INSERT INTO budgets_10 (platform_id, caller_id, kind, purpose, window_start, spent)
SELECT platform_id, caller_id, kind, '', window_start, spent FROM budgets;
DROP TABLE budgets;
ALTER TABLE budgets_10 RENAME TO budgets;
