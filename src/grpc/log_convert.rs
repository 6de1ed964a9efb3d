//! Entries, proofs and pieces of the log as messages.

use data_encoding::HEXLOWER;
use prost::bytes::Bytes;

use super::{
    convert::{Checker, time},
    pb,
};
use crate::{
    domain::{
        ids::ConsentId,
        ids::{CallerId, EntryId, PersonId, ProposalId, RecordId, RequestId, SubjectId, TokenRowId},
        time::Timestamp,
    },
    vault::{
        audit_log::{Piece, SignedHead},
        error::VaultError,
        log_entries::{DEFAULT_PAGE, EntryCursor, EntryFilter, EntryPage, MAX_PAGE},
        log_proofs::EntryKey,
        reconcile::{Problem, RowFinding, Step},
    },
};

pub(super) fn number(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

pub(super) fn piece(piece: Piece, platform: &str, verifier_key: &str) -> pb::ExportLogResponse {
    use pb::export_log_response::Piece as Pb;
    let piece = match piece {
        Piece::Head(SignedHead { checkpoint, size, .. }) => Pb::Summary(pb::LogSummary {
            platform: platform.to_owned(),
            checkpoint,
            size: number(size),
            verifier_key: verifier_key.to_owned(),
        }),
        Piece::SecondHead(head) => Pb::Head(pb::LogHead {
            second: Some(time(Timestamp::from_micros(head.second.saturating_mul(1_000_000)))),
            checkpoint: head.checkpoint,
        }),
        Piece::Tile { level, index, hashes } => {
            Pb::Tile(pb::LogTile { level: u32::from(level), index: number(index), hashes: hashes.into() })
        }
        Piece::Entries { index, bundle } => {
            Pb::EntryBundle(pb::LogEntryBundle { index: number(index), entries: Bytes::from(bundle) })
        }
        Piece::RightEdge(hashes) => {
            Pb::RightEdge(pb::LogRightEdge { hashes: hashes.into_iter().map(|h| h.to_vec()).collect() })
        }
    };
    pb::ExportLogResponse { piece: Some(piece) }
}

/// Which entries are asked for, how many, and from where on.
pub(super) fn question(
    message: &pb::ListEntriesRequest,
) -> Result<(EntryFilter, usize, Option<EntryCursor>), VaultError> {
    let mut check = Checker::new("");
    let filter = EntryFilter {
        subject: given(&message.subject_id).and_then(|id| check.parse("subject_id", id)),
        caller: given(&message.caller_id).and_then(|id| check.parse("caller_id", id)),
        call: given(&message.call).map(str::to_owned),
        verdict: verdict_code(message.verdict, &mut check),
        since: message.since_time.and_then(|since| check.time("since_time", since)),
        until: message.until_time.and_then(|until| check.time("until_time", until)),
    };
    let page_size = match usize::try_from(message.page_size) {
        Ok(0) => DEFAULT_PAGE,
        Ok(size) => size.min(MAX_PAGE),
        Err(_) => {
            check.refuse("page_size", "must not be negative");
            0
        }
    };
    let cursor = given(&message.page_token).and_then(|token| {
        let cursor = cursor(token);
        if cursor.is_none() {
            check.refuse("page_token", "not a page of this list");
        }
        cursor
    });
    check.finish(Some((filter, page_size, cursor)))
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// `<next position>-<size of the log>`.
fn cursor(token: &str) -> Option<EntryCursor> {
    let (next, end) = token.split_once('-')?;
    Some(EntryCursor { next: next.parse().ok()?, end: end.parse().ok()? })
}

fn verdict_code(number: i32, check: &mut Checker) -> Option<&'static str> {
    match pb::Verdict::try_from(number) {
        Ok(pb::Verdict::Unspecified) => None,
        Ok(pb::Verdict::Permit) => Some("permit"),
        Ok(pb::Verdict::Deny) => Some("deny"),
        Ok(pb::Verdict::Done) => Some("done"),
        Err(_) => {
            check.refuse("verdict", "is not a known verdict");
            None
        }
    }
}

fn verdict(code: &str) -> pb::Verdict {
    match code {
        "permit" => pb::Verdict::Permit,
        "deny" => pb::Verdict::Deny,
        "done" => pb::Verdict::Done,
        _ => pb::Verdict::Unspecified,
    }
}

pub(super) fn page(page: EntryPage) -> pb::ListEntriesResponse {
    pb::ListEntriesResponse {
        entries: page
            .entries
            .into_iter()
            .map(|(position, entry)| pb::AuditEntry {
                position: number(position),
                format: entry.format,
                entry_id: entry.entry_id().to_string(),
                entry_time: Some(time(Timestamp::from_micros(entry.time))),
                platform_number: entry.platform,
                caller_id: id(entry.caller, CallerId::from_bytes),
                person_id: id(entry.person, PersonId::from_bytes),
                call: entry.call,
                purpose: entry.purpose.unwrap_or_default(),
                view: entry.view.unwrap_or_default(),
                field: entry.field.unwrap_or_default(),
                subject_id: id(entry.subject, SubjectId::from_bytes),
                record_id: id(entry.record, RecordId::from_bytes),
                token_id: id(entry.token, TokenRowId::from_bytes),
                consent_id: id(entry.consent, ConsentId::from_bytes),
                object_kind: entry.object_kind.unwrap_or_default(),
                object_id: entry.object.map(|id| HEXLOWER.encode(&id)).unwrap_or_default(),
                row_mac: entry.row_mac.map(|mac| mac.to_vec()).unwrap_or_default(),
                recipient: entry.recipient.unwrap_or_default(),
                reference: entry.reference.unwrap_or_default(),
                verdict: verdict(&entry.verdict).into(),
                reason: entry.reason.unwrap_or_default(),
                policy_version: entry.policy_version.unwrap_or_default(),
                request_id: id(entry.request, RequestId::from_bytes),
                replay_of: id(entry.replay_of, EntryId::from_bytes),
                detail_sha256: entry.detail_sha256.map(|hash| hash.to_vec()).unwrap_or_default(),
                count: entry.count.unwrap_or_default(),
                proposal_id: id(entry.proposal, ProposalId::from_bytes),
            })
            .collect(),
        next_page_token: page
            .next
            .map(|cursor| format!("{}-{}", cursor.next, cursor.end))
            .unwrap_or_default(),
    }
}

fn id<T: std::fmt::Display>(
    bytes: Option<impl std::ops::Deref<Target = [u8; 16]>>,
    of: impl Fn([u8; 16]) -> T,
) -> String {
    bytes.map(|bytes| of(*bytes).to_string()).unwrap_or_default()
}

/// Which entry a proof is asked for, and in which tree.
pub(super) fn proof_question(
    message: &pb::GetInclusionProofRequest,
) -> Result<(EntryKey, Option<u64>), VaultError> {
    use pb::get_inclusion_proof_request::Entry;
    let mut check = Checker::new("");
    let key = match &message.entry {
        Some(Entry::Position(position)) => count("position", *position, &mut check).map(EntryKey::Position),
        Some(Entry::EntryId(text)) => check.parse("entry_id", text).map(EntryKey::Id),
        None => {
            check.refuse("entry", "is required");
            None
        }
    };
    let size = count("size", message.size, &mut check);
    Ok((check.finish(key)?, size.filter(|size| *size > 0)))
}

/// Sizes of the earlier and the later tree.
pub(super) fn sizes(message: &pb::GetConsistencyProofRequest) -> Result<(u64, Option<u64>), VaultError> {
    let mut check = Checker::new("");
    let from = count("from_size", message.from_size, &mut check);
    let to = count("to_size", message.to_size, &mut check);
    Ok((check.finish(from)?, to.filter(|to| *to > 0)))
}

/// Position of the first entry that an export has.
pub(super) fn entries_from(from: i64) -> Result<u64, VaultError> {
    let mut check = Checker::new("");
    let from = count("entries_from", from, &mut check);
    check.finish(from)
}

fn count(field: &str, number: i64, check: &mut Checker) -> Option<u64> {
    let count = u64::try_from(number).ok();
    if count.is_none() {
        check.refuse(field, "must not be negative");
    }
    count
}

pub(super) fn step(step: Step) -> pb::ReconcileLogResponse {
    use pb::reconcile_log_response::Step as Pb;
    let step = match step {
        Step::Progress { entries_read, entries, rows_checked } => Pb::Progress(pb::ReconcileProgress {
            entries_read: number(entries_read),
            size: number(entries),
            rows_checked: number(rows_checked),
        }),
        Step::Result(result) => Pb::Result(pb::ReconcileResult {
            size: number(result.size),
            rows_checked: number(result.rows_checked),
            truncated: usize::try_from(result.found).is_ok_and(|found| found > result.findings.len()),
            findings: result.findings.iter().map(finding).collect(),
        }),
    };
    pb::ReconcileLogResponse { step: Some(step) }
}

fn finding(finding: &RowFinding) -> pb::ReconcileFinding {
    let problem = match finding.problem {
        Problem::Missing => pb::ReconcileProblem::RowMissing,
        Problem::Unknown => pb::ReconcileProblem::RowUnknown,
        Problem::Stale => pb::ReconcileProblem::RowStale,
        Problem::Edited => pb::ReconcileProblem::RowEdited,
    };
    let object_id = HEXLOWER.encode(&finding.object);
    pb::ReconcileFinding { table: finding.table.to_owned(), object_id, problem: problem.into() }
}
