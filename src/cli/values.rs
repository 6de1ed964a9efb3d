//! `sandyq whoami`, `tokenize` and `detokenize`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    client::{self, request_id, vault},
    output::{Failure, Out, describe, exit},
};
use crate::{domain::time::Clock, grpc::pb};

pub(super) async fn whoami(args: &client::Args, out: &mut Out) -> Result<(), Failure> {
    let answer = vault(args.connect().await?)
        .who_am_i(pb::WhoAmIRequest {})
        .await
        .map_err(|s| Failure::refused(&s))?
        .into_inner();
    let (rule, says) = staff_keys(&answer);
    let mut lines = vec![
        format!("caller    {} of platform {}", answer.caller, answer.platform),
        format!("identity  {}", answer.spiffe_id),
        format!("roles     {}", answer.roles.join(", ")),
        format!("purposes  {}", answer.purposes.join(", ")),
        format!("policy    version {}", answer.policy_version),
    ];
    lines.extend(rule.map(|_| format!("key       {says}")));
    out.data(
        &json!({
            "spiffe_id": answer.spiffe_id, "platform": answer.platform, "caller": answer.caller,
            "roles": answer.roles, "purposes": answer.purposes, "policy_version": answer.policy_version,
            "person_id": answer.person_id, "staff_keys": rule, "has_staff_key": answer.has_staff_key,
        }),
        &lines,
    )?;
    Ok(())
}

/// What is asked of a person's key: its name in JSON, and a line; none of who is no person.
fn staff_keys(answer: &pb::WhoAmIResponse) -> (Option<&'static str>, &'static str) {
    use pb::StaffKeyRule as Rule;
    match (answer.staff_key_rule(), answer.has_staff_key) {
        (Rule::Unspecified, _) => (None, ""),
        (Rule::Absent, true) => (Some("absent"), "of the person's hardware; keys are declared absent"),
        (Rule::Absent, false) => (Some("absent"), "hardware keys are declared absent"),
        (Rule::Begun, true) => {
            (Some("begun"), "of the person's hardware; NOTHING ELSE WORKS until two people have such a key")
        }
        (Rule::Begun, false) => {
            (Some("begun"), "not enrolled; NOTHING ELSE WORKS until two people have a hardware key")
        }
        (Rule::Required, _) => (Some("required"), "of the person's hardware"),
    }
}

#[derive(clap::Args, Debug)]
pub(super) struct TokenizeArgs {
    #[command(flatten)]
    client: client::Args,
    /// JSON with `subject`, `fields` and, optionally, `consents` (docs/commands.md); `-` reads stdin. Values are
    /// never taken from arguments, which other users of the machine can see.
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    subject: String,
    #[serde(default)]
    fields: BTreeMap<String, String>,
    #[serde(default)]
    consents: Vec<InputConsent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputConsent {
    purpose: String,
    fields: Vec<String>,
    subject_name: String,
    act: String,
    third_party_transfer: bool,
    cross_border_transfer: bool,
    publication: bool,
    policy_version: u32,
    language: String,
    /// 64 hexadecimal digits.
    text_sha256: String,
    site: String,
    /// RFC 3339; now, where absent.
    given_at: Option<String>,
    /// RFC 3339; until the purpose is reached, where absent.
    expires_at: Option<String>,
}

impl InputConsent {
    fn into_pb(self) -> Result<pb::ConsentGrant, Failure> {
        let act = pb::ConsentAct::from_str_name(&format!("CONSENT_ACT_{}", self.act.to_uppercase()))
            .ok_or_else(|| {
                Failure::new(exit::FAILED, "act is tick, written, electronic_signature or one_time_code")
            })?;
        let given_at = when(self.given_at.as_deref())?;
        let hash = data_encoding::HEXLOWER_PERMISSIVE.decode(self.text_sha256.as_bytes())?;
        Ok(pb::ConsentGrant {
            purpose: self.purpose,
            fields: self.fields,
            subject_name: self.subject_name,
            act: act.into(),
            give_time: Some(given_at),
            expire_time: self.expires_at.as_deref().map(timestamp).transpose()?,
            third_party_transfer: Some(self.third_party_transfer),
            cross_border_transfer: Some(self.cross_border_transfer),
            publication: Some(self.publication),
            policy_version: self.policy_version,
            language: self.language,
            text_sha256: hash,
            site: self.site,
        })
    }
}

fn timestamp(text: &str) -> Result<prost_types::Timestamp, Failure> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| Failure::new(exit::FAILED, "times are RFC 3339, such as 2026-11-23T09:00:00Z"))?;
    Ok(prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// A time as it was given, or now.
pub(super) fn when(text: Option<&str>) -> Result<prost_types::Timestamp, Failure> {
    match text {
        Some(text) => timestamp(text),
        None => Ok(prost_types::Timestamp { seconds: Clock::default().now().second(), nanos: 0 }),
    }
}

/// The text of a file, or of stdin for `-`. Values are never taken from arguments, which other users can see.
pub(super) fn read_input(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    if path.as_os_str() == "-" {
        io::stdin().lock().read_to_string(&mut text)?;
    } else {
        let read = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
        read.map_err(|e| Failure::new(exit::FAILED, format!("cannot read {}: {e}", path.display())))?;
    }
    Ok(text)
}

/// A value from a file or stdin, without the line's end.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = read_input(path)?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

pub(super) async fn tokenize(args: &TokenizeArgs, out: &mut Out) -> Result<(), Failure> {
    let text = read_input(&args.input)?;
    // The parser's own message would repeat what stood there, which may be a value.
    let input: Input = serde_json::from_str(&text).map_err(|e| {
        let message = format!(
            "the input is not as docs/commands.md describes, at line {} column {}; every value is a string",
            e.line(),
            e.column()
        );
        Failure::new(exit::FAILED, message)
    })?;
    let request = pb::TokenizeRequest {
        request_id: request_id()?,
        subject_reference: input.subject,
        fields: input
            .fields
            .into_iter()
            .map(|(field, value)| pb::FieldValue { field, value, ..pb::FieldValue::default() })
            .collect(),
        consents: input.consents.into_iter().map(InputConsent::into_pb).collect::<Result<_, _>>()?,
        ..pb::TokenizeRequest::default()
    };
    let answer = vault(args.client.connect().await?)
        .tokenize(request)
        .await
        .map_err(|s| Failure::refused(&s))?
        .into_inner();
    let tokens: BTreeMap<_, _> = answer.tokens.iter().map(|t| (&t.field, &t.token)).collect();
    let mut lines = vec![format!("subject      {}", answer.subject_id)];
    lines.extend(answer.tokens.iter().map(|t| format!("{:<12} {}", t.field, t.token)));
    lines.extend(answer.consent_ids.iter().map(|id| format!("consent      {id}")));
    out.data(
        &json!({ "subject_id": answer.subject_id, "tokens": tokens, "consent_ids": answer.consent_ids }),
        &lines,
    )?;
    Ok(())
}

#[derive(clap::Args, Debug)]
pub(super) struct DetokenizeArgs {
    #[command(flatten)]
    client: client::Args,
    /// Purpose that the platform's policy declares for this caller.
    #[arg(long)]
    purpose: String,
    /// Answer enough to recognise the value, not enough to use it.
    #[arg(long)]
    masked: bool,
    /// Reference for the log, such as an order number.
    #[arg(long, default_value = "")]
    reference: String,
    /// Tokens, up to 1,000.
    #[arg(required = true)]
    tokens: Vec<String>,
}

pub(super) async fn detokenize(args: &DetokenizeArgs, out: &mut Out) -> Result<(), Failure> {
    let view = if args.masked { pb::View::Masked } else { pb::View::Full };
    let request = pb::BatchDetokenizeRequest {
        request_id: request_id()?,
        tokens: args.tokens.clone(),
        purpose: args.purpose.clone(),
        view: view.into(),
        reference: args.reference.clone(),
        ..pb::BatchDetokenizeRequest::default()
    };
    let answer = vault(args.client.connect().await?)
        .batch_detokenize(request)
        .await
        .map_err(|s| Failure::refused(&s))?
        .into_inner();
    let (mut values, mut lines, mut refused) = (Vec::new(), Vec::new(), 0);
    for result in answer.results {
        match result.outcome {
            Some(pb::detokenize_result::Outcome::Response(released)) => {
                lines.push(format!("{:<12} {}", released.field, released.value));
                values.push(json!({ "field": released.field, "value": released.value,
                                    "audit_entry_id": released.audit_entry_id }));
            }
            Some(pb::detokenize_result::Outcome::Error(status)) => {
                let text = describe(&item_status(&status));
                lines.push(format!("refused      {text}"));
                values.push(json!({ "error": text }));
                refused += 1;
            }
            None => {}
        }
    }
    out.data(&json!({ "results": values }), &lines)?;
    if refused == 0 {
        return Ok(());
    }
    Err(Failure::new(exit::REFUSED, format!("{refused} of {} refused", args.tokens.len())))
}

/// The status of an item as the status of a call, so that both are described alike.
pub(super) fn item_status(status: &tonic_types::Status) -> tonic::Status {
    let details = prost::Message::encode_to_vec(status);
    tonic::Status::with_details(status.code.into(), status.message.clone(), details.into())
}
