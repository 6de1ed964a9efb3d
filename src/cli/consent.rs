//! `sandyq consent withdraw|list`.

use clap::Subcommand;
use serde_json::json;

use super::{
    client::{self, consents, request_id},
    output::{Failure, Out, instant},
    outreach,
};
use crate::grpc::pb;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// End a consent. It binds at once.
    Withdraw {
        #[command(flatten)]
        client: client::Args,
        /// Id of the consent, `con_…`.
        consent: String,
    },
    /// List a subject's consents, newest first.
    List {
        #[command(flatten)]
        client: client::Args,
        /// The platform's reference to the subject.
        subject: String,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Withdraw { client, consent } => {
            let request = pb::WithdrawConsentRequest {
                request_id: request_id()?,
                consent_id: consent,
                ..pb::WithdrawConsentRequest::default()
            };
            let answer = consents(client.connect().await?)
                .withdraw_consent(request)
                .await
                .map_err(|s| Failure::refused(&s))?
                .into_inner();
            print(out, answer.consent.as_slice())
        }
        Command::List { client, subject } => {
            let mut service = consents(client.connect().await?);
            let (mut all, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = pb::ListConsentsRequest {
                    subject_reference: subject.clone(),
                    page_size: 0,
                    page_token: page_token.clone(),
                    ..pb::ListConsentsRequest::default()
                };
                let page =
                    service.list_consents(request).await.map_err(|s| Failure::refused(&s))?.into_inner();
                all.extend(page.consents);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return print(out, &all);
                }
            }
        }
    }
}

fn reached(consent: &pb::Consent) -> Option<(String, &str)> {
    outreach::words(consent.outreach.as_ref())
}

fn print(out: &mut Out, all: &[pb::Consent]) -> Result<(), Failure> {
    let state = |c: &pb::Consent| match c.state() {
        pb::ConsentState::Granted => "granted",
        pb::ConsentState::Withdrawn => "withdrawn",
        pb::ConsentState::Unspecified => "unknown",
    };
    let json: Vec<_> = all
        .iter()
        .map(|c| {
            json!({
                "consent_id": c.consent_id, "purpose": c.purpose, "fields": c.fields, "state": state(c),
                "given_at": instant(c.give_time.as_ref()), "expires_at": instant(c.expire_time.as_ref()),
                "withdrawn_at": instant(c.withdraw_time.as_ref()), "policy_version": c.policy_version,
                "channel": reached(c).map(|(channel, _)| channel), "sender": reached(c).map(|(_, sender)| sender),
            })
        })
        .collect();
    let lines: Vec<_> = all
        .iter()
        .map(|c| {
            let by =
                reached(c).map_or_else(String::new, |(channel, sender)| format!("; {channel}, {sender}"));
            format!("{}  {:<9}  {:<16} {}{by}", c.consent_id, state(c), c.purpose, c.fields.join(", "))
        })
        .collect();
    out.data(&json!({ "consents": json }), &lines)?;
    Ok(())
}
