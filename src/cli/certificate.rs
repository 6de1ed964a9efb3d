//! `sandyq certificate`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;

use super::output::{Failure, Out, exit};
use crate::grpc::authn::{Peer, peer_of};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The certificate, PEM; of a chain the first.
    file: PathBuf,
}

/// The peer that a certificate in a file names.
pub(super) fn read(file: &Path) -> Result<Peer, Failure> {
    let pem = fs::read(file)?;
    let certificate = CertificateDer::from_pem_slice(&pem)
        .map_err(|e| Failure::new(exit::FAILED, format!("{}: not a certificate: {e}", file.display())))?;
    peer_of(&certificate).ok_or_else(|| {
        Failure::new(exit::FAILED, format!("{}: the certificate has no single SPIFFE ID", file.display()))
    })
}

pub(super) fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let Peer { spiffe_id, mark, .. } = read(&args.file)?;
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let (pin, serial, issuer) = (hex(&mark.key), hex(&mark.serial), hex(&mark.issuer));
    out.data(
        &json!({ "spiffe_id": spiffe_id.as_str(), "pin": pin, "serial": serial, "issuer": issuer }),
        &[
            format!("caller   {spiffe_id}"),
            format!("pin      {pin}"),
            "To block its key, or this certificate alone:".to_owned(),
            format!("key {pin}"),
            format!("serial {serial} issuer {issuer}"),
        ],
    )?;
    Ok(())
}
