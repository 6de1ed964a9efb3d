-- Schema 11. Cleaning the document store is an operation.
UPDATE schema_version SET version = 11, oldest_binary = 11;

ALTER TABLE operations DROP CONSTRAINT operations_kind_check;
ALTER TABLE operations ADD CONSTRAINT operations_kind_check
    CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'destroy_key', 'backup', 'rotate_audit_key', 'rotate_root_key',
        'destroy_root_key', 'collect_documents'));
