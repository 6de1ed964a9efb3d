//! Releases to a recipient: opened by an implementation that is not ours, as docs/releases.md says, and by nobody else and in no
//! other place.

use std::{fs, path::Path, process::Command};

use data_encoding::{BASE64, HEXLOWER};
use sandyq::{crypto::digest::sha256, grpc::pb};
use serde_json::json;

use crate::common::{
    backend::{Backend, on_both},
    people::iin,
    recipients::{applied, proof},
    second::python,
    served::{Served, request_id},
};

/// A pair of keys, made by the recipient's own library.
pub fn pair(dir: &Path, name: &str) -> Vec<u8> {
    let make = "import sys; from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey as K; k = K.generate(); \
                open(sys.argv[1], 'w').write(k.private_bytes_raw().hex()); print(k.public_key().public_bytes_raw().hex())";
    let output = Command::new(python()).args(["-c", make]).arg(dir.join(name)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    HEXLOWER.decode(text.trim().as_bytes()).unwrap()
}

/// What the recipient finds in a challenge, offline, by the code that `docs/releases.md` gives it.
pub fn answer(
    dir: &Path,
    secret: &str,
    log: &str,
    recipient: &str,
    offered: &pb::OfferedRecipientKey,
) -> Result<Vec<u8>, String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/releases.md")).unwrap();
    let (_, code) = page.split_once("```python\n").unwrap();
    let (code, _) = code.split_once("```\n").unwrap();
    let [enc, ciphertext] = [&offered.enc, &offered.ciphertext].map(|bytes| BASE64.encode(bytes));
    let challenge = json!({ "statement": offered.statement, "enc": enc, "ciphertext": ciphertext });
    fs::write(dir.join("challenge.json"), challenge.to_string()).unwrap();
    let mut command = Command::new(python());
    command.args(["-c", code]).arg(dir.join("challenge.json")).arg(dir.join(secret)).args([log, recipient]);
    let output = command.output().unwrap();
    if output.status.success() {
        let text = String::from_utf8(output.stdout).unwrap();
        return Ok(HEXLOWER.decode(text.trim().as_bytes()).unwrap());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn bank(name: &str, public_key: Vec<u8>) -> pb::RegisterRecipientRequest {
    pb::RegisterRecipientRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        name: name.into(),
        kind: pb::RecipientKind::Bank.into(),
        country: "KZ".into(),
        legal_name: "АО «Банк»".into(),
        contract_reference: "D-17/2026".into(),
        purposes: vec!["payments".into()],
        valid_until_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        public_key,
        ..Default::default()
    }
}

/// How a recipient opens what it was brought.
#[derive(Clone)]
pub struct Opening<'a> {
    /// Where the files lie whose names follow.
    pub dir: &'a Path,
    /// The vault's audit key.
    pub key: &'a str,
    pub log: &'a str,
    pub purpose: &'a str,
    pub recipient: &'a str,
    /// File of the recipient's private key.
    pub secret: &'a str,
    /// Channel and sender, of a purpose that reaches people.
    pub outreach: &'a str,
    pub reference: &'a str,
    /// The recipient's time, where it is not the machine's.
    pub now: Option<&'a str>,
    /// File in which the recipient notes what it has taken.
    pub seen: &'a str,
}

impl Opening<'_> {
    pub fn open(&self, release: &pb::SealedRelease) -> Result<serde_json::Value, String> {
        let [enc, ciphertext] = [&release.enc, &release.ciphertext].map(|bytes| BASE64.encode(bytes));
        let release = json!({ "enc": enc, "ciphertext": ciphertext, "statement": release.statement });
        let file = self.dir.join("release.json");
        fs::write(&file, release.to_string()).unwrap();
        let mut command = Command::new(python());
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/open_release.py")).arg(file);
        command.args(["--log", self.log, "--purpose", self.purpose, "--key", self.key]);
        command.args(["--recipient", self.recipient, "--reference", self.reference]);
        command.args(["--outreach", self.outreach]);
        command.arg("--secret").arg(self.dir.join(self.secret)).arg("--seen").arg(self.dir.join(self.seen));
        command.args(self.now.iter().flat_map(|now| ["--now", now]));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match output.status.code() {
            Some(0) => Ok(serde_json::from_str(&said).unwrap()),
            Some(3) => Err(said),
            other => Err(format!("{other:?} {}", String::from_utf8_lossy(&output.stderr))),
        }
    }
}

on_both!(a_release_opens_by_another_implementation_for_its_recipient_alone);
async fn a_release_opens_by_another_implementation_for_its_recipient_alone(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for name in ["bank", "other"] {
        let request = bank(name, pair(dir, name));
        let mut staff = served.platforms("admin").await;
        let registered = staff.register_recipient(request).await.unwrap().into_inner();
        let offered = applied(registered).offered_key.unwrap();
        let of = |secret, log, recipient| answer(dir, secret, log, recipient, &offered);
        let log = "vault.example.kz/lerna";
        assert_eq!(of(name, "vault.example.kz/other", name), Err("this challenge is for another".into()));
        assert_eq!(of(name, log, "somebody"), Err("this challenge is for another".into()));
        let proved =
            staff.prove_recipient_key(proof("lerna", name, of(name, log, name).unwrap())).await.unwrap();
        assert!(proved.into_inner().proved);
    }
    let stored = served.store(1).await;
    let release = async |recipient: &str, reference: &str| {
        let request = pb::BatchDetokenizeRequest {
            request_id: request_id(),
            tokens: ["surname", "iin"].map(|field| stored.token(field).to_owned()).to_vec(),
            purpose: "payments".into(),
            view: pb::View::Full.into(),
            recipient: recipient.into(),
            reference: reference.into(),
            ..Default::default()
        };
        let answer = served.vault("payments").await.batch_detokenize(request).await.unwrap().into_inner();
        assert!(answer.results.is_empty());
        answer.sealed.unwrap()
    };
    let first = release("bank", "PAY-1").await;
    let key = served.running.verifier_key.clone();
    let opening = Opening {
        dir,
        key: &key,
        log: "vault.example.kz/lerna",
        purpose: "payments",
        recipient: "bank",
        secret: "bank",
        outreach: "",
        reference: "PAY-1",
        now: None,
        seen: "seen",
    };
    let opened = opening.open(&first).unwrap();
    assert_eq!(opened[1], json!({ "field": "iin", "value": iin(1) }));
    assert_eq!((opened[0]["field"].as_str(), opened.as_array().unwrap().len()), (Some("surname"), 2));
    assert_eq!(opening.open(&first), Err("it was taken before".into()), "replayed");

    let second = release("bank", "PAY-2").await;
    assert_eq!(opening.open(&second), Err("it is of another payment".into()), "swapped");
    let fresh = Opening { seen: "fresh", ..opening.clone() };
    let expired = Opening { now: Some("2999-01-01T00:00:00+00:00"), ..fresh.clone() };
    assert_eq!(expired.open(&first), Err("it has expired".into()));
    let other = Opening { recipient: "other", secret: "other", ..fresh.clone() };
    assert_eq!(other.open(&first), Err("it is addressed to another recipient".into()));
    // Re-addressed by whoever carries it: the statement is no longer the vault's.
    let readdressed = first.statement.replace("recipient bank", "recipient other");
    let forged = pb::SealedRelease { statement: readdressed, ..first.clone() };
    assert_eq!(other.open(&forged), Err("the statement is not signed by the vault".into()));
    // What one statement was signed for does not go under another.
    let mixed = pb::SealedRelease { statement: first.statement.clone(), ..second.clone() };
    assert_eq!(fresh.open(&mixed), Err("what is sealed is not what was signed".into()));
    let another = pair(dir, "another");
    assert_eq!(another.len(), 32);
    let stolen = Opening { secret: "another", ..fresh.clone() };
    assert_eq!(stolen.open(&first), Err("it is sealed to another key".into()));
    assert!(fresh.open(&first).is_ok(), "and it is still good");

    // Each entry has the hash of what left.
    let sealed = sha256(&[first.enc.as_slice(), first.ciphertext.as_slice()].concat());
    let list = pb::ListEntriesRequest { platform: "lerna".into(), ..Default::default() };
    let page = served.audit("auditor").await.list_entries(list).await.unwrap().into_inner();
    let told: Vec<_> =
        page.entries.iter().filter(|entry| first.audit_entry_ids.contains(&entry.entry_id)).collect();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|entry| entry.detail_sha256 == sealed), "{told:?}");
    served.running.stop().await.unwrap();
}
