-- Schema 23. A change for PostgreSQL alone: room in the pages of subjects. SQLite writes a row of the same length in its place.
UPDATE schema_version SET version = 23, oldest_binary = 22;
