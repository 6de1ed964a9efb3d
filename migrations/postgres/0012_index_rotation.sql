-- Schema 12. Index keys are rotated, and destroyed.
UPDATE schema_version SET version = 12, oldest_binary = 12;

ALTER TABLE operations DROP CONSTRAINT operations_kind_check;
ALTER TABLE operations ADD CONSTRAINT operations_kind_check
    CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'rotate_index_key', 'destroy_key', 'destroy_index_key',
        'backup', 'rotate_audit_key', 'rotate_root_key', 'destroy_root_key', 'collect_documents'));
ALTER TABLE operations DROP CONSTRAINT operations_phase_check;
ALTER TABLE operations ADD CONSTRAINT operations_phase_check
    CHECK (phase IN ('', 'activate', 'rewrap', 'fill', 'verify', 'drop', 'announce'));
