//! Who learns what from a refusal: a question costs one read, one commit and one entry, so that neither its work nor its words tell
//! a token that may not be seen from one that never was. Only who may know that there is such a value is spared the read of rows that
//! are at hand.

use sandyq::{
    crypto::random::SystemRng,
    domain::{
        subject::{RestrictionRequester, RestrictionTrigger},
        token::{AnyToken, Token},
    },
    policy::{decide::Denial, model::View},
    vault::{
        access::Call,
        detokenize::Detokenize,
        error::VaultError,
        subjects::{Block, SubjectName},
    },
};

use crate::common::{
    backend::{Backend, on_both},
    gate::{Cost, gated},
    vault::{OpenVault, asker},
};

async fn read(open: &OpenVault, caller: &str, purpose: &str, token: &AnyToken) -> Result<String, VaultError> {
    let question = Detokenize {
        tokens: vec![AnyToken::parse(&token.reveal())],
        purpose: purpose.parse().unwrap(),
        view: View::Full,
        age_years: 0,
        recipient: None,
        outreach: None,
        reference: None,
        sealed: false,
        call: Call::Detokenize,
    };
    let answers = open.vault.detokenize(&open.caller(caller), asker(caller), question).await;
    answers?.pop().unwrap().map(|released| released.value.expose().to_owned())
}

on_both!(every_answer_costs_the_same);
async fn every_answer_costs_the_same(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    let [good, withdrawn, restricted, revoked, erased] = {
        let mut all = Vec::new();
        for number in 1..=5 {
            all.push(open.store_iin(number).await);
        }
        <[_; 5]>::try_from(all).unwrap_or_else(|_| panic!("five people"))
    };
    let (by, who) = (open.caller("backend"), || asker("backend"));
    open.vault.withdraw_consent(&by, who(), "", withdrawn.consents[0]).await.unwrap();
    let block = Block {
        subject: SubjectName::Id(restricted.subject),
        trigger: RestrictionTrigger::SubjectRequest,
        requester: RestrictionRequester::Subject,
        review_at: open.clock.now().plus(std::time::Duration::from_hours(24)),
        reference: None,
    };
    open.vault.restrict_subject(&by, who(), "", block).await.unwrap();
    let token = AnyToken::parse(&revoked.tokens[0].token.reveal()).unwrap();
    open.vault.revoke_token(&by, who(), token).await.unwrap();
    open.vault.erase_subject(&by, who(), "", SubjectName::Id(erased.subject), None).await.unwrap();

    let unknown = AnyToken::Random(Token::random(&SystemRng::new()).unwrap());
    let cases = [
        ("payments", "payments", &good.tokens[0].token, None),
        ("payments", "payments", &unknown, Some(Denial::TokenNotFound)),
        // No purpose of `support` covers an IIN: the same words, whatever stands behind the token.
        ("support", "request_comms", &good.tokens[0].token, Some(Denial::TokenNotFound)),
        ("support", "request_comms", &withdrawn.tokens[0].token, Some(Denial::TokenNotFound)),
        ("support", "request_comms", &erased.tokens[0].token, Some(Denial::TokenNotFound)),
        ("payments", "payments", &withdrawn.tokens[0].token, Some(Denial::ConsentWithdrawn)),
        ("payments", "payments", &restricted.tokens[0].token, Some(Denial::SubjectRestricted)),
        ("payments", "payments", &revoked.tokens[0].token, Some(Denial::TokenRevoked)),
        ("payments", "payments", &erased.tokens[0].token, Some(Denial::SubjectErased)),
        ("payments", "resale", &good.tokens[0].token, Some(Denial::PurposeNotDeclared)),
        ("backend", "payments", &good.tokens[0].token, Some(Denial::CallerNotAllowed)),
    ];
    // Again and again: what others read before must not show.
    for (i, (caller, purpose, token, denial)) in cases.iter().cycle().take(3 * cases.len()).enumerate() {
        let denial = *denial;
        let before = gate.cost().await;
        let answer = read(&open, caller, purpose, token).await;
        assert_eq!(answer.err(), denial.map(VaultError::Denied), "case {i}");
        let after = gate.cost().await;
        let reads = after.reads - before.reads;
        let may_know = *caller == "payments" && denial != Some(Denial::TokenNotFound);
        assert!(reads == 1 || (may_know && reads == 0), "case {i}: {reads} reads");
        let cost =
            Cost { reads, commits: after.commits - before.commits, entries: after.entries - before.entries };
        assert_eq!(cost, Cost { reads, commits: 1, entries: 1 }, "case {i}");
    }
}
