//! `sandyq demo`: the whole story in one go, over real gRPC and mutual TLS, with synthetic people.

mod documents;

use std::{net::SocketAddr, path::Path};

use tonic::{Status, transport::Channel};

use super::{
    audit::{Exported, export, print_report, verify},
    client::{connect, consents, request_id, vault},
    local::{LocalInstallation, Running, synthetic_consent},
    output::{Failure, Out, describe, exit, refused},
};
use crate::{domain::ids::PlatformId, grpc::pb, store::sqlite::overwrite_entry};

const PLATFORM: &str = "lerna";
/// Synthetic: born in 2099.
const SUBJECT: &str = "user-000117";
const PERSON: [(&str, &str); 5] = [
    ("surname", "Сынақова"),
    ("first_name", "Әлия"),
    ("iin", "991231600002"),
    ("phone", "8 (701) 000-00-17"),
    ("email", "aliya@example.kz"),
];

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Change one stored log entry behind the vault's back, and see that verification names it.
    #[arg(long)]
    tamper: bool,
}

pub(super) async fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let dir = tempfile::Builder::new().prefix("sandyq-demo-").tempdir()?;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let running = LocalInstallation::create(&dir.path().join("installation"), listen)?.start(false).await?;
    let mut story = Story { out, step: 0 };
    let outcome = story.tell(&running, dir.path(), args.tamper).await;
    running.stop().await?;
    outcome
}

struct Story<'a> {
    out: &'a mut Out,
    step: u32,
}

/// Channels of the callers that the demo's platform has.
struct Callers {
    backend: Channel,
    payments: Channel,
    support: Channel,
    auditor: Channel,
}

impl Story<'_> {
    async fn tell(&mut self, running: &Running, dir: &Path, tamper: bool) -> Result<(), Failure> {
        self.say("Sandyq demo: one platform, synthetic people, everything in a temporary directory.")?;
        self.next("A vault was made and is serving gRPC over mutual TLS")?;
        self.say(&format!("address    {}", running.address))?;
        self.say(&format!("audit key  {}", running.verifier_key))?;
        self.say(
            "The root key is sealed in one file and its unseal key lies in another. Each caller is known",
        )?;
        self.say("by the one URI in its certificate, and by nothing that it says.")?;
        let channel = async |name: &str| connect(&running.installation.connection(name)?).await;
        let callers = Callers {
            backend: channel("backend").await?,
            payments: channel("payments").await?,
            support: channel("support").await?,
            auditor: channel("auditor").await?,
        };
        self.introduce(&callers).await?;
        let (tokens, payments_consent) = self.store(&callers).await?;
        self.read(&callers, &tokens).await?;
        self.documents(&callers, running).await?;
        self.withdraw(&callers, &tokens, &payments_consent).await?;
        if tamper {
            self.tamper(running).await?;
        }
        self.verify_log(&callers, running, dir, tamper).await?;
        self.say("")?;
        self.say(
            "Go on:  sandyq dev              the same vault as a server that stays, with commands to paste",
        )?;
        self.say("        sandyq demo --tamper    the same story with a forged log entry")
    }

    async fn introduce(&mut self, callers: &Callers) -> Result<(), Failure> {
        self.next("Who calls, and what the platform's policy lets each ask for")?;
        for channel in [&callers.backend, &callers.payments, &callers.support, &callers.auditor] {
            let me =
                vault(channel.clone()).who_am_i(pb::WhoAmIRequest {}).await.map_err(refused)?.into_inner();
            let purposes = if me.purposes.is_empty() {
                "reads no value".to_owned()
            } else {
                format!("reads for {}", me.purposes.join(", "))
            };
            self.say(&format!("{:<9}  {:<42} {purposes}", me.caller, me.spiffe_id))?;
        }
        Ok(())
    }

    /// Stores the person; answers tokens by field, and the consent to payments.
    async fn store(&mut self, callers: &Callers) -> Result<(Vec<(String, String)>, String), Failure> {
        self.next("The backend stores a person with two consents, and gets tokens")?;
        let request = pb::TokenizeRequest {
            request_id: request_id()?,
            subject_reference: SUBJECT.to_owned(),
            fields: PERSON
                .iter()
                .map(|(field, value)| pb::FieldValue {
                    field: (*field).into(),
                    value: (*value).into(),
                    ..pb::FieldValue::default()
                })
                .collect(),
            consents: vec![
                synthetic_consent("payments", &["surname", "first_name", "iin"]),
                synthetic_consent("request_comms", &["surname", "first_name", "phone", "email"]),
            ],
            ..pb::TokenizeRequest::default()
        };
        let answer = vault(callers.backend.clone()).tokenize(request).await.map_err(refused)?.into_inner();
        self.say(&format!("subject     {}", answer.subject_id))?;
        for token in &answer.tokens {
            self.say(&format!("{:<11} {}", token.field, token.token))?;
        }
        self.say("Each value is sealed under a key of its own; the database holds no value, and no token.")?;
        let consent = answer.consent_ids.first().cloned().unwrap_or_default();
        Ok((answer.tokens.into_iter().map(|t| (t.field, t.token)).collect(), consent))
    }

    async fn read(&mut self, callers: &Callers, tokens: &[(String, String)]) -> Result<(), Failure> {
        let iin = token(tokens, "iin")?;
        self.next("The payment service gets surname, name and IIN for `payments`, and nothing else")?;
        for field in ["surname", "first_name", "iin"] {
            let answer =
                detokenize(&callers.payments, token(tokens, field)?, "payments", pb::View::Full).await;
            self.expect_value(field, answer)?;
        }
        let phone = detokenize(&callers.payments, token(tokens, "phone")?, "payments", pb::View::Full).await;
        self.expect_refusal("phone", phone, "TOKEN_NOT_FOUND")?;
        self.say(
            "A caller none of whose purposes covers a field learns no more than if the token never was.",
        )?;

        self.next("Support reaches the same person for `request_comms`, masked where that is enough")?;
        let phone =
            detokenize(&callers.support, token(tokens, "phone")?, "request_comms", pb::View::Full).await;
        self.expect_value("phone", phone)?;
        let email =
            detokenize(&callers.support, token(tokens, "email")?, "request_comms", pb::View::Masked).await;
        self.expect_value("email", email)?;

        self.next("Without a declared purpose there is no value")?;
        let undeclared = detokenize(&callers.payments, iin, "resale", pb::View::Full).await;
        self.expect_refusal("payments asks for `resale`", undeclared, "PURPOSE_NOT_DECLARED")?;
        let stranger = detokenize(&callers.support, iin, "payments", pb::View::Full).await;
        self.expect_refusal("support asks for `payments`", stranger, "CALLER_NOT_ALLOWED")?;
        let mistyped =
            detokenize(&callers.payments, &iin.replace("sq1_", "sq1_x"), "payments", pb::View::Full).await;
        self.expect_refusal("a mistyped token", mistyped, "TOKEN_MALFORMED")
    }

    async fn withdraw(
        &mut self,
        callers: &Callers,
        tokens: &[(String, String)],
        consent: &str,
    ) -> Result<(), Failure> {
        self.next("The person withdraws the consent to `payments`; it binds at once")?;
        let request = pb::WithdrawConsentRequest {
            request_id: request_id()?,
            consent_id: consent.to_owned(),
            ..pb::WithdrawConsentRequest::default()
        };
        consents(callers.backend.clone()).withdraw_consent(request).await.map_err(refused)?;
        self.say(&format!("withdrawn   {consent}"))?;
        let iin = detokenize(&callers.payments, token(tokens, "iin")?, "payments", pb::View::Full).await;
        self.expect_refusal("payments asks for the IIN", iin, "CONSENT_WITHDRAWN")?;
        let phone =
            detokenize(&callers.support, token(tokens, "phone")?, "request_comms", pb::View::Masked).await;
        self.expect_value("phone", phone)?;
        self.say("The other consent stands: each purpose has its own.")
    }

    async fn tamper(&mut self, running: &Running) -> Result<(), Failure> {
        self.next("A database administrator changes one byte of log entry 16, past the vault")?;
        let database = running.installation.dir().join("sandyq.db");
        overwrite_entry(&database, PlatformId::new(1), 16).await?;
        self.say("done: the vault noticed nothing, and need not")
    }

    async fn verify_log(
        &mut self,
        callers: &Callers,
        running: &Running,
        dir: &Path,
        tamper: bool,
    ) -> Result<(), Failure> {
        self.next("An auditor exports the log and verifies it offline, from the audit key alone")?;
        let log = dir.join("log");
        export(callers.auditor.clone(), PLATFORM, &log, 0).await?;
        let report = verify(Exported { dir: &log, archives: &[] }, &running.verifier_key, None)?;
        let verified = print_report(&report, self.out);
        if tamper == report.holds() {
            return Err(Failure::new(exit::FAILED, "verification did not see what was done to the log"));
        }
        verified?;
        self.say("Every decision above is an entry, written before its answer left; the mistyped token is")?;
        self.say("counted in a summary by the minute. No entry holds a personal value.")
    }

    fn next(&mut self, title: &str) -> Result<(), Failure> {
        self.step += 1;
        self.out.line("")?;
        self.out.line(&format!("{}. {title}", self.step))?;
        Ok(())
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        let indent = if self.step == 0 || line.is_empty() { "" } else { "   " };
        Ok(self.out.line(&format!("{indent}{line}"))?)
    }

    fn expect_value(
        &mut self,
        what: &str,
        answer: Result<pb::DetokenizeResponse, Status>,
    ) -> Result<(), Failure> {
        let released = answer.map_err(refused)?;
        self.say(&format!("{what:<11} {:<22} permitted by {}", released.value, released.audit_entry_id))
    }

    fn expect_refusal(
        &mut self,
        what: &str,
        answer: Result<pb::DetokenizeResponse, Status>,
        reason: &str,
    ) -> Result<(), Failure> {
        match answer {
            Err(status) if describe(&status).starts_with(reason) => {
                self.say(&format!("{what:<11} refused: {}", describe(&status)))
            }
            Err(status) => {
                let message = format!("{what}: expected {reason}, got {}", describe(&status));
                Err(Failure::new(exit::FAILED, message))
            }
            Ok(_) => Err(Failure::new(exit::FAILED, format!("{what}: expected {reason}, got a value"))),
        }
    }
}

fn token<'a>(tokens: &'a [(String, String)], field: &str) -> Result<&'a str, Failure> {
    let found = tokens.iter().find(|(name, _)| name == field);
    found
        .map(|(_, token)| token.as_str())
        .ok_or_else(|| Failure::new(exit::FAILED, format!("no token for {field}")))
}

async fn detokenize(
    channel: &Channel,
    token: &str,
    purpose: &str,
    view: pb::View,
) -> Result<pb::DetokenizeResponse, Status> {
    let request = pb::DetokenizeRequest {
        request_id: String::new(),
        token: token.to_owned(),
        purpose: purpose.to_owned(),
        view: view.into(),
        reference: "ORDER-2026/000117".to_owned(),
        ..pb::DetokenizeRequest::default()
    };
    Ok(vault(channel.clone()).detokenize(request).await?.into_inner())
}
