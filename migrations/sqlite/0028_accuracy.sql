-- Schema 28. Marks on values: confirmed, disputed, or neither any more (rule R35). Each is an event of the subject that no policy
-- declares, with the field, the mark, and in `ground` the evidence behind it. A binary of schema 27 would call such rows damaged.
UPDATE schema_version SET version = 28, oldest_binary = 28;

ALTER TABLE subject_events ADD COLUMN field TEXT;
ALTER TABLE subject_events ADD COLUMN accuracy TEXT;
