-- Schema 18. Everything of a platform is sealed anew under new subject keys. An older binary would take objects that are made
-- ready for orphans.
UPDATE schema_version SET version = 18, oldest_binary = 18;

ALTER TABLE operations DROP CONSTRAINT operations_kind_check;
ALTER TABLE operations ADD CONSTRAINT operations_kind_check
    CHECK (kind IN ('destroy_subject', 'rotate_platform_key', 'destroy_key', 'backup', 'rotate_audit_key', 'rotate_root_key', 'destroy_root_key', 'collect_documents', 'rotate_index_key', 'destroy_index_key', 'sweep_retention', 'rekey_platform'));
ALTER TABLE operations DROP CONSTRAINT operations_phase_check;
ALTER TABLE operations ADD CONSTRAINT operations_phase_check
    CHECK (phase IN ('', 'activate', 'rewrap', 'fill', 'verify', 'drop', 'announce', 'reseal'));

-- One open operation of an object, of whatever kind: a rotation and a rekey of one key are never at work together.
DROP INDEX operations_of_object;
CREATE UNIQUE INDEX operations_of_object ON operations (object_id, platform_id) WHERE state IN ('waiting', 'running', 'paused');

-- Objects that stand ready for a document that is sealed anew are doomed = 2.
ALTER TABLE document_parts DROP CONSTRAINT document_parts_doomed_check;
ALTER TABLE document_parts ADD CONSTRAINT document_parts_doomed_check CHECK (doomed IN (0, 1, 2));
CREATE INDEX document_parts_ready ON document_parts (platform_id) WHERE doomed = 2;

CREATE INDEX records_superseded ON records (subject_id, platform_id) WHERE state = 'superseded';
