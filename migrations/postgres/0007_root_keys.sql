-- Schema 7. The root key is rotated, and its old versions are destroyed.
UPDATE schema_version SET version = 7, oldest_binary = 7;

ALTER TABLE operations DROP CONSTRAINT operations_kind_check;
ALTER TABLE operations ADD CONSTRAINT operations_kind_check
    CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'destroy_key', 'backup', 'rotate_audit_key', 'rotate_root_key',
        'destroy_root_key'));
