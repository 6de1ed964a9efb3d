//! `sandyq whoami`, `tokenize` and `detokenize`.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    client::{self, request_id, vault},
    output::{Failure, Out, describe, exit},
    outreach,
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

/// A person as commands read one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    pub(super) subject: String,
    #[serde(default)]
    pub(super) fields: Fields,
    #[serde(default)]
    pub(super) consents: Vec<InputConsent>,
}

/// Values by the names of their fields, in their order, each name once.
#[derive(Default)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> serde::de::Visitor<'de> for Map {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("values by the names of their fields")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, String)> = Vec::new();
                while let Some((field, value)) = map.next_entry()? {
                    if fields.iter().any(|(other, _)| *other == field) {
                        return Err(serde::de::Error::custom("a field may stand only once"));
                    }
                    fields.push((field, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputConsent {
    pub(super) purpose: String,
    pub(super) fields: Vec<String>,
    pub(super) subject_name: String,
    pub(super) act: String,
    pub(super) third_party_transfer: bool,
    pub(super) cross_border_transfer: bool,
    pub(super) publication: bool,
    pub(super) policy_version: u32,
    pub(super) language: String,
    /// 64 hexadecimal digits.
    pub(super) text_sha256: String,
    pub(super) site: String,
    /// RFC 3339.
    pub(super) given_at: Option<String>,
    /// RFC 3339; until the purpose is reached, where absent.
    pub(super) expires_at: Option<String>,
    /// Where the policy names channels for the purpose.
    pub(super) channel: Option<String>,
    /// The operator itself, where absent.
    pub(super) sender: Option<String>,
}

/// A part of a consent that cannot be read: its name, and the rule that it breaks.
pub(super) type BadPart = (&'static str, &'static str);

const RFC_3339: &str = "times are RFC 3339, such as 2026-11-23T09:00:00Z";

impl InputConsent {
    /// The consent for a call; `given_at` where it says no time of its own and need not.
    pub(super) fn into_pb(
        self,
        given_at: Option<prost_types::Timestamp>,
    ) -> Result<pb::ConsentGrant, BadPart> {
        let act = pb::ConsentAct::from_str_name(&format!("CONSENT_ACT_{}", self.act.to_uppercase()))
            .ok_or(("act", "is tick, written, electronic_signature or one_time_code"))?;
        let time = |part: &'static str, text: Option<&str>| {
            text.map(|text| timestamp(text).map_err(|_| (part, RFC_3339))).transpose()
        };
        let given_at = time("given_at", self.given_at.as_deref())?.or(given_at);
        let given_at = given_at.ok_or(("given_at", "is missing"))?;
        let expire_time = time("expires_at", self.expires_at.as_deref())?;
        let hash = data_encoding::HEXLOWER_PERMISSIVE.decode(self.text_sha256.as_bytes());
        let hash = hash.map_err(|_| ("text_sha256", "has 64 hexadecimal digits"))?;
        Ok(pb::ConsentGrant {
            purpose: self.purpose,
            fields: self.fields,
            subject_name: self.subject_name,
            act: act.into(),
            give_time: Some(given_at),
            expire_time,
            third_party_transfer: Some(self.third_party_transfer),
            cross_border_transfer: Some(self.cross_border_transfer),
            publication: Some(self.publication),
            policy_version: self.policy_version,
            language: self.language,
            text_sha256: hash,
            site: self.site,
            outreach: outreach::written(self.channel, self.sender)?,
        })
    }
}

fn timestamp(text: &str) -> Result<prost_types::Timestamp, Failure> {
    let time: jiff::Timestamp = text.parse().map_err(|_| Failure::new(exit::FAILED, RFC_3339))?;
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
    let now = when(None)?;
    let consents = input.consents.into_iter().map(|consent| consent.into_pb(Some(now)));
    let consents: Result<_, BadPart> = consents.collect();
    let request = pb::TokenizeRequest {
        request_id: request_id()?,
        subject_reference: input.subject,
        fields: input
            .fields
            .0
            .into_iter()
            .map(|(field, value)| pb::FieldValue { field, value, ..pb::FieldValue::default() })
            .collect(),
        consents: consents
            .map_err(|(part, rule)| Failure::new(exit::FAILED, format!("a consent's {part}: {rule}")))?,
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
    #[command(flatten)]
    outreach: outreach::OutreachArgs,
    /// Reference for the log, such as an order number.
    #[arg(long, default_value = "")]
    reference: String,
    /// Tokens, up to 1,000.
    #[arg(required = true)]
    tokens: Vec<String>,
}

pub(super) async fn detokenize(args: DetokenizeArgs, out: &mut Out) -> Result<(), Failure> {
    let view = if args.masked { pb::View::Masked } else { pb::View::Full };
    let asked = args.tokens.len();
    let request = pb::BatchDetokenizeRequest {
        request_id: request_id()?,
        tokens: args.tokens,
        purpose: args.purpose,
        view: view.into(),
        reference: args.reference,
        outreach: args.outreach.into_pb(),
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
    Err(Failure::new(exit::REFUSED, format!("{refused} of {asked} refused")))
}

/// The status of an item as the status of a call, so that both are described alike.
pub(super) fn item_status(status: &tonic_types::Status) -> tonic::Status {
    let details = prost::Message::encode_to_vec(status);
    tonic::Status::with_details(status.code.into(), status.message.clone(), details.into())
}
