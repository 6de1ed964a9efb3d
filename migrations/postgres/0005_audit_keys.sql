-- Schema 5. The audit key is rotated: every log is handed over to the new version.
UPDATE schema_version SET version = 5, oldest_binary = 5;

ALTER TABLE operations DROP CONSTRAINT operations_kind_check;
ALTER TABLE operations ADD CONSTRAINT operations_kind_check
    CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'destroy_key', 'backup', 'rotate_audit_key'));
ALTER TABLE operations DROP CONSTRAINT operations_3_phase_check;
ALTER TABLE operations ADD CONSTRAINT operations_phase_check
    CHECK (phase IN ('', 'activate', 'rewrap', 'verify', 'announce'));
