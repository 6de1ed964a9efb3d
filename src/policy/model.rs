//! The policy file: one platform's privacy policy as data. Closed world: what it does not declare is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::domain::{
    caller::Caller,
    consent::{ConsentAct, Language},
    field::FieldType,
    iin,
    names::{CallerName, FieldName, PlatformName, PurposeName, SiteName},
};

/// Largest policy file, in bytes.
pub const MAX_POLICY_BYTES: usize = 1024 * 1024;

/// Why a policy file is refused. Messages name the offending table and what would mend it.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, or keys that the format does not have.
    #[error("the policy file does not parse: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// Well-formed, but against a rule.
    #[error("{place}: {rule}")]
    Rule {
        /// Where in the file.
        place: String,
        /// What is wrong.
        rule: String,
    },
}

/// A checked policy.
#[derive(Debug)]
pub struct Policy {
    /// The operator.
    pub operator: Operator,
    /// Version number, from 1.
    pub version: u32,
    sites: BTreeSet<SiteName>,
    languages: Vec<Language>,
    acts: Vec<ConsentAct>,
    consent_recorders: BTreeSet<CallerName>,
    fields: BTreeMap<FieldName, Field>,
    purposes: BTreeMap<PurposeName, Purpose>,
}

/// Who runs the platform, as a consent must name them (Law 94-V, Article 8(4)).
#[derive(Debug, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Short name within the installation.
    pub name: PlatformName,
    /// Registered name.
    pub legal_name: String,
    /// BIN, 12 digits.
    pub bin: String,
}

/// A declared field.
#[derive(Debug)]
pub struct Field {
    /// Its type.
    pub field_type: FieldType,
    collected_by: BTreeSet<CallerName>,
}

/// A declared purpose.
#[derive(Debug)]
pub struct Purpose {
    /// Clause of the source policy.
    pub clause: String,
    callers: BTreeSet<CallerName>,
    fields: BTreeSet<FieldName>,
    views: Vec<View>,
}

/// How much of a value is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// All of it.
    Full,
    /// Enough to recognise it.
    Masked,
}

impl View {
    /// Code in log entries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Masked => "masked",
        }
    }
}

impl Purpose {
    /// Whether the policy names this caller for the purpose.
    #[must_use]
    pub fn names_caller(&self, caller: &Caller) -> bool {
        self.callers.contains(&caller.name)
    }

    /// Whether the purpose covers the field.
    #[must_use]
    pub fn covers(&self, field: &FieldName) -> bool {
        self.fields.contains(field)
    }

    /// Whether the purpose may see this much.
    #[must_use]
    pub fn allows_view(&self, view: View) -> bool {
        self.views.contains(&view)
    }
}

impl Policy {
    /// Reads and checks a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] says where the file is wrong and why.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(rule("file", "a policy has at most 1 MiB"));
        }
        let file: File = toml::from_str(text).map_err(Box::new)?;
        file.check()
    }

    /// A declared field.
    #[must_use]
    pub fn field(&self, name: &FieldName) -> Option<&Field> {
        self.fields.get(name)
    }

    /// A declared purpose.
    #[must_use]
    pub fn purpose(&self, name: &PurposeName) -> Option<&Purpose> {
        self.purposes.get(name)
    }

    /// The purposes that name this caller.
    pub fn purposes_of<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> impl Iterator<Item = (&'a PurposeName, &'a Purpose)> {
        self.purposes.iter().filter(|(_, purpose)| purpose.names_caller(caller))
    }

    /// Whether this caller may store the field.
    #[must_use]
    pub fn may_collect(&self, caller: &Caller, field: &Field) -> bool {
        field.collected_by.contains(&caller.name)
    }

    /// Every caller that the policy names.
    #[must_use]
    pub fn caller_names(&self) -> BTreeSet<&CallerName> {
        let collectors = self.fields.values().flat_map(|field| &field.collected_by);
        let readers = self.purposes.values().flat_map(|purpose| &purpose.callers);
        collectors.chain(readers).chain(&self.consent_recorders).collect()
    }

    /// Whether this caller may store any field at all.
    #[must_use]
    pub fn collects_anything(&self, caller: &Caller) -> bool {
        self.fields.values().any(|field| self.may_collect(caller, field))
    }

    /// Whether this caller may record, withdraw and list consents.
    #[must_use]
    pub fn may_record_consents(&self, caller: &Caller) -> bool {
        self.consent_recorders.contains(&caller.name)
    }

    /// Whether the policy takes this act for a consent.
    #[must_use]
    pub fn accepts_act(&self, act: ConsentAct) -> bool {
        self.acts.contains(&act)
    }

    /// Whether the policy is published in this language.
    #[must_use]
    pub fn speaks(&self, language: Language) -> bool {
        self.languages.contains(&language)
    }

    /// Whether the policy governs this site.
    #[must_use]
    pub fn governs(&self, site: &SiteName) -> bool {
        self.sites.contains(site)
    }
}

// The file as written. Keys that later rules execute (clauses, dates) are required now, so that no policy
// is ever without its sources.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    platform: Operator,
    version: Version,
    consent: ConsentRules,
    field: Vec<FieldTable>,
    purpose: Vec<PurposeTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    number: u32,
    effective: String,
    languages: Vec<String>,
    sites: Vec<SiteName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsentRules {
    acts: Vec<String>,
    recorded_by: Vec<CallerName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldTable {
    name: FieldName,
    r#type: String,
    clause: String,
    collected_by: Vec<CallerName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PurposeTable {
    name: PurposeName,
    clause: String,
    basis: Basis,
    retention: Source,
    callers: Vec<CallerName>,
    views: Vec<View>,
    fields: Vec<PurposeField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Basis {
    kind: BasisKind,
    clause: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum BasisKind {
    Consent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    clause: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PurposeField {
    name: FieldName,
    given: Given,
    clause: String,
}

/// Whether the source policy itself ties the field to the purpose.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Given {
    Stated,
    Inferred,
}

fn rule(place: impl Into<String>, rule: impl Into<String>) -> PolicyError {
    PolicyError::Rule { place: place.into(), rule: rule.into() }
}

fn not_blank(place: &str, key: &str, text: &str) -> Result<(), PolicyError> {
    if text.trim().is_empty() { Err(rule(place, format!("{key} must not be empty"))) } else { Ok(()) }
}

fn not_empty<T>(place: &str, key: &str, list: &[T]) -> Result<(), PolicyError> {
    if list.is_empty() { Err(rule(place, format!("{key} must name at least one"))) } else { Ok(()) }
}

impl File {
    fn check(self) -> Result<Policy, PolicyError> {
        if self.format != 1 {
            return Err(rule("format", "this vault reads format 1"));
        }
        not_blank("platform", "legal_name", &self.platform.legal_name)?;
        if self.platform.name.as_str() == "vault" {
            return Err(rule("platform", "the name `vault` is the vault's own"));
        }
        if !iin::has_valid_check_digit(&self.platform.bin) {
            return Err(rule("platform", "bin is not 12 digits with a valid check digit"));
        }
        if self.version.number == 0 {
            return Err(rule("version", "number counts from 1"));
        }
        if self.version.effective.parse::<jiff::civil::Date>().is_err() {
            return Err(rule("version", "effective must be a date, YYYY-MM-DD"));
        }
        not_empty("version", "sites", &self.version.sites)?;
        not_empty("version", "languages", &self.version.languages)?;
        not_empty("consent", "acts", &self.consent.acts)?;
        not_empty("consent", "recorded_by", &self.consent.recorded_by)?;
        let languages = codes("version.languages", &self.version.languages)?;
        let acts = codes("consent.acts", &self.consent.acts)?;

        let mut fields = BTreeMap::new();
        for table in self.field {
            let place = format!("field {}", table.name);
            not_blank(&place, "clause", &table.clause)?;
            not_empty(&place, "collected_by", &table.collected_by)?;
            let field_type: FieldType =
                table.r#type.parse().map_err(|e| rule(place.clone(), format!("type: {e}")))?;
            let field = Field { field_type, collected_by: table.collected_by.into_iter().collect() };
            if fields.insert(table.name, field).is_some() {
                return Err(rule(place, "declared twice"));
            }
        }

        let mut purposes = BTreeMap::new();
        for table in self.purpose {
            let place = format!("purpose {}", table.name);
            let (name, purpose) = table.check(&place, &fields)?;
            if purposes.insert(name, purpose).is_some() {
                return Err(rule(place, "declared twice"));
            }
        }
        if let Some(idle) = fields.keys().find(|name| !purposes.values().any(|p| p.covers(name))) {
            return Err(rule(
                format!("field {idle}"),
                "no purpose uses it; data without a purpose may not be collected (Law 94-V, Articles 7(8), 7(9))",
            ));
        }
        Ok(Policy {
            operator: self.platform,
            version: self.version.number,
            sites: self.version.sites.into_iter().collect(),
            languages,
            acts,
            consent_recorders: self.consent.recorded_by.into_iter().collect(),
            fields,
            purposes,
        })
    }
}

impl PurposeTable {
    fn check(
        self,
        place: &str,
        declared: &BTreeMap<FieldName, Field>,
    ) -> Result<(PurposeName, Purpose), PolicyError> {
        not_blank(place, "clause", &self.clause)?;
        not_blank(place, "retention.clause", &self.retention.clause)?;
        match self.basis.kind {
            BasisKind::Consent => not_blank(place, "basis.clause", &self.basis.clause)?,
        }
        not_empty(place, "callers", &self.callers)?;
        not_empty(place, "views", &self.views)?;
        not_empty(place, "fields", &self.fields)?;
        let mut fields = BTreeSet::new();
        for field in self.fields {
            match field.given {
                Given::Stated | Given::Inferred => {
                    not_blank(place, &format!("fields.{}.clause", field.name), &field.clause)?;
                }
            }
            if !declared.contains_key(&field.name) {
                return Err(rule(place, format!("field {} is not declared", field.name)));
            }
            if !fields.insert(field.name.clone()) {
                return Err(rule(place, format!("field {} is listed twice", field.name)));
            }
        }
        let purpose = Purpose {
            clause: self.clause,
            callers: self.callers.into_iter().collect(),
            fields,
            views: self.views,
        };
        Ok((self.name, purpose))
    }
}

fn codes<T: std::str::FromStr>(place: &str, texts: &[String]) -> Result<Vec<T>, PolicyError>
where
    T::Err: std::fmt::Display,
{
    texts.iter().map(|text| text.parse().map_err(|e| rule(place, format!("`{text}`: {e}")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LERNA: &str = include_str!("../../policies/lerna.toml");

    #[test]
    fn the_shipped_policy_is_valid() {
        let policy = Policy::parse(LERNA).unwrap();
        let payments = policy.purpose(&"payments".parse().unwrap()).unwrap();
        for field in ["surname", "first_name", "iin"] {
            assert!(payments.covers(&field.parse().unwrap()), "{field}");
        }
        for field in ["phone", "email"] {
            assert!(!payments.covers(&field.parse().unwrap()), "9.2 sends surname, name and IIN only");
        }
    }

    #[test]
    fn broken_policies_are_refused_with_the_place() {
        for (from, to, place) in [
            ("bin = \"210140019844\"", "bin = \"210140019845\"", "platform"),
            ("name = \"lerna\"", "name = \"vault\"", "platform"),
            ("number = 1", "number = 0", "version"),
            ("effective = \"2024-01-03\"", "effective = \"soon\"", "version"),
            ("format = 1", "format = 2", "format"),
            ("acts = [\"tick\"]", "acts = [\"use\"]", "consent.acts"),
            ("callers = [\"payments\"]", "callers = []", "purpose payments"),
            ("{ name = \"iin\", given", "{ name = \"inn\", given", "purpose payments"),
            ("{ name = \"iin\", given = \"stated\", clause = \"9.2\" },", "", "field iin"),
            (
                "retention = { clause = \"7.1(ж), 7.3, 8.4(е)\" }",
                "retention = { clause = \"\" }",
                "purpose payments",
            ),
            ("name = \"request_comms\"", "name = \"payments\"", "purpose payments"),
            ("type = \"iin\"", "type = \"card\"", "field iin"),
        ] {
            assert!(LERNA.contains(from), "{from}");
            let broken = LERNA.replacen(from, to, 1);
            match Policy::parse(&broken) {
                Err(PolicyError::Rule { place: found, .. }) => assert_eq!(found, place, "{to}"),
                Err(PolicyError::Syntax(e)) => panic!("{to}: {e}"),
                Ok(_) => panic!("{to}: accepted"),
            }
        }
        for unknown in ["retentoin = 1\n", "[extra]\n"] {
            let broken = format!("{unknown}{LERNA}");
            assert!(matches!(Policy::parse(&broken), Err(PolicyError::Syntax(_))), "{unknown}");
        }
    }
}
