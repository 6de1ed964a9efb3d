//! The house: which room may use which, and what each keeps to itself.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What a room may import. Rooms on one level do not know each other.
const ROOMS: [(&str, &[&str]); 13] = [
    ("domain", &[]),
    ("policy", &["domain"]),
    ("audit", &["domain"]),
    ("net", &["domain"]),
    ("crypto", &["net", "domain"]),
    ("store", &["domain"]),
    ("blobs", &["net", "domain"]),
    ("residency", &["domain"]),
    ("vault", &["policy", "audit", "crypto", "store", "blobs", "residency", "domain"]),
    ("grpc", &["vault", "policy", "domain"]),
    ("telemetry", &["net", "vault", "domain"]),
    ("config", &["grpc", "vault", "store", "residency", "domain"]),
    (
        "cli",
        &[
            "grpc",
            "vault",
            "policy",
            "audit",
            "crypto",
            "store",
            "blobs",
            "residency",
            "domain",
            "config",
            "telemetry",
        ],
    ),
];

/// Crates that stay in their rooms.
const KEPT: [(&str, &[&str]); 16] = [
    ("sqlx", &["store"]),
    ("tonic", &["grpc", "cli"]),
    ("tonic_types", &["grpc", "cli"]),
    ("ring", &["crypto"]),
    ("aes_gcm", &["crypto"]),
    ("cryptoki", &["crypto"]),
    ("reqwest", &["net", "crypto", "blobs", "telemetry"]),
    ("tower", &["grpc", "cli"]),
    ("rustls", &["grpc", "cli"]),
    ("tlog_tiles", &["audit"]),
    ("object_store", &["blobs"]),
    ("maxminddb", &["residency"]),
    ("ipnet", &["residency"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("csv_core", &["cli"]),
];

/// Every source file of the crate, without its unit tests.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut dirs) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
                files.insert(path.strip_prefix(&root).unwrap().display().to_string(), code);
            }
        }
    }
    assert!(files.len() > 40, "the sources were found");
    files
}

fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// Lines of code that are not comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let known: Vec<_> = ROOMS.iter().map(|(name, _)| *name).collect();
    for (file, text) in sources() {
        if ["lib", "main"].contains(&room(&file)) {
            continue;
        }
        let (_, allowed) =
            ROOMS.iter().find(|(name, _)| *name == room(&file)).expect("a room that is not listed");
        // `use crate::{a::…, b::…}` stands over several lines: join them first.
        let joined = code(&text).collect::<Vec<_>>().join(" ");
        for used in &known {
            let direct = joined.contains(&format!("crate::{used}::"));
            let grouped = joined.split("use crate::{").skip(1).any(|rest| {
                let mut depth = 1;
                let group: String = rest
                    .chars()
                    .take_while(|c| {
                        depth += i32::from(*c == '{') - i32::from(*c == '}');
                        depth > 0
                    })
                    .collect();
                let mut level = 0;
                let mut names = vec![String::new()];
                for c in group.chars() {
                    match c {
                        '{' => level += 1,
                        '}' => level -= 1,
                        ',' if level == 0 => names.push(String::new()),
                        c if level == 0 => names.last_mut().unwrap().push(c),
                        _ => {}
                    }
                }
                names.iter().any(|name| name.trim().split("::").next() == Some(*used))
            });
            let own = room(&file) == *used;
            assert!(
                own || allowed.contains(used) || !(direct || grouped),
                "{file} uses the room {used}, which it may not"
            );
        }
    }
}

#[test]
fn crates_stay_in_their_rooms() {
    for (file, text) in sources() {
        for (name, rooms) in KEPT {
            let used = code(&text).any(|line| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                    .any(|word| word == format!("{name}::") || word.starts_with(&format!("{name}::")))
            });
            assert!(!used || rooms.contains(&room(&file)), "{file} uses the crate {name}, which it may not");
        }
    }
}

/// `crypto` opens a value against a `ReleaseAuthority`; the permit of `decide` must stay the only one.
#[test]
fn only_a_permit_releases() {
    let implementing: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| code(text).any(|line| line.contains("ReleaseAuthority for")))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(implementing, ["policy/decide.rs"]);
}

#[test]
fn no_module_outgrows_its_reader() {
    for entry in ["src", "tests", "build.rs"] {
        let mut stack = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(entry)];
        while let Some(path) = stack.pop() {
            if path.is_dir() {
                stack.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
            } else {
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                assert!(lines <= 600, "{} has {lines} lines", path.display());
            }
        }
    }
}
