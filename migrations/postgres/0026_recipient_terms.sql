-- Schema 26. On what a recipient abroad receives (Law 94-V, Article 16), and what each recipient has promised. A binary of schema 25
-- would call rows damaged that say so.
UPDATE schema_version SET version = 26, oldest_binary = 26;

ALTER TABLE recipients ADD COLUMN safeguard TEXT;
-- The treaty, law, assessment or clauses, in the operator's numbering.
ALTER TABLE recipients ADD COLUMN safeguard_reference TEXT;
-- Codes, one after the other with a comma between them.
ALTER TABLE recipients ADD COLUMN conditions TEXT NOT NULL DEFAULT '';
