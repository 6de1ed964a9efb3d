-- Schema 27. The event that refuses a withdrawal has its reason with it (Law 94-V, Article 8(2), 8(7)). A binary of schema 26 would
-- call rows damaged that say so. Both are NULL of every other event, and of one that was recorded before.
UPDATE schema_version SET version = 27, oldest_binary = 27;

ALTER TABLE subject_events ADD COLUMN withdrawal_bar TEXT;
-- The law or the contract behind it, in the operator's numbering.
ALTER TABLE subject_events ADD COLUMN ground TEXT;
