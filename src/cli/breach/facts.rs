//! What is known of a breach, as arguments say it.

use tonic::transport::Channel;

use crate::{
    cli::{
        client::platforms,
        output::{Failure, exit, refused},
        registers::number,
        values::when,
    },
    grpc::pb,
};

const KINDS: [&str; 5] = ["access", "disclosure", "loss", "alteration", "destruction"];
const CERTAINTIES: [&str; 2] = ["suspected", "confirmed"];
const CAUSES: [&str; 9] = [
    "unknown",
    "stolen-credential",
    "insider",
    "software-fault",
    "misconfiguration",
    "human-mistake",
    "malware",
    "lost-carrier",
    "recipient",
];
const CONSEQUENCES: [&str; 6] =
    ["identity-theft", "fraud", "unwanted-contact", "exposure", "wrong-decision", "loss-of-service"];
const MEASURES: [&str; 9] = [
    "caller-disabled",
    "keys-replaced",
    "data-blocked",
    "fault-mended",
    "access-narrowed",
    "copies-recalled",
    "data-restored",
    "watch-raised",
    "police-told",
];

/// What is known. A description stays in the operator's own file: the vault takes codes and numbers.
#[derive(clap::Args, Debug, Clone)]
pub(in crate::cli) struct Facts {
    /// What happened to the data.
    #[arg(long, value_parser = KINDS)]
    kind: Option<String>,
    /// How sure that is; suspected, where nobody says.
    #[arg(long, value_parser = CERTAINTIES)]
    certainty: Option<String>,
    /// Why; unknown, where nobody says.
    #[arg(long, value_parser = CAUSES)]
    cause: Option<String>,
    /// Since when, RFC 3339.
    #[arg(long)]
    began_at: Option<String>,
    /// Until when, RFC 3339.
    #[arg(long)]
    ended_at: Option<String>,
    /// A caller that it went through, by name or `cal_…`: it reaches whom that caller was told of. May be given more than once.
    #[arg(long = "caller")]
    callers: Vec<String>,
    /// Version of the platform's key that others have: it reaches whoever was wrapped under it.
    #[arg(long, conflicts_with = "everyone")]
    key_version: Option<u32>,
    /// It reaches everybody of whom the platform held anything in that time.
    #[arg(long)]
    everyone: bool,
    /// What it may come to; may be given more than once.
    #[arg(long = "consequence", value_parser = CONSEQUENCES)]
    consequences: Vec<String>,
    /// What was done; may be given more than once.
    #[arg(long = "measure", value_parser = MEASURES)]
    measures: Vec<String>,
    /// The number of the operator's own file on it.
    #[arg(long)]
    reference: Option<String>,
}

impl Facts {
    /// What is known at first.
    pub(super) async fn first(self, channel: Channel, platform: &str) -> Result<pb::BreachFacts, Failure> {
        if self.kind.is_none() {
            return Err(Failure::new(exit::USAGE, "--kind says what happened to the data"));
        }
        let nothing = pb::BreachFacts {
            certainty: pb::BreachCertainty::Suspected.into(),
            cause: pb::BreachCause::Unknown.into(),
            ..pb::BreachFacts::default()
        };
        self.over(nothing, true, channel, platform).await
    }

    /// What is known after something was.
    pub(super) async fn over(
        self,
        was: pb::BreachFacts,
        replace: bool,
        channel: Channel,
        platform: &str,
    ) -> Result<pb::BreachFacts, Failure> {
        let mut facts = was;
        if let Some(kind) = self.kind {
            facts.kind = number("BREACH_KIND_", &kind, pb::BreachKind::from_str_name)?.into();
        }
        if let Some(code) = self.certainty {
            facts.certainty = number("BREACH_CERTAINTY_", &code, pb::BreachCertainty::from_str_name)?.into();
        }
        if let Some(cause) = self.cause {
            facts.cause = number("BREACH_CAUSE_", &cause, pb::BreachCause::from_str_name)?.into();
        }
        for (time, given) in [(&mut facts.begin_time, self.began_at), (&mut facts.end_time, self.ended_at)] {
            if given.is_some() {
                *time = Some(when(given.as_deref())?);
            }
        }
        let consequence = |code: &String| {
            number("BREACH_CONSEQUENCE_", code, pb::BreachConsequence::from_str_name).map(i32::from)
        };
        let measure =
            |code: &String| number("BREACH_MEASURE_", code, pb::BreachMeasure::from_str_name).map(i32::from);
        let consequences = self.consequences.iter().map(consequence).collect::<Result<Vec<_>, _>>()?;
        add(&mut facts.consequences, consequences, replace);
        let measures = self.measures.iter().map(measure).collect::<Result<Vec<_>, _>>()?;
        add(&mut facts.measures, measures, replace);
        let way_in = !self.callers.is_empty() || self.everyone || self.key_version.is_some();
        if replace && way_in {
            (facts.everyone, facts.key_version) = (false, 0);
            facts.caller_ids.clear();
        }
        add(&mut facts.caller_ids, named(self.callers, channel, platform).await?, false);
        if self.everyone {
            (facts.everyone, facts.key_version) = (true, 0);
        }
        if let Some(version) = self.key_version {
            (facts.everyone, facts.key_version) = (false, version);
        }
        if let Some(reference) = self.reference {
            facts.reference = reference;
        }
        Ok(facts)
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, given: Vec<T>, replace: bool) {
    if replace && !given.is_empty() {
        list.clear();
    }
    for one in given {
        if !list.contains(&one) {
            list.push(one);
        }
    }
}

/// Ids of callers, some of which may be given by name.
async fn named(callers: Vec<String>, channel: Channel, platform: &str) -> Result<Vec<String>, Failure> {
    if callers.iter().all(|caller| caller.starts_with("cal_")) {
        return Ok(callers);
    }
    let (mut known, mut page_token) = (Vec::new(), String::new());
    let mut calls = platforms(channel);
    loop {
        let request = pb::ListCallersRequest {
            platform: platform.to_owned(),
            page_token,
            ..pb::ListCallersRequest::default()
        };
        let page = calls.list_callers(request).await.map_err(refused)?.into_inner();
        known.extend(page.callers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let id = |given: String| {
        if given.starts_with("cal_") {
            return Ok(given);
        }
        let found = known.iter().find(|caller| caller.name == given).map(|caller| caller.caller_id.clone());
        found.ok_or_else(|| Failure::new(exit::FAILED, format!("the platform has no caller {given}")))
    };
    callers.into_iter().map(id).collect()
}
