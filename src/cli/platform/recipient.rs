//! `sandyq platform recipient register|key|challenge|prove|end|list`.

use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::json;

use super::{Hex32, applied, hex32, service};
use crate::{
    cli::{
        client::{self, request_id},
        output::{Failure, Out, exit, instant, refused},
        registers::{code, every, number},
    },
    grpc::pb,
};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Command {
    /// DANGEROUS: register a third party that values may be released to. The policy in force must let its purposes'
    /// values go to recipients of this kind and country.
    Register(Box<RegisterArgs>),
    /// DANGEROUS: offer a recipient another key, which counts when its holder has answered. Check the key id with the
    /// recipient by another way than the one that the key came by: releases are sealed to whoever holds it.
    Key {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
        /// Recipient.
        name: String,
        /// X25519 public key, 64 hexadecimal digits.
        #[arg(long, value_parser = hex32, value_name = "HEX")]
        public_key: Hex32,
    },
    /// Show the challenge of a key that waits, as JSON to give to the recipient: only the holder of the private key finds
    /// the answer in it.
    Challenge {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
        /// Recipient.
        name: String,
    },
    /// Answer the challenge of a key: with the right answer releases are sealed to it from now on.
    Prove {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
        /// Recipient.
        name: String,
        /// What the recipient found in the challenge, 64 hexadecimal digits. It proves once; who reads it here can do
        /// nothing with it.
        #[arg(long, value_parser = hex32, value_name = "HEX")]
        answer: Hex32,
    },
    /// End releases to a recipient, for good. It binds at once.
    End {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
        /// Recipient.
        name: String,
    },
    /// List recipients, those that ended too.
    List {
        #[command(flatten)]
        client: client::Args,
        /// Platform; without it all that you may see.
        #[arg(long, default_value = "")]
        platform: String,
    },
}

#[derive(clap::Args, Debug)]
pub(in crate::cli) struct RegisterArgs {
    #[command(flatten)]
    client: client::Args,
    /// Platform.
    #[arg(long)]
    platform: String,
    /// Short name, by which requests name it.
    name: String,
    /// `state`, `court`, `bank`, `payment_system`, `partner`, `affiliate`, `contractor`, `mailing`, `analytics`,
    /// `hosting`, `it_processor` or `public`.
    #[arg(long, value_parser = kind)]
    kind: pb::RecipientKind,
    /// Where it keeps what it receives: ISO 3166-1 alpha-2.
    #[arg(long, default_value = "KZ")]
    country: String,
    /// Registered name.
    #[arg(long)]
    legal_name: String,
    /// Contract or legal ground, in your numbering: `[A-Z0-9/._-]{1,64}`.
    #[arg(long)]
    contract: String,
    /// On what it receives, where it is abroad: `adequate-protection`, `treaty`, `law`, `contract-clauses`, or
    /// `subject-consent`, where nothing but consents stands behind it.
    #[arg(long, value_parser = SAFEGUARDS)]
    safeguard: Option<String>,
    /// The treaty, law, assessment or clauses, in your numbering.
    #[arg(long, default_value = "")]
    safeguard_reference: String,
    /// What it has promised in the contract; repeat for more.
    #[arg(long = "condition", value_parser = CONDITIONS)]
    conditions: Vec<String>,
    /// Purpose that it may receive for; repeat for more.
    #[arg(long = "purpose", required = true)]
    purposes: Vec<String>,
    /// From when, RFC 3339; from now where it is absent.
    #[arg(long, value_parser = time)]
    valid_from: Option<prost_types::Timestamp>,
    /// Until when, RFC 3339.
    #[arg(long, value_parser = time)]
    valid_until: prost_types::Timestamp,
    /// X25519 public key, 64 hexadecimal digits.
    #[arg(long, value_parser = hex32, value_name = "HEX")]
    public_key: Option<Hex32>,
}

const SAFEGUARDS: [&str; 5] = ["adequate-protection", "treaty", "law", "contract-clauses", "subject-consent"];
const CONDITIONS: [&str; 7] = [
    "confidentiality",
    "protection-means",
    "incident-recovery",
    "restricted-access",
    "effectiveness-checks",
    "lawful-measures",
    "no-onward-transfer",
];

/// Kinds by the names that policies use.
const KINDS: [(&str, pb::RecipientKind); 12] = [
    ("state", pb::RecipientKind::StateBody),
    ("court", pb::RecipientKind::Court),
    ("bank", pb::RecipientKind::Bank),
    ("payment_system", pb::RecipientKind::PaymentSystem),
    ("partner", pb::RecipientKind::Partner),
    ("affiliate", pb::RecipientKind::Affiliate),
    ("contractor", pb::RecipientKind::Contractor),
    ("mailing", pb::RecipientKind::Mailing),
    ("analytics", pb::RecipientKind::Analytics),
    ("hosting", pb::RecipientKind::Hosting),
    ("it_processor", pb::RecipientKind::ItProcessor),
    ("public", pb::RecipientKind::Public),
];

fn kind(text: &str) -> Result<pb::RecipientKind, String> {
    let known = KINDS.into_iter().find(|(name, _)| *name == text);
    known.map(|(_, kind)| kind).ok_or_else(|| "not a kind of recipient".to_owned())
}

fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    text.parse().map_err(|_| "not a time as in RFC 3339, such as 2027-01-01T00:00:00+05:00".to_owned())
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Register(args) => {
            let safeguard = args
                .safeguard
                .as_deref()
                .map(|code| number("SAFEGUARD_", code, pb::Safeguard::from_str_name).map(i32::from));
            let condition = |code: &String| {
                number("RECIPIENT_CONDITION_", code, pb::RecipientCondition::from_str_name).map(i32::from)
            };
            let request = pb::RegisterRecipientRequest {
                request_id: request_id()?,
                platform: args.platform,
                name: args.name,
                kind: args.kind.into(),
                country: args.country,
                legal_name: args.legal_name,
                contract_reference: args.contract,
                purposes: args.purposes,
                valid_from_time: args.valid_from,
                valid_until_time: Some(args.valid_until),
                public_key: args.public_key.map(|key| key.0).unwrap_or_default(),
                safeguard: safeguard.transpose()?.unwrap_or_default(),
                safeguard_reference: args.safeguard_reference,
                conditions: args.conditions.iter().map(condition).collect::<Result<_, _>>()?,
            };
            let answer = service(&args.client).await?.register_recipient(request).await.map_err(refused)?;
            print(out, &[*applied!(answer, register_recipient_response)?])
        }
        Command::Key { client, platform, name, public_key } => {
            let request = pb::UpdateRecipientKeyRequest {
                request_id: request_id()?,
                platform,
                recipient: name,
                public_key: public_key.0,
            };
            let answer = service(&client).await?.update_recipient_key(request).await.map_err(refused)?;
            print(out, &[*applied!(answer, update_recipient_key_response)?])
        }
        Command::Challenge { client, platform, name } => {
            let all = all(&client, platform).await?;
            let of_name = all.into_iter().filter(|r| r.name == name).find_map(|r| r.offered_key);
            let missing = || Failure::new(exit::FAILED, format!("no key of {name} waits for an answer"));
            challenge(out, &of_name.ok_or_else(missing)?)
        }
        Command::Prove { client, platform, name, answer } => {
            let request = pb::ProveRecipientKeyRequest {
                request_id: request_id()?,
                platform,
                recipient: name,
                answer: answer.0,
            };
            let answer = service(&client).await?.prove_recipient_key(request).await.map_err(refused)?;
            let answer = answer.into_inner();
            print(out, answer.recipient.as_slice())?;
            if answer.proved {
                return Ok(());
            }
            let ended = answer.recipient.is_none_or(|recipient| recipient.offered_key.is_none());
            let next =
                if ended { "it was the last: enrol the key again" } else { "ask the recipient for it again" };
            Err(Failure::new(exit::REFUSED, format!("that is not the answer; {next}")))
        }
        Command::End { client, platform, name } => {
            let request = pb::EndRecipientRequest { request_id: request_id()?, platform, recipient: name };
            let answer = service(&client).await?.end_recipient(request).await.map_err(refused)?;
            print(out, answer.into_inner().recipient.as_slice())
        }
        Command::List { client, platform } => print(out, &all(&client, platform).await?),
    }
}

/// Every recipient of a platform, or of all that the caller may see.
async fn all(client: &client::Args, platform: String) -> Result<Vec<pb::Recipient>, Failure> {
    let mut service = service(client).await?;
    let request =
        |page_token| pb::ListRecipientsRequest { platform: platform.clone(), page_size: 0, page_token };
    Ok(every!(service.list_recipients(page_token => request(page_token)).recipients))
}

/// The challenge as the recipient gets it: `docs/releases.md` says how it is opened.
fn challenge(out: &mut Out, offered: &pb::OfferedRecipientKey) -> Result<(), Failure> {
    let json = json!({
        "statement": offered.statement, "suite": offered.suite,
        "enc": BASE64.encode(&offered.enc), "ciphertext": BASE64.encode(&offered.ciphertext),
    });
    out.data(&json, &[json.to_string()])?;
    Ok(())
}

fn print(out: &mut Out, all: &[pb::Recipient]) -> Result<(), Failure> {
    let kind = |r: &pb::Recipient| {
        KINDS.into_iter().find(|(_, kind)| *kind == r.kind()).map_or("unknown", |(name, _)| name)
    };
    let safeguard = |r: &pb::Recipient| {
        let some = Some(r.safeguard()).filter(|safeguard| *safeguard != pb::Safeguard::Unspecified);
        some.map(|safeguard| code(safeguard.as_str_name(), "SAFEGUARD_"))
    };
    let condition = |of: pb::RecipientCondition| code(of.as_str_name(), "RECIPIENT_CONDITION_");
    let json: Vec<_> = all
        .iter()
        .map(|r| {
            json!({
                "platform": r.platform, "name": r.name, "kind": kind(r), "country": r.country,
                "legal_name": r.legal_name, "contract": r.contract_reference, "purposes": r.purposes,
                "safeguard": safeguard(r), "safeguard_reference": r.safeguard_reference,
                "conditions": r.conditions().map(condition).collect::<Vec<_>>(),
                "key_id": r.key.as_ref().map(|key| &key.key_id),
                "offered_key_id": r.offered_key.as_ref().map(|key| &key.key_id),
                "answer_until": instant(r.offered_key.as_ref().and_then(|key| key.expire_time.as_ref())),
                "valid_from": instant(r.valid_from_time.as_ref()),
                "valid_until": instant(r.valid_until_time.as_ref()),
                "ended_at": instant(r.end_time.as_ref()),
            })
        })
        .collect();
    let lines: Vec<_> = all
        .iter()
        .map(|r| {
            let end = match (&r.end_time, instant(r.valid_until_time.as_ref())) {
                (Some(_), _) => "ended".to_owned(),
                (None, Some(until)) => format!("until {until}"),
                (None, None) => String::new(),
            };
            let key = match (&r.key, &r.offered_key) {
                (Some(_), None) => "with a key".to_owned(),
                (None, None) => "no key".to_owned(),
                (held, Some(offered)) => {
                    let held = if held.is_some() { "with a key, " } else { "" };
                    format!("{held}key {} waits for its answer", offered.key_id)
                }
            };
            let name = format!("{}/{}", r.platform, r.name);
            let abroad = safeguard(r).map(|safeguard| format!(" by {safeguard} {}", r.safeguard_reference));
            let country = format!("{}{}", r.country, abroad.unwrap_or_default());
            format!("{name:<24} {:<14} {country}  {key}  {end}  {}", kind(r), r.purposes.join(", "))
        })
        .collect();
    out.data(&json!({ "recipients": json }), &lines)?;
    Ok(())
}
