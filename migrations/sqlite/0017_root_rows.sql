-- Schema 17. A root version has a row of its own among the keys: since when it wraps, and when it is to be destroyed, under a
-- MAC. An older binary would destroy a root version by an operation alone.
UPDATE schema_version SET version = 17, oldest_binary = 17;

CREATE TABLE key_versions_17 (
    platform_id INTEGER NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('platform', 'index', 'row', 'request', 'audit', 'root')),
    version     INTEGER NOT NULL CHECK (version > 0),
    state       TEXT    NOT NULL CHECK (state IN ('pending', 'active', 'retiring', 'disabled', 'destruction_scheduled', 'destroyed')),
    wrapped     BLOB,
    created_at  INTEGER NOT NULL,
    mac         BLOB    NOT NULL CHECK (length(mac) = 32),
    destroy_at  INTEGER,
    PRIMARY KEY (platform_id, kind, version),
    CHECK ((kind = 'root' OR state = 'destroyed') = (wrapped IS NULL)),
    CHECK (kind <> 'root' OR platform_id = 0)
) STRICT, WITHOUT ROWID;
INSERT INTO key_versions_17 (platform_id, kind, version, state, wrapped, created_at, mac, destroy_at)
SELECT platform_id, kind, version, state, wrapped, created_at, mac, destroy_at FROM key_versions;
DROP TABLE key_versions;
ALTER TABLE key_versions_17 RENAME TO key_versions;
DROP TABLE root_versions;
