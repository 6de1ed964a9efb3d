//! The command with its key in a token: each connection is signed there, and the key never leaves it. Officers with hardware keys
//! need nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, CertificateType, ObjectClass},
    session::{Session, UserType},
    types::AuthPin,
};
use rcgen::{PublicKeyData, SignatureAlgorithm};
use sandyq::cli::pki::Authority;
use serde_json::Value;

use crate::common::{
    backend::Backend,
    house::House,
    served::Served,
    token::{LABEL, MODULE, PIN, Tokens},
};

const ADMIN: &str = "spiffe://vault.example.kz/admin";
/// `CKA_EC_PARAMS` of curves.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// A public key of the token, as a certificate has it.
struct Public(Vec<u8>, &'static SignatureAlgorithm);

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1
    }
}

/// The token, as its owner sets it up.
struct Token(Session);

impl Token {
    fn open() -> Self {
        let library = Pkcs11::new(MODULE).unwrap();
        library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let labelled = |slot: &cryptoki::slot::Slot| library.get_token_info(*slot).unwrap().label() == LABEL;
        let slot = library.get_slots_with_token().unwrap().into_iter().find(labelled).unwrap();
        let session = library.open_rw_session(slot).unwrap();
        session.login(UserType::User, Some(&AuthPin::from("1234"))).unwrap();
        Self(session)
    }

    /// Makes a key pair; the id of both is the label.
    fn make(
        &self,
        mechanism: &Mechanism<'_>,
        kind: &[Attribute],
        label: &str,
        extractable: bool,
    ) -> Vec<Attribute> {
        let named = [
            Attribute::Token(true),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Id(label.as_bytes().to_vec()),
        ];
        let public = [&named[..], kind, &[Attribute::Verify(true)]].concat();
        let own = [
            Attribute::Private(true),
            Attribute::Sensitive(!extractable),
            Attribute::Extractable(extractable),
            Attribute::Sign(true),
        ];
        let private = [&named[..], &own].concat();
        let (public, _) = self.0.generate_key_pair(mechanism, &public, &private).unwrap();
        let asked = [AttributeType::EcPoint, AttributeType::Modulus];
        self.0.get_attributes(public, &asked).unwrap()
    }

    fn on_curve(&self, curve: &[u8], label: &str, extractable: bool) -> Public {
        let kind = [Attribute::EcParams(curve.to_vec())];
        let made = self.make(&Mechanism::EccKeyPairGen, &kind, label, extractable);
        let Some(Attribute::EcPoint(point)) = made.into_iter().next() else { panic!("no point") };
        // An OCTET STRING; that of a long curve has one more byte of length.
        let point = point[point.iter().position(|byte| *byte == 0x04).unwrap() + 1..].to_vec();
        let begin = point.iter().position(|byte| *byte == 0x04).unwrap();
        let algorithm =
            if curve == P384 { &rcgen::PKCS_ECDSA_P384_SHA384 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
        Public(point[begin..].to_vec(), algorithm)
    }

    fn rsa(&self, label: &str) -> Public {
        let kind = [Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])];
        let made = self.make(&Mechanism::RsaPkcsKeyPairGen, &kind, label, false);
        let Some(Attribute::Modulus(modulus)) = made.into_iter().next() else { panic!("no modulus") };
        assert_eq!((modulus.len(), modulus[0] >= 0x80), (256, true));
        let der = [&[0x30, 0x82, 1, 0x0a, 2, 0x82, 1, 1, 0][..], &modulus, &[2, 3, 1, 0, 1]].concat();
        Public(der, &rcgen::PKCS_RSA_SHA256)
    }

    /// Puts a certificate beside the key of this label.
    fn hold(&self, certificate: &[u8], label: &str) {
        let object = [
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Id(label.as_bytes().to_vec()),
            Attribute::Subject(Vec::new()),
            Attribute::Value(certificate.to_vec()),
        ];
        self.0.create_object(&object).unwrap();
    }
}

/// The lines of `[pkcs11]` for a key that these lines name.
fn section(named: &str) -> String {
    format!("[pkcs11]\nmodule = \"{MODULE}\"\ntoken = \"{LABEL}\"\n{named}\npin_env = \"{PIN}\"\n")
}

/// A connection file with these lines instead of the officer's certificate and key.
fn connection(served: &Served, name: &str, lines: &str) -> PathBuf {
    let own = fs::read_to_string(served.file("client-admin.toml")).unwrap();
    let (before, _) = own.split_once("certificate = ").unwrap();
    let path = served.file(&format!("by-{name}.toml"));
    fs::write(&path, format!("{before}{lines}")).unwrap();
    path
}

fn run(connection: &Path, pin: &str, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.env(PIN, pin).arg("--json").args(line.split(' ')).arg("--connection").arg(connection);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Two officers, whose keys were made in tokens, begin with the second factor and go on with it: by the command alone.
#[tokio::test(flavor = "multi_thread")]
async fn officers_begin_and_go_on_with_keys_that_never_leave_their_token() {
    let test = "token_keys::officers_begin_and_go_on_with_keys_that_never_leave_their_token";
    let Some(tokens) = Tokens::own_process(test) else { return };
    let token = Token::open();
    let house = House::new(&Backend::Sqlite).await.mode("\"declared_absent\"", "\"required\"").await;
    let served = &house.served;
    let mut connections = Vec::new();
    for name in ["admin", "second"] {
        let key = token.on_curve(P256, name, false);
        let certificate = house.staff.client_of(&key, &format!("spiffe://vault.example.kz/{name}")).unwrap();
        fs::write(served.file(&format!("{name}-token.pem")), certificate.pem()).unwrap();
        let mut lines = section(&format!("label = \"{name}\""));
        // The certificate of one is in the token, that of the other beside the connection.
        if name == "admin" {
            token.hold(certificate.der(), name);
        } else {
            lines = format!("certificate = \"{name}-token.pem\"\n{lines}");
        }
        connections.push(connection(served, name, &lines));
    }
    for (own, other, name) in [(0, 1, "admin"), (1, 0, "second")] {
        let file = served.file(&format!("{name}-token.pem")).display().to_string();
        let enrol = format!("staff key enrol {name} --certificate {file} --device token --serial 1001");
        let proposed = run(&connections[own], "1234", &enrol);
        assert_eq!(proposed.status.code(), Some(5), "{}", said(&proposed));
        let told: Value = serde_json::from_slice(&proposed.stderr).unwrap();
        let (id, hash) = (&told["proposal"]["proposal_id"], &told["proposal"]["plan_sha256"]);
        let line =
            format!("proposal approve {} --hash {} --yes", id.as_str().unwrap(), hash.as_str().unwrap());
        let approved = run(&connections[other], "1234", &line);
        assert!(approved.status.success(), "{}", said(&approved));
    }
    let works = || {
        let me = run(&connections[0], "1234", "whoami");
        let listed = run(&connections[1], "1234", "platform list");
        assert!(me.status.success() && listed.status.success(), "{}{}", said(&me), said(&listed));
        serde_json::from_slice::<Value>(&me.stdout).unwrap()
    };
    assert_eq!(works()["has_staff_key"], true, "{}", works());
    // The same person with a key in a file.
    let copied = run(&served.file("client-admin.toml"), "1234", "whoami");
    assert!(
        copied.status.code() == Some(4) && said(&copied).contains("STAFF_KEY_NOT_ENROLLED"),
        "{}",
        said(&copied)
    );

    tokens.remove();
    let away = run(&connections[0], "1234", "whoami");
    assert_eq!(away.status.code(), Some(1));
    assert!(said(&away).contains("no token is labelled vault"), "{}", said(&away));
    tokens.insert();
    works();
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_each_kind_sign_and_what_does_not_is_told() {
    let Some(_tokens) = Tokens::own_process("token_keys::keys_of_each_kind_sign_and_what_does_not_is_told")
    else {
        return;
    };
    let token = Token::open();
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    let served = Served::start_with(&Backend::Sqlite, &platform, &staff).await;
    let [p256, p384] =
        [(P256, "p256"), (P384, "p384")].map(|(curve, name)| token.on_curve(curve, name, false));
    for (key, name) in [(p256, "p256"), (p384, "p384"), (token.rsa("rsa"), "rsa")] {
        let certificate = staff.client_of(&key, ADMIN).unwrap();
        fs::write(served.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        for named in [
            format!("label = \"{name}\""),
            format!("id = \"{}\"", data_encoding::HEXLOWER.encode(name.as_bytes())),
        ] {
            let lines = format!("certificate = \"{name}.pem\"\n{}", section(&named));
            let me = run(&connection(&served, name, &lines), "1234", "whoami");
            assert!(me.status.success() && said(&me).contains(ADMIN), "{named}: {}", said(&me));
        }
    }

    token.on_curve(P256, "loose", true);
    token.on_curve(P256, "twice", false);
    token.on_curve(P256, "twice", false);
    token.on_curve(P521, "p521", false);
    token.on_curve(P256, "bare", false);
    let by = |named: &str| format!("certificate = \"p256.pem\"\n{}", section(named));
    let good = by("label = \"p256\"");
    for (lines, expected) in [
        (by("label = \"rsa\""), "the certificate is of another key than the private key rsa in token vault"),
        (
            by("label = \"p384\""),
            "the certificate is of another key than the private key p384 in token vault",
        ),
        (
            by("label = \"bare\""),
            "the certificate is of another key than the private key bare in token vault",
        ),
        (by("label = \"none\""), "the private key none in token vault is not there"),
        (by("id = \"0a\""), "the private key with id 0a in token vault is not there"),
        (by("label = \"twice\""), "the private key twice in token vault is there twice"),
        (by("label = \"loose\""), "the private key loose in token vault may leave the token"),
        (
            by("label = \"p521\""),
            "the private key p521 in token vault is neither ECDSA on P-256 or P-384 nor RSA",
        ),
        (section("label = \"bare\""), "there is no certificate beside the private key bare in token vault"),
        (good.replace("\"vault\"", "\"other\""), "no token is labelled other"),
        (good.replace(MODULE, "missing.so"), "cannot be used as a PKCS#11 module"),
        (good.replace(PIN, "SANDYQ_TEST_NO_SUCH_PIN"), "SANDYQ_TEST_NO_SUCH_PIN"),
        (good.replace("pin_env = ", "pin_file = \"p256.pem\"\npin_env = "), "either `pin_file` or `pin_env`"),
        (by("label = \"p256\"\nid = \"0a\""), "either `label` or `id`"),
        (by("id = \"xyz\""), "pkcs11.id must be pairs of hexadecimal digits"),
        (by("slot = 1"), "unknown field `slot`"),
        (format!("key = \"admin.key\"\n{good}"), "either `key`, a file, or `[pkcs11]`, a key in a token"),
        ("certificate = \"p256.pem\"\n".to_owned(), "either `key`, a file, or `[pkcs11]`, a key in a token"),
        ("key = \"admin.key\"\n".to_owned(), "`certificate` is missing"),
    ] {
        let refused = run(&connection(&served, "wrong", &lines), "1234", "whoami");
        let told = said(&refused);
        assert!(refused.status.code() == Some(1) && told.contains(expected), "{expected} is not in {told}");
    }
    let plain = connection(&served, "plain", &good);
    let text = fs::read_to_string(&plain).unwrap().replace("https://", "http://");
    fs::write(&plain, text).unwrap();
    assert!(said(&run(&plain, "1234", "whoami")).contains("must begin with https://"));
    let wrong = run(&connection(&served, "right", &good), "4321", "whoami");
    let told = said(&wrong);
    assert!(told.contains("the token refused this PIN") && !told.contains("4321"), "{told}");
    let again = run(&connection(&served, "right", &good), "1234", "whoami");
    assert!(again.status.success(), "{}", said(&again));
    served.running.stop().await.unwrap();
}
