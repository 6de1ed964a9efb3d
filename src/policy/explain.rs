//! The clauses behind a decision, for `ExplainDecision`: what the source policy and the law say where it was taken.

use super::{
    decide::Denial,
    model::{BanKind, BasisKind, Policy, Purpose, RecipientRule},
};
use crate::domain::names::{FieldName, PurposeName};

/// A decision with the clauses behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Permitted, or why not.
    pub decision: Result<(), Denial>,
    /// The clauses, from the purpose to what decided.
    pub clauses: Vec<Clause>,
}

/// A clause and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Clause of the source policy, or article of a law.
    pub clause: String,
    /// What it says, in the words of the policy file.
    pub says: String,
}

/// Names the clauses behind a decision on one field for one purpose. Nothing in it comes from a subject.
#[must_use]
pub fn explain(
    policy: &Policy,
    purpose: &PurposeName,
    field: &FieldName,
    decision: Result<(), Denial>,
) -> Explanation {
    let mut clauses = Clauses::default();
    match policy.purpose(purpose) {
        Some(declared) => {
            clauses.of_purpose(policy, purpose, declared, field);
            if let Err(denial) = decision {
                clauses.of_denial(policy, declared, denial);
            }
        }
        None => clauses.add("Law 94-V, Articles 7(8), 14", "data serve declared purposes only"),
    }
    Explanation { decision, clauses: clauses.0 }
}

#[derive(Default)]
struct Clauses(Vec<Clause>);

impl Clauses {
    fn add(&mut self, clause: &str, says: impl Into<String>) {
        self.0.push(Clause { clause: clause.to_owned(), says: says.into() });
    }

    fn of_purpose(&mut self, policy: &Policy, name: &PurposeName, purpose: &Purpose, field: &FieldName) {
        self.add(&purpose.clause, format!("purpose {name}"));
        if let Some(why) = &purpose.inert {
            self.add(&purpose.clause, format!("inert: {why}"));
        }
        if let Some(declared) = policy.field(field) {
            self.add(&declared.clause, format!("field {field}, {}", declared.category.as_str()));
        }
        match purpose.field(field) {
            Some(tied) => {
                self.add(&tied.clause, format!("field {field} for {name}: {}", tied.given.as_str()));
            }
            None => self.add("Law 94-V, Article 7(9)", format!("field {field} does not serve {name}")),
        }
        match &purpose.basis.kind {
            BasisKind::Consent => self.add(&purpose.basis.clause, "basis: consent"),
            BasisKind::Law { article } => self.add(&purpose.basis.clause, format!("basis: law {article}")),
        }
        if let Some(declared) = purpose.basis.declared {
            let says = format!("the source claims {}, which is no basis: consent", declared.as_str());
            self.add("Law 94-V, Article 9", says);
        }
        self.add(&purpose.retention.clause, "retention");
        for term in policy.terms_of(purpose) {
            self.add(&term.clause, format!("retention: {term}"));
        }
        if let Some(minimum) = &purpose.retention.minimum {
            let says = format!(
                "retention: law {} keeps the data for {} after {}, restricted",
                minimum.article, minimum.length, minimum.from
            );
            self.add(&minimum.clause, says);
        }
    }

    /// The clauses that a denial turns on, besides those of the purpose.
    fn of_denial(&mut self, policy: &Policy, purpose: &Purpose, denial: Denial) {
        match denial {
            Denial::RecipientUnknown | Denial::RecipientKeyMissing => self.recipients(policy, purpose),
            Denial::CrossBorder => {
                self.recipients(policy, purpose);
                self.add("Law 94-V, Article 16", "transfer abroad");
            }
            Denial::TransferConsentMissing => {
                self.recipients(policy, purpose);
                self.add("Law 94-V, Article 7(6)", "transfer to third parties needs consent");
            }
            Denial::PublicationConsentMissing => {
                self.recipients(policy, purpose);
                self.add("Law 94-V, Article 7(6)", "publication needs consent");
            }
            Denial::AdvertisingBarred => {
                self.recipients(policy, purpose);
                self.add(
                    "Law 94-V, Article 15",
                    "what is given out for advertising needs a policy that names whom",
                );
            }
            Denial::LegalReferenceMissing => {
                self.recipients(policy, purpose);
                self.add("Law 94-V, Article 9", "without consent, or to an authority: with its reference");
            }
            Denial::ConsentMissing => {
                self.add(&policy.consent.clause, "consent");
                self.add("Law 94-V, Articles 7(1), 8", "consent");
            }
            Denial::ChannelRequired | Denial::ChannelNotAllowed | Denial::SenderNotAllowed => {
                self.outreach(purpose);
            }
            Denial::ChannelConsentMissing | Denial::SenderConsentMissing => {
                self.outreach(purpose);
                self.add("Law 94-V, Articles 7(6), 15", "each channel and sender is consented to by itself");
            }
            Denial::ConsentWithdrawn => self.add("Law 94-V, Article 8(7)", "a withdrawal stops use"),
            Denial::ConsentExpired => {
                self.add("Law 94-V, Articles 8(5), 8(6)", "a consent ends with its term");
            }
            Denial::RetentionEnded => {
                self.add("Law 94-V, Articles 12(2), 18", "data are kept no longer than their purpose needs");
            }
            Denial::ConsentIncomplete => {
                self.add(&policy.consent.clause, "consent");
                if let Some(completed) = &policy.consent.completed_by {
                    self.add(&completed.clause, format!("consent is completed by {}", completed.event));
                }
            }
            Denial::Quarantined => {
                self.add(&policy.consent.clause, "consent comes before use");
                self.add("Law 94-V, Article 7(1)", "consent comes before use");
            }
            Denial::ObjectedTo => {
                self.add("Law 94-V, Article 19-1", "no decision by machine alone against an objection");
            }
            Denial::SubjectRestricted => self.add("Law 94-V, Article 1(3)", "blocking stops use"),
            Denial::SubjectErased => self.add("Law 94-V, Articles 1(6), 18", "destruction"),
            Denial::CallerDisabled
            | Denial::OperationEnded
            | Denial::OperationUncontrolled
            | Denial::KeyNotFound
            | Denial::KeyActive
            | Denial::KeyInUse
            | Denial::KeyDisabled
            | Denial::KeyStateUnsuitable
            | Denial::RotationRunning
            | Denial::SweepRunning
            | Denial::CaseNotFound
            | Denial::CaseEnded
            | Denial::CaseNotDone
            | Denial::CaseStateUnsuitable
            | Denial::BreachNotFound
            | Denial::BreachClosed
            | Denial::BreachNotAssessed
            | Denial::BreachNotTold
            | Denial::BreachToldBefore
            | Denial::CopyNotFound
            | Denial::CopyEnded
            | Denial::BackupNotConfigured
            | Denial::BackupRunning
            | Denial::BackupNotFound
            | Denial::PlatformClosed
            | Denial::PlatformNotClosed
            | Denial::StorageOutside
            | Denial::PurposeNotDeclared
            | Denial::PurposeInert
            | Denial::CallerNotAllowed
            | Denial::ViewNotAllowed
            | Denial::TokenNotFound
            | Denial::FieldNotAllowed
            | Denial::TokenSpent
            | Denial::TokenRevoked
            | Denial::TokenExpired
            | Denial::ValueDiffers
            | Denial::SubjectNotFound
            | Denial::ConsentNotFound
            | Denial::TooManyConsents
            | Denial::PlatformNotFound
            | Denial::CallerNotFound
            | Denial::PersonNotFound
            | Denial::RecipientNotFound
            | Denial::KeyNotOffered
            | Denial::PolicyNotFound
            | Denial::NameTaken
            | Denial::CertificateTaken
            | Denial::PersonDisabled
            | Denial::LastOfficer
            | Denial::OwnAccount
            | Denial::StaffKeyTaken
            | Denial::StaffKeyNotFound
            | Denial::OwnStaffKey
            | Denial::HorizonNotFound
            | Denial::RequestIdReused
            | Denial::ProposalNotFound
            | Denial::ProposalEnded
            | Denial::ProposalExpired
            | Denial::OwnProposal
            | Denial::ApproverTooNew
            | Denial::ProposerNotAllowed
            | Denial::PlanDiffers
            | Denial::PersonRequired
            | Denial::BudgetExhausted
            | Denial::OperationNotFound
            | Denial::SourceNotAllowed
            | Denial::SubjectKindNotAllowed
            | Denial::ValueNotUnique
            | Denial::RequestIdRequired
            | Denial::SealRequired
            | Denial::BatchIncomplete
            | Denial::ViewUnavailable
            | Denial::EventNotDeclared
            | Denial::SubjectNotRestricted
            | Denial::SubjectNotErased
            | Denial::SubjectDestroyed
            | Denial::DocumentsNotConfigured
            | Denial::DocumentNotFound
            | Denial::DocumentExists
            | Denial::TooManyDocuments
            | Denial::DocumentTooLarge
            | Denial::MediaTypeNotAllowed
            | Denial::ContentDiffers
            | Denial::UploadIncomplete
            | Denial::UploadNotFound
            | Denial::UploadMoved
            | Denial::CollectionRunning
            | Denial::DataDamaged => {}
        }
    }

    /// By which channels and in whose names the purpose reaches people.
    fn outreach(&mut self, purpose: &Purpose) {
        for rule in purpose.channels() {
            self.add(&rule.clause, format!("channel {}: {}", rule.channel.as_str(), rule.given.as_str()));
        }
        for rule in purpose.senders() {
            self.add(&rule.clause, format!("sender {}", rule.name));
        }
    }

    /// Whom the purpose names, and what the policy bars.
    fn recipients(&mut self, policy: &Policy, purpose: &Purpose) {
        for rule in purpose.recipients() {
            self.add(&rule.clause, recipient(rule));
        }
        let transfers = [
            BanKind::AdvertisingTransfer,
            BanKind::PartnerTransfer,
            BanKind::ThirdPartyTransfer,
            BanKind::OnwardTransfer,
            BanKind::Publication,
            BanKind::Sale,
            BanKind::Exchange,
        ];
        for ban in transfers.into_iter().filter_map(|what| policy.ban(what)) {
            self.add(&ban.clause, format!("ban {}", ban.what.as_str()));
        }
    }
}

fn recipient(rule: &RecipientRule) -> String {
    let abroad = if rule.abroad { "any country" } else { "Kazakhstan" };
    let sealed = if rule.encrypted { ", sealed" } else { "" };
    format!("recipient {}, {abroad}{sealed}", rule.kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lerna() -> Policy {
        Policy::parse(include_str!("../../policies/lerna.toml")).unwrap()
    }

    fn says_of(
        policy: &Policy,
        purpose: &str,
        field: &str,
        decision: Result<(), Denial>,
    ) -> Vec<(String, String)> {
        let explained = explain(policy, &purpose.parse().unwrap(), &field.parse().unwrap(), decision);
        assert_eq!(explained.decision, decision);
        explained.clauses.into_iter().map(|clause| (clause.clause, clause.says)).collect()
    }

    fn says(purpose: &str, field: &str, decision: Result<(), Denial>) -> Vec<(String, String)> {
        says_of(&lerna(), purpose, field, decision)
    }

    fn has(clauses: &[(String, String)], clause: &str, part: &str) -> bool {
        clauses.iter().any(|(c, s)| c == clause && s.contains(part))
    }

    #[test]
    fn a_permit_names_purpose_field_basis_and_retention() {
        let clauses = says("payments", "iin", Ok(()));
        assert!(has(&clauses, "7.1(ж)", "purpose payments"), "{clauses:?}");
        assert!(has(&clauses, "9.2", "field iin for payments: stated"), "{clauses:?}");
        assert!(has(&clauses, "7.2", "basis: consent"), "{clauses:?}");
        assert!(has(&clauses, "7.1(ж), 7.3, 8.4(е)", "retention"), "{clauses:?}");
        assert!(has(&says("request_comms", "phone", Ok(())), "5.3(б)", "inferred"));
        assert!(has(&says("subject_requests", "phone", Ok(())), "6.4", "law 94-V/24(1)"));
    }

    #[test]
    fn a_denial_names_what_it_turns_on() {
        for (purpose, denial, clause, part) in [
            ("payments", Denial::RecipientUnknown, "9.2", "recipient bank, Kazakhstan, sealed"),
            ("payments", Denial::CrossBorder, "Law 94-V, Article 16", "abroad"),
            ("payments", Denial::ConsentMissing, "4.1, 7.2", "consent"),
            ("offers", Denial::AdvertisingBarred, "9.4(в)", "ban onward_transfer"),
            ("marketing_mail", Denial::ChannelNotAllowed, "7.1(г)", "channel call: stated"),
            ("marketing_mail", Denial::SenderNotAllowed, "7.1(г)", "sender operator"),
            ("offers", Denial::ChannelConsentMissing, "Law 94-V, Articles 7(6), 15", "by itself"),
            ("other_services", Denial::PurposeInert, "7.1(з)", "inert: the text names neither"),
            ("request_comms", Denial::FieldNotAllowed, "Law 94-V, Article 7(9)", "iin does not serve"),
            ("resale", Denial::PurposeNotDeclared, "Law 94-V, Articles 7(8), 14", "declared purposes"),
        ] {
            let clauses = says(purpose, "iin", Err(denial));
            assert!(has(&clauses, clause, part), "{denial:?}: {clauses:?}");
        }
    }

    const SMALL: &str = include_str!("model/tests/small.toml");

    fn told(purpose: &str, field: &str, decision: Result<(), Denial>) -> Vec<String> {
        let policy = Policy::parse(SMALL).unwrap();
        let explained = explain(&policy, &purpose.parse().unwrap(), &field.parse().unwrap(), decision);
        explained.clauses.into_iter().map(|clause| format!("{}: {}", clause.clause, clause.says)).collect()
    }

    #[test]
    fn what_a_purpose_stands_on_is_told_whole() {
        let paid = [
            "8: purpose pay",
            "7: field iin, ordinary",
            "8.4: field iin for pay: stated",
            "8.1: basis: consent",
            "8.2: retention",
            "8.2: retention: ends 1 year after payment, or after collection where that is not recorded",
            "6: retention: ends 3 years after consent",
            "8.3: retention: law 94-V/12(2) keeps the data for 5 years after payment, restricted",
        ];
        assert_eq!(told("pay", "iin", Ok(())), paid);
        let law = [
            "9: purpose law",
            "7.1: field email, ordinary",
            "Law 94-V, Article 7(9): field email does not serve law",
            "9.1: basis: law 94-V/9(1)",
            "9.2: retention",
            "9.2: retention: ends 2 years after payment",
        ];
        assert_eq!(told("law", "email", Err(Denial::FieldNotAllowed)), law);
        let idle = [
            "10: purpose idle",
            "10: inert: the text names no data",
            "Law 94-V, Article 7(9): field shoe does not serve idle",
            "10.1: basis: consent",
            "Law 94-V, Article 9: the source claims contract, which is no basis: consent",
            "10.2: retention",
            "6: retention: ends 3 years after consent",
        ];
        assert_eq!(told("idle", "shoe", Err(Denial::PurposeInert)), idle);
        let undeclared = ["Law 94-V, Articles 7(8), 14: data serve declared purposes only"];
        assert_eq!(told("resale", "iin", Err(Denial::PurposeNotDeclared)), undeclared);
    }

    #[test]
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not listed adds nothing")]
    fn each_denial_adds_its_clauses_and_no_others() {
        let whom =
            ["8.6: recipient bank, Kazakhstan, sealed", "8.7: recipient partner, any country", "4: ban sale"];
        let with = |clause: &'static str| [whom.as_slice(), &[clause]].concat();
        let stands = told("pay", "iin", Ok(())).len();
        for denial in Denial::ALL {
            let expected = match denial {
                Denial::RecipientUnknown | Denial::RecipientKeyMissing => whom.to_vec(),
                Denial::CrossBorder => with("Law 94-V, Article 16: transfer abroad"),
                Denial::TransferConsentMissing => {
                    with("Law 94-V, Article 7(6): transfer to third parties needs consent")
                }
                Denial::PublicationConsentMissing => {
                    with("Law 94-V, Article 7(6): publication needs consent")
                }
                Denial::AdvertisingBarred => with(
                    "Law 94-V, Article 15: what is given out for advertising needs a policy that names whom",
                ),
                Denial::LegalReferenceMissing => {
                    with("Law 94-V, Article 9: without consent, or to an authority: with its reference")
                }
                Denial::ConsentMissing => vec!["3: consent", "Law 94-V, Articles 7(1), 8: consent"],
                Denial::ChannelConsentMissing | Denial::SenderConsentMissing => {
                    vec!["Law 94-V, Articles 7(6), 15: each channel and sender is consented to by itself"]
                }
                Denial::ConsentWithdrawn => vec!["Law 94-V, Article 8(7): a withdrawal stops use"],
                Denial::ConsentExpired => vec!["Law 94-V, Articles 8(5), 8(6): a consent ends with its term"],
                Denial::RetentionEnded => {
                    vec!["Law 94-V, Articles 12(2), 18: data are kept no longer than their purpose needs"]
                }
                Denial::ConsentIncomplete => vec!["3: consent", "3.2: consent is completed by first_login"],
                Denial::Quarantined => {
                    vec!["3: consent comes before use", "Law 94-V, Article 7(1): consent comes before use"]
                }
                Denial::ObjectedTo => {
                    vec!["Law 94-V, Article 19-1: no decision by machine alone against an objection"]
                }
                Denial::SubjectRestricted => vec!["Law 94-V, Article 1(3): blocking stops use"],
                Denial::SubjectErased => vec!["Law 94-V, Articles 1(6), 18: destruction"],
                _ => Vec::new(),
            };
            assert_eq!(told("pay", "iin", Err(*denial)).split_off(stands), expected, "{denial:?}");
        }
    }

    #[test]
    fn every_clause_of_every_explanation_is_named() {
        let policy = lerna();
        for denial in Denial::ALL {
            for purpose in ["payments", "offers", "legal", "resale"] {
                let clauses = says_of(&policy, purpose, "email", Err(*denial));
                assert!(!clauses.is_empty() && clauses.iter().all(|(c, s)| !c.is_empty() && !s.is_empty()));
            }
        }
    }
}
