//! What types of fields are called where people read them.

use super::FieldType;
use crate::domain::consent::Language;

impl FieldType {
    /// Its name in a language.
    #[must_use]
    pub const fn named(self, language: Language) -> &'static str {
        let (english, russian, kazakh) = match self {
            Self::Iin => ("IIN", "ИИН", "ЖСН"),
            Self::Bin => ("BIN", "БИН", "БСН"),
            Self::PersonName => ("name", "имя", "аты-жөні"),
            Self::Phone => ("telephone", "телефон", "телефон"),
            Self::Email => ("email address", "адрес эл. почты", "эл. пошта мекенжайы"),
            Self::DocumentNumber => ("number of a document", "номер документа", "құжат нөмірі"),
            Self::Date => ("date", "дата", "күні"),
            Self::Ip => ("network address", "сетевой адрес", "желі мекенжайы"),
            Self::Text => ("text", "текст", "мәтін"),
            Self::DocumentImage => ("image of a document", "изображение документа", "құжат кескіні"),
            Self::FaceImage => ("image of a face", "изображение лица", "бет кескіні"),
        };
        match language {
            Language::En => english,
            Language::Ru => russian,
            Language::Kk => kazakh,
        }
    }
}
