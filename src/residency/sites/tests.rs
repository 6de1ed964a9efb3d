use super::{super::sources::Delegated, *};

const NOW: Timestamp = Timestamp::from_micros(1_795_800_000_000_000); // 2026-11-27
const LATER: Timestamp = Timestamp::from_micros(1_900_000_000_000_000);

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn site(name: &str, country: &str, networks: &[&str]) -> Site {
    Site {
        name: name.parse().unwrap(),
        country: country.parse().unwrap(),
        networks: nets(networks),
        here: false,
        registered: false,
        attestations: Vec::new(),
    }
}

fn attested(networks: &[&str], mounts: &[&str], until: Timestamp) -> Attestation {
    Attestation {
        networks: nets(networks),
        mounts: mounts.iter().map(PathBuf::from).collect(),
        archives: mounts.iter().map(|mount| format!("cp %p {mount}/%f")).collect(),
        by: "officer-17".parse().unwrap(),
        until,
        statement: "Racks 4 to 6 of the operator's hall in Almaty".to_owned(),
    }
}

/// Of 2.72.0.0 on 768 addresses are Kazakhstan's: no power of two.
fn delegated() -> Box<dyn Source> {
    let text = "2|ripencc|1|5|19700101|20261126|+0000\n\
                ripencc|*|ipv4|*|3|summary\n\
                ripencc|KZ|asn|2000|1|20100527|allocated\n\
                ripencc|KZ|ipv4|2.72.0.0|768|20100527|allocated|x\n\
                ripencc|DE|ipv4|2.72.3.0|256|20100527|allocated|x\n\
                ripencc|KZ|ipv6|2a00:1234::|32|20100527|allocated|x\n\
                ripencc||ipv4|2.73.0.0|256||available|x\n";
    Box::new(Delegated::parse(text).unwrap())
}

fn sites() -> Sites {
    let almaty = Site {
        here: true,
        attestations: vec![
            attested(&["10.1.0.0/16"], &["/mirror"], LATER),
            attested(&["10.2.0.0/16", "10.1.9.0/24"], &["/old"], NOW),
        ],
        ..site(
            "almaty-1",
            "KZ",
            &["10.0.0.0/8", "203.0.113.0/24", "2.72.3.128/25", "fd00::/48", "127.9.0.0/16"],
        )
    };
    let registered = Site { registered: true, ..site("kz", "KZ", &[]) };
    let bought = Site {
        attestations: vec![attested(&["2.72.3.16/28"], &[], LATER)],
        ..site("astana-1", "KZ", &["2.72.3.0/26"])
    };
    let frankfurt =
        site("frankfurt", "DE", &["203.0.113.64/26", "2001:db8::/48", "127.0.0.2/32", "10.99.0.0/16"]);
    Sites::new("KZ".parse().unwrap(), vec![almaty, registered, bought, frankfurt], vec![delegated()], 45)
        .unwrap()
}

#[test]
fn each_address_is_where_it_is_declared_and_nowhere_else() {
    let sites = sites();
    for (address, expected) in [
        ("127.0.0.1", "here at almaty-1"),
        ("::1", "here at almaty-1"),
        ("::ffff:127.0.0.1", "here at almaty-1"),
        ("127.9.1.1", "declared at almaty-1"),
        ("127.0.0.2", "it is of site frankfurt in DE, and data stays in KZ"),
        ("203.0.113.9", "declared at almaty-1"),
        ("::ffff:203.0.113.9", "declared at almaty-1"),
        ("203.0.113.63", "declared at almaty-1"),
        ("203.0.113.64", "it is of site frankfurt in DE, and data stays in KZ"),
        ("203.0.113.127", "it is of site frankfurt in DE, and data stays in KZ"),
        ("203.0.113.128", "declared at almaty-1"),
        ("203.0.114.0", "no declared site covers it"),
        ("2001:db8::7", "it is of site frankfurt in DE, and data stays in KZ"),
        ("2001:db9::7", "no declared site covers it"),
        // Private networks: attested, attested no longer, never attested, not declared at all.
        ("10.1.2.3", "attested at almaty-1"),
        ("10.2.0.1", "the attestation of site almaty-1 ended at 2026-11-27T17:20:00.000000Z"),
        ("10.1.9.1", "the attestation of site almaty-1 ended at 2026-11-27T17:20:00.000000Z"),
        (
            "10.3.0.1",
            "site almaty-1 declares this private network, and no attestation says that it lies there",
        ),
        ("10.99.0.1", "it is of site frankfurt in DE, and data stays in KZ"),
        (
            "fd00::1",
            "site almaty-1 declares this private network, and no attestation says that it lies there",
        ),
        ("192.168.0.1", "no declared site covers it"),
        ("172.16.0.1", "no declared site covers it"),
        ("100.64.0.1", "no declared site covers it"),
        ("169.254.169.254", "no declared site covers it"),
        ("fe80::1", "no declared site covers it"),
        // Public addresses that a registry gave away: 768 of them, not 512 and not 1,024.
        ("2.71.255.255", "no declared site covers it"),
        ("2.72.0.0", "registered at kz"),
        ("2.72.1.255", "registered at kz"),
        ("2.72.2.0", "registered at kz"),
        ("2.72.2.255", "registered at kz"),
        ("2a00:1234:ffff::1", "registered at kz"),
        ("2a00:1235::1", "no declared site covers it"),
        ("2.73.0.1", "no declared site covers it"),
        // Declared here, and given to another country; with a statement, and without one.
        ("2.72.3.17", "attested at astana-1"),
        ("2.72.3.1", "site astana-1 in KZ declares it, and delegated statistics place it in DE"),
        ("2.72.3.200", "site almaty-1 in KZ declares it, and delegated statistics place it in DE"),
        ("2.72.3.100", "no declared site covers it"),
        // No machine's.
        ("0.0.0.0", "it is not the address of one machine"),
        ("0.0.0.7", "it is not the address of one machine"),
        ("::", "it is not the address of one machine"),
        ("::ffff:0.0.0.0", "it is not the address of one machine"),
        ("224.0.0.1", "it is not the address of one machine"),
        ("ff02::1", "it is not the address of one machine"),
        ("255.255.255.255", "it is not the address of one machine"),
        // Ways of IPv6 to reach an address of IPv4 through others are addresses of those others.
        ("64:ff9b::cb00:7109", "no declared site covers it"),
        ("2002:cb00:7109::1", "no declared site covers it"),
        ("::203.0.113.9", "no declared site covers it"),
    ] {
        let said = match sites.where_is(address.parse().unwrap(), NOW) {
            Ok(located) => format!("{} at {}", located.basis.as_str(), located.site),
            Err(outside) => outside.to_string(),
        };
        assert_eq!(said, expected, "{address}");
    }
}

#[test]
fn what_is_too_old_places_nothing_and_still_contradicts() {
    let sites = sites();
    let days = |n: i64| NOW.plus_micros(n * 24 * 3_600_000_000);
    let at = |address: &str, now| sites.where_is(address.parse().unwrap(), now).map_err(|e| e.to_string());
    assert!(at("2.72.0.1", days(44)).is_ok());
    let stale = at("2.72.0.1", days(46)).unwrap_err();
    assert_eq!(stale, "only delegated statistics place it, and they are older than the limit of 45 days");
    assert!(at("2.72.3.1", days(46)).unwrap_err().contains("place it in DE"));
    assert!(at("203.0.113.9", days(46)).is_ok(), "a declared network needs no source");
    assert!(at("10.1.2.3", LATER).unwrap_err().contains("ended at"));
}

#[test]
fn this_machine_and_mounts_are_of_a_site_or_refused() {
    let sites = sites();
    let mount =
        |point: &str| sites.where_is_mount(point.as_ref(), "fuse.sshfs", NOW).map_err(|e| e.to_string());
    assert_eq!(sites.here().unwrap().site.as_str(), "almaty-1");
    assert_eq!(mount("/mirror").unwrap().basis.as_str(), "attested");
    assert!(mount("/old").unwrap_err().contains("ended at"));
    let archive = |command: &str| sites.where_is_archive(command, NOW).map_err(|e| e.to_string());
    assert_eq!(archive("cp %p /mirror/%f").unwrap().basis.as_str(), "attested");
    assert!(archive("cp %p /old/%f").unwrap_err().contains("ended at"));
    assert!(
        archive("cp %p /mirror/%f; scp %p far:").unwrap_err().contains("no attestation names this command")
    );
    assert!(mount("/mirror/below").unwrap_err().contains("(fuse.sshfs) is of another machine"));
    let none = Sites::new("KZ".parse().unwrap(), vec![site("a1", "KZ", &["203.0.113.0/24"])], Vec::new(), 45)
        .unwrap();
    assert_eq!(none.here(), Err(Outside::NoHere));
    assert_eq!(none.where_is("127.0.0.1".parse().unwrap(), NOW), Err(Outside::NoHere));
    let abroad = Site { here: true, ..site("a1", "DE", &[]) };
    let abroad = Sites::new("KZ".parse().unwrap(), vec![abroad], Vec::new(), 45).unwrap();
    assert!(matches!(abroad.here(), Err(Outside::Abroad { .. })));
}

#[test]
fn declarations_that_make_no_sense_are_refused() {
    let one = |networks: &[&str]| vec![site("a1", "KZ", networks)];
    let with =
        |attestation| vec![Site { attestations: vec![attestation], ..site("a1", "KZ", &["10.0.0.0/8"]) }];
    let here = |name: &str| Site { here: true, ..site(name, "KZ", &[]) };
    for (sites, expected) in [
        (one(&[]), "neither `here` nor `registered`"),
        (one(&["10.0.0.1/8"]), "has bits beyond its prefix; 10.0.0.0/8 is meant?"),
        (one(&["0.0.0.0/0"]), "too wide"),
        (one(&["::/0"]), "too wide"),
        (one(&["::ffff:10.0.0.0/104"]), "write it as IPv4"),
        (vec![site("a1", "KZ", &["10.0.0.0/8"]), site("a2", "DE", &["10.0.0.0/8"])], "is of site a1 already"),
        (vec![here("a1"), here("a1")], "declared twice"),
        (vec![here("a1"), here("a2")], "two sites are declared as this machine's"),
        (vec![Site { registered: true, ..site("a1", "KZ", &[]) }], "needs `delegated` or `mmdb`"),
        (with(attested(&[], &[], LATER)), "names networks, mounts or archives"),
        (with(attested(&["192.168.0.0/24"], &[], LATER)), "in no network of the site"),
        (
            with(Attestation { statement: " ".into(), ..attested(&["10.1.0.0/16"], &[], LATER) }),
            "says in `statement`",
        ),
    ] {
        let refused = Sites::new("KZ".parse().unwrap(), sites, Vec::new(), 45).unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected} not in {refused}");
    }
    let registered = |name: &str| Site { registered: true, ..site(name, "KZ", &[]) };
    let two =
        Sites::new("KZ".parse().unwrap(), vec![registered("a1"), registered("a2")], vec![delegated()], 45);
    assert!(two.unwrap_err().to_string().contains("has every registered address"));
}
