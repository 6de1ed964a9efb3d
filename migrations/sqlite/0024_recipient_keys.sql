-- Schema 24. A recipient's key counts when its holder has answered a challenge that only the holder can open. A binary of schema 23
-- would seal to a key that nobody has shown to hold, and call rows damaged that have one on offer.
UPDATE schema_version SET version = 24, oldest_binary = 24;

-- When the key was proved; NULL where it counts from before there were challenges.
ALTER TABLE recipients ADD COLUMN key_proved_at INTEGER;
-- The key on offer: what its challenge is bound to, the challenge (HPKE: encapsulated key and ciphertext), the hash of its answer.
ALTER TABLE recipients ADD COLUMN offered_key BLOB CHECK (length(offered_key) = 32);
ALTER TABLE recipients ADD COLUMN offer_statement TEXT;
ALTER TABLE recipients ADD COLUMN offer_sealed BLOB CHECK (length(offer_sealed) = 80);
ALTER TABLE recipients ADD COLUMN offer_answer_sha256 BLOB CHECK (length(offer_answer_sha256) = 32);
ALTER TABLE recipients ADD COLUMN offer_expires_at INTEGER;
ALTER TABLE recipients ADD COLUMN offer_wrong INTEGER CHECK (offer_wrong BETWEEN 0 AND 9);
