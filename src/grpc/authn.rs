//! Who calls: the one URI of the client certificate, and nothing in the request.

use std::sync::Arc;

use prost::Message;
use rustls_pki_types::CertificateDer;
use tonic::Request;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::{
    domain::{caller::Caller, ids::RequestId, names::SpiffeId},
    vault::{Vault, act::Asker, error::VaultError, refusals::Refusal, replay::Asked},
};

/// The peer of a connection, as its certificate names it.
#[derive(Debug, Clone)]
pub struct Peer(pub SpiffeId);

/// The SPIFFE ID of a certificate: its only URI name. None where there is none, or more than one.
#[must_use]
pub fn spiffe_id_of(certificate: &CertificateDer<'_>) -> Option<SpiffeId> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
    let only = uris.next()?;
    if uris.next().is_some() { None } else { only.parse().ok() }
}

/// A caller with the request that it sent.
pub(super) struct Call {
    pub(super) caller: Arc<Caller>,
    pub(super) asker: Asker,
}

/// Whether a call must carry a request id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestIdRule {
    /// A change: a retry repeats the id.
    Required,
    /// A question.
    Optional,
}

/// Authenticates first; nothing of the request is looked at for a stranger.
pub(super) fn authenticate<T: Message>(
    vault: &Vault,
    request: &Request<T>,
    request_id: &str,
    rule: RequestIdRule,
) -> Result<Call, VaultError> {
    let Peer(spiffe_id) = request.extensions().get::<Peer>().ok_or(VaultError::UnknownCaller)?;
    let caller = vault.caller(spiffe_id).inspect_err(|_| {
        if vault.count_stranger(Refusal::CallerUnknown) {
            tracing::info!(%spiffe_id, "an unknown caller; further ones are counted until the next summary");
        }
    })?;
    let request = if request_id.is_empty() && rule == RequestIdRule::Optional {
        None
    } else {
        let id = RequestId::parse(request_id, vault.clock().now())
            .map_err(|e| VaultError::invalid("request_id", e.to_string()))?;
        let body = Zeroizing::new(request.get_ref().encode_to_vec());
        Some(Asked { id, body_mac: vault.body_mac(&caller, &body)? })
    };
    Ok(Call { caller, asker: Asker { spiffe_id: spiffe_id.clone(), request } })
}
