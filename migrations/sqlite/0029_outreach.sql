-- Schema 29. A consent by which people are reached is for one channel and one sender (rule R5; Law 94-V, Article 7(6)). Both are NULL of
-- every other consent, and of one that was recorded before. A binary of schema 28 would take a consent to letters for one to calls.
UPDATE schema_version SET version = 29, oldest_binary = 29;

ALTER TABLE consents ADD COLUMN channel TEXT CHECK (channel IN ('sms', 'call', 'messenger', 'email', 'push', 'post', 'display'));
-- `operator`, or a partner that the policy names.
ALTER TABLE consents ADD COLUMN sender TEXT CHECK ((sender IS NULL) = (channel IS NULL));
