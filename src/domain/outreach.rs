//! By which channel people are reached, and in whose name: what a consent to offers and news is told apart by (rule R5).

use std::{fmt, str::FromStr};

use super::{
    code::{UnknownCode, coded},
    consent::Language,
    field::FieldType,
    names::SenderName,
};

coded!(
    /// A way on which a message reaches a person.
    Channel, "channel" {
        /// A text to a telephone.
        Sms = "sms",
        /// A call, by a person or a machine.
        Call = "call",
        /// A message in a messenger that knows its user by the telephone number.
        Messenger = "messenger",
        /// A letter to a mailbox.
        Email = "email",
        /// A notice on the person's device.
        Push = "push",
        /// A letter on paper.
        Post = "post",
        /// What is shown on a site or in an application.
        Display = "display",
    }
);

impl Channel {
    /// Whether a value of this type serves the channel: a telephone number and a mailbox serve their own channels alone, so
    /// that a consent to letters opens no telephone number. Other values are content, and serve each.
    #[must_use]
    pub const fn takes(self, field_type: FieldType) -> bool {
        match field_type {
            FieldType::Phone => matches!(self, Self::Sms | Self::Call | Self::Messenger),
            FieldType::Email => matches!(self, Self::Email),
            FieldType::DocumentImage | FieldType::FaceImage => false,
            FieldType::Iin
            | FieldType::Bin
            | FieldType::PersonName
            | FieldType::DocumentNumber
            | FieldType::Date
            | FieldType::Ip
            | FieldType::Text => true,
        }
    }

    /// Its name in a language.
    #[must_use]
    pub const fn named(self, language: Language) -> &'static str {
        let (english, russian, kazakh) = match self {
            Self::Sms => ("text messages", "СМС", "СМС"),
            Self::Call => ("calls", "звонки", "қоңыраулар"),
            Self::Messenger => ("messengers", "мессенджеры", "мессенджерлер"),
            Self::Email => ("email", "эл. почта", "эл. пошта"),
            Self::Push => ("notices on a device", "уведомления на устройстве", "құрылғыдағы хабарламалар"),
            Self::Post => ("letters on paper", "бумажные письма", "қағаз хаттар"),
            Self::Display => (
                "what sites and applications show",
                "показ на сайтах и в приложениях",
                "сайттар мен қосымшалардағы көрсетілім",
            ),
        };
        match language {
            Language::En => english,
            Language::Ru => russian,
            Language::Kk => kazakh,
        }
    }
}

impl SenderName {
    /// The name that means the operator itself.
    pub const OPERATOR: &'static str = "operator";
}

/// A channel and a sender. As text, in rows and lists: both codes with a blank between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outreach {
    /// By which channel.
    pub channel: Channel,
    /// In whose name: the operator's, or a partner's that the policy names.
    pub sender: SenderName,
}

impl fmt::Display for Outreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.channel.as_str(), self.sender)
    }
}

impl FromStr for Outreach {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let unknown = UnknownCode("channel and sender");
        let (channel, sender) = text.split_once(' ').ok_or(unknown)?;
        Ok(Self { channel: channel.parse()?, sender: sender.parse().map_err(|_| unknown)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telephone_and_a_mailbox_serve_their_own_channels() {
        let of = |field_type: FieldType| -> Vec<&str> {
            Channel::ALL.iter().filter(|c| c.takes(field_type)).map(|c| c.as_str()).collect()
        };
        assert_eq!(of(FieldType::Phone), ["sms", "call", "messenger"]);
        assert_eq!(of(FieldType::Email), ["email"]);
        assert_eq!(of(FieldType::PersonName).len(), Channel::ALL.len());
        assert!(of(FieldType::FaceImage).is_empty());
    }

    #[test]
    fn both_are_one_text() {
        let both = Outreach { channel: Channel::Sms, sender: SenderName::OPERATOR.parse().unwrap() };
        assert_eq!(both.to_string(), "sms operator");
        assert_eq!("sms operator".parse(), Ok(both));
        for bad in
            ["", "sms", "sms ", " operator", "fax operator", "sms Operator", "sms  operator", "sms a b"]
        {
            assert!(bad.parse::<Outreach>().is_err(), "{bad}");
        }
    }
}
