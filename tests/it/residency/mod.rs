//! Bytes stay in the country: what a configuration names outside its declared sites is refused, with site and address.

mod buckets;
mod collector;
mod database;
mod kms;
mod net;

use std::{fs, net::SocketAddr, path::Path};

use sandyq::{cli::local::LocalInstallation, config::Config};

use crate::common::backend::{Backend, on_both};

const HERE: &str = "[[residency.site]]\nname = \"this-machine\"\nhere = true\n";
const SQLITE: &str = "sqlite = \"sandyq.db\"";
const ROOT_KEY: &str = "file = \"root.json\"\nunseal_key = \"unseal.key\"\n";
const MIRROR: &str = "[mirror]\ndirectory = \"mirror\"\n";
const BESIDE: &str = "\"mirror-beside-database\", ";
const DOCUMENTS: &str = "[documents]\ndirectory = \"documents\"\n";
const FRANKFURT: &str = "[[residency.site]]\nname = \"frankfurt\"\ncountry = \"DE\"\n";

/// What is changed in the configuration, and what is said then.
type Refusal = (Vec<(&'static str, String)>, Vec<&'static str>);

/// An installation in `dir` whose configuration is changed.
fn installation(dir: &Path, changes: &[(&str, &str)]) -> LocalInstallation {
    installation_on(&Backend::Sqlite, dir, changes)
}

/// The same over this database, where no change names another.
fn installation_on(backend: &Backend, dir: &Path, changes: &[(&str, &str)]) -> LocalInstallation {
    let local = LocalInstallation::create(&dir.join("vault"), SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let mut text = fs::read_to_string(local.config_path()).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    fs::write(local.config_path(), backend.configure(&text)).unwrap();
    local
}

fn postgres(host: &str) -> String {
    format!("postgres = \"postgres://sandyq@{host}/sandyq?sslmode=verify-full\"")
}

fn transit(address: &str) -> String {
    format!(
        "kind = \"transit\"\naddress = \"{address}\"\nauthority = \"server-authority.pem\"\nkey = \"root\"\ntoken_file = \
         \"token\"\n"
    )
}

/// A table that names a bucket of a service; the key that it names is in the installation's directory.
fn bucket(table: &str, endpoint: &str) -> String {
    format!(
        "[{table}.s3]\nendpoint = \"{endpoint}\"\nregion = \"kz-1\"\nbucket = \"vault\"\nauthority = \"server-authority.pem\"\n\
         access_key = \"vault\"\nsecret_key_file = \"s3.key\"\n"
    )
}

fn traces(endpoint: &str) -> String {
    format!(
        "[telemetry.traces]\nendpoint = \"{endpoint}\"\nauthority = \"server-authority.pem\"\n\n[residency]\n"
    )
}

on_both!(r15_what_lies_outside_the_declared_sites_does_not_start);
async fn r15_what_lies_outside_the_declared_sites_does_not_start(backend: Backend) {
    let frankfurt = |networks: &str| format!("{HERE}\n{FRANKFURT}networks = [{networks}]\n");
    let cases: Vec<Refusal> = vec![
        (
            vec![("here = true", "networks = [\"203.0.113.0/24\"]".into())],
            vec![
                "the database at ",
                "the mirror at ",
                "the backups at ",
                "the documents at ",
                "the root-key at ",
                "no site is declared as this machine's",
            ],
        ),
        (
            vec![("here = true", "here = true\ncountry = \"DE\"".into())],
            vec!["it is of site this-machine in DE, and data stays in KZ"],
        ),
        (
            vec![(SQLITE, postgres("192.0.2.7"))],
            vec!["the database at 192.0.2.7:5432 is at 192.0.2.7: no declared site covers it"],
        ),
        (
            vec![(SQLITE, postgres("[2001:db8::7]:6432")), (HERE, frankfurt("\"2001:db8::/32\""))],
            vec!["the database at [2001:db8::7]:6432 is at 2001:db8::7: it is of site frankfurt in DE"],
        ),
        (
            vec![("[residency]\n", traces("https://192.0.2.9:4318"))],
            vec!["the telemetry at 192.0.2.9:4318 is at 192.0.2.9: no declared site covers it"],
        ),
        (
            vec![("[residency]\n", traces("https://localhost")), (HERE, frankfurt("\"127.0.0.1/32\""))],
            vec!["the telemetry at localhost:443 is at 127.0.0.1: it is of site frankfurt in DE"],
        ),
        (
            vec![(MIRROR, bucket("mirror", "https://192.0.2.11:9000")), (BESIDE, String::new())],
            vec!["the mirror at 192.0.2.11:9000 is at 192.0.2.11: no declared site covers it"],
        ),
        (
            vec![
                (MIRROR, bucket("mirror", "https://localhost")),
                (BESIDE, String::new()),
                (HERE, frankfurt("\"127.0.0.1/32\"")),
            ],
            vec!["the mirror at localhost:443 is at 127.0.0.1: it is of site frankfurt in DE"],
        ),
        (
            vec![(DOCUMENTS, bucket("documents", "https://192.0.2.12:9000"))],
            vec!["the documents at 192.0.2.12:9000 is at 192.0.2.12: no declared site covers it"],
        ),
        (
            vec![
                (DOCUMENTS, bucket("documents", "https://localhost")),
                (HERE, frankfurt("\"127.0.0.1/32\"")),
            ],
            vec!["the documents at localhost:443 is at 127.0.0.1: it is of site frankfurt in DE"],
        ),
        // Every address of a name counts, however its name reads.
        (
            vec![(SQLITE, postgres("localhost:5433")), (HERE, frankfurt("\"127.0.0.1/32\""))],
            vec!["the database at localhost:5433 is at 127.0.0.1: it is of site frankfurt in DE"],
        ),
        // Other spellings of 127.0.0.1 that resolvers know.
        (
            vec![(SQLITE, postgres("2130706433")), (HERE, frankfurt("\"127.0.0.0/8\""))],
            vec!["the database at 2130706433:5432 is at 127.0.0.1: it is of site frankfurt in DE"],
        ),
        (
            vec![(SQLITE, postgres("no-such-host.invalid"))],
            vec!["the database at no-such-host.invalid:5432: it has no address"],
        ),
        (
            vec![
                (ROOT_KEY, transit("https://198.51.100.9:8200/")),
                (", \"unseal-key-beside-root\"", String::new()),
            ],
            vec!["the root-key at 198.51.100.9:8200 is at 198.51.100.9: no declared site covers it"],
        ),
        (
            vec![
                (ROOT_KEY, transit("https://10.1.2.3:8200")),
                (HERE, format!("{HERE}networks = [\"10.0.0.0/8\"]\n")),
            ],
            vec!["10.1.2.3: site this-machine declares this private network, and no attestation says"],
        ),
    ];
    for (changes, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let changes: Vec<(&str, &str)> = changes.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let refused = installation_on(&backend, dir.path(), &changes)
            .start(false)
            .await
            .err()
            .expect("it starts")
            .message()
            .to_owned();
        for words in expected {
            assert!(refused.contains(words), "{words} not in {refused}");
        }
        assert!(!dir.path().join("vault/sandyq.db").exists(), "nothing was made");
        assert!(!dir.path().join("vault/root.json").exists(), "nothing was made");
    }
}

#[test]
fn declarations_are_checked_with_the_configuration() {
    let attested = |more: &str| {
        format!(
            "{HERE}networks = [\"10.1.0.0/16\"]\n\n[[residency.site.attested]]\nnetworks = [\"10.1.0.0/16\"]\n{more}"
        )
    };
    let whole =
        "by = \"officer-17\"\nuntil = \"2099-11-01\"\nstatement = \"Hall 2 in Almaty, contract 12\"\n";
    for (from, to, expected) in [
        ("[residency]\ncountry = \"KZ\"\n", String::new(), "missing field `country`"),
        ("country = \"KZ\"", "country = \"kz\"".into(), "a country is two capital letters"),
        (HERE, "site = []\n".into(), "needs at least one [[residency.site]]"),
        ("name = \"this-machine\"", "name = \"This machine\"".into(), "a storage site's name must match"),
        ("here = true", "hear = true".into(), "unknown field `hear`"),
        (HERE, format!("{HERE}networks = [\"10.1.0.0\"]\n"), "residency.site.networks \"10.1.0.0\""),
        (HERE, format!("{HERE}registered = true\n"), "`registered` needs `delegated` or `mmdb`"),
        (HERE, attested(&whole.replace("2099-11-01", "soon")), "attested.until must be a day"),
        (HERE, attested(&whole.replace("officer-17", "Officer")), "a person's handle must match"),
        (HERE, attested(&whole.replace("by = \"officer-17\"\n", "")), "missing field `by`"),
        (HERE, attested(&whole.replace("Hall 2 in Almaty, contract 12", "")), "says in `statement`"),
        (HERE, attested(whole), ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let said = Config::load(&installation(dir.path(), &[(from, &to)]).config_path()).err();
        let said = said.map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(said.is_empty(), expected.is_empty(), "{said}");
        assert!(said.contains(expected), "{expected} not in {said}");
    }
}

/// The files of registries are read at the start, and one that is no such file is refused.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_a_registry_gave_away_are_of_its_country() {
    let dir = tempfile::tempdir().unwrap();
    let statistics =
        "2|ripencc|1|1|19700101|20991231|+0000\nripencc|KZ|ipv4|192.0.2.0|3|20100527|allocated\n";
    let sites = "country = \"KZ\"\ndelegated = \"delegated.txt\"\n\n[[residency.site]]\nname = \"kz\"\nregistered = true\n";
    let changes = [("country = \"KZ\"\n", sites), (SQLITE, &postgres("192.0.2.3"))];
    let local = installation(dir.path(), &changes);
    for (text, expected) in [
        (None, "cannot read"),
        (Some("nothing"), "delegated.txt: line 1 is no delegated statistics"),
        (Some(statistics), "is at 192.0.2.3: no declared site covers it"),
    ] {
        if let Some(text) = text {
            fs::write(local.dir().join("delegated.txt"), text).unwrap();
        }
        let refused = LocalInstallation::open(local.dir()).start(false).await.err().expect("it starts");
        assert!(refused.message().contains(expected), "{expected} not in {}", refused.message());
    }
}
