-- Schema 14. The end of retention is destroyed by an operation. An older binary does not know it.
UPDATE schema_version SET version = 14, oldest_binary = 14;

ALTER TABLE operations DROP CONSTRAINT operations_kind_check;
ALTER TABLE operations ADD CONSTRAINT operations_kind_check
    CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'destroy_key', 'backup', 'rotate_audit_key', 'rotate_root_key', 'destroy_root_key', 'collect_documents', 'rotate_index_key', 'destroy_index_key', 'sweep_retention'));
