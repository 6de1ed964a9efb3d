//! A hardware key that was withdrawn since the backup.

use std::fs;

use sandyq::grpc::pb;
use serde_json::Value;

use super::{Stopped, approve, back_up, persons, served, text, verify};
use crate::{
    common::{
        backend::{Backend, on_both},
        house::proposed,
        served::{Served, reason},
    },
    staff_keys::{enrolment, key_of, keys, me, withdraw},
};

/// The key of a person's certificate, proposed by one and approved by the other.
async fn attested(served: &Served, [by, and]: [&str; 2], name: &str) {
    let person = persons(served).await.into_iter().find(|known| known.handle == name).unwrap();
    let request = enrolment(served, name, &person.person_id);
    let mut platforms = served.platforms(by).await;
    let proposal = proposed!(platforms, enrol_staff_key(request) in enrol_staff_key_response);
    approve(served, and, &proposal).await.unwrap();
}

on_both!(a_key_that_was_withdrawn_since_stays_withdrawn);
async fn a_key_that_was_withdrawn_since_stays_withdrawn(backend: Backend) {
    let served = served(&backend).await;
    attested(&served, ["admin", "second"], "admin").await;
    attested(&served, ["second", "admin"], "second").await;
    let path = served.file("sandyq.toml");
    let config = fs::read_to_string(&path).unwrap().replace("\"single-officer\"", "\"two-person\"");
    fs::write(&path, config.replace("\"declared_absent\"", "\"required\"")).unwrap();
    let served = served.restart().await;
    let backup = back_up(&served);
    let key = key_of(&served, "second");
    assert!(me(&served, "second").await.is_ok());
    let gone = withdraw(&served, "admin", key.clone()).await.unwrap();
    let refused = Err("STAFF_KEY_NOT_ENROLLED".to_owned());
    assert_eq!(me(&served, "second").await, refused);

    let stopped = Stopped::of(served).await;
    let restored = stopped.restore(&backup, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let report: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(report["platforms"][0]["applied"]["PlatformService/WithdrawStaffKey"], 1, "{report}");
    let served = stopped.start().await;
    assert_eq!(me(&served, "second").await, refused);
    let found = keys(&served).await.into_iter().find(|found| found.key_sha256 == key).unwrap();
    assert_eq!(found, gone, "with the moment of its end");
    // Nor is it enrolled again, and the other key goes on.
    let again: pb::EnrolStaffKeyRequest = enrolment(&served, "second", &found.person_id);
    let mut admin = served.platforms("admin").await;
    let again = admin.enrol_staff_key(again).await.unwrap_err();
    assert_eq!(reason(&again), "STAFF_KEY_TAKEN");
    verify(&served);
    served.running.stop().await.unwrap();
}
