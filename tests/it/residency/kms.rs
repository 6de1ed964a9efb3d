//! The transit engine by the address that is really reached: names that change, addresses in any spelling, proxies.

use std::{net::TcpListener, process::Command, sync::Arc};

use sandyq::{
    crypto::{
        kms::{
            Kms as _,
            transit::{Login, TransitKms, TransitOptions},
        },
        random::SystemRng,
    },
    residency::{Names, SystemNames},
};
use zeroize::Zeroizing;

use super::{
    installation,
    net::{Turning, with_frankfurt},
    transit,
};
use crate::common::transit::Double;

const ROOT_KEY: &str = "file = \"root.json\"\nunseal_key = \"unseal.key\"\n";

fn kms(double: &Double, host: &str, frankfurt: &[&str], names: Arc<dyn Names>) -> TransitKms {
    let options = TransitOptions {
        address: double.address().replace("127.0.0.1", host),
        authority: Some(double.authority().as_bytes().to_vec()),
        mount: "transit".to_owned(),
        key: "root".to_owned(),
        login: Login::TokenFile(Box::new(|| Ok(Zeroizing::new("s.root".to_owned())))),
        territory: with_frankfurt(frankfurt, names),
    };
    TransitKms::new(options, Arc::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_judged_by_the_address_that_is_dialled() {
    let (double, rng) = (Double::start().await, SystemRng::new());
    double.let_in("s.root", 0);
    let names = Turning::at("127.0.0.1");
    let kms_by_name = kms(&double, "localhost", &["127.0.0.2/32"], names.clone());
    kms_by_name.make_first(&rng).await.unwrap();
    kms_by_name.check(&rng).await.unwrap();

    // Each new connection asks anew what the name stands for.
    names.turn_to("127.0.0.2");
    let refused = kms_by_name.check(&rng).await.unwrap_err().to_string();
    assert!(refused.contains("is at 127.0.0.2: it is of site frankfurt in DE"), "{refused}");
    names.turn_to("127.0.0.1");
    kms_by_name.check(&rng).await.unwrap();

    // The engine itself is abroad, however its address is written: nothing is sent there.
    let before = double.connections();
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let abroad = kms(&double, host, &["127.0.0.1/32"], Arc::new(SystemNames));
        let refused = abroad.check(&rng).await.unwrap_err().to_string();
        assert!(refused.contains("it is of site frankfurt in DE"), "{host}: {refused}");
    }
    assert_eq!(double.connections(), before, "nobody connected");
}

/// Proxies of the environment would carry the key elsewhere: they are not looked at.
#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_get_nothing() {
    let double = Double::start().await;
    double.let_in("s.root", 0);
    let dir = tempfile::tempdir().unwrap();
    let local = installation(
        dir.path(),
        &[(ROOT_KEY, &transit(&double.address())), (", \"unseal-key-beside-root\"", "")],
    );
    std::fs::write(local.dir().join("server-authority.pem"), double.authority()).unwrap();
    let token = local.dir().join("token");
    std::fs::write(&token, "s.root").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let proxy = format!("http://{}", trap.local_addr().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(["init", "--config"]).arg(local.config_path());
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &proxy);
    }
    let done = tokio::task::block_in_place(|| command.output().unwrap());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(
        trap.accept().err().map(|error| error.kind()),
        Some(std::io::ErrorKind::WouldBlock),
        "nobody came"
    );
}
