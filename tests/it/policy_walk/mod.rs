//! The table caller × purpose × field × consent × subject of all five policies, walked against the served vault: each
//! cell answers what the policy's text says, each denial has its true reason in the log, and the caller learns of it
//! only what it may.

pub mod oracle;

use std::collections::{BTreeMap, HashMap, HashSet};

use prost_types::Timestamp;
use sandyq::{
    cli::pki::Authority,
    grpc::pb::{
        self, detokenize_result::Outcome, subject_service_client::SubjectServiceClient,
        vault_service_client::VaultServiceClient,
    },
};
use tonic::transport::{Channel, Identity};

use self::oracle::{Ask, ConsentCase, PolicyText, PurposeText, StateCase};
use crate::common::{
    backend::{Backend, on_both},
    people::{bin, iin},
    served::{Served, reason_of_item, request_id},
};

const CONSENTS: [ConsentCase; 7] = [
    ConsentCase::Missing,
    ConsentCase::Given,
    ConsentCase::Narrow,
    ConsentCase::OneChannel,
    ConsentCase::Withdrawn,
    ConsentCase::Ended,
    ConsentCase::Incomplete,
];
const STATES: [StateCase; 3] = [StateCase::Active, StateCase::Restricted, StateCase::Erased];
/// Enrolled on each platform, and named by none of its purposes.
const STRANGER: &str = "stranger";

/// The shipped files, each decided by a synthetic operator.
fn policies() -> Vec<PolicyText> {
    let aitube = [
        ("bin", "\"211140009394\""),
        ("effective", "\"2026-01-01\""),
        ("edition", "\"2026-01-01\""),
        ("withdrawal_address", "\"the address of the agreement\""),
        ("min_age", "18"),
    ];
    vec![
        PolicyText::decided(include_str!("../../../policies/lerna.toml"), &[]),
        PolicyText::decided(include_str!("../../../policies/experimentum.toml"), &[("min_age", "18")]),
        PolicyText::decided(include_str!("../../../policies/edoox.toml"), &[("effective", "\"2026-01-01\"")]),
        PolicyText::decided(
            include_str!("../../../policies/cap.toml"),
            &[("effective", "\"2026-01-01\""), ("min_age", "18")],
        ),
        PolicyText::decided(include_str!("../../../policies/aitube.toml"), &aitube),
    ]
}

on_both!(every_cell_answers_what_the_policy_says);
async fn every_cell_answers_what_the_policy_says(backend: Backend) {
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    let served = Served::start_with(&backend, &platform, &staff).await;
    let mut number = 0;
    for policy in policies() {
        let callers = enrol(&served, &platform, &policy).await;
        let mut walk = Walk { served: &served, policy: &policy, callers, asked: HashMap::new() };
        let mut subjects = Vec::new();
        for consent in CONSENTS {
            if consent == ConsentCase::Incomplete && policy.completing_event().is_none() {
                continue;
            }
            for state in STATES {
                number += 1;
                subjects.push(walk.store(number, consent, state).await);
            }
        }
        let (cells, permits) = walk.ask_everything(&subjects).await;
        let logged = walk.compare_log().await;
        println!("{}: {cells} cells, {permits} permits, {logged} entries as expected", policy.name());
        assert!(cells > 3_000 && permits > 20 && logged == cells, "the table was walked");
    }
    served.running.stop().await.unwrap();
}

/// Makes the platform where it is not there, applies its policy, and enrols every caller that it names and a stranger.
pub async fn enrol(served: &Served, authority: &Authority, policy: &PolicyText) -> HashMap<String, Channel> {
    let mut staff = served.platforms("admin").await;
    let platform = policy.name();
    let list =
        pb::ListCallersRequest { platform: platform.into(), page_size: 100, page_token: String::new() };
    if platform != "lerna" {
        let (legal_name, bin) = policy.operator();
        served.make_platform(platform, legal_name, bin, policy.text.clone()).await;
    }
    let known = staff.list_callers(list).await.unwrap().into_inner().callers;
    let known: HashSet<String> = known.into_iter().map(|caller| caller.name).collect();
    let mut channels = HashMap::new();
    for name in policy.callers().into_iter().chain([STRANGER]) {
        let path = if known.contains(name) { name.to_owned() } else { format!("{platform}/{name}") };
        let spiffe_id = format!("spiffe://lerna.example.kz/{path}");
        if !known.contains(name) {
            let request = pb::EnrolCallerRequest {
                request_id: served.request_id(),
                platform: platform.into(),
                name: name.into(),
                spiffe_id: spiffe_id.clone(),
                roles: vec![pb::Role::Service.into()],
                ..pb::EnrolCallerRequest::default()
            };
            staff.enrol_caller(request).await.unwrap();
        }
        let issued = authority.client(&[&spiffe_id]).unwrap();
        let identity = Identity::from_pem(&issued.certificate, &issued.key);
        channels.insert(name.to_owned(), served.connect(Some(identity)).await.unwrap());
    }
    channels
}

/// A value of this type in its normal form.
fn value(field_type: &str, number: u32) -> String {
    match field_type {
        "iin" => iin(number),
        "bin" => bin(number),
        "phone" => format!("+7701{number:07}"),
        "email" => format!("person{number}@example.kz"),
        "person_name" => "Сынақова".into(),
        "ip" => format!("203.0.113.{}", number % 250),
        "text" => format!("synthetic text {number}"),
        other => panic!("no synthetic value of the type {other}"),
    }
}

fn ago(now: Timestamp, seconds: i64) -> Timestamp {
    Timestamp { seconds: now.seconds - seconds, nanos: 0 }
}

struct Person {
    consent: ConsentCase,
    state: StateCase,
    /// Token and value by field.
    tokens: BTreeMap<String, (String, String)>,
}

/// What the log must hold of one batch: the reason of each item, none for a permit.
type Expected = Vec<Option<&'static str>>;

struct Walk<'a> {
    served: &'a Served,
    policy: &'a PolicyText,
    callers: HashMap<String, Channel>,
    /// By request id.
    asked: HashMap<String, Expected>,
}

impl Walk<'_> {
    fn channel(&self, caller: &str) -> Channel {
        self.callers[caller].clone()
    }

    /// Stores a person with every field, and brings consents and subject into the case.
    async fn store(&self, number: u32, consent: ConsentCase, state: StateCase) -> Person {
        let reference = format!("user-{number}");
        let mut tokens = BTreeMap::new();
        let fields = self.policy.fields();
        for collector in fields.iter().map(|(_, _, collector)| *collector).collect::<HashSet<_>>() {
            let own = fields.iter().filter(|field| field.2 == collector);
            let own: Vec<_> = own.map(|(name, kind, _)| (*name, value(kind, number))).collect();
            let request = pb::TokenizeRequest {
                request_id: request_id(),
                subject_reference: reference.clone(),
                fields: own
                    .iter()
                    .map(|(field, value)| pb::FieldValue {
                        field: (*field).into(),
                        value: value.clone(),
                        ..pb::FieldValue::default()
                    })
                    .collect(),
                ..pb::TokenizeRequest::default()
            };
            let answer = VaultServiceClient::new(self.channel(collector)).tokenize(request).await.unwrap();
            for (token, (field, value)) in answer.into_inner().tokens.into_iter().zip(own) {
                assert_eq!(token.field, field);
                tokens.insert(token.field, (token.token, value));
            }
        }
        self.consent(&reference, consent).await;
        self.bring(&reference, state).await;
        Person { consent, state, tokens }
    }

    async fn consent(&self, reference: &str, case: ConsentCase) {
        let mut client =
            pb::consent_service_client::ConsentServiceClient::new(self.channel(self.policy.recorder()));
        let now = Timestamp::from(std::time::UNIX_EPOCH + since_epoch());
        let subject = Some(by_reference(reference));
        if let (Some(event), false) = (self.policy.completing_event(), case == ConsentCase::Incomplete) {
            let request = pb::RecordEventRequest {
                request_id: request_id(),
                subject,
                event: event.into(),
                event_time: Some(ago(now, 3_600)),
                ..pb::RecordEventRequest::default()
            };
            let manager = self.channel(self.policy.manager());
            SubjectServiceClient::new(manager).record_event(request).await.unwrap();
        }
        if case == ConsentCase::Missing {
            return;
        }
        for purpose in self.policy.purposes().into_iter().filter(|p| !p.is_inert() && !p.is_law()) {
            let mut channels: Vec<_> = purpose.channels().into_iter().map(Some).collect();
            channels.truncate(if case == ConsentCase::OneChannel { 1 } else { channels.len() });
            channels.extend(channels.is_empty().then_some(None));
            for channel in channels {
                let request = pb::GrantConsentRequest {
                    request_id: request_id(),
                    subject_reference: reference.into(),
                    consent: Some(self.terms(purpose, channel, case, now)),
                };
                let granted = client.grant_consent(request).await.unwrap_or_else(|e| panic!("{e:?}"));
                if case == ConsentCase::Withdrawn {
                    let request = pb::WithdrawConsentRequest {
                        request_id: request_id(),
                        consent_id: granted.into_inner().consent.unwrap().consent_id,
                        platform: String::new(),
                    };
                    client.withdraw_consent(request).await.unwrap();
                }
            }
        }
    }

    fn terms(
        &self,
        purpose: PurposeText<'_>,
        channel: Option<&str>,
        case: ConsentCase,
        now: Timestamp,
    ) -> pb::ConsentGrant {
        let fields = self.policy.serving(purpose, channel);
        let listed = if case == ConsentCase::Narrow { &fields[..1] } else { &fields[..] };
        let act =
            if purpose.is_written() { pb::ConsentAct::ElectronicSignature } else { pb::ConsentAct::Tick };
        pb::ConsentGrant {
            act: act.into(),
            give_time: Some(ago(now, 7_200)),
            expire_time: (case == ConsentCase::Ended).then(|| ago(now, 60)),
            cross_border_transfer: Some(true),
            publication: Some(true),
            language: self.policy.language().into(),
            site: self.policy.site().into(),
            outreach: outreach(channel),
            ..crate::common::people::grant(purpose.name(), listed)
        }
    }

    async fn bring(&self, reference: &str, state: StateCase) {
        let mut client = SubjectServiceClient::new(self.channel(self.policy.manager()));
        let subject = Some(by_reference(reference));
        match state {
            StateCase::Active => {}
            StateCase::Restricted => {
                let now = Timestamp::from(std::time::UNIX_EPOCH + since_epoch());
                let request = pb::RestrictSubjectRequest {
                    request_id: request_id(),
                    subject,
                    trigger: pb::RestrictionTrigger::AccuracyDisputed.into(),
                    requester: pb::RestrictionRequester::Subject.into(),
                    review_time: Some(ago(now, -86_400)),
                    ..pb::RestrictSubjectRequest::default()
                };
                client.restrict_subject(request).await.unwrap();
            }
            StateCase::Erased => {
                let request = pb::EraseSubjectRequest {
                    request_id: request_id(),
                    subject,
                    ..pb::EraseSubjectRequest::default()
                };
                client.erase_subject(request).await.unwrap();
            }
        }
    }

    /// Every caller asks for every purpose, in a view that it allows and in one that it does not, with a reference and
    /// without where the purpose needs one. Answers the numbers of cells and permits.
    async fn ask_everything(&mut self, people: &[Person]) -> (usize, usize) {
        let policy = self.policy;
        let (mut cells, mut permits) = (0, 0);
        let mut callers: Vec<_> = self.callers.keys().cloned().collect();
        callers.sort_unstable();
        for caller in &callers {
            let undeclared = [(None, "full", true, None)];
            let declared = policy.purposes().into_iter().flat_map(|purpose| {
                let views = purpose.views();
                let allowed = if views.contains(&"full") { "full" } else { views.first().unwrap_or(&"full") };
                let barred = ["masked", "sex"].into_iter().find(|view| !views.contains(view));
                let mut asks = vec![(Some(purpose), allowed, true, None)];
                asks.extend(
                    purpose.channels().into_iter().map(|by| (Some(purpose), allowed, true, Some(by))),
                );
                // No policy reaches people by it.
                asks.push((Some(purpose), allowed, true, Some("post")));
                asks.extend(purpose.needs_reference().then_some((Some(purpose), allowed, false, None)));
                asks.extend(barred.map(|view| (Some(purpose), view, true, None)));
                asks
            });
            for (purpose, view, referenced, channel) in
                undeclared.into_iter().chain(declared.collect::<Vec<_>>())
            {
                let serving = purpose.map(|purpose| policy.serving(purpose, channel)).unwrap_or_default();
                let others = purpose.map(PurposeText::channels).unwrap_or_default();
                let others = others.into_iter().filter(|other| Some(*other) != channel);
                let elsewhere: Vec<_> = others
                    .filter_map(|other| policy.serving(purpose?, Some(other)).first().copied())
                    .collect();
                let ask = |person: &Person, field| Ask {
                    caller,
                    purpose,
                    view,
                    field,
                    referenced,
                    channel,
                    kind: policy.type_of(field),
                    narrow: serving.first().copied(),
                    narrow_elsewhere: elsewhere.contains(&field),
                    consent: person.consent,
                    state: person.state,
                };
                // A view or a channel that is not allowed needs no more than one person.
                let reaches = purpose.is_some_and(|purpose| !purpose.channels().is_empty());
                let few = view == "sex"
                    || view == "masked"
                    || channel == Some("post")
                    || (reaches && channel.is_none());
                let people = if few { &people[..1] } else { people };
                let items: Vec<_> = people
                    .iter()
                    .flat_map(|person| {
                        person.tokens.iter().map(|(field, (token, value))| (ask(person, field), token, value))
                    })
                    .collect();
                for items in items.chunks(1_000) {
                    permits += self.ask(items).await;
                    cells += items.len();
                }
            }
        }
        (cells, permits)
    }

    async fn ask(&mut self, items: &[(Ask<'_>, &String, &String)]) -> usize {
        let first = &items[0].0;
        let request = pb::BatchDetokenizeRequest {
            request_id: request_id(),
            tokens: items.iter().map(|(_, token, _)| (*token).clone()).collect(),
            purpose: first.purpose.map_or("undeclared", PurposeText::name).into(),
            view: match first.view {
                "full" => pb::View::Full,
                "masked" => pb::View::Masked,
                "sex" => pb::View::Sex,
                other => panic!("{other}"),
            }
            .into(),
            reference: if first.referenced { "LAW-94-V/9".into() } else { String::new() },
            outreach: outreach(first.channel),
            ..pb::BatchDetokenizeRequest::default()
        };
        let id = request.request_id.clone();
        let mut client =
            VaultServiceClient::new(self.channel(first.caller)).max_decoding_message_size(1 << 24);
        let results = client.batch_detokenize(request).await.unwrap().into_inner().results;
        assert_eq!(results.len(), items.len());
        let (mut expected, mut permits) = (Vec::new(), 0);
        for (result, (ask, _, value)) in results.into_iter().zip(items) {
            let cell = || {
                format!(
                    "{} {} {} {} {:?} {:?} {:?}",
                    self.policy.name(),
                    ask.caller,
                    ask.purpose.map_or("undeclared", PurposeText::name),
                    ask.field,
                    ask.channel,
                    ask.consent,
                    ask.state
                )
            };
            let truth = ask.truth();
            match (result.outcome.unwrap(), truth) {
                (Outcome::Response(response), Ok(())) => {
                    permits += 1;
                    assert!(first.view != "full" || response.value == **value, "{}", cell());
                }
                (Outcome::Error(error), Err(reason)) => {
                    let told = self.policy.told(reason, ask.caller, ask.field);
                    assert_eq!(reason_of_item(&error), told, "{}", cell());
                }
                (Outcome::Response(_), Err(reason)) => panic!("{} answered against {reason}", cell()),
                (Outcome::Error(error), Ok(())) => panic!("{} refused: {}", cell(), error.message),
            }
            expected.push(truth.err());
        }
        self.asked.insert(id, expected);
        permits
    }

    /// Holds the log against what was asked: an entry for each item, in order, with the true reason. Answers their number.
    async fn compare_log(&mut self) -> usize {
        let mut audit = self.served.audit("auditor").await.max_decoding_message_size(1 << 24);
        let mut logged: HashMap<String, Vec<(i64, Option<String>)>> = HashMap::new();
        let mut request = pb::ListEntriesRequest {
            platform: self.policy.name().into(),
            call: "VaultService/BatchDetokenize".into(),
            page_size: 1_000,
            ..pb::ListEntriesRequest::default()
        };
        loop {
            let page = audit.list_entries(request.clone()).await.unwrap().into_inner();
            for entry in page.entries {
                let reason = (entry.verdict() == pb::Verdict::Deny).then_some(entry.reason);
                logged.entry(entry.request_id).or_default().push((entry.position, reason));
            }
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(logged.len(), self.asked.len(), "{}", self.policy.name());
        let mut count = 0;
        for (id, expected) in &self.asked {
            let mut entries = logged.remove(id).unwrap_or_default();
            entries.sort_unstable_by_key(|(position, _)| *position);
            let reasons: Vec<_> = entries.iter().map(|(_, reason)| reason.as_deref()).collect();
            assert_eq!(reasons, *expected, "{} {id}", self.policy.name());
            count += expected.len();
        }
        count
    }
}

/// By a channel, in the operator's name.
fn outreach(channel: Option<&str>) -> Option<pb::Outreach> {
    let channel = format!("CHANNEL_{}", channel?.to_uppercase());
    let channel = pb::Channel::from_str_name(&channel).unwrap().into();
    Some(pb::Outreach { channel, sender: String::new() })
}

fn by_reference(reference: &str) -> pb::SubjectName {
    pb::SubjectName { subject: Some(pb::subject_name::Subject::SubjectReference(reference.into())) }
}

fn since_epoch() -> std::time::Duration {
    let now = sandyq::domain::time::Clock::default().now().as_micros();
    std::time::Duration::from_micros(u64::try_from(now).unwrap())
}
