-- Schema 10. Values that leave are paid from budgets, by the hour and by the day, each purpose apart.
UPDATE schema_version SET version = 10, oldest_binary = 10;

ALTER TABLE budget_limits DROP CONSTRAINT budget_limits_kind_check;
ALTER TABLE budget_limits ADD CONSTRAINT budget_limits_kind_check
    CHECK (kind IN ('enumeration', 'erasure', 'disclosure_hour', 'disclosure_day'));

ALTER TABLE budgets ADD COLUMN purpose TEXT NOT NULL DEFAULT '';
ALTER TABLE budgets ALTER COLUMN purpose DROP DEFAULT;
ALTER TABLE budgets DROP CONSTRAINT budgets_pkey;
ALTER TABLE budgets ADD PRIMARY KEY (platform_id, caller_id, kind, purpose, window_start);
ALTER TABLE budgets DROP CONSTRAINT budgets_kind_check;
ALTER TABLE budgets ADD CONSTRAINT budgets_kind_check
    CHECK (kind IN ('enumeration', 'erasure', 'disclosure_hour', 'disclosure_day'));
ALTER TABLE budgets ADD CONSTRAINT budgets_purpose_check
    CHECK ((purpose <> '') = (kind IN ('disclosure_hour', 'disclosure_day')));
