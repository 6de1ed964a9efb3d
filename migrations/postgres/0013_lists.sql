-- Schema 13. Indexes for the operations of one kind, and for open proposals in their order.
UPDATE schema_version SET version = 13, oldest_binary = 12;

CREATE INDEX operations_by_kind ON operations (platform_id, kind, created_at DESC, operation_id);
CREATE INDEX proposals_open_by_time ON proposals (platform_id, created_at, proposal_id) WHERE state = 'open';
