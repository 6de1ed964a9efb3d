//! Answers that are lost on the way, with the line and not with the process: the call is done, nobody was told, and the same
//! request gets its answer, once in the log and once repeated.

use sandyq::grpc::pb::{self, audit_service_client::AuditServiceClient};

use super::{
    Server,
    calls::{Answer, Clients, Sent, is_lost},
    log::Auditor,
};
use crate::common::{
    backend::{Backend, on_both},
    line::{Flow, Line},
    served::initialised_on,
};

/// Calls, each of which says what the next one is about: stored, read once, withdrawn.
fn next(person: u32, before: Option<&Answer>, stored: Option<&pb::TokenizeResponse>) -> Option<Sent> {
    match (before, stored) {
        (None, _) => Some(Sent::tokenize_once(person)),
        (Some(Answer::Tokens(stored)), _) => Some(Sent::detokenize(person, &stored.tokens[2].token)),
        (Some(Answer::Value(_)), Some(stored)) => Some(Sent::withdraw(person, &stored.consent_ids[1])),
        (Some(Answer::Value(_) | Answer::Withdrawn(_)), _) => None,
    }
}

on_both!(an_answer_that_was_lost_is_given_to_the_same_request_and_stands_once_in_the_log);
async fn an_answer_that_was_lost_is_given_to_the_same_request_and_stands_once_in_the_log(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    let key = initialised_on(&backend, &files).await;
    let server = Server::start(&files);
    server.write_connections(&files);
    let mut auditor = Auditor::new(&files, dir.path(), key);
    let mut heads = AuditServiceClient::new(server.channel(&files, "auditor").await);
    let mut size = async || {
        let head = pb::GetHeadRequest { platform: "lerna".into() };
        heads.get_head(head).await.unwrap().into_inner().size
    };
    let mut direct = Clients::connect(&server, &files).await;
    let (mut before, mut stored) = (None, None);
    while let Some(sent) = next(1, before.as_ref(), stored.as_ref()) {
        let (line, begins) = Line::to_address(server.address()).await;
        let mut clients = Clients::connect_to(begins, &files).await;
        let was = size().await;
        line.set(Flow::Free, Flow::Lost);
        let lost = tokio::spawn({
            let sent = sent.clone();
            async move { clients.send(&sent).await }
        });
        // The log grows with the commit, and the answer follows it.
        while size().await == was || line.lost() == 0 {
            assert!(!lost.is_finished(), "{sent:?} was answered over a line that loses answers");
        }
        drop(line);
        let told = lost.await.unwrap().err().expect("the answer was lost");
        assert!(is_lost(&told), "{told:?}");

        let answer = direct.send(&sent).await.unwrap();
        let log = auditor.export();
        assert!(log.holds_once(&sent, 1..=1), "one decision, and one repetition: {sent:?}");
        if let Answer::Tokens(tokens) = &answer {
            stored = Some(tokens.clone());
        }
        before = Some(answer);
    }
    assert!(matches!(before, Some(Answer::Withdrawn(_))));
    direct.is_stored_once(1).await;
    server.kill();
}
