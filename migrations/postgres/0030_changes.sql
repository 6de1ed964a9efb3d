-- Schema 30. Rows that were read for tokens may be used again while nothing of them was changed: change_seq moves with every commit
-- that changes such a row, or what is read with it.

ALTER TABLE heads ADD COLUMN change_seq BIGINT NOT NULL DEFAULT 0 CHECK (change_seq >= 0);

UPDATE schema_version SET version = 30, oldest_binary = 30;
