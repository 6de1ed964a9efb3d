//! Every call of the contract was driven here: each asks for a role, and leaves an entry where it is done and where it is
//! refused, or stands in the short list of those that need not.

use std::collections::BTreeSet;

use sandyq::{domain::caller::Role, grpc::pb, vault::access::Call};

use super::driver::Driver;

/// Calls that are refused to nobody who is enrolled here: a platform's own policy is no secret to it.
const FOR_EVERYBODY: [Call; 3] = [Call::WhoAmI, Call::GetPolicy, Call::ListPolicies];

/// Calls that succeed only where two people are needed, which `two_people.rs`, `staff_keys.rs` and `restored.rs` drive; here one officer is
/// enough, and nothing was restored.
pub const OF_TWO_PEOPLE: [Call; 5] = [
    Call::GetProposal,
    Call::ApproveProposal,
    Call::RejectProposal,
    Call::OpenPlatform,
    Call::WithdrawStaffKey,
];

/// A caller whose roles are not among those that a call asks for.
pub fn without_role(call: Call) -> Option<&'static str> {
    let candidates = [("mailing", Role::Service), ("auditor", Role::Auditor)];
    let mut lacking = candidates.into_iter().filter(|(_, role)| !call.roles().contains(role));
    lacking.next().filter(|_| !call.roles().is_empty()).map(|(caller, _)| caller)
}

/// What the logs hold of each call: its name, whether it was refused, and why.
async fn entries(driver: &mut Driver) -> BTreeSet<(String, bool, String)> {
    let mut all = BTreeSet::new();
    for platform in ["lerna", "vault"] {
        let mut request = pb::ListEntriesRequest {
            platform: platform.into(),
            page_size: 1_000,
            ..pb::ListEntriesRequest::default()
        };
        loop {
            let page: pb::ListEntriesResponse =
                driver.answer("auditor", Call::ListEntries, request.clone()).await;
            all.extend(page.entries.into_iter().map(|entry| {
                let denied = entry.verdict() == pb::Verdict::Deny;
                (entry.call, denied, entry.reason)
            }));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
    }
    all
}

/// Each call left an entry when it was done, and one when it was refused.
pub async fn every_call_left_its_entries(driver: &mut Driver) {
    let entries = entries(driver).await;
    for call in Call::ALL.iter().copied() {
        let done = entries.iter().any(|(name, denied, _)| name == call.as_str() && !denied);
        if OF_TWO_PEOPLE.contains(&call) {
            continue;
        }
        assert_eq!(done, call.unlogged().is_none(), "{}: {:?}", call.as_str(), call.unlogged());
        let refused = (call.as_str().to_owned(), true, "CALLER_NOT_ALLOWED".to_owned());
        match without_role(call) {
            Some(_) => assert!(entries.contains(&refused), "{} was refused unseen", call.as_str()),
            None => assert!(FOR_EVERYBODY.contains(&call), "{} asks for no role", call.as_str()),
        }
    }
}
