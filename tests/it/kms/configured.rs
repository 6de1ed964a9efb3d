//! `[root_key]` of a configuration: what each kind takes, and what is refused by name.

use std::{fs, net::SocketAddr};

use sandyq::{cli::local::LocalInstallation, config::Config};

const PKCS11: &str = "kind = \"pkcs11\"\nmodule = \"/usr/lib/m.so\"\ntoken = \"vault\"\nlabel = \"root\"\npin_file = \"pin\"\n";
const TRANSIT: &str = "kind = \"transit\"\naddress = \"https://bao.example.kz:8200\"\nauthority = \"server.pem\"\n\
                       key = \"root\"\ntoken_file = \"token\"\n";
const LOCAL: &str = "file = \"root.json\"\nunseal_key = \"unseal.key\"\n";

/// What is said about a configuration with this root key; none where it is taken.
fn said(root_key: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    let local = LocalInstallation::create(&files, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let text = fs::read_to_string(local.config_path()).unwrap();
    assert!(text.contains(LOCAL));
    fs::write(local.config_path(), text.replace(LOCAL, root_key)).unwrap();
    Config::load(&local.config_path()).err().map(|error| error.to_string())
}

#[test]
fn each_kind_is_taken_and_each_missing_key_named() {
    for whole in [LOCAL.to_owned(), format!("kind = \"local\"\n{LOCAL}"), PKCS11.into(), TRANSIT.into()] {
        assert_eq!(said(&whole), None, "{whole}");
        for line in whole.lines().filter(|line| !line.starts_with("kind")) {
            let missing = said(&whole.replace(&format!("{line}\n"), "")).expect("a key is missing");
            let key = line.split(' ').next().unwrap();
            assert!(missing.contains(&format!("`{key}`")) || missing.contains(key), "{key}: {missing}");
        }
        let unknown = said(&format!("{whole}passphrase = \"x\"\n")).expect("an unknown key");
        assert!(unknown.contains("unknown field `passphrase`"), "{unknown}");
    }
}

#[test]
fn what_a_root_key_must_not_be_is_told() {
    let transit = |from: &str, to: &str| TRANSIT.replace(from, to);
    for (root_key, expected) in [
        ("kind = \"paper\"\n".to_owned(), "kind must be \"local\", \"pkcs11\" or \"transit\""),
        (format!("kind = \"pkcs11\"\n{LOCAL}"), "unknown field `file`"),
        (format!("{PKCS11}pin_env = \"PIN\"\n"), "either `pin_file` or `pin_env`"),
        (format!("{TRANSIT}kubernetes_role = \"r\"\n"), "either `token_file` or `kubernetes_role`"),
        (transit("https://", "http://"), "must begin with https://"),
        (transit("https://bao.example.kz:8200", "bao.example.kz"), "must begin with https://"),
        (transit("key = \"root\"", "key = \"../sys\""), "root_key.key must be a path"),
        (format!("{TRANSIT}mount = \"a/../b\"\n"), "root_key.mount must be a path"),
    ] {
        let refused = said(&root_key).expect("refused");
        assert!(refused.contains(expected), "{expected} not in {refused}");
    }
    let proxy = transit("https://bao.example.kz:8200", "http://127.0.0.1:8200");
    assert_eq!(said(&proxy.replace("authority = \"server.pem\"\n", "")), None, "an agent on loopback");
}
