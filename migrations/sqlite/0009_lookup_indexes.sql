-- The indexes beside the primary keys begin with what is looked for, not with platform_id: a planner without statistics
-- (new tables) takes any index whose first column is given for as good as another.

DROP INDEX subjects_by_reference;
CREATE UNIQUE INDEX subjects_by_reference ON subjects (reference_hash, platform_id, index_version);

DROP INDEX records_current;
CREATE UNIQUE INDEX records_current ON records (subject_id, platform_id, field) WHERE state = 'current';

DROP INDEX tokens_by_id;
CREATE UNIQUE INDEX tokens_by_id ON tokens (token_id, platform_id);
DROP INDEX tokens_by_record;
CREATE INDEX tokens_by_record ON tokens (record_id, platform_id);
DROP INDEX tokens_deterministic;
CREATE UNIQUE INDEX tokens_deterministic ON tokens (record_id, platform_id) WHERE mode = 'deterministic' AND state = 'active';

DROP INDEX index_entries_by_record;
CREATE INDEX index_entries_by_record ON index_entries (record_id, platform_id);

DROP INDEX consents_by_subject;
CREATE INDEX consents_by_subject ON consents (subject_id, platform_id, recorded_at DESC);

DROP INDEX subject_events_by_subject;
CREATE INDEX subject_events_by_subject ON subject_events (subject_id, platform_id);

DROP INDEX requests_by_time;
CREATE INDEX requests_by_time ON requests (created_at, platform_id);

DROP INDEX operations_of_object;
CREATE UNIQUE INDEX operations_of_object ON operations (object_id, platform_id, kind) WHERE state IN ('waiting', 'running', 'paused');

DROP INDEX documents_versions;
CREATE UNIQUE INDEX documents_versions ON documents (document_id, platform_id, side, version);
DROP INDEX documents_by_subject;
CREATE INDEX documents_by_subject ON documents (subject_id, platform_id);
DROP INDEX uploads_by_request;
CREATE UNIQUE INDEX uploads_by_request ON uploads (request_id, platform_id, caller_id);
DROP INDEX uploads_by_subject;
CREATE INDEX uploads_by_subject ON uploads (subject_id, platform_id);

UPDATE schema_version SET version = 9, oldest_binary = 8;
