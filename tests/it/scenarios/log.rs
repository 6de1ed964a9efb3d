//! The entries that a step leaves, held against those that its file expects: no more, no fewer.

use std::fmt::Write as _;

use sandyq::grpc::pb;

use super::{
    file::{Act, Expected, Step},
    life::{Life, STAFF},
};

/// The runner's own question.
const ASKING: &str = "AuditService/ListEntries";
/// What the vault notes of its own work besides what it destroys: that a worker took it, and how far a sweep came.
const WORKING: [&str; 2] = ["Operation/Take", "Operation/SweepRetention"];

impl Life<'_> {
    /// Entries since the last time, in the log's order.
    pub async fn entries(&mut self) -> Vec<pb::AuditEntry> {
        let mut audit = self.served.audit("auditor").await.max_decoding_message_size(1 << 24);
        let mut request = pb::ListEntriesRequest {
            platform: self.policy.name().into(),
            page_size: 1_000,
            ..pb::ListEntriesRequest::default()
        };
        let mut entries = Vec::new();
        loop {
            let page = audit.list_entries(request.clone()).await.unwrap().into_inner();
            entries.extend(page.entries);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        entries.retain(|entry| entry.position >= self.logged);
        self.logged = entries.last().map_or(self.logged, |last| last.position + 1);
        entries.retain(|entry| entry.call != ASKING);
        entries
    }

    pub async fn compare_log(&mut self, step: &Step) -> Result<(), String> {
        let entries = self.entries().await;
        let (work, entries): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| WORKING.contains(&entry.call.as_str()));
        check_work(step, &work, &entries)?;
        for entry in &entries {
            self.check_who(step, entry)?;
        }
        let found: Vec<_> = entries.iter().map(as_written).collect();
        let expected: Vec<_> = step.frame.entries.iter().flat_map(Expected::each).collect();
        let expected: Vec<_> = expected.into_iter().map(|entry| self.with_case(entry)).collect();
        let (found, expected) = (in_order(&found), in_order(&expected));
        if found == expected {
            return Ok(());
        }
        let lines =
            |lines: &[String]| lines.iter().fold(String::new(), |text, line| text + "    " + line + "\n");
        Err(format!("the log has\n{}and the file expects\n{}", lines(&found), lines(&expected)))
    }

    /// An entry is of who acts in the step, or of the vault itself at its own work; and of this person or of nobody.
    fn check_who(&self, step: &Step, entry: &pb::AuditEntry) -> Result<(), String> {
        let by = if step.frame.by == STAFF { "admin" } else { &step.frame.by };
        let caller = self.callers.get(&entry.caller_id).map(String::as_str);
        let itself = entry.caller_id.is_empty() && entry.call.starts_with("Operation/");
        if caller != Some(by) && !itself {
            return Err(format!("an entry of {} is by {caller:?}", entry.call));
        }
        let stranger = !entry.subject_id.is_empty() && Some(&entry.subject_id) != self.subject.as_ref();
        if stranger { Err(format!("an entry of {} is about another person", entry.call)) } else { Ok(()) }
    }

    /// The number of the person's request stands in a file as `CASE`.
    fn with_case(&self, entry: Expected) -> Expected {
        match &self.case {
            Some(case) if entry.reference == "CASE" => Expected { reference: case.to_uppercase(), ..entry },
            _ => entry,
        }
    }
}

/// What the vault notes of its work is of steps that wait for it alone, and its count is right.
fn check_work(step: &Step, work: &[pb::AuditEntry], entries: &[pb::AuditEntry]) -> Result<(), String> {
    let of = |call: &str| work.iter().filter(|entry| entry.call == call).count();
    let (taken, slices) = (of(WORKING[0]), of(WORKING[1]));
    let destroyed = ["Operation/DestroyRecord", "Operation/DestroyDocument"];
    let destroyed = entries.iter().filter(|entry| destroyed.contains(&entry.call.as_str())).count();
    let counted: u64 = work.iter().map(|entry| entry.count).sum();
    let right = if matches!(step.act, Act::Sweep(_)) && step.frame.answer == "ok" {
        // Some subjects, then none: the end.
        taken == 1 && slices >= 1 && counted == u64::try_from(destroyed).unwrap()
    } else if matches!(step.act, Act::Destruction(_)) {
        (taken, slices) == (1, 0)
    } else {
        work.is_empty()
    };
    if right { Ok(()) } else { Err(format!("{destroyed} destroyed, and the vault worked: {work:?}")) }
}

fn as_written(entry: &pb::AuditEntry) -> Expected {
    let verdict = entry.verdict().as_str_name().trim_start_matches("VERDICT_").to_lowercase();
    Expected {
        call: entry.call.clone(),
        decision: verdict,
        reason: entry.reason.clone(),
        purpose: entry.purpose.clone(),
        field: entry.field.clone(),
        object: entry.object_kind.clone(),
        view: if entry.view == "full" { String::new() } else { entry.view.clone() },
        recipient: entry.recipient.clone(),
        reference: entry.reference.clone(),
        fields: Vec::new(),
        purposes: Vec::new(),
    }
}

/// One line an entry, as a file writes it. Within a run of one call the order is the vault's own (rows have random ids).
fn in_order(entries: &[Expected]) -> Vec<String> {
    let mut lines = Vec::new();
    for run in entries.chunk_by(|a, b| a.call == b.call) {
        let mut of_run: Vec<_> = run.iter().map(line).collect();
        of_run.sort();
        lines.extend(of_run);
    }
    lines
}

fn line(entry: &Expected) -> String {
    let mut text = format!("{{ call = \"{}\"", entry.call);
    for (key, value) in [
        ("decision", &entry.decision),
        ("reason", &entry.reason),
        ("purpose", &entry.purpose),
        ("field", &entry.field),
        ("object", &entry.object),
        ("view", &entry.view),
        ("recipient", &entry.recipient),
        ("reference", &entry.reference),
    ] {
        if !value.is_empty() && value != "done" {
            write!(text, ", {key} = \"{value}\"").unwrap();
        }
    }
    text + " },"
}
