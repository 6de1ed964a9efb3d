use ipnet::IpNet;

use super::*;

const HEAD: &str = "2|ripencc|1764197999|7|19830705|20261126|+0100\n";

fn country(source: &dyn Source, address: &str) -> Option<String> {
    let found = source.country_of(address.parse().unwrap()).unwrap();
    found.map(|country| country.to_string())
}

#[test]
fn ranges_are_counted_in_addresses() {
    let text = format!(
        "# a comment\n{HEAD}ripencc|*|ipv4|*|4|summary\n\
         ripencc|KZ|ipv4|5.34.0.0|1280|20120101|allocated\n\
         ripencc|RU|ipv4|5.34.5.0|1|20120101|assigned\n\
         ripencc|EU|ipv4|5.35.0.0|256|20120101|allocated\n\
         ripencc||ipv4|5.36.0.0|256||reserved\n\
         apnic|KZ|ipv4|255.255.255.0|256|20120101|allocated\n\
         ripencc|KZ|ipv6|2a03:8000::|29|20120101|allocated\n"
    );
    let source = Delegated::parse(&text).unwrap();
    assert_eq!(source.built_at().to_string(), "2026-11-27T00:00:00.000000Z");
    for (address, expected) in [
        ("5.33.255.255", None),
        ("5.34.0.0", Some("KZ")),
        ("5.34.4.255", Some("KZ")),
        ("5.34.5.0", Some("RU")),
        ("5.34.5.1", None),
        ("5.35.0.1", None),
        ("5.36.0.1", None),
        ("255.255.255.255", Some("KZ")),
        ("2a03:8000::1", Some("KZ")),
        ("2a03:8007:ffff::1", Some("KZ")),
        ("2a03:8008::1", None),
    ] {
        assert_eq!(country(&source, address).as_deref(), expected, "{address}");
    }
}

#[test]
fn what_is_no_statistics_is_refused() {
    let record = |line: &str| format!("{HEAD}{line}\n");
    for (text, expected) in [
        (String::new(), "holds no delegated statistics"),
        ("<html>\n".to_owned(), "line 1"),
        ("2|ripencc|1|7|19830705|soon|+0100\n".to_owned(), "line 1"),
        (record("ripencc|KZ|ipv4|5.34.0.0|0|20120101|allocated"), "line 2"),
        (record("ripencc|KZ|ipv4|255.255.255.0|257|20120101|allocated"), "line 2"),
        (record("ripencc|KZ|ipv4|2a03::|256|20120101|allocated"), "line 2"),
        (record("ripencc|KZ|ipv6|2a03::|129|20120101|allocated"), "line 2"),
        (record("ripencc|KZ"), "line 2"),
        (
            record("a|KZ|ipv4|5.34.0.0|256|20120101|allocated\na|DE|ipv4|5.34.0.128|1|20120101|allocated"),
            "the same addresses twice",
        ),
    ] {
        let refused = Delegated::parse(&text).unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected} not in {refused}");
    }
}

#[test]
fn the_country_of_an_address_is_believed_and_not_that_of_its_holder() {
    let entries =
        [("203.0.113.0/24", "KZ", "US"), ("198.51.100.0/25", "DE", "KZ"), ("2001:db8::/32", "KZ", "DE")];
    let source = Geo::parse(mmdb("DBIP-Country-Lite", 1_795_000_000, &entries)).unwrap();
    assert_eq!(source.built_at().second(), 1_795_000_000);
    for (address, expected) in [
        ("203.0.113.9", Some("KZ")),
        ("198.51.100.9", Some("DE")),
        ("198.51.100.200", None),
        ("2001:db8::9", Some("KZ")),
        ("2001:db9::9", None),
    ] {
        assert_eq!(country(&source, address).as_deref(), expected, "{address}");
    }
    for (bytes, expected) in [
        (b"nothing".to_vec(), "it is no MMDB"),
        (mmdb("GeoLite2-ASN", 1_795_000_000, &entries), "holds no countries"),
    ] {
        let refused = Geo::parse(bytes).unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected} not in {refused}");
    }
}

/// A database in the format of `MaxMind` DB 2.0: a tree of 24-bit records over IPv6, with IPv4 at `::/96`.
fn mmdb(kind: &str, build_epoch: u64, entries: &[(&str, &str, &str)]) -> Vec<u8> {
    // A child is none, another node, or the data at an offset.
    #[derive(Clone, Copy)]
    enum Child {
        None,
        Node(usize),
        Data(usize),
    }
    let text = |value: &str| [&[0x40 | u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let (mut nodes, mut data) = (vec![[Child::None; 2]], Vec::new());
    for (network, country, registered) in entries {
        let offset = data.len();
        data.push(0xe2);
        for (key, code) in [("country", country), ("registered_country", registered)] {
            data.extend([text(key), vec![0xe1], text("iso_code"), text(code)].concat());
        }
        let (bits, length) = match network.parse::<IpNet>().unwrap() {
            IpNet::V4(v4) => (u128::from(u32::from(v4.network())), v4.prefix_len() + 96),
            IpNet::V6(v6) => (u128::from(v6.network()), v6.prefix_len()),
        };
        let mut at = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                nodes[at][side] = Child::Data(offset);
            } else if let Child::Node(next) = nodes[at][side] {
                at = next;
            } else {
                nodes.push([Child::None; 2]);
                nodes[at][side] = Child::Node(nodes.len() - 1);
                at = nodes.len() - 1;
            }
        }
    }
    let count = nodes.len();
    let record = |child: &Child| match child {
        Child::None => count,
        Child::Node(node) => *node,
        Child::Data(offset) => count + 16 + offset,
    };
    let mut file: Vec<u8> = Vec::new();
    for child in nodes.iter().flatten() {
        file.extend(&u32::try_from(record(child)).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let short = |value: u8| vec![0xa1, value];
    let mut metadata = vec![0xe9];
    for (key, value) in [
        ("binary_format_major_version", short(2)),
        ("binary_format_minor_version", vec![0xa0]),
        ("build_epoch", [vec![0x08, 0x02], build_epoch.to_be_bytes().to_vec()].concat()),
        ("database_type", text(kind)),
        ("description", vec![0xe0]),
        ("ip_version", short(6)),
        ("languages", vec![0x00, 0x04]),
        ("node_count", [vec![0xc4], u32::try_from(count).unwrap().to_be_bytes().to_vec()].concat()),
        ("record_size", short(24)),
    ] {
        metadata.extend([text(key), value].concat());
    }
    [file, metadata].concat()
}
