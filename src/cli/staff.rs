//! `sandyq staff key enrol|list|withdraw`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;

use super::{
    certificate,
    client::{self, platforms, request_id},
    output::{Failure, Out, exit, instant, refused},
    platform::{applied, find_person},
};
use crate::grpc::pb;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Keys of staff certificates that live on hardware.
    #[command(subcommand)]
    Key(Key),
}

#[derive(Subcommand, Debug)]
pub(super) enum Key {
    /// DANGEROUS: attest that the key of a person's certificate lives on a device. Another person approves it, and
    /// neither of you is the person; only the first two people of an installation propose their own first key.
    Enrol {
        #[command(flatten)]
        client: client::Args,
        /// Id, `per_…`, or handle.
        person: String,
        /// The certificate whose key it is, PEM.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// What the device is. No name of a person.
        #[arg(long)]
        device: String,
        /// Serial number of the device, `[A-Za-z0-9-]{1,64}`; may be left out where the attestation names it.
        #[arg(long, default_value = "")]
        serial: String,
        /// The vendor's attestation, PEM: the certificate that its device made of this key first, then those above it,
        /// without the root. It is judged by `staff.attestation_roots` of the vault's configuration.
        #[arg(long, value_name = "FILE")]
        attestation: Option<PathBuf>,
    },
    /// List keys, withdrawn ones too.
    List {
        #[command(flatten)]
        client: client::Args,
    },
    /// End a lost key at once and for good. One officer is enough, with another key.
    Withdraw {
        #[command(flatten)]
        client: client::Args,
        /// SHA-256 of the public key, as `list` prints it; or a file with a certificate of it.
        key: String,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    let Command::Key(command) = command;
    match command {
        Key::Enrol { client, person, certificate, device, serial, attestation } => {
            let key_sha256 = certificate::read(&certificate)?.mark.key.to_vec();
            let attestation_chain = attestation.as_deref().map(chain).transpose()?.unwrap_or_default();
            let mut service = platforms(client.connect().await?);
            let person_id = find_person(&mut service, person).await?;
            let request_id = request_id()?;
            let request = pb::EnrolStaffKeyRequest {
                request_id,
                person_id,
                key_sha256,
                serial,
                device,
                attestation_chain,
            };
            let answer = service.enrol_staff_key(request).await.map_err(refused)?;
            print(out, &[applied!(answer, enrol_staff_key_response)?])
        }
        Key::List { client } => {
            let mut service = platforms(client.connect().await?);
            let (mut all, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = pb::ListStaffKeysRequest { page_size: 0, page_token };
                let page = service.list_staff_keys(request).await.map_err(refused)?.into_inner();
                all.extend(page.staff_keys);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return print(out, &all);
                }
            }
        }
        Key::Withdraw { client, key } => {
            let request = pb::WithdrawStaffKeyRequest { request_id: request_id()?, key_sha256: named(&key)? };
            let mut service = platforms(client.connect().await?);
            let answer = service.withdraw_staff_key(request).await.map_err(refused)?.into_inner();
            print(out, answer.staff_key.as_slice())
        }
    }
}

/// The certificates of a file, DER.
fn chain(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let pem = fs::read(file)?;
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&pem).map(|der| der.map(|der| der.to_vec())).collect();
    let chain = chain.map_err(|e| Failure::new(exit::FAILED, format!("{}: {e}", file.display())))?;
    if chain.is_empty() {
        return Err(Failure::new(exit::FAILED, format!("{}: holds no certificate", file.display())));
    }
    Ok(chain)
}

/// A key, by its hash or by a certificate of it.
fn named(key: &str) -> Result<Vec<u8>, Failure> {
    match data_encoding::HEXLOWER_PERMISSIVE.decode(key.as_bytes()) {
        Ok(hash) if hash.len() == 32 => Ok(hash),
        _ => Ok(certificate::read(Path::new(key))?.mark.key.to_vec()),
    }
}

fn print(out: &mut Out, all: &[pb::StaffKey]) -> Result<(), Failure> {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let json: Vec<_> = all
        .iter()
        .map(|key| {
            json!({
                "key_sha256": hex(&key.key_sha256), "person_id": key.person_id, "handle": key.handle,
                "serial": key.serial, "device": key.device, "attestation_sha256": hex(&key.attestation_sha256),
                "proposed_by": key.proposer_person_id, "approved_by": key.approver_person_id,
                "enrolled_at": instant(key.enrol_time.as_ref()),
                "withdrawn_at": instant(key.withdraw_time.as_ref()),
            })
        })
        .collect();
    let lines: Vec<_> = all
        .iter()
        .map(|key| {
            let evidence =
                if key.attestation_sha256.is_empty() { "stated" } else { "attested by its vendor" };
            let withdrawn = if key.withdraw_time.is_some() { "  WITHDRAWN" } else { "" };
            let (hash, handle, device, serial) =
                (hex(&key.key_sha256), &key.handle, &key.device, &key.serial);
            format!("{hash}  {handle:<16} {device}, {serial}, {evidence}{withdrawn}")
        })
        .collect();
    out.data(&json!({ "staff_keys": json }), &lines)?;
    Ok(())
}
