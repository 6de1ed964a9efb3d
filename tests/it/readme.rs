//! The five minutes of the README, as they stand there.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

const README: &str = include_str!("../../README.md");

/// Fenced blocks of the README with this mark behind their language.
fn blocks(mark: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") && line.ends_with(mark) {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    blocks
}

struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// `sandyq dev`, on a free port. Answers it with the port.
fn dev(place: &Path) -> (Dev, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sandyq"))
        .args(["dev", "--dir", "chest", "--port", "0"])
        .current_dir(place)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.starts_with("address")).expect("dev says where it listens");
    let port = line.split_whitespace().nth(1).unwrap().rsplit(':').next().unwrap().to_owned();
    assert!(lines.any(|line| line.contains("Ctrl-C")));
    (Dev(child), port)
}

#[test]
fn the_five_minutes_of_the_readme_go_as_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/tools/python/bin");
    assert!(
        python.join("buf").exists(),
        "run the tests through `scripts/test`: it installs buf and gRPC's Python"
    );
    let dir = tempfile::tempdir().unwrap();
    let (_dev, port) = dev(dir.path());
    std::os::unix::fs::symlink(root.join("proto"), dir.path().join("proto")).unwrap();
    let mut program = blocks(" walk.py");
    assert!(program.len() == 1 && program[0].lines().count() <= 20, "twenty lines of Python");
    fs::write(dir.path().join("walk.py"), program.remove(0).replace("7443", &port)).unwrap();
    let steps = blocks("sh walk");
    assert_eq!(steps.len(), 4);
    let binary = Path::new(env!("CARGO_BIN_EXE_sandyq")).parent().unwrap();
    let path = format!("{}:{}:/usr/bin:/bin", binary.display(), python.display());
    let walked = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &steps.join("\n").replace("7443", &port)])
        .current_dir(dir.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&walked.stdout);
    let errors = String::from_utf8_lossy(&walked.stderr);
    assert!(walked.status.success(), "{said}{errors}");
    assert_eq!(said.matches("991231600301").count(), 2, "once by hand, once by Python: {said}");
    assert!(said.contains("refused") && errors.contains("does not declare this purpose"), "{said}{errors}");
    assert!(said.contains("by entry ent_") && said.contains("PURPOSE_NOT_DECLARED"), "{said}");
}
