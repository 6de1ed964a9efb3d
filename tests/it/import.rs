//! `sandyq import`: people of a file into a running vault, each once, whatever dies in the middle, and no value beside it.

mod broken;
mod people;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use sandyq::{cli::local::LocalInstallation, grpc::pb};
use serde_json::Value;

use crate::{
    common::{
        backend::{Backend, on_both},
        people::iin,
        served::Served,
    },
    leaks::canaries::{Canary, Search},
};
use people::{CONSENT_COLUMNS, HEADER, csv, csv_row, json_row, ndjson};

/// A file to import, and what a run of the command writes beside it.
struct Case {
    dir: PathBuf,
    files: PathBuf,
    input: PathBuf,
}

impl Case {
    /// An input by its name, of an installation.
    fn new(files: &Path, name: &str, text: impl AsRef<[u8]>) -> Self {
        let dir = files.join("imports");
        fs::create_dir_all(&dir).unwrap();
        let input = dir.join(name);
        fs::write(&input, text).unwrap();
        Self { dir, files: files.to_owned(), input }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
        command.args(["--json", "import"]).arg(&self.input);
        command.arg("--connection").arg(LocalInstallation::open(&self.files).connection_path("backend"));
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        tokio::task::block_in_place(|| self.command(more).output().unwrap())
    }

    /// Runs it, and answers how it ended with what it said.
    fn told(&self, more: &[&str]) -> (i32, Value, String) {
        let output = self.run(more);
        let said = String::from_utf8(output.stderr).unwrap();
        let data = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), data, said)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}{ending}", self.input.display()))
    }

    fn lines(&self, ending: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.beside(ending)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn tokens(&self) -> Vec<Value> {
        self.lines(".tokens.ndjson")
    }

    /// What was refused: each line with its columns and reasons.
    fn refused(&self, ending: &str) -> BTreeMap<u64, Vec<String>> {
        let told = |line: Value| {
            let problems = line["problems"].as_array().unwrap().iter().map(|problem| {
                let column = problem["column"].as_str().unwrap_or("-");
                format!("{column} {}", problem["reason"].as_str().unwrap())
            });
            (line["line"].as_u64().unwrap(), problems.collect())
        };
        self.lines(ending).into_iter().map(told).collect()
    }

    fn forget(&self) {
        for ending in [".tokens.ndjson", ".report.ndjson", ".import.ndjson"] {
            fs::remove_file(self.beside(ending)).unwrap();
        }
    }
}

/// Subjects, records, tokens and consents of the platform.
async fn held(backend: &Backend, files: &Path) -> [u64; 4] {
    let mut counts = [0; 4];
    for (count, table) in counts.iter_mut().zip(["subjects", "records", "tokens", "consents"]) {
        let touch = format!("UPDATE {table} SET platform_id = platform_id WHERE platform_id = 1");
        *count = backend.sql(files, &touch).await;
    }
    counts
}

async fn log_size(served: &Served) -> i64 {
    let head = pb::GetHeadRequest { platform: "lerna".into() };
    served.audit("auditor").await.get_head(head).await.unwrap().into_inner().size
}

/// Reads the IIN behind each line of the results, which is the one of the person of that row.
async fn all_read(served: &Served, tokens: &[Value]) {
    for line in tokens {
        let number = u32::try_from(line["row"].as_u64().unwrap()).unwrap();
        let token = line["tokens"]["iin"].as_str().unwrap();
        assert_eq!(served.read("payments", "payments", token).await, Ok(iin(number)), "row {number}");
    }
}

on_both!(people_of_a_file_are_stored_once_however_often_it_comes);
async fn people_of_a_file_are_stored_once_however_often_it_comes(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let files = served.running.installation.dir().to_owned();
    let csv = Case::new(&files, "people.csv", csv(1..=25));
    let (code, said, errors) = csv.told(&["--batch", "7"]);
    assert_eq!((code, said["stored"].as_u64(), said["refused"].as_u64()), (0, Some(25), Some(0)), "{errors}");
    let tokens = csv.tokens();
    let rows: Vec<_> = tokens.iter().map(|line| line["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, (1..=25).collect::<Vec<_>>());
    assert!(tokens.iter().all(|line| line["line"].as_u64().unwrap() == line["row"].as_u64().unwrap() + 1));
    assert!(csv.lines(".report.ndjson").is_empty());
    all_read(&served, &tokens).await;
    let once = held(&backend, &files).await;
    assert_eq!(once, [25, 125, 125, 25]);
    for ending in [".tokens.ndjson", ".report.ndjson", ".import.ndjson"] {
        let mode = fs::metadata(csv.beside(ending)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "{ending}");
    }
    // Told by its journal.
    let size = log_size(&served).await;
    assert_eq!(csv.told(&[]), (0, said, String::new()));
    assert_eq!((log_size(&served).await, csv.tokens()), (size, tokens.clone()), "nothing was asked");
    // Told by the vault, where nobody kept a journal.
    csv.forget();
    let (code, _, errors) = csv.told(&["--batch", "4"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!((csv.tokens(), held(&backend, &files).await), (tokens.clone(), once));
    // The same people in the other form, and some more.
    let json = Case::new(&files, "people.ndjson", ndjson(1..=30));
    let (code, _, errors) = json.told(&[]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(held(&backend, &files).await, [30, 150, 150, 30]);
    let again = json.tokens();
    for (first, second) in tokens.iter().zip(&again) {
        for part in ["subject_id", "tokens", "consent_ids"] {
            assert_eq!(first[part], second[part]);
        }
    }
    all_read(&served, &again).await;
    served.running.stop().await.unwrap();
}

/// Rows with everything that can be wrong with one, and what is told of each; the last is good again. Every value in them is one
/// that must be told nowhere.
fn bad_rows() -> (Vec<u8>, BTreeMap<u64, Vec<String>>, Vec<String>) {
    let mut text = format!("{HEADER}\n{}", csv_row(1)).into_bytes();
    let mut wrong = BTreeMap::new();
    let values: Vec<String> = (1..=12).flat_map(people::values).collect();
    let cell = |number: u32, from: &str, to: &str| {
        let row = csv_row(number);
        assert!(row.contains(from), "{from} is not in {row}");
        row.replacen(from, to, 1).into_bytes()
    };
    let rows: Vec<(Vec<u8>, &[&str])> = vec![
        (cell(2, &iin(2), "991231600009"), &["iin INVALID_FIELDS"]),
        (b"user-3,only-three,columns\n".to_vec(), &["- ROW_UNREADABLE"]),
        (cell(4, &people::phone(4), "870112345"), &["phone INVALID_FIELDS"]),
        (cell(5, ",ru,", ",de,"), &["consent1.language INVALID_FIELDS"]),
        (
            [b"user-6,\xff\xfe,".as_slice(), &cell(6, "user-6,Сынақова,", "")].concat(),
            &["surname ROW_UNREADABLE"],
        ),
        (cell(7, ",tick,", ",nod,"), &["consent1.act ROW_UNREADABLE"]),
        (
            cell(8, ",payments,", ",advertising,"),
            &["consent1.purpose INVALID_FIELDS", "consent1.policy_version INVALID_FIELDS"],
        ),
        (cell(9, "user-9,", ","), &["subject INVALID_FIELDS"]),
        (cell(10, "Сынақова,", &format!("{},", "Сынақова".repeat(20_000))), &["- ROW_UNREADABLE"]),
    ];
    for ((row, told), line) in rows.into_iter().zip(3..) {
        text.extend(row);
        wrong.insert(line, told.iter().map(|told| (*told).to_owned()).collect());
    }
    // A quoted value with a line's end in it, another value for a known person, and one more good row.
    text.extend(cell(11, "Сынақова,", "\"Сынақова\n\","));
    text.extend(cell(1, &iin(1), &iin(12)));
    wrong.insert(14, vec!["- VALUE_DIFFERS".to_owned()]);
    text.extend(csv_row(12).into_bytes());
    (text, wrong, values)
}

on_both!(bad_rows_are_told_by_line_column_and_rule_and_by_no_value);
async fn bad_rows_are_told_by_line_column_and_rule_and_by_no_value(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let files = served.running.installation.dir().to_owned();
    let (text, wrong, values) = bad_rows();
    let case = Case::new(&files, "people.csv", &text);
    // Checked first: what forms and policy refuse is told, and nothing is changed.
    let size = log_size(&served).await;
    let checked = case.run(&["--dry-run", "--batch", "3"]);
    assert_eq!(checked.status.code(), Some(4), "{}", String::from_utf8_lossy(&checked.stderr));
    let by_form: BTreeMap<_, _> =
        wrong.clone().into_iter().filter(|(_, told)| !told[0].contains("- VALUE_")).collect();
    assert_eq!(case.refused(".check.ndjson"), by_form);
    assert_eq!(
        (held(&backend, &files).await, log_size(&served).await),
        ([0; 4], size),
        "nothing was changed"
    );
    let names: Vec<_> = fs::read_dir(&case.dir).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the input and the report of the check: {names:?}");

    let imported = case.run(&["--batch", "3", "--concurrency", "1"]);
    assert_eq!(imported.status.code(), Some(4), "{}", String::from_utf8_lossy(&imported.stderr));
    let said: Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!((said["stored"].as_u64(), said["refused"].as_u64()), (Some(3), Some(10)));
    assert_eq!(case.refused(".report.ndjson"), wrong);
    let rows: Vec<_> = case.tokens().iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(rows, [2, 12, 15]);
    // As people read it.
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.arg("import").arg(&case.input).args(["--dry-run", "--connection"]);
    command.arg(LocalInstallation::open(&files).connection_path("backend"));
    let read = tokio::task::block_in_place(|| command.output().unwrap());
    let text_of = String::from_utf8(read.stdout.clone()).unwrap();
    assert!(text_of.contains("line 3        iin: INVALID_FIELDS"), "{text_of}");

    let canaries: Vec<_> = values.iter().map(|value| Canary::new("value", value.as_str())).collect();
    let search = Search::new(&canaries);
    assert!(!search.find(&text).is_empty(), "they are in the input");
    for output in [&checked, &imported, &read] {
        assert!(search.find(&[output.stdout.clone(), output.stderr.clone()].concat()).is_empty());
    }
    for ending in [".check.ndjson", ".report.ndjson", ".import.ndjson", ".tokens.ndjson"] {
        let found = fs::read(case.beside(ending)).unwrap();
        assert!(search.find(&found).is_empty(), "{ending}: {:?}", search.find(&found));
    }
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_are_told_alike() {
    let served = Served::start().await;
    let files = served.running.installation.dir().to_owned();
    let strange = "aidar_bekov_4711";
    let rows: [(String, &str); 9] = [
        (json_row(1), ""),
        (json_row(2).replace("\"iin\":", &format!("\"{strange}\":")), "field 3 INVALID_FIELDS"),
        (json_row(3).replace("\"surname\"", "\"iin\""), "- ROW_UNREADABLE"),
        (json_row(4).replacen('{', &format!("{{\"{strange}\":1,"), 1), "- ROW_UNREADABLE"),
        (format!("\"{strange}\""), "- ROW_UNREADABLE"),
        (json_row(6).replace("\"tick\"", &format!("\"{strange}\"")), "consents[0].act ROW_UNREADABLE"),
        (json_row(7).replace(&iin(7), strange), "fields.iin INVALID_FIELDS"),
        (json_row(8).replace("Сынақова", &strange.repeat(20_000)), "- ROW_UNREADABLE"),
        (json_row(9), ""),
    ];
    let text = rows.iter().map(|(row, _)| format!("{}\n\n", row.trim())).collect::<Vec<_>>().concat();
    let case = Case::new(&files, "people.jsonl", text.trim_end());
    let output = case.run(&[]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    let wrong = rows.iter().zip(0..).filter(|((_, told), _)| !told.is_empty());
    let wrong: BTreeMap<u64, _> =
        wrong.map(|((_, told), at)| (2 * at + 1, vec![(*told).to_owned()])).collect();
    assert_eq!(case.refused(".report.ndjson"), wrong);
    let rows: Vec<_> = case.tokens().iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(rows, [1, 17]);
    let search = Search::new(&[Canary::new("name that is none", strange)]);
    for bytes in [output.stdout, output.stderr, fs::read(case.beside(".report.ndjson")).unwrap()] {
        assert!(search.find(&bytes).is_empty(), "{}", String::from_utf8_lossy(&bytes));
    }
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_refused_before_anything_is_sent() {
    let served = Served::start().await;
    let files = served.running.installation.dir().to_owned();
    let size = log_size(&served).await;
    let strange = "aidar_bekov_4711";
    let wide = format!("subject{}\n", ",iin".repeat(600));
    let headers = [
        (String::new(), "the input is empty"),
        (format!("user-1,{strange}\n"), "column 1 of the header is neither"),
        (format!("{strange},iin\n"), "the header names no column `subject`"),
        (
            format!("subject,iin,{strange}\nuser-1,,x\n"),
            "column 3 of the header: the policy declares no such field",
        ),
        ("subject,iin,iin\n".to_owned(), "column 3 of the header is no text, or stands twice"),
        ("subject,consent33.act\n".to_owned(), "column 2 of the header is no part of a consent"),
        (format!("subject,consent.{strange}\n"), "column 2 of the header is no part of a consent"),
        (wide, "the header has more than"),
    ];
    for (number, (text, told)) in headers.into_iter().enumerate() {
        let case = Case::new(&files, &format!("{number}.csv"), text);
        let (code, _, said) = case.told(&["--dry-run"]);
        assert!(code == 1 && said.contains(told) && !said.contains(strange), "{code} {said}");
    }
    let good = Case::new(&files, "good.csv", csv(1..=2));
    for (more, told) in [
        (&["--format", "xml"][..], "xml"),
        (&["--delimiter", "\""], "is one ASCII character"),
        (&["--concurrency", "65"], "65"),
        (&["--batch", "1001"], "1001"),
        (&["--dry-run", "--out", "x"], "cannot be used with"),
    ] {
        let (code, _, said) = good.told(more);
        assert!(code != 0 && said.contains(told), "{more:?}: {code} {said}");
    }
    // A pipe cannot be carried on, and a file by another name says no form.
    let (code, _, said) =
        Case { input: "/dev/null".into(), ..Case::new(&files, "x", "") }.told(&["--format", "csv"]);
    assert!(code == 1 && said.contains("is no file"), "{said}");
    assert_eq!(Case::new(&files, "people.txt", csv(1..=2)).told(&[]).0, 2);
    // Whoever may store nothing learns it at once.
    let connection = LocalInstallation::open(&files).connection_path("auditor").display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(["import", "--connection", &connection]).arg(&good.input);
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("CALLER_NOT_ALLOWED"), "{said}");
    assert_eq!(served.rows("subjects").await, 0);
    assert_eq!(log_size(&served).await, size);
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_of_one_import() {
    let served = Served::start().await;
    let files = served.running.installation.dir().to_owned();
    let case = Case::new(&files, "people.csv", csv(1..=3));
    // Somebody is at work with it.
    let journal = fs::File::create(case.beside(".import.ndjson")).unwrap();
    journal.lock().unwrap();
    let (code, _, said) = case.told(&[]);
    assert!(code == 1 && said.contains("another import is at work"), "{said}");
    journal.unlock().unwrap();
    // Results that are there are nobody's to write over.
    fs::write(case.beside(".tokens.ndjson"), "mine").unwrap();
    let (code, _, said) = case.told(&[]);
    assert!(code == 1 && said.contains("is there already"), "{said}");
    fs::remove_file(case.beside(".tokens.ndjson")).unwrap();
    assert_eq!(case.told(&[]).0, 0);
    // Other options, another input, a journal that is none.
    let (code, _, said) = case.told(&["--source", "partner"]);
    assert!(code == 1 && said.contains("is about another import"), "{said}");
    fs::write(&case.input, csv(1..=4)).unwrap();
    let (code, _, said) = case.told(&[]);
    assert!(code == 1 && said.contains("is about another import"), "{said}");
    fs::write(case.dir.join("other"), "{\"begin\":{}}\n").unwrap();
    let other = case.dir.join("other").display().to_string();
    let (code, _, said) = case.told(&["--journal", &other]);
    assert!(code == 1 && said.contains("is no journal of an import"), "{said}");
    // A file that grew is imported anew, and stores what is new.
    let name = |name: &str| case.dir.join(name).display().to_string();
    let (journal, out, report) = (name("j"), name("o"), name("r"));
    let (code, said, _) = case.told(&["--journal", &journal, "--out", &out, "--report", &report]);
    assert_eq!((code, said["stored"].as_u64()), (0, Some(4)));
    assert_eq!(served.rows("subjects").await, 4);
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn spreadsheets_of_other_makes_are_read() {
    let served = Served::start().await;
    let files = served.running.installation.dir().to_owned();
    // A byte order mark, semicolons, lines that end as on Windows, an empty line, no consents.
    let rows: Vec<_> = (1..=3).map(|number| format!("user-{number};{};\r\n\r\n", iin(number))).collect();
    let text = format!("\u{feff}subject;iin;email\r\n{}user-4;1;\r\n", rows.concat());
    let case = Case::new(&files, "people.csv", text);
    let (code, said, errors) = case.told(&["--delimiter", ";", "--batch", "1"]);
    assert_eq!((code, said["stored"].as_u64()), (4, Some(3)), "{errors}");
    let lines: Vec<_> = case.tokens().iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 4, 6]);
    assert_eq!(case.refused(".report.ndjson"), BTreeMap::from([(8, vec!["iin INVALID_FIELDS".to_owned()])]));
    assert_eq!(held(&Backend::Sqlite, &files).await, [3, 3, 3, 0]);
    served.running.stop().await.unwrap();
}

/// Commands of `docs/import.md`, with the files as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn people_are_imported_by_the_document() {
    let text = include_str!("../../docs/import.md");
    let blocks = |mark: &str| -> Vec<String> {
        let mark = format!("```{mark}\n");
        let rest = text.split(&mark).skip(1);
        rest.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let served = Served::start().await;
    let dir = served.running.installation.dir().to_owned();
    for name in ["people.csv", "people.ndjson"] {
        fs::write(dir.join(name), &blocks(name.split('.').nth(1).unwrap())[0]).unwrap();
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_sandyq")).parent().unwrap();
    let connection = LocalInstallation::open(&dir).connection_path("backend");
    fs::copy(connection, dir.join("sandyq-client.toml")).unwrap();
    let commands: Vec<_> =
        blocks("sh").iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(commands.len() >= 3, "{commands:?}");
    let mut said = String::new();
    for command in commands {
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(&dir);
        shell.env("PATH", format!("{}:/usr/bin:/bin", binary.display()));
        let ran = tokio::task::block_in_place(|| shell.output().unwrap());
        assert!(ran.status.success(), "{command}\n{}", String::from_utf8_lossy(&ran.stderr));
        said += &String::from_utf8_lossy(&ran.stdout);
    }
    assert!(said.contains("2 would be stored, 0 refused") && said.contains("2 stored, 0 refused"), "{said}");
    for column in CONSENT_COLUMNS {
        assert!(text.contains(&format!("`{column}`")), "{column} is not described");
    }
    assert_eq!(served.rows("subjects").await, 2, "both files are about the same people");
    served.running.stop().await.unwrap();
}
