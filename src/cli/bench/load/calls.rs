//! What one call does.

use std::sync::Arc;

use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

use super::Names;
use crate::{
    cli::{
        bench::{Failure, PURPOSE, job::CallKind},
        client::vault,
        output::exit,
    },
    grpc::pb::{self, vault_service_client::VaultServiceClient},
};

/// Longest text that stands for a failure that has no reason of the vault's.
const MESSAGE_CHARS: usize = 120;

/// Makes calls of one kind.
pub(super) struct Caller {
    kind: CallKind,
    channels: Arc<[Channel]>,
    tokens: Arc<[String]>,
    names: Arc<Names>,
}

/// A caller's connection.
pub(super) struct Client {
    vault: VaultServiceClient<Channel>,
}

impl Caller {
    pub(super) fn new(
        kind: CallKind,
        channels: Arc<[Channel]>,
        tokens: Arc<[String]>,
        names: Arc<Names>,
    ) -> Result<Self, Failure> {
        if tokens.is_empty() || channels.is_empty() {
            return Err(Failure::new(exit::FAILED, "there is nothing to ask for"));
        }
        Ok(Self { kind, channels, tokens, names })
    }

    /// The connection of the so-manieth caller.
    pub(super) fn client(&self, number: usize) -> Option<Client> {
        let channel = self.channels.get(number % self.channels.len())?;
        Some(Client { vault: vault(channel.clone()) })
    }

    /// One call. How many values it was about; or why it was not answered as wanted.
    pub(super) async fn call(&self, client: &mut Client) -> Result<u64, String> {
        match self.kind {
            CallKind::Detokenize => {
                let request = pb::DetokenizeRequest {
                    token: self.token().to_owned(),
                    purpose: PURPOSE.to_owned(),
                    view: pb::View::Full.into(),
                    ..pb::DetokenizeRequest::default()
                };
                let answer = client.vault.detokenize(request).await.map_err(|s| reason(&s))?;
                if answer.into_inner().value.is_empty() { Err("an empty value".to_owned()) } else { Ok(1) }
            }
        }
    }

    /// Any of the tokens: all are asked for in turn, in no order that a table or a cache would like.
    fn token(&self) -> &str {
        let count = u64::try_from(self.tokens.len()).unwrap_or(u64::MAX);
        let at = usize::try_from(scatter(self.names.next()) % count).unwrap_or_default();
        self.tokens.get(at).map_or("", String::as_str)
    }
}

/// A number that looks random (`SplitMix64`).
const fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The vault's reason, or what the connection said.
fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map_or_else(
        || format!("{:?}: {}", status.code(), status.message()).chars().take(MESSAGE_CHARS).collect(),
        |info| info.reason.clone(),
    )
}
