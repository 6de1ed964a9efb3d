//! The KMS: one suite over its three kinds, what is each one's own, and a vault that serves while it is away.

mod configured;
mod served;
mod suite;

use std::{fs, path::Path, sync::Arc};

use sandyq::{
    config::SecretPlace,
    crypto::{
        aead::{Key, wrap_version},
        kms::{
            Kms, KmsError,
            local::LocalKms,
            pkcs11::{Pkcs11Kms, Pkcs11Options},
            transit::{Login, TransitKms, TransitOptions},
        },
        random::SystemRng,
    },
    domain::{canonical::Canonical, time::Clock},
};

use crate::common::{
    backend::{Backend, here},
    token::{LABEL, MODULE, PIN, Tokens},
    transit::{Double, JWT, ROLE},
};
use suite::{conforms, same};

#[tokio::test(flavor = "multi_thread")]
async fn local_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| -> Arc<dyn Kms> {
        let [root, unseal] = ["root", "unseal"].map(|file| dir.path().join(format!("{name}-{file}")));
        Arc::new(LocalKms::new(&root, &unseal))
    };
    conforms(open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pkcs11_conforms() {
    let Some(_tokens) = Tokens::own_process("kms::pkcs11_conforms") else { return };
    conforms(|label| Arc::new(in_token(label, SecretPlace::Variable(PIN.to_owned())))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transit_conforms() {
    let double = Double::start().await;
    double.let_in("s.root", 0);
    let dir = tempfile::tempdir().unwrap();
    let token = private_file(dir.path(), "token", "s.root\n");
    conforms(|key| Arc::new(in_transit(&double, key, Login::TokenFile(read(&token)), &Arc::default()))).await;
}

/// A root key in the process's token.
fn in_token(label: &str, pin: SecretPlace) -> Pkcs11Kms {
    let (token, label) = (LABEL.to_owned(), label.to_owned());
    let pin = Box::new(move || Ok(pin.read()?));
    Pkcs11Kms::new(Pkcs11Options { module: MODULE.into(), token, label, pin }).unwrap()
}

fn in_transit(double: &Double, key: &str, login: Login, clock: &Arc<Clock>) -> TransitKms {
    let authority = Some(double.authority().as_bytes().to_vec());
    let (mount, key) = ("transit".to_owned(), key.to_owned());
    let options =
        TransitOptions { address: double.address(), authority, mount, key, login, territory: here() };
    TransitKms::new(options, Arc::clone(clock)).unwrap()
}

fn read(place: &SecretPlace) -> sandyq::crypto::kms::SecretSource {
    let place = place.clone();
    Box::new(move || Ok(place.read()?))
}

fn private_file(dir: &Path, name: &str, text: &str) -> SecretPlace {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    SecretPlace::File(path)
}

/// A root in a token, rotated under a vault on each store.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_in_a_token_is_rotated() {
    let Some(_tokens) = Tokens::own_process("kms::a_root_in_a_token_is_rotated") else { return };
    for (label, backend) in [("first", Backend::Sqlite), ("second", Backend::postgres().await)] {
        let kms: Arc<dyn Kms> = Arc::new(in_token(label, SecretPlace::Variable(PIN.to_owned())));
        kms.make_first(&SystemRng::new()).await.unwrap();
        crate::root_keys::is_rotated_and_destroyed(&backend, &kms).await;
    }
}

/// The token is taken out while sessions are open, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_comes_back_is_used_again() {
    let Some(tokens) = Tokens::own_process("kms::a_token_that_comes_back_is_used_again") else { return };
    let (rng, place) = (SystemRng::new(), Canonical::new("t"));
    let kms = in_token("root", SecretPlace::Variable(PIN.to_owned()));
    kms.make_first(&rng).await.unwrap();
    let key = Key::random(&rng).unwrap();
    let wrapped = kms.wrap(&place, &key, &rng).await.unwrap();
    for _ in 0..3 {
        tokens.remove();
        let error = kms.unwrap(&place, &wrapped).await.err().unwrap();
        assert!(matches!(error, KmsError::Unavailable(_)), "away is not damaged: {error}");
        assert!(matches!(kms.versions().await, Err(KmsError::Unavailable(_))), "away is not new");
        assert!(kms.check(&rng).await.is_err());
        tokens.insert();
        assert!(same(&kms.unwrap(&place, &wrapped).await.unwrap(), &key));
        kms.check(&rng).await.unwrap();
    }
    // Put back before anybody looked.
    tokens.remove();
    tokens.insert();
    assert!(same(&kms.unwrap(&place, &wrapped).await.unwrap(), &key));
}

/// A token locks itself after a few wrong PINs, and the health check asks four times a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_is_tried_once() {
    let Some(_tokens) = Tokens::own_process("kms::a_wrong_pin_is_tried_once") else { return };
    let dir = tempfile::tempdir().unwrap();
    let rng = SystemRng::new();
    let kms = in_token("root", private_file(dir.path(), "pin", "4321\n"));
    for _ in 0..20 {
        let error = kms.make_first(&rng).await.unwrap_err().to_string();
        assert!(error.contains("the token refused this PIN") && !error.contains("4321"), "{error}");
    }
    private_file(dir.path(), "pin", "1234\n");
    kms.make_first(&rng).await.unwrap();
    kms.check(&rng).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_file_is_read_again_and_renewed() {
    let (double, clock, rng) = (Double::start().await, Arc::<Clock>::default(), SystemRng::new());
    double.let_in("s.first", 3600);
    let dir = tempfile::tempdir().unwrap();
    let login = Login::TokenFile(read(&private_file(dir.path(), "token", "s.first\n")));
    let kms = in_transit(&double, "root", login, &clock);
    kms.make_first(&rng).await.unwrap();
    assert_eq!(double.counts().1, 0);
    clock.advance(39 * 60 * 1_000_000);
    kms.check(&rng).await.unwrap();
    assert_eq!(double.counts().1, 0, "two thirds of its time are not over");
    clock.advance(2 * 60 * 1_000_000);
    kms.check(&rng).await.unwrap();
    assert_eq!(double.counts().1, 1, "once, for all calls of the check");

    // Somebody put another token into the file, and the first ended.
    double.engine().tokens.clear();
    let error = kms.check(&rng).await.unwrap_err().to_string();
    assert!(error.contains("the token is refused"), "{error}");
    assert!(!error.contains("permission denied"), "words of a server are not told: {error}");
    double.let_in("s.second", 0);
    private_file(dir.path(), "token", "s.second\n");
    kms.check(&rng).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_logs_in_and_again() {
    let (double, clock, rng) = (Double::start().await, Arc::<Clock>::default(), SystemRng::new());
    let dir = tempfile::tempdir().unwrap();
    let jwt = private_file(dir.path(), "jwt", JWT);
    let login =
        |role: &str| Login::Kubernetes { mount: "kubernetes".into(), role: role.into(), jwt: read(&jwt) };
    let kms = in_transit(&double, "root", login(ROLE), &clock);
    kms.make_first(&rng).await.unwrap();
    kms.check(&rng).await.unwrap();
    assert_eq!(double.counts(), (1, 0));
    clock.advance(45 * 60 * 1_000_000);
    kms.check(&rng).await.unwrap();
    assert_eq!(double.counts(), (1, 1));
    clock.advance(2 * 3600 * 1_000_000);
    kms.check(&rng).await.unwrap();
    assert_eq!(double.counts(), (2, 1), "an ended token is not renewed");
    // Revoked before its time.
    double.engine().tokens.clear();
    kms.check(&rng).await.unwrap();
    assert_eq!(double.counts().0, 3);

    let stranger = in_transit(&double, "root", login("another"), &clock);
    assert!(matches!(stranger.check(&rng).await, Err(KmsError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_is_not_believed_or_told() {
    let (double, rng) = (Double::start().await, SystemRng::new());
    double.let_in("s.root", 0);
    let dir = tempfile::tempdir().unwrap();
    let token = private_file(dir.path(), "token", "s.root\n");
    let kms = in_transit(&double, "root", Login::TokenFile(read(&token)), &Arc::default());
    kms.make_first(&rng).await.unwrap();
    let wrapped = kms.wrap(&Canonical::new("t"), &Key::random(&rng).unwrap(), &rng).await.unwrap();
    for (status, expected) in [
        ("500 Internal Server Error", "500"),
        ("503 Service Unavailable", "sealed"),
        ("307 Temporary Redirect", "redirects are not followed"),
        ("400 Bad Request", "400"),
    ] {
        double.engine().fails_with = Some(status);
        let error = kms.unwrap(&Canonical::new("t"), &wrapped).await.err().unwrap();
        assert!(matches!(error, KmsError::Unavailable(_)), "away is not damaged: {error}");
        let error = error.to_string();
        assert!(error.contains(expected) && !error.contains("secret words"), "{error}");
    }
    double.engine().fails_with = None;

    // A rotation by somebody else activates nothing.
    kms.add_version(&rng).await.unwrap();
    let wrapped = kms.wrap(&Canonical::new("t"), &Key::random(&rng).unwrap(), &rng).await.unwrap();
    assert_eq!(wrap_version(&wrapped), Ok(1));

    double.engine().keys.get_mut("root").unwrap().exportable = true;
    let error = kms.check(&rng).await.unwrap_err().to_string();
    assert!(error.contains("it is no root key"), "{error}");

    // Another authority than the configured one.
    let other = Double::start().await;
    let options = TransitOptions {
        address: double.address(),
        authority: Some(other.authority().as_bytes().to_vec()),
        mount: "transit".into(),
        key: "root".into(),
        login: Login::TokenFile(read(&token)),
        territory: here(),
    };
    let impostor = TransitKms::new(options, Arc::default()).unwrap();
    let error = impostor.check(&rng).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}
