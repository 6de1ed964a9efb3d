-- Schema 23. Pages of subjects keep a tenth free, so that a rotation puts the new wrap of a key beside the old one and leaves both
-- indexes alone (a heap-only update). A walk in the order of ids touches a page once for each of its rows, and the room that one wrap
-- left serves the next. Pages that are there already get it as their rows are written anew.
UPDATE schema_version SET version = 23, oldest_binary = 22;

ALTER TABLE subjects SET (fillfactor = 90);
