//! What an officer shows an auditor of a rotation: a report that holds offline, by the audit key alone, and that says what the log
//! says.

use sandyq::{
    audit::{
        head::HeadVerifier,
        key_report::{KeyReport, KeyStatement},
        receipt::BadReceipt,
    },
    crypto::{aead::Key, audit_key::AuditKey},
    domain::{
        ids::OperationId,
        operation::{Operation, OperationState},
    },
    policy::decide::Denial,
    vault::{controls::Control, error::VaultError, keys::KeyKind},
};
use serde_json::Value;

use crate::common::{
    backend::{Backend, on_both},
    officers::{begin_rekey, caller, enrol_second},
    operations::{operation, work_through},
    vault::{OpenVault, as_admin},
};

async fn rotate(open: &OpenVault, kind: KeyKind, platform: &str) -> Operation {
    open.vault.rotate_key(&open.admin(), as_admin(), platform, kind, 0).await.unwrap()
}

async fn report(open: &OpenVault, id: OperationId) -> Result<String, VaultError> {
    open.vault.key_report(&open.admin(), as_admin(), id).await
}

/// The audit keys, as somebody kept them outside.
fn trusted(open: &OpenVault) -> HeadVerifier {
    let keys: Vec<_> = (1..4).filter_map(|version| open.vault.verifier_key_of(version)).collect();
    HeadVerifier::new(&keys.join("\n")).unwrap()
}

async fn held(open: &OpenVault, id: OperationId) -> KeyStatement {
    let document = report(open, id).await.unwrap();
    KeyReport::parse(&document).unwrap().verify(&trusted(open)).unwrap().statement
}

fn phases(of: &KeyStatement) -> Vec<(&str, u64)> {
    of.phases.iter().map(|phase| (phase.phase.as_str(), phase.count)).collect()
}

fn versions(of: &KeyStatement) -> Vec<(u32, &str, bool)> {
    of.versions.iter().map(|known| (known.version, known.state.as_str(), known.before)).collect()
}

on_both!(a_report_tells_of_each_kind_of_work_and_holds_offline);
async fn a_report_tells_of_each_kind_of_work_and_holds_offline(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    enrol_second(&open).await;
    open.clock.advance(60_000_000);
    for number in 1..=20 {
        open.store_iin(number).await;
    }
    let (admin, second) = (caller(&open, "admin").person, caller(&open, "second").person);
    let id = |person: Option<sandyq::domain::ids::PersonId>| person.map(|person| person.to_string());

    let begun = rotate(&open, KeyKind::Platform, "lerna").await;
    assert!(matches!(report(&open, begun.id).await, Err(VaultError::Invalid(_))), "it has not ended");
    work_through(&open).await;
    let told = held(&open, begun.id).await;
    assert_eq!((told.kind.as_str(), told.state.as_str()), ("rotate_platform_key", "done"));
    assert_eq!((told.version, told.verified), (2, true));
    assert_eq!(phases(&told), [("activate", 0), ("rewrap", 20), ("verify", 20)]);
    assert_eq!(versions(&told), [(1, "retiring", true), (2, "active", false)]);
    assert_eq!((&told.proposed, &told.approved, told.begun.person), (&None, &None, id(admin)));
    assert_eq!(told.begun.time, begun.created_at);

    let begun = begin_rekey(&open).await.unwrap();
    work_through(&open).await;
    let told = held(&open, begun.id).await;
    let by = |act: &Option<sandyq::audit::key_report::Acted>| act.as_ref().unwrap().person.clone();
    assert_eq!((by(&told.proposed), by(&told.approved)), (id(admin), id(second)), "two people");
    assert_eq!(phases(&told), [("activate", 0), ("reseal", 20), ("verify", 20)]);
    let scheduled = "destruction_scheduled";
    assert_eq!(versions(&told), [(1, scheduled, true), (2, scheduled, true), (3, "active", false)]);

    for (kind, platform, expected) in [
        (KeyKind::Index, "lerna", &["activate", "fill", "verify", "drop"][..]),
        (KeyKind::Audit, "vault", &["activate", "announce", "verify"]),
        (KeyKind::Root, "vault", &["activate", "rewrap", "verify"]),
    ] {
        let begun = rotate(&open, kind, platform).await;
        work_through(&open).await;
        assert_eq!(operation(&open, begun.id).await.state, OperationState::Done);
        let told = held(&open, begun.id).await;
        let seen: Vec<_> = told.phases.iter().map(|phase| phase.phase.as_str()).collect();
        assert_eq!(seen, expected, "{kind:?}");
        assert!(told.verified && told.origin == format!("vault.example.kz/{platform}"));
    }

    let begun = rotate(&open, KeyKind::Platform, "lerna").await;
    open.vault.control(&open.admin(), as_admin(), begun.id, Control::Cancel).await.unwrap();
    let told = held(&open, begun.id).await;
    assert_eq!((told.state.as_str(), told.verified, told.ended.person), ("cancelled", false, id(admin)));

    let unknown = OperationId::from_bytes([7; 16]);
    assert_eq!(report(&open, unknown).await, Err(Denial::OperationNotFound.into()));
}

/// A change to what is stated, and what is found to differ.
type Lie<'a> = (&'a dyn Fn(&mut KeyStatement), &'static str);

on_both!(a_report_that_was_altered_is_found_out);
async fn a_report_that_was_altered_is_found_out(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    enrol_second(&open).await;
    open.clock.advance(60_000_000);
    open.store_iin(1).await;
    let begun = begin_rekey(&open).await.unwrap();
    work_through(&open).await;
    let document = report(&open, begun.id).await.unwrap();
    let good: Value = serde_json::from_str(&document).unwrap();
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut report = good.clone();
        change(&mut report);
        KeyReport::parse(&report.to_string()).unwrap().verify(&trusted(&open)).unwrap_err()
    };
    let entries = good["entries"].as_array().unwrap().len();
    assert!(entries > 5, "proposal, approval, beginning, phases, end");
    for at in 0..entries {
        let without = altered(&|report| drop(report["entries"].as_array_mut().unwrap().remove(at)));
        assert!(matches!(without, BadReceipt::Differs(_)), "{without}");
        let moved = altered(&|report| report["entries"][at]["position"] = 0.into());
        assert!(matches!(moved, BadReceipt::NotInLog(_)), "{moved}");
    }
    let later = altered(&|report| {
        let statement = report["statement"].as_str().unwrap().replace("\"done\"", "\"failed\"");
        report["statement"] = statement.into();
    });
    assert_eq!(later, BadReceipt::Unsigned("statement"));
    // Also what the vault signs is held against the log.
    let liar = AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[9; 32])).unwrap();
    let told = held(&open, begun.id).await;
    let lie = |change: &dyn Fn(&mut KeyStatement)| {
        let mut statement = told.clone();
        change(&mut statement);
        let mut report = good.clone();
        report["statement"] = statement.sign(&liar).unwrap().into();
        let keys = [open.vault.verifier_key_of(1).unwrap(), liar.verifier_key()].join("\n");
        let trusted = HeadVerifier::new(&keys).unwrap();
        KeyReport::parse(&report.to_string()).unwrap().verify(&trusted).map(drop)
    };
    assert_eq!(lie(&|_| ()), Ok(()), "the control");
    let person = || told.proposed.as_ref().unwrap().person.clone();
    let lies: [Lie<'_>; 9] = [
        (&|told| told.approved = told.proposed.clone(), "approval"),
        (&|told| told.approved.as_mut().unwrap().person = person(), "approval"),
        (&|told| told.approved = None, "proposal"),
        (&|told| (told.proposed, told.approved) = (None, None), "proposal"),
        (&|told| told.kind = "rotate_platform_key".into(), "beginning"),
        (&|told| told.begun.time = told.ended.time, "beginning"),
        (&|told| told.state = "failed".into(), "end"),
        (&|told| told.operation = OperationId::from_bytes([7; 16]), "end"),
        (&|told| told.phases[1].ended = told.phases[0].began, "phase"),
    ];
    for (change, what) in lies {
        assert_eq!(lie(change), Err(BadReceipt::Differs(what)));
    }
    let elsewhere = lie(&|told| told.origin = "vault.example.kz/other".into());
    assert_eq!(elsewhere, Err(BadReceipt::OtherLog("vault.example.kz/other".into())));
    assert_eq!(KeyReport::parse("{}"), Err(BadReceipt::NoReport));
    // Another installation's key says nothing of this one.
    let other = tempfile::tempdir().unwrap();
    let elsewhere = OpenVault::create(&backend.fresh().await, other.path(), |store| store).await;
    let refused = KeyReport::parse(&document).unwrap().verify(&trusted(&elsewhere)).unwrap_err();
    assert_eq!(refused, BadReceipt::Unsigned("statement"));
}
