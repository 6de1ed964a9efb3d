//! The report: where everything was seen to be, on whose word, as a note that the audit key signs.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Sight;
use crate::{
    audit::head::{BadHead, HeadVerifier},
    residency::{
        Finding,
        sites::{Attestation, Basis, Site, Sites},
    },
};

/// First line of the signed text.
const FORMAT: &str = "sandyq residency report 1";

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whose.
    pub installation: String,
    /// When it was looked.
    pub at: String,
    /// Where data stays.
    pub country: String,
    /// Whether everything was seen inside.
    pub all_inside: bool,
    /// What was seen.
    pub findings: Vec<ReportedFinding>,
    /// What was declared.
    pub sites: Vec<ReportedSite>,
}

/// What was seen of a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedFinding {
    /// What the place is used for.
    pub used_for: String,
    /// The place.
    pub place: String,
    /// The address that was seen.
    pub address: Option<IpAddr>,
    /// `INSIDE`, `OUTSIDE` or `UNSEEN`.
    pub seen: String,
    /// The site.
    pub site: Option<String>,
    /// Why that is believed.
    pub basis: Option<String>,
    /// Whose statement that is, where it is one.
    pub attested_by: Option<String>,
    /// Why it is not inside.
    pub problem: Option<String>,
}

/// A declared site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedSite {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub country: String,
    /// Its networks.
    pub networks: Vec<String>,
    /// Whether the machine that looked is of it.
    pub here: bool,
    /// Whether registered addresses of its country are of it.
    pub registered: bool,
    /// What the operator states.
    pub attested: Vec<ReportedAttestation>,
}

/// An operator's statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedAttestation {
    /// Networks.
    pub networks: Vec<String>,
    /// Mount points.
    pub mounts: Vec<String>,
    /// Number of commands that copy the database's log.
    pub archives: usize,
    /// Who states it.
    pub by: String,
    /// Until when it holds.
    pub until: String,
    /// What is stated.
    pub statement: String,
}

/// A report that is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReport {
    /// Not signed by the trusted key.
    #[error("the report is not one that the trusted audit key signed")]
    Unsigned(#[from] BadHead),
    /// Signed, and of another kind.
    #[error("the signed text is no residency report of format 1")]
    Format,
}

impl Report {
    pub(super) fn new(installation: &str, sites: &Sites, sight: &Sight) -> Self {
        Self {
            installation: installation.to_owned(),
            at: sight.at.to_string(),
            country: sites.home().to_string(),
            all_inside: sight.findings.iter().all(|finding| finding.outcome.is_ok()),
            findings: sight.findings.iter().map(finding).collect(),
            sites: sites.all().iter().map(site).collect(),
        }
    }

    /// What is signed.
    pub(super) fn text(&self) -> Result<String, serde_json::Error> {
        Ok(format!("{FORMAT}\n{}\n", serde_json::to_string(self)?))
    }

    /// Reads a report that the trusted key signed.
    ///
    /// # Errors
    /// [`BadReport`].
    pub fn open(note: &str, trusted: &HeadVerifier) -> Result<Self, BadReport> {
        Self::parse(&trusted.open_text(note)?)
    }

    /// Reads a report without asking who signed it.
    ///
    /// # Errors
    /// [`BadReport::Format`].
    pub fn parse(text: &str) -> Result<Self, BadReport> {
        let json =
            text.strip_prefix(FORMAT).and_then(|rest| rest.strip_prefix('\n')).ok_or(BadReport::Format)?;
        serde_json::from_str(json.lines().next().unwrap_or_default()).map_err(|_| BadReport::Format)
    }

    /// The report as people read it.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("installation  {}", self.installation),
            format!("looked at     {}", self.at),
            format!("data stays in {}", self.country),
            String::new(),
        ];
        for found in &self.findings {
            let at = found.address.map(|address| format!(" at {address}")).unwrap_or_default();
            let why = match (&found.site, &found.basis, &found.attested_by, &found.problem) {
                (Some(site), Some(basis), Some(by), _) => format!("site {site}, {basis} by {by}"),
                (Some(site), Some(basis), None, _) => format!("site {site}, {basis}"),
                (_, _, _, problem) => problem.clone().unwrap_or_default(),
            };
            lines.push(format!("{:<8} {:<9} {}{at}: {why}", found.seen, found.used_for, found.place));
        }
        lines.push(String::new());
        for site in &self.sites {
            lines.push(format!("site {} in {}: {}", site.name, site.country, site.networks.join(", ")));
            for stated in &site.attested {
                let what: Vec<&str> =
                    stated.networks.iter().chain(&stated.mounts).map(String::as_str).collect();
                let (by, until) = (&stated.by, &stated.until);
                lines.push(format!(
                    "  attested by {by} until {until}: {}: {}",
                    what.join(", "),
                    stated.statement
                ));
            }
        }
        lines
    }
}

fn finding(finding: &Finding) -> ReportedFinding {
    let located = finding.outcome.as_ref().ok();
    let attested_by = located.and_then(|located| match &located.basis {
        Basis::Attested { by, .. } => Some(by.to_string()),
        Basis::Here | Basis::Declared | Basis::Registered => None,
    });
    ReportedFinding {
        used_for: finding.used_for.to_string(),
        place: finding.place.clone(),
        address: finding.address,
        seen: finding.seen().as_str().to_owned(),
        site: located.map(|located| located.site.to_string()),
        basis: located.map(|located| located.basis.as_str().to_owned()),
        attested_by,
        problem: finding.outcome.as_ref().err().map(ToString::to_string),
    }
}

fn site(site: &Site) -> ReportedSite {
    let attested = |attestation: &Attestation| ReportedAttestation {
        networks: attestation.networks.iter().map(ToString::to_string).collect(),
        mounts: attestation.mounts.iter().map(|mount| mount.display().to_string()).collect(),
        archives: attestation.archives.len(),
        by: attestation.by.to_string(),
        until: attestation.until.to_string(),
        statement: attestation.statement.clone(),
    };
    ReportedSite {
        name: site.name.to_string(),
        country: site.country.to_string(),
        networks: site.networks.iter().map(ToString::to_string).collect(),
        here: site.here,
        registered: site.registered,
        attested: site.attestations.iter().map(attested).collect(),
    }
}
