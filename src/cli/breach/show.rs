//! A breach as it is printed.

use serde_json::{Value, json};

use crate::{
    cli::{
        output::{Failure, Out, instant, show_time},
        registers::{code, last_day},
    },
    grpc::pb,
};

fn state(breach: &pb::Breach) -> String {
    code(breach.state().as_str_name(), "BREACH_STATE_")
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn consequences(facts: &pb::BreachFacts) -> Vec<String> {
    facts.consequences().map(|one| code(one.as_str_name(), "BREACH_CONSEQUENCE_")).collect()
}

fn measures(facts: &pb::BreachFacts) -> Vec<String> {
    facts.measures().map(|one| code(one.as_str_name(), "BREACH_MEASURE_")).collect()
}

/// A time that may not be known yet.
fn known(time: Option<prost_types::Timestamp>) -> String {
    if time.is_some() { show_time(time) } else { "not known yet".to_owned() }
}

/// Ways in, as people read them.
fn reach(facts: &pb::BreachFacts) -> String {
    let mut ways = facts.caller_ids.clone();
    if facts.everyone {
        ways.push("everyone".to_owned());
    }
    if facts.key_version > 0 {
        ways.push(format!("key version {}", facts.key_version));
    }
    if ways.is_empty() { "not known yet".to_owned() } else { ways.join(", ") }
}

pub(super) fn line(breach: &pb::Breach) -> String {
    let facts = breach.facts.clone().unwrap_or_default();
    let late = if breach.overdue { "  OVERDUE" } else { "" };
    format!(
        "{}  authority until {}  {:<12} {:<14} {}{late}",
        breach.breach_id,
        last_day(breach.due_time),
        code(facts.kind().as_str_name(), "BREACH_KIND_"),
        state(breach),
        facts.reference
    )
}

pub(super) fn json(breach: &pb::Breach) -> Value {
    let facts = breach.facts.clone().unwrap_or_default();
    let told = |told: &pb::BreachReport| {
        json!({
            "told_at": instant(told.tell_time.as_ref()),
            "channel": code(told.channel().as_str_name(), "RIGHTS_CHANNEL_"), "language": told.language,
            "reference": told.reference, "notice_sha256": hex(&told.notice_sha256),
            "enclosure_sha256": hex(&told.enclosure_sha256), "notice": told.notice,
        })
    };
    json!({
        "breach_id": breach.breach_id, "state": state(breach), "overdue": breach.overdue, "late": breach.late,
        "kind": code(facts.kind().as_str_name(), "BREACH_KIND_"),
        "certainty": code(facts.certainty().as_str_name(), "BREACH_CERTAINTY_"),
        "cause": code(facts.cause().as_str_name(), "BREACH_CAUSE_"),
        "found_at": instant(breach.find_time.as_ref()), "began_at": instant(facts.begin_time.as_ref()),
        "ended_at": instant(facts.end_time.as_ref()), "callers": facts.caller_ids,
        "key_version": (facts.key_version > 0).then_some(facts.key_version), "everyone": facts.everyone,
        "consequences": consequences(&facts), "measures": measures(&facts), "reference": facts.reference,
        "working_days": breach.working_days, "clause": breach.clause,
        "due_at": instant(breach.due_time.as_ref()), "last_day": last_day(breach.due_time),
        "calendar_sha256": hex(&breach.calendar_sha256),
        "scope": breach.scope.as_ref().map(|scope| json!({
            "assessed_at": instant(scope.assess_time.as_ref()), "log_size": scope.log_size,
            "entries": scope.entries, "subjects": scope.subjects,
            "subjects_sha256": hex(&scope.subjects_sha256), "fields": scope.fields,
            "purposes": scope.purposes, "recipients": scope.recipients,
        })),
        "authority": breach.authority.as_ref().map(told), "subjects": breach.subjects.as_ref().map(told),
        "ending": breach.ending.as_ref().map(|ending| json!({
            "at": instant(ending.end_time.as_ref()),
            "outcome": code(ending.outcome().as_str_name(), "BREACH_OUTCOME_"), "ground": ending.ground,
        })),
        "opened_at": instant(breach.open_time.as_ref()),
    })
}

pub(super) fn print(breach: &pb::Breach, out: &mut Out) -> Result<(), Failure> {
    let facts = breach.facts.clone().unwrap_or_default();
    let late = match (breach.overdue, breach.late) {
        (true, _) => ", OVERDUE",
        (false, true) => ", told late",
        (false, false) => "",
    };
    let certainty = code(facts.certainty().as_str_name(), "BREACH_CERTAINTY_");
    let mut lines = vec![
        format!("breach       {} {}", breach.breach_id, facts.reference),
        format!("state        {}{late}", state(breach)),
        format!("happened     {}, {certainty}", code(facts.kind().as_str_name(), "BREACH_KIND_")),
        format!("cause        {}", code(facts.cause().as_str_name(), "BREACH_CAUSE_")),
        format!("found        {}", show_time(breach.find_time)),
        format!("from, to     {} – {}", known(facts.begin_time), known(facts.end_time)),
        format!(
            "authority by {} ({} working day, {})",
            last_day(breach.due_time),
            breach.working_days,
            breach.clause
        ),
        format!("ways in      {}", reach(&facts)),
    ];
    match &breach.scope {
        None => lines.push("people       not assessed yet".to_owned()),
        Some(scope) => {
            lines.push(format!("people       {} in {} entries", scope.subjects, scope.entries));
            lines.push(format!("their ids    sha256 {}", hex(&scope.subjects_sha256)));
            lines.push(format!("data         {}", scope.fields.join(", ")));
            lines.push(format!("purposes     {}", scope.purposes.join(", ")));
            lines.push(format!("recipients   {}", scope.recipients.join(", ")));
        }
    }
    lines.extend(consequences(&facts).into_iter().map(|one| format!("may come to  {one}")));
    lines.extend(measures(&facts).into_iter().map(|one| format!("done         {one}")));
    for (whom, told) in [("authority", &breach.authority), ("people", &breach.subjects)] {
        if let Some(told) = told {
            let when = show_time(told.tell_time);
            lines.push(format!("told         {whom}: {when} in {} {}", told.language, told.reference));
        }
    }
    if let Some(ending) = &breach.ending {
        let outcome = code(ending.outcome().as_str_name(), "BREACH_OUTCOME_");
        lines.push(format!("ended        {} {outcome} {}", show_time(ending.end_time), ending.ground));
    }
    Ok(out.data(&json(breach), &lines)?)
}
