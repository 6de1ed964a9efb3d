//! `sandyq document`, as services and officers use it: files, pipes, ranges, refusals, the collector's dry run.

use std::{
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::common::{
    documents::{PART, content},
    served::Served,
};

/// The command with these words as a caller, with bytes on its stdin.
fn run(served: &Served, caller: &str, line: &str, input: &[u8]) -> Output {
    let connection = served.running.installation.connection_path(caller);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(["--json", "document"]).args(line.split(' ')).arg("--connection").arg(connection);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads no stdin may have ended.
    let _written = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn ask(served: &Served, caller: &str, line: &str, input: &[u8]) -> Value {
    let output = run(served, caller, line, input);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(served: &Served, caller: &str, line: &str) -> (i32, String) {
    let output = run(served, caller, line, b"");
    assert!(!output.status.success(), "{line}");
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_put_read_shown_and_removed() {
    let served = Served::start().await;
    served.with_images(1).await;
    let (front, back) = (content(1, PART + 4_321), content(2, 999));
    let file = |name: &str| served.file(name).display().to_string();
    fs::write(file("front.png"), &front).unwrap();
    let put = format!("put user-1 {} --field id_image --side front", file("front.png"));
    let stored = ask(&served, "backend", &put, b"");
    assert_eq!((&stored["version"], &stored["media_type"]), (&1.into(), &"image/png".into()));
    let document = stored["document_id"].as_str().unwrap().to_owned();
    let piped = ask(&served, "backend", "put user-1 - --field id_image --side back", &back);
    assert_eq!(piped["document_id"], document.as_str());
    let (code, said) = refused(&served, "backend", &put);
    assert!(code == 4 && said.contains("DOCUMENT_EXISTS"), "{said}");
    let replace = format!("{put} --replace 1 --evidence ACT-17");
    assert_eq!(ask(&served, "backend", &replace, b"")["version"], 2);

    let shown = ask(&served, "backend", &format!("show {document}"), b"");
    assert_eq!((&shown["complete"], &shown["sides"][0]["versions"]), (&true.into(), &2.into()));
    assert_eq!(ask(&served, "backend", "list user-1", b"")["documents"][0], shown);
    let get = |rest: &str| format!("get {document} --purpose payments --side {rest}");
    let told = ask(&served, "payments", &get(&format!("front --out {}", file("out.png"))), b"");
    assert!(told["audit_entry_id"].as_str().unwrap().starts_with("ent_"));
    assert!(fs::read(file("out.png")).unwrap() == front);
    let (code, said) = refused(&served, "payments", &get(&format!("front --out {}", file("out.png"))));
    assert!(code == 1 && said.contains("is there already"), "{said}");
    let part = run(&served, "payments", &get("front --out - --offset 1048570 --length 20"), b"");
    assert!(part.status.success() && part.stdout == front[PART - 6..PART + 14], "a range, through a pipe");
    let masked = ask(&served, "payments", &get("back --masked"), b"");
    assert_eq!((&masked["side"]["size_bytes"], &masked["held_sides"][1]), (&999.into(), &"back".into()));
    let (code, said) = refused(&served, "backend", &get(&format!("front --out {}", file("no.png"))));
    assert!(code == 4 && said.contains("CALLER_NOT_ALLOWED"), "{said}");
    assert!(!served.file("no.png").exists(), "what was refused leaves no file");

    let survey = ask(&served, "admin", "collect --platform lerna --dry-run", b"");
    let counts =
        ["objects", "orphans", "missing", "expired_uploads"].map(|name| survey[name].as_i64().unwrap());
    assert_eq!(counts, [5, 0, 0, 0]);
    let begun = ask(&served, "admin", "collect --platform lerna", b"");
    assert_eq!(begun["kind"], "collect_documents");
    ask(&served, "backend", &format!("rm {document}"), b"");
    assert_eq!(served.objects().len(), 5, "without --yes nothing is deleted");
    let deleted = ask(&served, "backend", &format!("rm {document} --yes --reference CASE-1"), b"");
    assert!(deleted["delete_time"].is_string());
    assert!(served.objects().is_empty());
    let (code, said) = refused(&served, "backend", &format!("show {document}"));
    assert!(code == 4 && said.contains("DOCUMENT_NOT_FOUND"), "{said}");
    served.running.stop().await.unwrap();
}
