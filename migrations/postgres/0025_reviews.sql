-- Schema 25. Blocks by the day of their review, so that those whose day is over are counted and listed without a look at every
-- subject. It has an index more and nothing else: a binary of schema 24 serves on.
UPDATE schema_version SET version = 25, oldest_binary = 24;

CREATE INDEX subjects_by_review ON subjects (review_at, platform_id, subject_id) WHERE state = 'restricted';
