-- Schema 17. A root version has a row of its own among the keys: since when it wraps, and when it is to be destroyed, under a
-- MAC. An older binary would destroy a root version by an operation alone.
UPDATE schema_version SET version = 17, oldest_binary = 17;

ALTER TABLE key_versions DROP CONSTRAINT key_versions_kind_check;
ALTER TABLE key_versions DROP CONSTRAINT key_versions_check;
ALTER TABLE key_versions ADD CONSTRAINT key_versions_kind_check
    CHECK (kind IN ('platform', 'index', 'row', 'request', 'audit', 'root'));
ALTER TABLE key_versions ADD CONSTRAINT key_versions_check
    CHECK ((kind = 'root' OR state = 'destroyed') = (wrapped IS NULL));
ALTER TABLE key_versions ADD CONSTRAINT key_versions_root_check CHECK (kind <> 'root' OR platform_id = 0);
DROP TABLE root_versions;
