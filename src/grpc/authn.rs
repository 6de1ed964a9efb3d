//! Who calls: the one URI of the client certificate, and nothing in the request.

use std::sync::Arc;

use prost::Message;
use rustls_pki_types::CertificateDer;
use tonic::{Extensions, Request, Status};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::{block_list::BlockList, status::status, tls::Shown};
use crate::{
    domain::{
        caller::{Caller, KeyPin},
        ids::RequestId,
        names::SpiffeId,
    },
    vault::{
        Vault, access,
        act::Asker,
        callers::fingerprint,
        error::VaultError,
        proposals::PlanBytes,
        refusals::Refusal,
        replay::{Asked, Part},
    },
};

/// The peer of a connection, as its certificate names it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The certificate's one URI.
    pub spiffe_id: SpiffeId,
    /// What a block list may name it by.
    pub mark: Mark,
    /// The certificates themselves, where they are of an open connection.
    pub shown: Shown,
}

/// What tells a certificate from every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// SHA-256 of the subject public key info (RFC 7469).
    pub key: KeyPin,
    /// SHA-256 of the issuer's name as the certificate encodes it (DER).
    pub issuer: [u8; 32],
    /// Serial number, without leading zeros.
    pub serial: Vec<u8>,
}

/// Whether the certificate of a call still stands: asked again where a call goes on for long, or is about to do something.
#[derive(Debug, Clone)]
pub struct Standing {
    blocked: Arc<BlockList>,
    mark: Mark,
}

impl Standing {
    /// That of a certificate before a block list.
    #[must_use]
    pub const fn new(blocked: Arc<BlockList>, mark: Mark) -> Self {
        Self { blocked, mark }
    }

    fn check(&self) -> Result<(), VaultError> {
        if self.blocked.blocks(&self.mark) { Err(VaultError::CertificateBlocked) } else { Ok(()) }
    }
}

/// The peer that a certificate names: by its only URI name. None where there is none, or more than one.
#[must_use]
pub fn peer_of(certificate: &CertificateDer<'_>) -> Option<Peer> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let serial = parsed.raw_serial();
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    let mark = Mark {
        key: fingerprint(parsed.public_key().raw),
        issuer: fingerprint(parsed.issuer().as_raw()),
        serial: serial.get(zeros..).unwrap_or_default().to_vec(),
    };
    Some(Peer { spiffe_id: spiffe_id_of(&parsed)?, mark, shown: Shown::default() })
}

fn spiffe_id_of(parsed: &X509Certificate<'_>) -> Option<SpiffeId> {
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
    /// None in an act that another approved: the certificate is the approver's then, and was looked at before.
    pub(super) standing: Option<Standing>,
}

impl Call {
    /// Whether the certificate is still none that is blocked, and its key one that staff may make this call with.
    pub(super) fn still_stands(&self, vault: &Vault, call: access::Call) -> Result<(), VaultError> {
        let Some(standing) = &self.standing else { return Ok(()) };
        standing.check()?;
        vault.second_factor(&self.caller, &standing.mark.key, Some(call))
    }
}

/// Whether a call must carry a request id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestIdRule {
    /// A change: a retry repeats the id.
    Required,
    /// The same of a change that may need two people: the request is kept, to be proposed as it is.
    Plan,
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
    let call = caller_of(vault, request.extensions())?;
    if request_id.is_empty() && rule == RequestIdRule::Optional {
        return Ok(call);
    }
    let id = parse_request_id(vault, request_id)?;
    with_body(vault, call, id, Zeroizing::new(request.get_ref().encode_to_vec()), rule)
}

/// Authenticates a question: it needs no request id.
pub(super) fn as_question<T: Message>(vault: &Vault, request: &Request<T>) -> Result<Call, Status> {
    authenticate(vault, request, "", RequestIdRule::Optional).map_err(|e| status(&e))
}

/// Authenticates a change: its request id is required.
pub(super) fn as_change<T: Message>(vault: &Vault, request: &Request<T>, id: &str) -> Result<Call, Status> {
    authenticate(vault, request, id, RequestIdRule::Required).map_err(|e| status(&e))
}

/// The same of a change that may need two people.
pub(super) fn as_plan<T: Message>(vault: &Vault, request: &Request<T>, id: &str) -> Result<Call, Status> {
    authenticate(vault, request, id, RequestIdRule::Plan).map_err(|e| status(&e))
}

/// The same call with its request, where the message that names it came later than the call.
pub(super) fn with_request(
    vault: &Vault,
    call: Call,
    request_id: &str,
    body: Zeroizing<Vec<u8>>,
    rule: RequestIdRule,
) -> Result<Call, VaultError> {
    let id = parse_request_id(vault, request_id)?;
    with_body(vault, call, id, body, rule)
}

fn parse_request_id(vault: &Vault, request_id: &str) -> Result<RequestId, VaultError> {
    let id = RequestId::parse(request_id, vault.clock().now());
    id.map_err(|e| VaultError::invalid("request_id", e.to_string()))
}

fn with_body(
    vault: &Vault,
    call: Call,
    id: RequestId,
    body: Zeroizing<Vec<u8>>,
    rule: RequestIdRule,
) -> Result<Call, VaultError> {
    tracing::Span::current().record("request_id", tracing::field::display(&id));
    let body_mac = vault.body_mac(&call.caller, &body)?;
    let part = match rule {
        RequestIdRule::Plan => Part::Plan(Arc::new(PlanBytes::new(body))),
        RequestIdRule::Required | RequestIdRule::Optional => Part::Alone,
    };
    let asker = Asker { request: Some(Asked { id, body_mac, part }), ..call.asker };
    Ok(Call { asker, ..call })
}

/// The enrolled caller of a connection.
pub(super) fn caller_of(vault: &Vault, extensions: &Extensions) -> Result<Call, VaultError> {
    let Peer { spiffe_id, mark, shown: _ } = extensions.get::<Peer>().ok_or(VaultError::UnknownCaller)?;
    let caller = vault.caller(spiffe_id).inspect_err(|_| {
        if vault.count_stranger(Refusal::CallerUnknown) {
            tracing::info!(%spiffe_id, "an unknown caller; further ones are counted until the next summary");
        }
    })?;
    if !caller.accepts_key(&mark.key) {
        vault.count_refusals(&caller, Refusal::KeyNotPinned, 1);
        return Err(VaultError::KeyNotPinned);
    }
    vault.second_factor(&caller, &mark.key, extensions.get::<access::Call>().copied()).inspect_err(|_| {
        vault.count_refusals(&caller, Refusal::StaffKeyNotEnrolled, 1);
    })?;
    let standing = extensions.get::<Standing>().cloned();
    let asker = Asker { spiffe_id: spiffe_id.clone(), key: mark.key, request: None };
    Ok(Call { caller, asker, standing })
}
