//! Every call of the contract with success, over marked values in every field, and refusals of every kind.

use data_encoding::BASE32_NOPAD;
use sandyq::{
    domain::{field::FieldType, iin, token::AnyToken},
    grpc::pb::{self, subject_name::Subject},
    policy::model::Policy,
    vault::access::Call,
};

use super::{canaries::Canary, driver::Driver};
use crate::common::{
    people::{self, grant, letters},
    served::{detokenize_request, request_id},
    vault::POLICY,
};

const MODES: [pb::TokenMode; 5] = [
    pb::TokenMode::Random,
    pb::TokenMode::Deterministic,
    pb::TokenMode::OneTime,
    pb::TokenMode::Expiring,
    pb::TokenMode::Digits,
];
/// A name as it stands in a consent.
const EVIDENCE: &str = "Сынақдәлелова Әсемгүл";
/// References to the subjects.
pub const REFERENCES: [&str; 3] = ["пайдаланушы 4711/Ә", "пайдаланушы 4712/Ә", "пайдаланушы 4713/Ә"];

/// The policy of the installation as its next version, with a field of each type that it has none of.
fn policy() -> String {
    let lerna = Policy::parse(POLICY).unwrap();
    let missing = FieldType::ALL
        .iter()
        .map(|field_type| field_type.as_str())
        // A face is biometric, which this policy bars.
        .filter(|field_type| *field_type != FieldType::FaceImage.as_str())
        .filter(|field_type| lerna.fields().all(|(_, field)| field.field_type.as_str() != *field_type));
    let field = |field_type: &str| {
        format!(
            "[[field]]\nname = \"further_{field_type}\"\ntype = \"{field_type}\"\ncategory = \"ordinary\"\n\
             collected_by = [\"backend\"]\nclause = \"5.4\"\n\n"
        )
    };
    let use_of = |field_type: &str| {
        format!("    {{ name = \"further_{field_type}\", given = \"stated\", clause = \"5.4\" }},\n")
    };
    let declared: String = missing.clone().map(field).collect();
    let listed: String = missing.map(use_of).collect();
    let payments = "[[purpose]]\nname = \"payments\"";
    let amount = "    { name = \"payment_amount\", given = \"stated\", clause = \"5.4\" },\n";
    POLICY
        .replacen("number = 1\n", "number = 2\n", 1)
        .replacen("effective = \"2024-01-03\"", "effective = \"2024-02-01\"", 1)
        .replacen(payments, &format!("{declared}{payments}"), 1)
        .replacen(amount, &format!("{amount}{listed}"), 1)
}

/// A marked value for a field, in its normal form; another number gives another value.
fn marked(field: &str, field_type: FieldType, number: u32) -> String {
    match field_type {
        FieldType::Iin => people::iin(number),
        FieldType::Bin => bin(number),
        FieldType::PersonName => {
            let letters: String = field.chars().filter(char::is_ascii_alphabetic).collect();
            format!("Сынақ{} {letters}", "ә".repeat(usize::try_from(number % 10).unwrap()))
        }
        FieldType::Phone => format!("+7701{number:07}"),
        FieldType::Email => format!("сынақ.{number}@example.kz"),
        FieldType::DocumentNumber => format!("N{number:08}"),
        FieldType::Date => format!("21{:02}-12-31", number % 100),
        FieldType::Ip => format!("2001:db8:{number}::17"),
        FieldType::Text => format!("Сынақ «{field}», №{number}: 50% + ә"),
        FieldType::DocumentImage | FieldType::FaceImage => panic!("an image is no value"),
    }
}

/// A synthetic BIN: registered in December 2099.
fn bin(number: u32) -> String {
    let with_check = |serial: u32| {
        let body = format!("991241{serial:05}");
        let digits: Vec<u32> = body.chars().map(|c| c.to_digit(10).unwrap()).collect();
        iin::check_digit(&digits.try_into().unwrap()).map(|check| format!("{body}{check}"))
    };
    (number..).find_map(with_check).unwrap()
}

/// A marked value and the parts of it that tell as much.
fn canaries_of(field_type: FieldType, value: &str) -> Vec<Canary> {
    let mut all = vec![Canary::new("value", value)];
    match field_type {
        // However the country's code is written.
        FieldType::Phone => all.push(Canary::new("phone", &value[2..])),
        FieldType::Email => all.push(Canary::new("mailbox", value.split('@').next().unwrap())),
        FieldType::Iin
        | FieldType::Bin
        | FieldType::PersonName
        | FieldType::DocumentNumber
        | FieldType::Date
        | FieldType::Ip
        | FieldType::Text
        | FieldType::DocumentImage
        | FieldType::FaceImage => {}
    }
    all
}

/// Reads tokens, keeps refusals, and answers how many values came.
async fn read(
    driver: &mut Driver,
    caller: &str,
    (purpose, outreach): (&str, Option<pb::Outreach>),
    tokens: &[pb::FieldToken],
) -> usize {
    let request = pb::BatchDetokenizeRequest {
        outreach,
        request_id: request_id(),
        tokens: tokens.iter().map(|token| token.token.clone()).collect(),
        purpose: purpose.into(),
        view: pb::View::Full.into(),
        reference: "CASE-4711".into(),
        ..Default::default()
    };
    let batch: pb::BatchDetokenizeResponse = driver.answer(caller, Call::BatchDetokenize, request).await;
    let mut values = 0;
    for result in batch.results {
        match result.outcome.unwrap() {
            pb::detokenize_result::Outcome::Response(_) => values += 1,
            pb::detokenize_result::Outcome::Error(error) => driver.keep(&error),
        }
    }
    values
}

/// Everything that must be nowhere, and what the calls need of each other.
pub struct Marked {
    policy: Policy,
    text: String,
    pub canaries: Vec<Canary>,
    /// Tokens of the first subject, by mode and field.
    tokens: Vec<pb::FieldToken>,
    consents: Vec<String>,
}

pub fn by_reference(number: usize) -> pb::SubjectName {
    pb::SubjectName { subject: Some(Subject::SubjectReference(REFERENCES[number].into())) }
}

pub fn seconds(from_now: i64) -> prost_types::Timestamp {
    let now = sandyq::domain::time::Clock::default().now().second();
    prost_types::Timestamp { seconds: now + from_now, nanos: 0 }
}

impl Marked {
    pub fn new() -> Self {
        let text = policy();
        let policy = Policy::parse(&text).unwrap();
        let mut canaries = vec![Canary::new("name in a consent", EVIDENCE)];
        canaries.extend(EVIDENCE.split(' ').map(|part| Canary::new("part of a name in a consent", part)));
        canaries.extend(REFERENCES.map(|reference| Canary::new("reference", reference)));
        Self { policy, text, canaries, tokens: Vec::new(), consents: Vec::new() }
    }

    fn mark(&mut self, field: &str, field_type: FieldType, number: u32) -> String {
        let value = marked(field, field_type, number);
        self.canaries.extend(canaries_of(field_type, &value));
        value
    }

    fn keep(&mut self, token: &str) {
        self.canaries.push(Canary::new("token", token));
        if let Ok(AnyToken::Random(parsed)) = AnyToken::parse(token) {
            self.canaries.push(Canary::new("token's bytes", parsed.as_bytes().to_vec()));
            let body = token.trim_start_matches("sq1_").to_uppercase();
            assert!(
                body.starts_with(&BASE32_NOPAD.encode(parsed.as_bytes())),
                "a token is its bytes in base32"
            );
        }
    }

    /// A value in every field that the policy declares, and a consent to every purpose that reads any.
    fn everything(&mut self, subject: usize, number: u32, mode: pb::TokenMode) -> pb::TokenizeRequest {
        let declared = self.policy.fields().map(|(name, field)| (name.to_string(), field.field_type));
        let declared: Vec<_> = declared.filter(|(_, field_type)| !field_type.is_image()).collect();
        let mut fields = Vec::new();
        for (field, field_type) in declared {
            let value = self.mark(&field, field_type, number);
            let token_expire_time = (mode == pb::TokenMode::Expiring).then(|| seconds(3_600));
            let token_mode = mode.into();
            fields.push(pb::FieldValue {
                field,
                value,
                token_mode,
                token_expire_time,
                ..pb::FieldValue::default()
            });
        }
        let mut consents = Vec::new();
        for (purpose, rules) in self.policy.purposes() {
            // Where people are reached, by letters: a telephone takes none.
            let reached = !rules.channels().is_empty();
            let serves = |name: &&str| !reached || *name != "phone";
            let fields: Vec<_> = rules.fields().map(|(name, _)| name.as_str()).filter(serves).collect();
            if !fields.is_empty() {
                let publication = Some(true);
                let subject_name = EVIDENCE.to_owned();
                consents.push(pb::ConsentGrant {
                    policy_version: self.policy.version,
                    publication,
                    subject_name,
                    outreach: reached.then(letters),
                    ..grant(purpose.as_str(), &fields)
                });
            }
        }
        let subject_reference = REFERENCES[subject].to_owned();
        pb::TokenizeRequest {
            request_id: request_id(),
            subject_reference,
            fields,
            consents,
            ..Default::default()
        }
    }

    /// Fields that hold values.
    fn values(&self) -> usize {
        self.policy.fields().filter(|(_, field)| !field.field_type.is_image()).count()
    }

    /// A token of the first subject.
    pub fn token(&self, mode: usize, field: &str) -> String {
        self.tokens[mode * self.values()..].iter().find(|token| token.field == field).unwrap().token.clone()
    }

    /// Values in and out, in every field and mode.
    pub async fn drive_values(&mut self, driver: &mut Driver) {
        let request = pb::ValidatePolicyRequest { text: self.text.clone() };
        let checked: pb::ValidatePolicyResponse = driver.answer("admin", Call::ValidatePolicy, request).await;
        assert!(checked.problems.is_empty(), "{checked:?}");
        let request = pb::ApplyPolicyRequest {
            request_id: request_id(),
            text: self.text.clone(),
            validate_only: false,
        };
        let applied: pb::ApplyPolicyResponse = driver.answer("admin", Call::ApplyPolicy, request).await;
        assert!(
            matches!(applied.outcome, Some(pb::apply_policy_response::Outcome::Applied(_))),
            "{applied:?}"
        );
        for mode in MODES {
            let request = self.everything(0, 4711, mode);
            let stored: pb::TokenizeResponse = driver.answer("backend", Call::Tokenize, request).await;
            stored.tokens.iter().for_each(|token| self.keep(&token.token));
            self.tokens.extend(stored.tokens);
            self.consents = stored.consent_ids;
        }
        let items = [1, 2].map(|subject| {
            let one = self.everything(subject, 4711 + u32::try_from(subject).unwrap(), pb::TokenMode::Random);
            let (subject_reference, fields, consents) = (one.subject_reference, one.fields, one.consents);
            pb::TokenizeItem { subject_reference, fields, consents, ..Default::default() }
        });
        let mut items = items.to_vec();
        items.push(pb::TokenizeItem { fields: vec![pb::FieldValue::default()], ..items[1].clone() });
        let request = pb::BatchTokenizeRequest { request_id: request_id(), items, ..Default::default() };
        let batch: pb::BatchTokenizeResponse = driver.answer("backend", Call::BatchTokenize, request).await;
        for result in batch.results {
            match result.outcome.unwrap() {
                pb::tokenize_result::Outcome::Response(one) => {
                    one.tokens.iter().for_each(|t| self.keep(&t.token));
                }
                pb::tokenize_result::Outcome::Error(error) => driver.keep(&error),
            }
        }
        self.read_everything(driver).await;
    }

    /// Every token by every caller for every purpose: values of all fields leave, and many are refused.
    async fn read_everything(&self, driver: &mut Driver) {
        let (random, others) = self.tokens.split_at(self.values());
        let mut values = 0;
        for (purpose, rules) in self.policy.purposes() {
            let purpose = (purpose.as_str(), (!rules.channels().is_empty()).then(letters));
            for caller in ["backend", "payments", "support", "credit", "mailing", "analytics", "rights"] {
                let answered = read(driver, caller, purpose.clone(), random).await;
                // Who gets nothing gets nothing in another mode.
                if answered > 0 {
                    values += answered + read(driver, caller, purpose.clone(), others).await;
                }
            }
        }
        assert!(values > self.tokens.len(), "{values} values were answered");
        let mut ask = detokenize_request(&self.token(0, "iin"), "payments");
        for view in [pb::View::Full, pb::View::Masked] {
            ask.view = view.into();
            driver.succeed("payments", Call::Detokenize, ask.clone()).await;
        }
    }

    /// Questions about values and subjects, changes of them, and their refusals.
    pub async fn drive_subjects(&mut self, driver: &mut Driver) {
        let iin = self.token(0, "iin");
        let (held, guess) = (marked("iin", FieldType::Iin, 4711), self.mark("iin", FieldType::Iin, 4747));
        let corrected = self.mark("iin", FieldType::Iin, 4748);
        for value in [&held, &guess] {
            let request = pb::CompareValueRequest {
                token: iin.clone(),
                purpose: "payments".into(),
                value: value.clone(),
                ..pb::CompareValueRequest::default()
            };
            driver.succeed("payments", Call::CompareValue, request).await;
            let request = pb::LookupTokensRequest {
                field: "iin".into(),
                value: value.clone(),
                purpose: "payments".into(),
                ..pb::LookupTokensRequest::default()
            };
            let found: pb::LookupTokensResponse =
                driver.answer("payments", Call::LookupTokens, request).await;
            found.tokens.iter().for_each(|found| self.keep(&found.token));
        }
        driver
            .succeed("payments", Call::DescribeToken, pb::DescribeTokenRequest { token: iin.clone() })
            .await;
        driver.succeed("payments", Call::WhoAmI, pb::WhoAmIRequest {}).await;
        let correction = pb::UpdateRecordRequest {
            request_id: request_id(),
            token: iin.clone(),
            value: corrected.clone(),
            source: 0,
            evidence: "ACT-17".into(),
        };
        driver.succeed("backend", Call::UpdateRecord, correction.clone()).await;
        let other = pb::UpdateRecordRequest { value: held.clone(), ..correction };
        driver.refuse("backend", Call::UpdateRecord, other, "REQUEST_ID_REUSED").await;
        let revoke = pb::RevokeTokenRequest { request_id: request_id(), token: self.token(1, "iin") };
        driver.succeed("backend", Call::RevokeToken, revoke).await;
        self.refuse_values(driver, &held, &guess).await;

        let consent = pb::ConsentGrant { subject_name: EVIDENCE.into(), ..grant("payments", &["iin"]) };
        let request = pb::GrantConsentRequest {
            request_id: request_id(),
            subject_reference: REFERENCES[0].into(),
            consent: Some(consent),
        };
        let granted: pb::GrantConsentResponse =
            driver.answer("backend", Call::GrantConsent, request.clone()).await;
        let unknown = pb::GrantConsentRequest {
            request_id: request_id(),
            subject_reference: format!("{}X", REFERENCES[0]),
            ..request
        };
        driver.refuse("backend", Call::GrantConsent, unknown, "SUBJECT_NOT_FOUND").await;
        let withdraw = pb::WithdrawConsentRequest {
            request_id: request_id(),
            consent_id: granted.consent.unwrap().consent_id,
            ..Default::default()
        };
        driver.succeed("backend", Call::WithdrawConsent, withdraw).await;
        let list = pb::ListConsentsRequest { subject_reference: REFERENCES[0].into(), ..Default::default() };
        driver.succeed("backend", Call::ListConsents, list).await;
        let withdrawn = detokenize_request(&iin, "payments");
        driver.refuse("payments", Call::Detokenize, withdrawn, "CONSENT_WITHDRAWN").await;

        let view = pb::GetSubjectRequest { subject: Some(by_reference(0)), ..Default::default() };
        driver.succeed("backend", Call::GetSubject, view).await;
        let list = pb::ListDisclosuresRequest {
            subject: Some(by_reference(0)),
            platform: "lerna".into(),
            ..Default::default()
        };
        let told: pb::ListDisclosuresResponse = driver.answer("admin", Call::ListDisclosures, list).await;
        assert!(!told.disclosures.is_empty());
        let event = pb::RecordEventRequest {
            request_id: request_id(),
            subject: Some(by_reference(0)),
            event: "payment".into(),
            event_time: Some(seconds(-60)),
            ..Default::default()
        };
        driver.succeed("backend", Call::RecordEvent, event).await;
        let mark = pb::MarkAccuracyRequest {
            request_id: request_id(),
            subject: Some(by_reference(0)),
            platform: String::new(),
            field: "iin".into(),
            accuracy: pb::Accuracy::Confirmed.into(),
            evidence: "DOC-4711".into(),
        };
        driver.succeed("backend", Call::MarkAccuracy, mark).await;
        let restrict = pb::RestrictSubjectRequest {
            request_id: request_id(),
            subject: Some(by_reference(1)),
            trigger: pb::RestrictionTrigger::AccuracyDisputed.into(),
            requester: pb::RestrictionRequester::Subject.into(),
            review_time: Some(seconds(86_400)),
            ..Default::default()
        };
        driver.succeed("backend", Call::RestrictSubject, restrict).await;
        let blocked = pb::ListRestrictionsRequest {
            platform: "lerna".into(),
            ..pb::ListRestrictionsRequest::default()
        };
        let blocked: pb::ListRestrictionsResponse =
            driver.answer("admin", Call::ListRestrictions, blocked).await;
        assert_eq!(blocked.subjects.len(), 1);
        let unblock = pb::UnrestrictSubjectRequest {
            request_id: request_id(),
            subject: Some(by_reference(1)),
            reference: "CASE-1".into(),
            ..Default::default()
        };
        driver.succeed("backend", Call::UnrestrictSubject, unblock.clone()).await;
        let unblock = pb::UnrestrictSubjectRequest { request_id: request_id(), ..unblock };
        driver.refuse("backend", Call::UnrestrictSubject, unblock, "SUBJECT_NOT_RESTRICTED").await;
        let erase = pb::EraseSubjectRequest {
            request_id: request_id(),
            subject: Some(by_reference(2)),
            ..Default::default()
        };
        driver.succeed("backend", Call::EraseSubject, erase.clone()).await;
        let cancel = pb::CancelErasureRequest {
            request_id: request_id(),
            subject: Some(by_reference(2)),
            platform: "lerna".into(),
            ..Default::default()
        };
        driver.succeed("admin", Call::CancelErasure, cancel.clone()).await;
        let cancel = pb::CancelErasureRequest { request_id: request_id(), ..cancel };
        driver.refuse("admin", Call::CancelErasure, cancel, "SUBJECT_NOT_ERASED").await;
        let receipts = pb::GetErasureReceiptsRequest { subject: Some(by_reference(2)), ..Default::default() };
        driver.succeed("backend", Call::GetErasureReceipts, receipts).await;
        let erase = pb::EraseSubjectRequest { request_id: request_id(), ..erase };
        driver.succeed("backend", Call::EraseSubject, erase).await;
    }

    /// Requests full of canaries that go deep before they are refused.
    async fn refuse_values(&mut self, driver: &mut Driver, held: &str, guess: &str) {
        let tokenize = |value: &str, field: &str| pb::TokenizeRequest {
            request_id: request_id(),
            subject_reference: REFERENCES[0].into(),
            fields: vec![pb::FieldValue { field: field.into(), value: value.into(), ..Default::default() }],
            ..Default::default()
        };
        driver.refuse("backend", Call::Tokenize, tokenize(guess, "iin"), "VALUE_DIFFERS").await;
        driver.refuse("backend", Call::Tokenize, tokenize(guess, "phone"), "INVALID_FIELDS").await;
        driver.refuse("backend", Call::Tokenize, tokenize(guess, "telefon"), "INVALID_FIELDS").await;
        driver.refuse("payments", Call::Tokenize, tokenize(held, "iin"), "CALLER_NOT_ALLOWED").await;
        let (random, revoked, once) = (self.token(0, "iin"), self.token(1, "iin"), self.token(2, "iin"));
        let ask = |token: &str, purpose: &str| pb::DetokenizeRequest {
            request_id: request_id(),
            ..detokenize_request(token, purpose)
        };
        driver.refuse("payments", Call::Detokenize, ask(&revoked, "payments"), "TOKEN_REVOKED").await;
        driver.refuse("payments", Call::Detokenize, ask(&once, "payments"), "TOKEN_SPENT").await;
        // What is not declared could say anything.
        driver.refuse("payments", Call::Detokenize, ask(&random, WORD), "PURPOSE_NOT_DECLARED").await;
        let compare = pb::CompareValueRequest {
            token: random.clone(),
            purpose: WORD.into(),
            value: held.into(),
            ..pb::CompareValueRequest::default()
        };
        driver.refuse("payments", Call::CompareValue, compare, "PURPOSE_NOT_DECLARED").await;
        let search = pb::LookupTokensRequest {
            field: WORD.into(),
            value: held.into(),
            purpose: "payments".into(),
            ..pb::LookupTokensRequest::default()
        };
        driver.refuse("payments", Call::LookupTokens, search, "FIELD_NOT_ALLOWED").await;
        driver.refuse("payments", Call::Detokenize, ask(held, "payments"), "TOKEN_MALFORMED").await;
        let mistyped = random.replace("sq1_", "sq1_a");
        driver.refuse("payments", Call::Detokenize, ask(&mistyped, "payments"), "TOKEN_MALFORMED").await;
        let named = pb::DetokenizeRequest { reference: held.into(), ..ask(&random, "payments") };
        driver.refuse("payments", Call::Detokenize, named, "INVALID_FIELDS").await;
        let to_nobody = pb::DetokenizeRequest { recipient: WORD.into(), ..ask(&random, "payments") };
        driver.refuse("payments", Call::Detokenize, to_nobody, "RECIPIENT_UNKNOWN").await;
    }

    /// Texts that have no business in any field: each call is refused over each of them.
    pub async fn refuse_every_call(&mut self, driver: &mut Driver) {
        self.canaries.push(Canary::new("word", WORD));
        let value = format!("iin {}", marked("iin", FieldType::Iin, 4711));
        let texts =
            [WORD.to_owned(), value, REFERENCES[0].to_owned(), self.token(0, "iin"), EVIDENCE.to_owned()];
        for caller in ["backend", "payments", "admin", "auditor"] {
            for (number, text) in texts.iter().enumerate() {
                driver.fill_every_call(caller, text, number % 2 == 0).await;
            }
        }
    }
}

/// Has the form of a name, so that it gets as far as a look-up by name.
pub const WORD: &str = "canaryword4711";
