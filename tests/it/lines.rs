//! The line between the vault and its database, dropped and slowed down: calls end at their deadline, health tells within ten
//! seconds, and everything goes on when the line is back.

use std::time::{Duration, Instant};

use sandyq::grpc::pb;
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::common::{
    backend::Backend,
    line::{Flow, Line},
    metrics::{Ready, health, says},
    people::iin,
    served::{Served, Stored, detokenize_request, reason},
    wire::Wire,
};

/// How long callers wait.
const WITHIN: Duration = Duration::from_secs(4);
/// What a call may end earlier or later than its caller said.
const TENTH: Duration = Duration::from_millis(400);
/// How long health may take to tell.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
const CALLERS: usize = 8;

/// A vault that a line leads from to its database, and a stored person.
async fn served(dir: &std::path::Path) -> (Line, Served, Stored) {
    let (line, database) = Line::to_database(&Backend::postgres().await, dir);
    let served = Served::start_on(&database).await;
    let stored = served.store(1).await;
    (line, served, stored)
}

/// What callers get who read at once, and when.
async fn read_at_once(
    served: &Served,
    token: &str,
) -> JoinSet<(Result<pb::DetokenizeResponse, Status>, Duration)> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let files = served.running.installation.dir();
        let wire = Wire::connect(served.running.address, files, "payments").await;
        let request = detokenize_request(token, "payments");
        callers.spawn(async move { wire.call("VaultService/Detokenize", &request, WITHIN).await });
    }
    callers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_drops_everything_ends_calls_at_their_deadline_and_is_told_in_ten_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let (line, served, stored) = served(dir.path()).await;
    let address = served.running.health.unwrap();
    let (mut asked, mut ready) = (health(address).await, Ready::watch(address).await);
    ready.until(ServingStatus::Serving).await;

    line.set(Flow::Held, Flow::Held);
    let dropped = Instant::now();
    let callers = read_at_once(&served, stored.token("iin")).await;
    timeout(TOLD_WITHIN, ready.until(ServingStatus::NotServing)).await.expect("told within ten seconds");
    println!("health told of it after {:?}", dropped.elapsed());
    assert_eq!(says(&mut asked, "sandyq.live").await, ServingStatus::Serving);
    for (answer, took) in callers.join_all().await {
        let status = answer.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
        assert!(took.abs_diff(WITHIN) <= TENTH, "{took:?}");
    }

    line.set(Flow::Free, Flow::Free);
    ready.until(ServingStatus::Serving).await;
    assert_eq!(served.read("payments", "payments", stored.token("iin")).await, Ok(iin(1)));
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_slow_line_calls_are_answered_or_end_at_their_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let (line, served, stored) = served(dir.path()).await;
    let mut asked = health(served.running.health.unwrap()).await;
    // 64 kbit in a second.
    line.set(Flow::Slow(8_000), Flow::Slow(8_000));
    let mut answered = 0;
    for (answer, took) in read_at_once(&served, stored.token("iin")).await.join_all().await {
        assert!(took <= WITHIN + TENTH, "{took:?}");
        match answer {
            Ok(read) => {
                assert_eq!(read.value, iin(1));
                answered += 1;
            }
            Err(status) => assert_eq!(reason(&status), "DEADLINE_EXCEEDED"),
        }
    }
    println!("{answered} of {CALLERS} were answered");
    assert_eq!(says(&mut asked, "sandyq.live").await, ServingStatus::Serving);
    line.set(Flow::Free, Flow::Free);
    assert_eq!(served.read("payments", "payments", stored.token("iin")).await, Ok(iin(1)));
    served.running.stop().await.unwrap();
}
