//! The log and its mirror as an auditor sees them: with the commands, and with the audit key from outside.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sandyq::{
    audit::{
        entry::Entry,
        layout::{CHECKPOINT, entries_path, split_bundle},
        segment::Segment,
        tree::tile_width,
    },
    cli::local::LocalInstallation,
};

use super::calls::{Sent, What};

/// An auditor, who keeps the audit key and the last export.
pub struct Auditor {
    files: PathBuf,
    exports: PathBuf,
    key: String,
    last: Option<PathBuf>,
    number: u32,
}

impl Auditor {
    pub fn new(files: &Path, exports: &Path, key: String) -> Self {
        Self { files: files.to_owned(), exports: exports.to_owned(), key, last: None, number: 0 }
    }

    /// Exports the log, verifies that it holds and extends the last export, and answers its entries.
    pub fn export(&mut self) -> Log {
        self.number += 1;
        let out = self.exports.join(self.number.to_string());
        let connection = LocalInstallation::open(&self.files).connection_path("auditor");
        let mut export = sandyq(&["audit", "export", "--platform", "lerna"]);
        run(export.arg("--connection").arg(connection).arg("--out").arg(&out));
        let mut verify = sandyq(&["audit", "verify", "--origin", "vault.example.kz/lerna", "--key"]);
        verify.arg(&self.key).arg(&out);
        if let Some(last) = &self.last {
            verify.arg("--since").arg(last.join(CHECKPOINT));
        }
        run(&mut verify);
        let log = Log::of(entries_of_export(&out));
        // What is no longer needed is not kept: a long run makes many.
        if let Some(last) = self.last.replace(out) {
            fs::remove_dir_all(last).unwrap();
        }
        log
    }

    /// Verifies a mirror that nobody writes to, held against the last export, and answers its entries.
    pub fn verify_mirror(&self, mirror: &Path) -> Log {
        let mut verify = sandyq(&["audit", "verify-mirror", "--platform", "lerna", "--key"]);
        run(verify.arg(&self.key).arg(mirror).arg("--against").arg(self.last.as_ref().unwrap()));
        Log::of(entries_of_mirror(&mirror.join("lerna/segments")))
    }

    /// A copy of the mirror as it is now.
    pub fn copy_mirror(&self) -> PathBuf {
        let copy = self.exports.join("mirror");
        if copy.exists() {
            fs::remove_dir_all(&copy).unwrap();
        }
        run(Command::new("cp").arg("-r").arg(self.files.join("mirror")).arg(&copy));
        copy
    }
}

fn sandyq(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(args);
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn entries_of_export(dir: &Path) -> Vec<Entry> {
    let checkpoint = fs::read_to_string(dir.join(CHECKPOINT)).unwrap();
    let size: u64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    let mut entries = Vec::new();
    for index in 0..size.div_ceil(256) {
        let bundle = fs::read(dir.join(entries_path(index, tile_width(size, 0, index)))).unwrap();
        entries.extend(split_bundle(&bundle).unwrap().into_iter().map(|entry| Entry::decode(entry).unwrap()));
    }
    entries
}

fn entries_of_mirror(segments: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    for file in fs::read_dir(segments).unwrap() {
        let path = file.unwrap().path();
        // A write that the crash cut off counts for nothing.
        if path.to_string_lossy().contains('#') {
            continue;
        }
        let bytes = fs::read(path).unwrap();
        let segment = Segment::decode(&bytes).unwrap();
        entries.extend(segment.entries.into_iter().map(|entry| Entry::decode(entry).unwrap()));
    }
    entries
}

/// Entries by the request that they are about.
pub struct Log(HashMap<[u8; 16], Vec<Entry>>);

impl Log {
    fn of(entries: Vec<Entry>) -> Self {
        let mut by_request: HashMap<_, Vec<_>> = HashMap::new();
        for entry in entries {
            if let Some(request) = entry.request {
                by_request.entry(*request).or_default().push(entry);
            }
        }
        Self(by_request)
    }

    pub fn of_request(&self, id: &[u8; 16]) -> &[Entry] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether a value that was answered to this request has its permit, by the entry's id.
    pub fn permits(&self, request: &[u8; 16], entry_id: &str) -> bool {
        let says = |entry: &Entry| entry.verdict == "permit" && entry.entry_id().to_string() == entry_id;
        self.of_request(request).iter().any(says)
    }

    /// Whether a call stands in the log. It must not stand there by halves, nor twice; each repetition is an entry
    /// that names the first.
    pub fn holds_once(&self, sent: &Sent, repeated: std::ops::RangeInclusive<usize>) -> bool {
        let (first, again): (Vec<_>, Vec<_>) =
            self.of_request(&sent.request_id()).iter().partition(|entry| entry.replay_of.is_none());
        let Some(decision) = first.first() else {
            assert!(again.is_empty(), "a replay of nothing: {sent:?}");
            return false;
        };
        let names =
            |entry: &&Entry| entry.replay_of == Some(decision.id) && entry.verdict == decision.verdict;
        assert!(again.iter().all(names), "{sent:?}");
        assert!(repeated.contains(&again.len()), "{} replays, not {repeated:?}: {sent:?}", again.len());
        match &sent.what {
            What::Tokenize(_) => {
                let of = |kind: Option<&str>| {
                    first.iter().filter(|entry| entry.object_kind.as_deref() == kind).count()
                };
                assert_eq!((of(Some("subject")), of(None), of(Some("consent"))), (1, 5, 2), "{sent:?}");
                assert!(first.len() == 8 && first.iter().all(|entry| entry.verdict == "done"), "{sent:?}");
            }
            What::Detokenize(_) => {
                assert!(first.len() == 1 && decision.verdict == "permit", "{sent:?}");
                assert!(decision.row_mac.is_some() && again.iter().all(|entry| entry.row_mac.is_none()));
            }
            What::Withdraw(_) => assert!(first.len() == 1 && decision.verdict == "done", "{sent:?}"),
        }
        true
    }
}
