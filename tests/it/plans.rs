//! PostgreSQL's plans of the batch read and of what destroys a subject, as its server tells them: from keys to rows, on tables
//! that nobody has analysed. (SQLite's plan of the read is held by a unit test of its store.)

use std::{collections::BTreeSet, fs, path::Path};

use sandyq::{
    domain::token::AnyToken,
    vault::{keys::KeyKind, subjects::SubjectName},
};

use crate::common::{
    backend::Backend,
    operations::work_through,
    vault::{OpenVault, as_admin, asker},
};

/// Index conditions that name the platform alone walk through all its rows; only the head has no other key.
const PLATFORM_ALONE: &str = "Index Cond: (platform_id = $1)";

#[tokio::test(flavor = "multi_thread")]
async fn the_batch_read_goes_from_keys_to_rows() {
    let told = Told::begin().await;
    let stored = told.open.store_iin(1).await;
    let token = AnyToken::parse(&stored.tokens[0].token.reveal()).unwrap();
    told.open.detokenize(&token).await.unwrap();
    let (plans, seen) = told.end("/* read::snapshot").await;
    assert!(plans >= 3, "the server told {plans} plans");
    for wanted in [
        "tokens_pkey",
        "tokens_by_id",
        "tokens_deterministic",
        "records_pkey",
        "records_current",
        "subjects_pkey",
        "subjects_by_reference",
        "consents_pkey",
        "consents_by_subject",
        "subject_events_by_subject",
        "documents_versions",
        "documents_by_subject",
        "uploads_by_request",
        "uploads_by_subject",
    ] {
        assert!(seen.contains(wanted), "{wanted} is not taken: {seen:?}");
    }
}

/// Each of them once walked through all records of the platform: a subject of a million took seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_destroyed_from_its_keys() {
    let told = Told::begin().await;
    told.open.store_iin(1).await;
    let name = SubjectName::Reference("user-1".to_owned());
    let caller = told.open.caller("backend");
    told.open.vault.erase_subject(&caller, asker("backend"), "", name, None).await.unwrap();
    told.open.clock.advance(5 * 60 * 60 * 1_000_000);
    assert_eq!(told.open.vault.work().await.unwrap().done, 1);
    let (plans, seen) = told.end("/* write::destroy_").await;
    assert!(plans >= 8, "the server told {plans} plans");
    for wanted in [
        "tokens_by_record",
        "index_entries_by_record",
        "records_current",
        "records_superseded",
        "documents_by_subject",
        "document_parts_by_subject",
        "uploads_by_subject",
    ] {
        assert!(seen.contains(wanted), "{wanted} is not taken: {seen:?}");
    }
}

/// In the order of ids, which are random, each key would be on another page.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_wrapped_anew_are_read_page_by_page() {
    let told = Told::begin().await;
    told.open.store_iin(1).await;
    told.open.vault.rotate_key(&told.open.admin(), as_admin(), "lerna", KeyKind::Platform, 0).await.unwrap();
    work_through(&told.open).await;
    let plans = told.plans("/* read::stored_keys").await;
    assert!(!plans.is_empty());
    assert!(plans.iter().all(|plan| plan.contains("Tid Range Scan on subjects")), "{plans:?}");
}

/// A vault whose server tells every plan.
struct Told {
    open: OpenVault,
    _dir: tempfile::TempDir,
    /// What earlier runs left in the log.
    before: usize,
}

impl Told {
    async fn begin() -> Self {
        let backend = Backend::postgres().await;
        let Backend::Postgres(url) = &backend else { unreachable!("the backend is PostgreSQL") };
        let dir = tempfile::tempdir().unwrap();
        let name = url.split_once('?').and_then(|(path, _)| path.rsplit_once('/')).unwrap().1;
        for setting in ["session_preload_libraries = 'auto_explain'", "auto_explain.log_min_duration = 0"] {
            backend.sql(dir.path(), &format!("ALTER DATABASE {name} SET {setting}")).await;
        }
        let before = server_log().len();
        let open = OpenVault::create(&backend, dir.path(), |store| store).await;
        Self { open, _dir: dir, before }
    }

    /// Checks every plan of the statements that begin so; answers how many there were, and the indexes that they take.
    async fn end(self, statements: &str) -> (usize, BTreeSet<String>) {
        let plans = self.plans(statements).await;
        let seen = plans.iter().flat_map(|plan| indexes_of(plan)).collect();
        (plans.len(), seen)
    }

    /// Every plan of the statements that begin so.
    async fn plans(self, statements: &str) -> Vec<String> {
        self.open.vault.close().await;
        let log = server_log();
        let log = String::from_utf8_lossy(&log[self.before..]);
        let wanted = format!("Query Text: {statements}");
        log.split(&wanted).skip(1).map(|text| end_of_plan(text).to_owned()).collect()
    }
}

/// The indexes that a plan takes, each by what is looked for.
fn indexes_of(plan: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    assert!(!plan.contains("Seq Scan"), "{plan}");
    assert!(!plan.contains("Hash Join") && !plan.contains("Merge Join"), "{plan}");
    let lines: Vec<&str> = plan.lines().collect();
    for pair in lines.windows(2) {
        let [scan, condition] = pair else { unreachable!("windows of two") };
        let found = ["Index Scan using ", "Index Only Scan using ", "Bitmap Index Scan on "];
        let Some((_, on)) = found.iter().find_map(|found| scan.split_once(found)) else { continue };
        let index = on.split(' ').next().unwrap();
        seen.insert(index.to_owned());
        assert!(condition.contains("Index Cond"), "{scan}\n{condition}\n{plan}");
        let is_head = index.starts_with("heads_");
        assert!(is_head || !condition.trim().starts_with(PLATFORM_ALONE), "{scan}\n{condition}\n{plan}");
    }
    seen
}

fn server_log() -> Vec<u8> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/postgres.home");
    fs::read(Path::new(fs::read_to_string(home).unwrap().trim()).join("server.log")).unwrap()
}

/// Up to the next line of the log, which begins with a date.
fn end_of_plan(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n').skip(1) {
        let is_next = line.starts_with(|c: char| c.is_ascii_digit());
        if is_next {
            break;
        }
        end += line.len();
    }
    let first = text.find('\n').map_or(text.len(), |at| at + 1);
    text.get(first..first + end).unwrap_or(text)
}
