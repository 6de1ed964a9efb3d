//! Everything that is searched, as bytes.

use std::{fs, path::Path, path::PathBuf, process::Command};

use data_encoding::HEXLOWER_PERMISSIVE;
use sandyq::audit::{entry::Entry, layout::split_bundle};
use sqlx::{Connection as _, PgConnection};
use tonic::Status;

use super::{Holds, Searcher, canaries::Canary, planted};
use crate::common::backend::Backend;

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// Names and content of all files.
pub fn below(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for file in files_below(dir) {
        all.extend(format!("\n{}\n", file.display()).into_bytes());
        all.extend(fs::read(&file).unwrap());
    }
    all
}

/// The entries of an export as they are shown.
pub fn entries_of(export: &Path) -> Vec<u8> {
    let mut shown = Vec::new();
    for file in files_below(&export.join("tile/entries")) {
        for entry in split_bundle(&fs::read(file).unwrap()).unwrap() {
            shown.extend(format!("{:?}\n", Entry::decode(entry).unwrap()).into_bytes());
        }
    }
    shown
}

/// Refusals as they are on the wire, and as a client would log them.
pub fn of_statuses(statuses: &[Status]) -> Vec<u8> {
    let mut all = Vec::new();
    for status in statuses {
        let shown = format!("\n{status:?} {status}\n{}\n{:?}\n", status.message(), status.metadata());
        all.extend(shown.into_bytes());
        all.extend(status.details());
    }
    all
}

/// The control in a table of its own, and on PostgreSQL in a statement that its server logs as refused.
pub async fn plant_into_database(backend: &Backend, files: &Path, control: &Canary) {
    let bytes = if matches!(backend, Backend::Sqlite) { "BLOB" } else { "BYTEA" };
    backend.sql(files, &format!("CREATE TABLE planted (form {bytes})")).await;
    for (_, form) in control.forms() {
        let hex = HEXLOWER_PERMISSIVE.encode(&form);
        backend.sql(files, &format!("INSERT INTO planted VALUES (x'{hex}')")).await;
    }
    if let Backend::Postgres(url) = backend {
        let text = String::from_utf8(planted(Holds::Text)).unwrap();
        let mut connection = PgConnection::connect(url).await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("SELECT '{text}'::integer"));
        sqlx::query(sql).execute(&mut connection).await.unwrap_err();
        connection.close().await.unwrap();
    }
}

/// SQLite's files with those beside them; a dump of PostgreSQL's tables with the bytes in them, and its server's log.
pub fn look_into_database(searcher: &mut Searcher, backend: &Backend, files: &Path) {
    match backend {
        Backend::Sqlite => {
            for name in ["sandyq.db-wal", "sandyq.db-shm"] {
                assert!(files.join(name).exists(), "the database was not closed");
            }
            searcher.look("the installation's files", &below(files), &["records_current"], Holds::Bytes);
        }
        Backend::Postgres(url) => {
            let dump = dump(url);
            let bytes = [dump.as_slice(), b"\n", &bytes_in(&dump)].concat();
            searcher.look("the dump", &bytes, &["COPY public.records "], Holds::Bytes);
            let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/postgres.home");
            let log = Path::new(fs::read_to_string(home).unwrap().trim()).join("server.log");
            let log = fs::read(log).unwrap();
            searcher.look("the database server's log", &log, &["invalid input syntax"], Holds::Text);
        }
    }
}

fn dump(url: &str) -> Vec<u8> {
    // Beside the server's other programs, as `scripts/postgres` finds them.
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut programs: Vec<_> = versions.map(|version| version.unwrap().path().join("bin/pg_dump")).collect();
    programs.retain(|program| program.exists());
    programs.sort();
    let program = programs.pop().unwrap_or_else(|| "pg_dump".into());
    let output = Command::new(program).arg("--dbname").arg(url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The bytes that a dump writes as `\\x` and hexadecimal.
fn bytes_in(dump: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let text = String::from_utf8_lossy(dump);
    for part in text.split("\\\\x").skip(1) {
        let end = part.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(part.len());
        all.extend(HEXLOWER_PERMISSIVE.decode(&part.as_bytes()[..end]).unwrap());
        all.push(b'\n');
    }
    all
}
