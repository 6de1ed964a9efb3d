//! The second verifier, `tests/python/verify_log.py`: written from `docs/audit-log.md` alone, by somebody who had not seen
//! this code. Whatever the vault's own verifier says of a log, it must say too.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The Python that `scripts/test` set up.
pub fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/bin/python");
    assert!(python.exists(), "run the tests through `scripts/test`: it installs what tests/python names");
    python
}

/// Runs the second verifier, and answers its exit code with what it printed.
pub fn second_verifier(args: &[&str]) -> (Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/verify_log.py");
    let output = Command::new(python()).arg(script).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("Traceback"), "{said}");
    (output.status.code(), said.into_owned())
}
