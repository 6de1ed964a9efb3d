//! Typed ids. An id is 16 random bytes and says nothing about whom or what it names.

use std::{fmt, str::FromStr};

use super::rng::{RandomUnavailable, Rng, random_bytes};
use super::time::Timestamp;

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed {kind}")]
pub struct MalformedId {
    kind: &'static str,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        ///
        #[doc = concat!("Text form: `", $prefix, "_` and 26 characters of lower-case base32 (RFC 4648).")]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new id from `rng`.
            ///
            /// # Errors
            /// [`RandomUnavailable`] when the source fails.
            pub fn random(rng: &dyn Rng) -> Result<Self, RandomUnavailable> {
                Ok(Self(random_bytes(rng)?))
            }

            /// The id with these 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(text: &str) -> Result<Self, MalformedId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or(MalformedId { kind: concat!($prefix, " id") })
            }
        }
    };
}

random_id!(
    /// A human whose data a platform holds.
    SubjectId, "sub"
);
random_id!(
    /// One field of one subject.
    RecordId, "rec"
);
random_id!(
    /// The row of a token; the token itself is [`super::token::Token`].
    TokenRowId, "tkr"
);
random_id!(
    /// A recorded consent.
    ConsentId, "con"
);
random_id!(
    /// An enrolled caller.
    CallerId, "cal"
);
random_id!(
    /// A registered recipient.
    RecipientId, "rcp"
);
random_id!(
    /// A person of the staff.
    PersonId, "per"
);
random_id!(
    /// Something that happened to a subject, such as the end of an agreement.
    EventId, "evt"
);
random_id!(
    /// Long or delayed work.
    OperationId, "opr"
);
random_id!(
    /// An act that waits for a second person.
    ProposalId, "prp"
);
random_id!(
    /// A request of a person about their data.
    CaseId, "cas"
);
random_id!(
    /// A breach of the security of personal data.
    BreachId, "brc"
);
random_id!(
    /// A copy of data outside the vault.
    CopyId, "cpy"
);
random_id!(
    /// A standing plan of the horizon.
    HorizonId, "hor"
);
random_id!(
    /// A backup: the bytes are those of the operation that made it.
    BackupId, "bkp"
);
random_id!(
    /// The images of a document: all its sides.
    DocumentId, "doc"
);
random_id!(
    /// An upload of one side, and the version of the side that it made.
    UploadId, "upl"
);
random_id!(
    /// A stored object: one sealed part of a side.
    ObjectId, "obj"
);
random_id!(
    /// An entry of the audit log.
    EntryId, "ent"
);

fn encode(bytes: &[u8; 16]) -> String {
    data_encoding::BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn decode(text: &str) -> Option<[u8; 16]> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let bytes = data_encoding::BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// Number of a platform within the installation. 0 is the vault itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PlatformId(u32);

impl PlatformId {
    /// The vault's own platform: staff acts and the installation's log.
    pub const VAULT: Self = Self(0);

    /// The platform with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A client-made UUIDv7 (RFC 9562) that names one logical call; a retry repeats it (AIP-155).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RequestId(uuid::Uuid);

/// Why a request id is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRequestId {
    /// Not a UUID of version 7 in its 36-character form.
    #[error("request_id must be a UUIDv7 in its 36-character form")]
    Malformed,
    /// Its time lies more than 24 hours back or 5 minutes ahead.
    #[error("request_id is dated more than 24 hours back or 5 minutes ahead")]
    OutOfTime,
}

impl RequestId {
    const OLDEST_MILLIS: i64 = 24 * 60 * 60 * 1_000;
    const NEWEST_MILLIS: i64 = 5 * 60 * 1_000;

    /// A new id, for clients.
    ///
    /// # Errors
    /// [`RandomUnavailable`] when the source fails.
    pub fn new(now: Timestamp, rng: &dyn Rng) -> Result<Self, RandomUnavailable> {
        let random = random_bytes::<10>(rng)?;
        let millis = u64::try_from(now.as_micros() / 1_000).unwrap_or_default();
        Ok(Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()))
    }

    /// Parses an id and checks that its date is near `now`.
    ///
    /// # Errors
    /// [`BadRequestId`] says what is wrong.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, BadRequestId> {
        let id = uuid::Uuid::try_parse(text).map_err(|_| BadRequestId::Malformed)?;
        if text.len() != 36 || id.get_version_num() != 7 {
            return Err(BadRequestId::Malformed);
        }
        let seconds_nanos = id.get_timestamp().ok_or(BadRequestId::Malformed)?.to_unix();
        let millis = i64::try_from(seconds_nanos.0)
            .ok()
            .and_then(|s| s.checked_mul(1_000))
            .and_then(|s| s.checked_add(i64::from(seconds_nanos.1 / 1_000_000)))
            .ok_or(BadRequestId::Malformed)?;
        let age = now.as_micros() / 1_000 - millis;
        if !(-Self::NEWEST_MILLIS..=Self::OLDEST_MILLIS).contains(&age) {
            return Err(BadRequestId::OutOfTime);
        }
        Ok(Self(id))
    }

    /// The id with these 16 bytes, as it was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the UUID.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
