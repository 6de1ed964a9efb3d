//! `sandyq token …`: what a token stands for, look-ups by value, corrections, revocation. Values come from files or
//! stdin, never from arguments.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{
    client::{self, request_id, vault},
    output::{Failure, Out, show_time},
    outreach,
    values::read_secret,
};
use crate::grpc::pb;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Say what a token stands for, without its value.
    Describe {
        #[command(flatten)]
        client: client::Args,
        /// The token.
        token: String,
    },
    /// Find the subjects that hold a value, with a token of each. A miss costs one of the caller's budget.
    Lookup {
        #[command(flatten)]
        client: client::Args,
        /// Field.
        #[arg(long)]
        field: String,
        /// Purpose that the platform's policy declares for this caller.
        #[arg(long)]
        purpose: String,
        /// File with the value; `-` reads stdin.
        #[arg(long, value_name = "FILE", default_value = "-")]
        value: PathBuf,
        #[command(flatten)]
        outreach: outreach::OutreachArgs,
        /// Reference for the log.
        #[arg(long, default_value = "")]
        reference: String,
    },
    /// Say whether a token stands for a value. A wrong guess costs one of the caller's budget.
    Compare {
        #[command(flatten)]
        client: client::Args,
        /// The token.
        token: String,
        /// Purpose that the platform's policy declares for this caller.
        #[arg(long)]
        purpose: String,
        /// File with the value; `-` reads stdin.
        #[arg(long, value_name = "FILE", default_value = "-")]
        value: PathBuf,
        #[command(flatten)]
        outreach: outreach::OutreachArgs,
        /// Reference for the log.
        #[arg(long, default_value = "")]
        reference: String,
    },
    /// Correct the value behind a token: all tokens of the record answer the new one from now on.
    Update {
        #[command(flatten)]
        client: client::Args,
        /// A token of the record.
        token: String,
        /// File with the value; `-` reads stdin.
        #[arg(long, value_name = "FILE", default_value = "-")]
        value: PathBuf,
        /// The documents behind it, in the platform's numbering.
        #[arg(long)]
        evidence: String,
        /// Where the value came from.
        #[arg(long, value_enum, default_value_t = Source::Subject)]
        source: Source,
    },
    /// End a token for good. It binds at once.
    Revoke {
        #[command(flatten)]
        client: client::Args,
        /// The token.
        token: String,
    },
}

/// Where a value came from.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(super) enum Source {
    /// The subject.
    Subject,
    /// A partner.
    Partner,
    /// A state database.
    StateDatabase,
    /// A public source.
    Public,
}

impl Source {
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Subject => pb::ValueSource::Subject,
            Self::Partner => pb::ValueSource::Partner,
            Self::StateDatabase => pb::ValueSource::StateDatabase,
            Self::Public => pb::ValueSource::Public,
        }
        .into()
    }
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Describe { client, token } => describe(&client, token, out).await,
        Command::Lookup { client, field, purpose, value, outreach, reference } => {
            let value = read_secret(&value)?.to_string();
            let request =
                pb::LookupTokensRequest { field, value, purpose, reference, outreach: outreach.into_pb() };
            let answer = vault(client.connect().await?).lookup_tokens(request).await;
            let found = answer.map_err(|s| Failure::refused(&s))?.into_inner();
            let mut lines: Vec<_> =
                found.tokens.iter().map(|t| format!("{}  {}", t.subject_id, t.token)).collect();
            if found.tokens.is_empty() {
                lines.push("no subject that this purpose may see".to_owned());
            }
            if found.truncated {
                lines.push("there are more".to_owned());
            }
            let tokens: Vec<_> = found
                .tokens
                .iter()
                .map(|t| json!({ "subject_id": t.subject_id, "token": t.token }))
                .collect();
            Ok(out.data(&json!({ "tokens": tokens, "truncated": found.truncated }), &lines)?)
        }
        Command::Compare { client, token, purpose, value, outreach, reference } => {
            let value = read_secret(&value)?.to_string();
            let request =
                pb::CompareValueRequest { token, purpose, value, reference, outreach: outreach.into_pb() };
            let answer = vault(client.connect().await?).compare_value(request).await;
            let answer = answer.map_err(|s| Failure::refused(&s))?.into_inner();
            let line = if answer.equal { "equal" } else { "different" };
            let data = json!({ "equal": answer.equal, "audit_entry_id": answer.audit_entry_id });
            Ok(out.data(&data, &[line.to_owned()])?)
        }
        Command::Update { client, token, value, evidence, source } => {
            let request = pb::UpdateRecordRequest {
                request_id: request_id()?,
                token,
                value: read_secret(&value)?.to_string(),
                source: source.number(),
                evidence,
            };
            let answer = vault(client.connect().await?).update_record(request).await;
            let answer = answer.map_err(|s| Failure::refused(&s))?.into_inner();
            let (version, at) = (answer.record_version, show_time(answer.update_time));
            let lines = [format!("version      {version}, {at}")];
            Ok(out.data(&json!({ "record_version": version, "updated_at": at }), &lines)?)
        }
        Command::Revoke { client, token } => {
            let request = pb::RevokeTokenRequest { request_id: request_id()?, token };
            let answer = vault(client.connect().await?).revoke_token(request).await;
            let at = show_time(answer.map_err(|s| Failure::refused(&s))?.into_inner().revoke_time);
            Ok(out.data(&json!({ "revoked_at": at }), &[format!("revoked      {at}")])?)
        }
    }
}

async fn describe(client: &client::Args, token: String, out: &mut Out) -> Result<(), Failure> {
    let request = pb::DescribeTokenRequest { token };
    let answer = vault(client.connect().await?).describe_token(request).await;
    let told = answer.map_err(|s| Failure::refused(&s))?.into_inner();
    let short = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
    let mode = short(told.mode().as_str_name(), "TOKEN_MODE_");
    let state = short(told.state().as_str_name(), "TOKEN_STATE_");
    let since = show_time(told.create_time);
    let lines = [
        format!("field        {} ({})", told.field, told.field_type),
        format!("subject      {}", told.subject_id),
        format!("token        {mode}, {state}, made {since}"),
        format!("record       version {}", told.record_version),
        format!("purposes     {}", told.purposes.join(", ")),
    ];
    let data = json!({
        "field": told.field, "field_type": told.field_type, "subject_id": told.subject_id, "mode": mode,
        "state": state, "created_at": since, "record_version": told.record_version, "purposes": told.purposes,
    });
    Ok(out.data(&data, &lines)?)
}
