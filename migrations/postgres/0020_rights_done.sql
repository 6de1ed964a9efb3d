-- Schema 20. What a request asks was done, of the kinds that the vault does itself. A binary of schema 19 would tell a person that it
-- is done before it is.
UPDATE schema_version SET version = 20, oldest_binary = 20;

ALTER TABLE rights_cases ADD COLUMN done_at BIGINT CHECK (done_at IS NULL OR begun_at IS NOT NULL);
