//! A scenario file: `tests/scenarios/README.md` says it for who writes one. Whatever is misspelt is an error that names the
//! file and the step.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

/// One person's life under one policy.
pub struct Scenario {
    pub name: String,
    pub head: Head,
    pub steps: Vec<Step>,
}

/// What stands above the steps.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Name of a file of `policies/`.
    pub policy: String,
    /// What the scenario tells.
    pub about: String,
    /// Rules of `docs/rules.md` that it shows.
    pub rules: Vec<String>,
    /// Its first day; it begins at nine o'clock.
    pub starts: String,
    /// Where consents are given.
    pub site: String,
    /// In which language the person reads.
    pub language: String,
    /// What the policy's file leaves to its operator.
    #[serde(default)]
    pub operator: BTreeMap<String, Value>,
    pub person: Person,
    /// The person's values by field, in their normal form.
    pub values: BTreeMap<String, String>,
    #[serde(rename = "step")]
    steps: Vec<Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The platform's own name for the person.
    pub reference: String,
    /// As it stands in consents.
    pub name: String,
    pub kind: Option<String>,
}

/// A step: when, who, what, the answer, and what the log must hold after it.
pub struct Step {
    pub frame: Frame,
    pub act: Act,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// What happens, in words.
    pub says: String,
    /// How long after the step before; at once where neither this nor `on` stands.
    pub after: Option<String>,
    /// On which date, at nine o'clock.
    pub on: Option<String>,
    /// A caller that the policy names, `stranger`, or `staff`.
    pub by: String,
    /// `ok`, or the reason of the refusal.
    pub answer: String,
    /// Every entry that the log gets, in order.
    pub entries: Vec<Expected>,
}

/// An entry of the log. What is not named must be absent in it; a view that is not named is the full one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub call: String,
    #[serde(default = "done")]
    pub decision: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub purpose: String,
    #[serde(default)]
    pub field: String,
    #[serde(default)]
    pub object: String,
    #[serde(default)]
    pub view: String,
    #[serde(default)]
    pub recipient: String,
    #[serde(default)]
    pub reference: String,
    /// Stands for one entry of each of these fields.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Stands for one entry of each of these purposes.
    #[serde(default)]
    pub purposes: Vec<String>,
}

fn done() -> String {
    "done".into()
}

macro_rules! acts {
    ($($(#[$doc:meta])* $variant:ident($of:ty),)+) => {
        /// What somebody does.
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Act {
            $($(#[$doc])* $variant($of),)+
        }
    };
}

acts! {
    /// Stores values, and the consents given with them.
    SignUp(SignUp),
    /// Records a consent.
    Consent(Agreed),
    /// Ends consents.
    Withdraw(Withdraw),
    /// Records what retention counts from.
    Event(Event),
    /// Reads values, one after the other.
    Read(Read),
    /// Sends values to a recipient, sealed; the recipient opens them.
    Release(Release),
    /// Corrects a value.
    Correct(Correct),
    /// Blocks use.
    Block(Block),
    /// Lifts the block.
    Unblock(Referenced),
    /// Erases the person.
    Erase(Referenced),
    /// Calls the erasure off.
    CallOff(Referenced),
    /// Waits for the destruction that an erasure announced.
    Destruction(Nothing),
    /// Destroys what has ended, and waits until that is done.
    Sweep(Nothing),
    /// What ends when.
    Plan(Plan),
    /// What is held of the person.
    Held(Held),
    /// To whom values went.
    Disclosures(Disclosures),
    /// Receipts of the erasure.
    Receipts(Receipts),
    /// A request of the person is registered.
    Request(Asked),
    /// It is found out who asks.
    Identify(Identify),
    /// The work on the request begins.
    Begin(Nothing),
    /// What is asked is done.
    Fulfil(Fulfil),
    /// The person is told what is held.
    Tell(Tell),
    /// The request is answered.
    Reply(Reply),
    /// The request is refused.
    Refuse(Refuse),
    /// Requests whose time is over.
    Late(Late),
    /// Stores a side of a document.
    Upload(Upload),
    /// Reads a side of a document.
    Download(Download),
    /// Which sides of a document are held.
    Document(Document),
    /// Deletes a document.
    DeleteDocument(OfField),
    /// Applies a new version of the policy.
    Policy(Policy),
    /// Registers a recipient.
    Recipient(Recipient),
    /// Ends releases to a recipient.
    EndRecipient(Named),
}

macro_rules! parts {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* })+) => {
        $(
            #[derive(Debug, Default, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name { $($(#[$meta])* pub $field: $type,)* }
        )+
    };
}

parts! {
    Nothing {}
    Named { name: String, }
    OfField { field: String, }
    Referenced { #[serde(default)] reference: String, }
    SignUp {
        fields: Vec<String>,
        source: Option<String>,
        /// The paper behind the source.
        #[serde(default)] proof: String,
        #[serde(default)] consents: Vec<Agreed>,
    }
    Agreed {
        to: String,
        fields: Vec<String>,
        act: Option<String>,
        /// Date; now where it is absent.
        given: Option<String>,
        /// Date of its end.
        until: Option<String>,
        #[serde(default)] third_parties: bool,
        #[serde(default)] abroad: bool,
        #[serde(default)] publication: bool,
        policy_version: Option<u32>,
        /// Where it was given, and in which language, if not as the head says.
        site: Option<String>,
        language: Option<String>,
        /// By which channel people are reached, and in whose name; the operator's where it is absent.
        channel: Option<String>,
        sender: Option<String>,
    }
    Withdraw {
        /// Each purpose alone, or with the channel, and a sender but the operator: `marketing_mail by email for bank`.
        purposes: Vec<String>,
    }
    Event {
        name: String,
        on: Option<String>,
        /// Why a withdrawal is refused, and by which paper, where the event says that it is.
        bar: Option<String>,
        #[serde(default)] ground: String,
    }
    Read {
        purpose: String,
        fields: Vec<String>,
        view: Option<String>,
        #[serde(default)] age: u32,
        #[serde(default)] recipient: String,
        #[serde(default)] reference: String,
        /// The answer in another view than the full one.
        is: Option<String>,
        channel: Option<String>,
        sender: Option<String>,
    }
    Release {
        purpose: String,
        fields: Vec<String>,
        recipient: String,
        #[serde(default)] reference: String,
        channel: Option<String>,
        sender: Option<String>,
    }
    Correct { field: String, value: String, evidence: String, source: Option<String>, }
    Block { trigger: String, requester: String, review_after: String, #[serde(default)] reference: String, }
    Plan { rows: Vec<PlanRow>, }
    PlanRow {
        field: String,
        fate: String,
        #[serde(default)] purpose: String,
        #[serde(default)] month: String,
        #[serde(default)] missing: Vec<String>,
    }
    Held {
        state: String,
        fields: Vec<String>,
        /// Refusals of withdrawals: why, and by which paper.
        #[serde(default)] refused: Vec<String>,
    }
    Disclosures { of: Vec<Disclosed>, }
    Disclosed { field: String, purpose: String, #[serde(default)] recipient: String, }
    Receipts { kinds: Vec<String>, }
    Asked {
        kind: String,
        channel: String,
        site: Option<String>,
        requester: Option<String>,
        #[serde(default)] representation: String,
        #[serde(default)] reference: String,
        /// Date; now where it is absent.
        received: Option<String>,
        /// The last day on which an answer is in time.
        due: Option<String>,
    }
    Identify {
        method: String,
        evidence: String,
        /// Date on which proof of what is asked came.
        proof: Option<String>,
        due: Option<String>,
    }
    Fulfil {
        review_after: Option<String>,
        #[serde(default)] purposes: Vec<String>,
        /// Of a correction: who has a former value.
        #[serde(default)] former: Vec<Former>,
    }
    Former { recipient: String, field: String, }
    Tell {
        #[serde(default)] purpose: String,
        /// By field `full`, `masked`, or the reason why the value is withheld.
        fields: BTreeMap<String, String>,
    }
    Reply { channel: String, language: String, }
    Refuse { reasons: Vec<String>, #[serde(default)] ground: String, channel: String, language: String, }
    Late { kinds: Vec<String>, }
    Upload {
        field: String,
        side: String,
        /// The subject unless given, and the paper behind it.
        source: Option<String>,
        #[serde(default)] source_reference: String,
        #[serde(default)] replaces: u32,
        #[serde(default)] evidence: String,
    }
    Download {
        field: String,
        side: String,
        purpose: String,
        #[serde(default)] recipient: String,
        #[serde(default)] reference: String,
    }
    Document { field: String, sides: Vec<String>, whole: bool, }
    Policy { number: u32, effective: String, add: String, }
    Recipient {
        name: String,
        kind: String,
        country: Option<String>,
        /// Of one abroad; consents alone unless given, and its paper.
        safeguard: Option<String>,
        #[serde(default)] paper: String,
        #[serde(default)] promised: Vec<String>,
        purposes: Vec<String>,
        contract: String,
        until: String,
        #[serde(default)] has_key: bool,
    }
}

/// Every file of `tests/scenarios`, in order.
pub fn all() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

impl Scenario {
    pub fn load(path: &Path) -> Result<Self, String> {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).map_err(|e| format!("{name}: {e}"))?;
        Self::parse(name, &text)
    }

    pub fn parse(name: String, text: &str) -> Result<Self, String> {
        let mut head: Head = toml::from_str(text).map_err(|e| format!("{name}: {e}"))?;
        let mut steps = Vec::new();
        for (at, table) in std::mem::take(&mut head.steps).into_iter().enumerate() {
            let number = at + 1;
            let step = Step::read(table).map_err(|e| format!("{name}, step {number}: {e}"))?;
            steps.push(step);
        }
        if steps.is_empty() {
            return Err(format!("{name}: it has no step"));
        }
        Ok(Self { name, head, steps })
    }
}

impl Step {
    /// The keys of the frame, and one more: the act.
    fn read(mut table: Table) -> Result<Self, String> {
        let mut frame = Table::new();
        for key in ["says", "after", "on", "by", "answer", "entries"] {
            if let Some(value) = table.remove(key) {
                frame.insert(key.into(), value);
            }
        }
        let said = frame.get("says").and_then(Value::as_str);
        let said = said.map_or(String::new(), |says| format!("«{says}»: "));
        let acts: Vec<_> = table.keys().cloned().collect();
        let [_act] = &acts[..] else {
            return Err(format!("{said}a step has one act, and this one has {acts:?}"));
        };
        let read = |e: toml::de::Error| format!("{said}{e}");
        let frame: Frame = frame.try_into().map_err(read)?;
        if frame.after.is_some() && frame.on.is_some() {
            return Err(format!("{said}either `after` or `on`"));
        }
        let act: Act = table.try_into().map_err(read)?;
        Ok(Self { frame, act })
    }
}

impl Expected {
    /// The entries that it stands for.
    pub fn each(&self) -> Vec<Self> {
        let one = Self { fields: Vec::new(), purposes: Vec::new(), ..self.clone() };
        let by_field: Vec<_> = match &self.fields[..] {
            [] => vec![one],
            fields => fields.iter().map(|field| Self { field: field.clone(), ..one.clone() }).collect(),
        };
        if self.purposes.is_empty() {
            return by_field;
        }
        let with =
            |entry: Self| self.purposes.iter().map(move |p| Self { purpose: p.clone(), ..entry.clone() });
        by_field.into_iter().flat_map(with).collect()
    }
}
