//! Each write of a commit as the statements that do it, the same in both dialects.

use super::{
    breaches::{insert_breach, update_breach},
    cases::{insert_case, update_case},
    config_writes::{
        insert_key, insert_policy, put_caller, put_closure, put_limit, put_person, put_role, put_staff_key,
        update_key,
    },
    copies::{insert_copy, update_copy},
    documents::{
        delete_document, destroy_documents, drop_upload, end_upload, insert_document, insert_upload,
        take_upload, update_document,
    },
    horizon::put_horizon,
    recipients::put_recipient,
    statement::{Dialect, Statement, Touches},
};
use crate::{
    domain::{ids::PlatformId, names::PurposeName, operation::Operation, time::Timestamp},
    store::{
        Write,
        rows::{
            Mac, SubjectRow,
            log::{ReceiptRow, TileRow},
            work::ProposalRow,
        },
    },
};

/// Statements that go from a subject's records to what hangs on them. A state has an index of its own by subject, so each is
/// asked alone: otherwise the platform is walked through.
pub(super) struct RecordTexts {
    destroy_tokens: &'static str,
    destroy_index: &'static str,
    drop_index: &'static str,
}

impl RecordTexts {
    /// The texts live as long as the process, as prepared statements want them.
    pub(super) fn new(dialect: &Dialect) -> Self {
        let delete = |what: &str, subjects: &str| -> &'static str {
            let records = |state: &str| {
                format!(
                    "SELECT record_id FROM records WHERE platform_id = $1 AND {subjects} AND state = '{state}'"
                )
            };
            let [current, older] = ["current", "superseded"].map(records);
            dialect.render(&format!("{what} AND record_id IN ({current} UNION ALL {older})")).leak()
        };
        Self {
            destroy_tokens: delete(
                "/* write::destroy_tokens */ DELETE FROM tokens WHERE {platform}",
                "subject_id = $2",
            ),
            destroy_index: delete(
                "/* write::destroy_index */ DELETE FROM index_entries WHERE {platform}",
                "subject_id = $2",
            ),
            drop_index: delete(
                "/* write::drop_index */ DELETE FROM index_entries WHERE {platform} AND index_version <> $2",
                "subject_id > $3 AND subject_id <= $4",
            ),
        }
    }
}

/// The statements of a write, in order.
pub(super) fn statements<'a>(
    texts: &RecordTexts,
    platform: PlatformId,
    write: &'a Write,
) -> Vec<Statement<'a>> {
    let of = |statement: Statement<'static>| statement.int(platform.get());
    match write {
        Write::UpdateSubject(row, was) => vec![update_subject(row, was)],
        Write::DestroySubject(row) => destroy_subject(texts, row),
        Write::UpdateRecord(row, was) => vec![
            Statement::new(
                "/* write::update_record */ UPDATE records SET state = $4, mac = $5 \
                 WHERE platform_id = $1 AND record_id = $2 AND version = $3 AND mac = $6",
            )
            .int(row.address.platform.get())
            .bytes(row.address.record.as_bytes())
            .int(row.address.version)
            .text(row.state.as_str())
            .bytes(&row.mac)
            .bytes(was),
        ],
        Write::DestroyRecord(record) => {
            let of = |sql| of(Statement::any(sql)).bytes(record.as_bytes());
            vec![
                of("/* write::destroy_record */ DELETE FROM tokens WHERE platform_id = $1 AND record_id = $2"),
                of("/* write::destroy_record */ DELETE FROM index_entries WHERE platform_id = $1 AND record_id = $2"),
                of("/* write::destroy_record */ DELETE FROM records WHERE platform_id = $1 AND record_id = $2"),
            ]
        }
        Write::UpdateToken(row, was) => vec![
            Statement::new(
                "/* write::update_token */ UPDATE tokens SET state = $3, mac = $4 \
                 WHERE platform_id = $1 AND token_hash = $2 AND mac = $5",
            )
            .int(row.platform.get())
            .bytes(&row.hash.0)
            .text(row.state.as_str())
            .bytes(&row.mac)
            .bytes(was),
        ],
        Write::UpdateConsent(row, was) => vec![
            Statement::new(
                "/* write::update_consent */ UPDATE consents SET state = $3, withdrawn_at = $4, mac = $5 \
                 WHERE platform_id = $1 AND consent_id = $2 AND mac = $6",
            )
            .int(row.platform.get())
            .bytes(row.consent.id.as_bytes())
            .text(row.consent.state.as_str())
            .opt_int(micros(row.consent.withdrawn_at))
            .bytes(&row.mac)
            .bytes(was),
        ],
        Write::InsertCase(row) => vec![insert_case(row)],
        Write::UpdateCase(row, was) => vec![update_case(row, was)],
        Write::InsertBreach(row) => vec![insert_breach(row)],
        Write::UpdateBreach(row, was) => vec![update_breach(row, was)],
        Write::PutCopy(row, None) => vec![insert_copy(row)],
        Write::PutCopy(row, Some(was)) => vec![update_copy(row, was)],
        Write::InsertReceipt(row) => vec![insert_receipt(row)],
        Write::EndClaims(record) => vec![
            of(Statement::any(
                "/* write::end_claims */ UPDATE index_entries SET claims_unique = 0 \
                 WHERE platform_id = $1 AND record_id = $2",
            ))
            .bytes(record.as_bytes()),
        ],
        Write::Claim(record) => vec![
            of(Statement::touching(
                "/* write::claim */ UPDATE index_entries SET claims_unique = 1 WHERE platform_id = $1 AND record_id = $2",
                Touches::Some,
            ))
            .bytes(record.as_bytes()),
        ],
        Write::DeleteIndex(record) => vec![
            of(Statement::any(
                "/* write::delete_index */ DELETE FROM index_entries WHERE platform_id = $1 AND record_id = $2",
            ))
            .bytes(record.as_bytes()),
        ],
        Write::ForgetRequests { before, limit } => vec![
            of(Statement::any(
                "/* write::forget_requests */ DELETE FROM requests WHERE platform_id = $1 \
                 AND (caller_id, request_id) IN (SELECT caller_id, request_id FROM requests \
                 WHERE platform_id = $1 AND created_at < $2 ORDER BY created_at LIMIT $3)",
            ))
            .int(before.as_micros())
            .int(*limit),
        ],
        Write::Spend { window, before, after } => {
            let key = |statement: Statement<'static>| {
                of(statement)
                    .own_bytes(window.caller.as_bytes().to_vec())
                    .text(window.kind.as_str())
                    .int(window.start.as_micros())
                    .size(*after)
                    .text(window.purpose.as_ref().map_or("", PurposeName::as_str))
            };
            if *before > 0 {
                return vec![
                    key(Statement::new(
                        "/* write::spend */ UPDATE budgets SET spent = $5 WHERE platform_id = $1 AND caller_id = $2 \
                         AND kind = $3 AND purpose = $6 AND window_start = $4 AND spent = $7",
                    ))
                    .size(*before),
                ];
            }
            // With the first of a window, the windows before it are forgotten.
            let old = of(Statement::any(
                "/* write::forget_spent */ DELETE FROM budgets WHERE platform_id = $1 AND caller_id = $2 AND kind = $3 \
                 AND window_start < $4",
            ))
            .own_bytes(window.caller.as_bytes().to_vec())
            .text(window.kind.as_str())
            .int(window.start.as_micros());
            let first = key(Statement::new(
                "/* write::spend_first */ INSERT INTO budgets (platform_id, caller_id, kind, window_start, spent, \
                 purpose) VALUES ($1, $2, $3, $4, $5, $6)",
            ));
            vec![old, first]
        }
        Write::InsertPolicy(row) => vec![insert_policy(row)],
        Write::PutCaller(row, was) => vec![put_caller(row, was.as_ref())],
        Write::PutPerson(row, was) => vec![put_person(row, was.as_ref())],
        Write::PutRole(row, was) => vec![put_role(row, was.as_ref())],
        Write::PutHorizon(row, was) => vec![put_horizon(row, was.as_ref())],
        Write::PutStaffKey(row, was) => vec![put_staff_key(row, was.as_ref())],
        Write::PutRecipient(row, was) => vec![put_recipient(row, was.as_ref())],
        Write::PutLimit(row, was) => vec![put_limit(row, was.as_ref())],
        Write::PutClosure(row, was) => vec![put_closure(row, was.as_ref())],
        Write::InsertKey(row) => vec![insert_key(row)],
        Write::UpdateKey(row, was) => vec![update_key(row, was)],
        Write::InsertOperation(row) => vec![insert_operation(&row.operation)],
        Write::UpdateOperation(row, fence) => vec![update_operation(&row.operation, *fence)],
        Write::InsertProposal(row) => vec![insert_proposal(row)],
        Write::EndProposal(row, was) => vec![end_proposal(row, was)],
        Write::InsertDocument(row) => vec![insert_document(row)],
        Write::UpdateDocument(row, was) => vec![update_document(row, was)],
        Write::DeleteDocument(id) => delete_document(platform, id),
        Write::InsertUpload(row) => vec![insert_upload(row)],
        Write::TakeUpload(row, was) => take_upload(row, *was),
        Write::EndUpload(row) => vec![end_upload(row)],
        Write::DropUpload(row) => drop_upload(row),
        Write::NoToken(hash) => vec![
            // Touches one row where there is no such token, and none where there is.
            of(Statement::new(
                "/* write::no_token */ UPDATE heads SET size = size WHERE platform_id = $1 \
                 AND NOT EXISTS (SELECT 1 FROM tokens WHERE platform_id = $1 AND token_hash = $2)",
            ))
            .bytes(&hash.0),
        ],
        Write::DropIndex(keep, after, up_to) => vec![
            of(Statement::any(texts.drop_index))
                .int(*keep)
                .bytes(after.as_bytes())
                .bytes(up_to.as_bytes()),
        ],
        // Written by the commit itself: they need the dialect's way of writing lists.
        Write::CreatePlatform(_)
        | Write::Many(_)
        | Write::InsertSubject(_)
        | Write::InsertRecord(_)
        | Write::InsertIndex(_)
        | Write::InsertToken(_)
        | Write::InsertConsent(_)
        | Write::InsertEvent(_)
        | Write::InsertRequest(_) => Vec::new(),
    }
}

pub(super) fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

fn update_subject<'a>(row: &'a SubjectRow, was: &'a Mac) -> Statement<'a> {
    let restriction = row.restriction.as_ref();
    Statement::new(
        "/* write::update_subject */ UPDATE subjects SET state = $3, restriction_trigger = $4, \
         restriction_requester = $5, restricted_at = $6, review_at = $7, erased_at = $8, destroy_at = $9, mac = $10, \
         reference_hash = $12 WHERE platform_id = $1 AND subject_id = $2 AND mac = $11",
    )
    .int(row.platform.get())
    .bytes(row.id.as_bytes())
    .text(row.state.as_str())
    .opt_text(restriction.map(|r| r.trigger.as_str()))
    .opt_text(restriction.map(|r| r.requester.as_str()))
    .opt_int(restriction.map(|r| r.since.as_micros()))
    .opt_int(restriction.map(|r| r.review_at.as_micros()))
    .opt_int(micros(row.erased_at))
    .opt_int(micros(row.destroy_at))
    .bytes(&row.mac)
    .bytes(was)
    .bytes(&row.reference_hash)
}

/// The key goes, and with it every sealed copy; rows that point at values go too. Consents and events stay: they are
/// evidence, and what names the person in them is sealed under the key that is gone.
fn destroy_subject<'a>(texts: &RecordTexts, row: &'a SubjectRow) -> Vec<Statement<'a>> {
    let of = |statement: Statement<'static>| {
        statement.int(row.platform.get()).own_bytes(row.id.as_bytes().to_vec())
    };
    let [uploads, parts, documents] = destroy_documents(row.platform, row.id);
    vec![
        uploads,
        parts,
        documents,
        of(Statement::any(texts.destroy_tokens)),
        of(Statement::any(texts.destroy_index)),
        of(Statement::any(
            "/* write::destroy_records */ DELETE FROM records WHERE platform_id = $1 AND subject_id = $2 \
             AND state = 'current'",
        )),
        of(Statement::any(
            "/* write::destroy_records */ DELETE FROM records WHERE platform_id = $1 AND subject_id = $2 \
             AND state = 'superseded'",
        )),
        of(Statement::new(
            "/* write::destroy_key */ UPDATE subjects SET wrapped_key = NULL, sealed_reference = $4 \
             WHERE platform_id = $1 AND subject_id = $2 AND mac = $3 AND state = 'erased' AND wrapped_key IS NOT NULL",
        ))
        .own_bytes(row.mac.to_vec())
        .own_bytes(Vec::new()),
    ]
}

fn insert_receipt(row: &ReceiptRow) -> Statement<'_> {
    Statement::new(
        "/* write::insert_receipt */ INSERT INTO erasure_receipts (platform_id, entry_id, subject_id, kind, statement, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .int(row.platform.get())
    .bytes(row.entry.as_bytes())
    .bytes(row.subject.as_bytes())
    .text(row.kind.as_str())
    .text(&row.statement)
    .int(row.created_at.as_micros())
}

fn insert_proposal(row: &ProposalRow) -> Statement<'_> {
    let sealed = row.sealed.as_ref();
    Statement::new(
        "/* write::insert_proposal */ INSERT INTO proposals (platform_id, proposal_id, call, wrapped_key, \
         sealed_request, plan_sha256, person_id, caller_id, created_at, expires_at, state, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .int(row.platform.get())
    .bytes(row.id.as_bytes())
    .text(&row.call)
    .opt_bytes(sealed.map(|sealed| sealed.wrapped_key.as_bytes()))
    .opt_bytes(sealed.map(|sealed| sealed.request.as_bytes()))
    .bytes(&row.plan_sha256)
    .bytes(row.proposer.as_bytes())
    .bytes(row.proposer_caller.as_bytes())
    .int(row.created_at.as_micros())
    .int(row.expires_at.as_micros())
    .text(row.state.as_str())
    .bytes(&row.mac)
}

fn end_proposal<'a>(row: &'a ProposalRow, was: &'a Mac) -> Statement<'a> {
    Statement::new(
        "/* write::end_proposal */ UPDATE proposals SET wrapped_key = NULL, sealed_request = NULL, state = $3, \
         ended_by = $4, ended_at = $5, reason = $6, mac = $7 \
         WHERE platform_id = $1 AND proposal_id = $2 AND mac = $8 AND state = 'open'",
    )
    .int(row.platform.get())
    .bytes(row.id.as_bytes())
    .text(row.state.as_str())
    .opt_bytes(row.ended_by.as_ref().map(|id| id.as_bytes().as_slice()))
    .opt_int(micros(row.ended_at))
    .opt_text(row.reason.as_deref())
    .bytes(&row.mac)
    .bytes(was)
}

fn insert_operation(o: &Operation) -> Statement<'_> {
    Statement::new(
        "/* write::insert_operation */ INSERT INTO operations (platform_id, operation_id, kind, object_id, state, \
         created_at, due_at, ended_at, fence, lease_until, done, total, phase, key_version, resume_after, rate) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .int(o.platform.get())
    .bytes(o.id.as_bytes())
    .text(o.kind.as_str())
    .bytes(&o.object)
    .text(o.state.as_str())
    .int(o.created_at.as_micros())
    .int(o.due_at.as_micros())
    .opt_int(micros(o.ended_at))
    .int(o.fence)
    .opt_int(micros(o.lease_until))
    .size(o.done)
    .size(o.total)
    .text(o.phase.as_str())
    .int(o.key_version)
    .bytes(resume_after(o))
    .int(o.rate)
}

fn resume_after(o: &Operation) -> &[u8] {
    o.resume_after.as_ref().map_or(&[], |cursor| cursor.as_bytes().as_slice())
}

fn update_operation(o: &Operation, fence: u32) -> Statement<'_> {
    Statement::new(
        "/* write::update_operation */ UPDATE operations SET state = $3, ended_at = $4, fence = $5, lease_until = $6, \
         done = $7, total = $8, phase = $10, resume_after = $11, rate = $12, due_at = $13, key_version = $14 \
         WHERE platform_id = $1 AND operation_id = $2 AND fence = $9 AND state IN ('waiting', 'running', 'paused')",
    )
    .int(o.platform.get())
    .bytes(o.id.as_bytes())
    .text(o.state.as_str())
    .opt_int(micros(o.ended_at))
    .int(o.fence)
    .opt_int(micros(o.lease_until))
    .size(o.done)
    .size(o.total)
    .int(fence)
    .text(o.phase.as_str())
    .bytes(resume_after(o))
    .int(o.rate)
    .int(o.due_at.as_micros())
    .int(o.key_version)
}

pub(super) fn insert_tile(platform: PlatformId, tile: &TileRow) -> Statement<'_> {
    Statement::new(
        "/* write::tile */ INSERT INTO audit_tiles (platform_id, level, tile_index, hashes, root) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .int(platform.get())
    .int(tile.level)
    .size(tile.index)
    .bytes(&tile.hashes)
    .bytes(&tile.root)
}
