//! What a policy file allows, read from its text as a lawyer would: TOML tables and nothing of the vault's own model.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// How a subject stands to consents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentCase {
    /// Never asked.
    Missing,
    /// Given for each purpose and all its fields.
    Given,
    /// Given, but for the first field of each purpose alone.
    Narrow,
    /// Given, but by the first channel of each purpose alone.
    OneChannel,
    /// Given and withdrawn.
    Withdrawn,
    /// Given for a time that has ended.
    Ended,
    /// Given, and the event without which this policy's consents are not complete has not happened.
    Incomplete,
}

/// How the subject stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateCase {
    Active,
    Restricted,
    Erased,
}

/// A shipped policy, as its operator has decided it.
pub struct PolicyText {
    pub text: String,
    table: Table,
}

fn names(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn text<'a>(table: &'a Table, key: &str) -> &'a str {
    table[key].as_str().unwrap()
}

impl PolicyText {
    /// A file with what it leaves to its operator.
    pub fn decided(file: &str, decisions: &[(&str, &str)]) -> Self {
        let text = decisions.iter().fold(file.to_owned(), |text, (key, value)| {
            text.replacen(&format!("{key} = \"operator-must-set\""), &format!("{key} = {value}"), 1)
        });
        let table = text.parse().unwrap();
        Self { text, table }
    }

    fn part(&self, name: &str) -> &Table {
        self.table[name].as_table().unwrap()
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &Table> {
        self.table.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
    }

    pub fn name(&self) -> &str {
        text(self.part("platform"), "name")
    }

    pub fn operator(&self) -> (&str, &str) {
        (text(self.part("platform"), "legal_name"), text(self.part("platform"), "bin"))
    }

    pub fn site(&self) -> &str {
        names(self.part("version").get("sites"))[0]
    }

    pub fn language(&self) -> &str {
        names(self.part("version").get("languages"))[0]
    }

    /// Who records consents, and who manages subjects.
    pub fn recorder(&self) -> &str {
        names(self.part("consent").get("recorded_by"))[0]
    }

    pub fn manager(&self) -> &str {
        names(self.part("subject").get("managed_by"))[0]
    }

    /// The event without which no consent is complete.
    pub fn completing_event(&self) -> Option<&str> {
        Some(text(self.part("consent").get("completed_by")?.as_table()?, "event"))
    }

    /// Name, type and first collector of each field.
    pub fn fields(&self) -> Vec<(&str, &str, &str)> {
        let of = |field| (text(field, "name"), text(field, "type"), names(field.get("collected_by"))[0]);
        self.list("field").map(of).collect()
    }

    /// The fields of a purpose that serve a channel; all of them without one.
    pub fn serving<'a>(&'a self, purpose: PurposeText<'a>, channel: Option<&str>) -> Vec<&'a str> {
        let serves = |name: &&str| channel.is_none_or(|channel| takes(channel, self.type_of(name)));
        purpose.fields().into_iter().filter(serves).collect()
    }

    pub fn type_of(&self, field: &str) -> &str {
        self.list("field").find(|declared| text(declared, "name") == field).map_or("", |of| text(of, "type"))
    }

    pub fn purposes(&self) -> Vec<PurposeText<'_>> {
        self.list("purpose").map(PurposeText).collect()
    }

    /// Every caller that the file names for anything.
    pub fn callers(&self) -> BTreeSet<&str> {
        let fields = self.list("field").flat_map(|field| names(field.get("collected_by")));
        let purposes = self.list("purpose").flat_map(|purpose| names(purpose.get("callers")));
        fields.chain(purposes).chain([self.recorder(), self.manager()]).collect()
    }

    /// What the caller is told of a reason: section "Who learns what" of `docs/errors.md`.
    pub fn told(&self, reason: &'static str, caller: &str, field: &str) -> &'static str {
        let of_the_question = [
            "PURPOSE_NOT_DECLARED",
            "PURPOSE_INERT",
            "CALLER_NOT_ALLOWED",
            "VIEW_NOT_ALLOWED",
            "CHANNEL_REQUIRED",
            "CHANNEL_NOT_ALLOWED",
        ];
        let sees = |purpose: PurposeText<'_>| purpose.names(caller) && purpose.covers(field);
        if of_the_question.contains(&reason) || self.purposes().into_iter().any(sees) {
            reason
        } else {
            "TOKEN_NOT_FOUND"
        }
    }
}

/// One cell of the table.
pub struct Ask<'a> {
    pub caller: &'a str,
    /// None: one that the file does not declare.
    pub purpose: Option<PurposeText<'a>>,
    pub view: &'a str,
    pub field: &'a str,
    pub referenced: bool,
    /// By which channel the person shall be reached.
    pub channel: Option<&'a str>,
    /// Type of the field.
    pub kind: &'a str,
    /// The one field that a narrow consent lists.
    pub narrow: Option<&'a str>,
    /// Whether that of another channel lists this field.
    pub narrow_elsewhere: bool,
    pub consent: ConsentCase,
    pub state: StateCase,
}

impl Ask<'_> {
    /// The true answer, in the order in which `docs/architecture.md` asks: a permit, or the reason that the log holds.
    pub fn truth(&self) -> Result<(), &'static str> {
        let purpose = self.purpose.as_ref().ok_or("PURPOSE_NOT_DECLARED")?;
        let known = |ok: bool, reason: &'static str| if ok { Ok(()) } else { Err(reason) };
        known(!purpose.is_inert(), "PURPOSE_INERT")?;
        known(purpose.names(self.caller), "CALLER_NOT_ALLOWED")?;
        known(purpose.views().contains(&self.view), "VIEW_NOT_ALLOWED")?;
        let channels = purpose.channels();
        known(channels.is_empty() || self.channel.is_some(), "CHANNEL_REQUIRED")?;
        let named = self.channel.is_none_or(|channel| channels.contains(&channel));
        known(named, "CHANNEL_NOT_ALLOWED")?;
        known(purpose.covers(self.field), "FIELD_NOT_ALLOWED")?;
        known(self.channel.is_none_or(|channel| takes(channel, self.kind)), "CHANNEL_NOT_ALLOWED")?;
        match self.state {
            StateCase::Active => {}
            StateCase::Restricted => return Err("SUBJECT_RESTRICTED"),
            StateCase::Erased => return Err("SUBJECT_ERASED"),
        }
        known(!purpose.needs_reference() || self.referenced, "LEGAL_REFERENCE_MISSING")?;
        if purpose.is_law() {
            // Claims outlive a withdrawal only where its refusal is recorded, and nobody recorded one here.
            let ended = purpose.is_for_claims() && self.consent == ConsentCase::Withdrawn;
            return known(!ended, "RETENTION_ENDED");
        }
        match self.consent {
            ConsentCase::Given => Ok(()),
            ConsentCase::OneChannel => match (channels.first(), self.channel) {
                (Some(first), Some(channel)) if *first == channel => Ok(()),
                // What serves the first channel too was consented to for that one.
                (Some(first), Some(_)) if takes(first, self.kind) => Err("CHANNEL_CONSENT_MISSING"),
                (Some(_), Some(_)) => Err("CONSENT_MISSING"),
                _ => Ok(()),
            },
            ConsentCase::Narrow if self.narrow == Some(self.field) => Ok(()),
            ConsentCase::Narrow if self.narrow_elsewhere => Err("CHANNEL_CONSENT_MISSING"),
            ConsentCase::Missing | ConsentCase::Narrow => Err("CONSENT_MISSING"),
            ConsentCase::Withdrawn => Err("CONSENT_WITHDRAWN"),
            ConsentCase::Ended => Err("CONSENT_EXPIRED"),
            ConsentCase::Incomplete => Err("CONSENT_INCOMPLETE"),
        }
    }
}

/// Whether a value of this type serves the channel: a telephone its own, a mailbox letters, anything else each.
pub fn takes(channel: &str, kind: &str) -> bool {
    match kind {
        "phone" => ["sms", "call", "messenger"].contains(&channel),
        "email" => channel == "email",
        _ => true,
    }
}

#[derive(Clone, Copy)]
pub struct PurposeText<'a>(&'a Table);

impl<'a> PurposeText<'a> {
    pub fn name(self) -> &'a str {
        text(self.0, "name")
    }

    pub fn is_inert(self) -> bool {
        self.0.contains_key("inert")
    }

    pub fn is_law(self) -> bool {
        let basis = self.0.get("basis").and_then(Value::as_table);
        basis.is_some_and(|basis| text(basis, "kind") == "law")
    }

    pub fn is_for_claims(self) -> bool {
        self.0.get("claims").and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn is_written(self) -> bool {
        self.0.get("written").and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn needs_reference(self) -> bool {
        self.is_law() || self.0.get("legal_reference").and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn fields(self) -> Vec<&'a str> {
        let fields = self.0.get("fields").and_then(Value::as_array).into_iter().flatten();
        fields.map(|field| text(field.as_table().unwrap(), "name")).collect()
    }

    pub fn channels(self) -> Vec<&'a str> {
        let channels = self.0.get("channels").and_then(Value::as_array).into_iter().flatten();
        channels.map(|channel| text(channel.as_table().unwrap(), "name")).collect()
    }

    pub fn views(self) -> Vec<&'a str> {
        names(self.0.get("views"))
    }

    fn covers(self, field: &str) -> bool {
        self.fields().contains(&field)
    }

    fn names(self, caller: &str) -> bool {
        names(self.0.get("callers")).contains(&caller)
    }
}
