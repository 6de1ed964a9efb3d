//! One segment of the mirror: entries of one log in a row, and the signed head that covers all up to the last of them.
//!
//! ```text
//! sandyq-segment 1          the format
//! vault.example.kz/lerna    origin of the log
//! 28                        position of the first entry
//! 3                         number of entries
//! <entries>                 each preceded by its length in two bytes, big-endian, as in entry bundles
//! <head>                    a signed checkpoint (C2SP) of size 28 + 3, up to the end
//! ```
//!
//! The format is frozen. Nothing in it is believed for its own sake: the head is signed, and the entries must hash to it
//! ([`super::mirror`]).

use super::layout::push_to_bundle;

/// The first line.
pub const FORMAT: &str = "sandyq-segment 1";

/// Most entries in a segment.
pub const MAX_SEGMENT_ENTRIES: usize = 65_536;

/// Most bytes of a segment: 64 MiB.
pub const MAX_SEGMENT_BYTES: usize = 64 << 20;

/// Longest origin, in bytes.
const MAX_ORIGIN_BYTES: usize = 512;

/// A segment, borrowed from whoever holds its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Origin of the log.
    pub origin: &'a str,
    /// Position of the first entry, from 0.
    pub from: u64,
    /// Entries, 1 to [`MAX_SEGMENT_ENTRIES`].
    pub entries: Vec<&'a [u8]>,
    /// The signed head of size [`Segment::size`].
    pub checkpoint: &'a str,
}

/// Bytes that are no segment, or a segment that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSegment {
    /// Does not begin with the line [`FORMAT`].
    #[error("it does not begin as a segment of format 1")]
    UnknownFormat,
    /// The lines before the entries are not as they should be.
    #[error("its {0} is malformed")]
    Header(&'static str),
    /// No entry, or more than [`MAX_SEGMENT_ENTRIES`].
    #[error("a segment has 1 to 65536 entries")]
    Entries,
    /// Ends within its entries.
    #[error("it ends within its entries")]
    Truncated,
    /// An entry longer than two bytes can say.
    #[error("an entry is too long")]
    EntryTooLong,
    /// Longer than [`MAX_SEGMENT_BYTES`].
    #[error("a segment has at most 64 MiB")]
    TooLarge,
    /// No text where the head should be.
    #[error("its head is not text")]
    Head,
}

impl<'a> Segment<'a> {
    /// Size of the log at the end of this segment: first position and number of entries. `None` beyond 2^64 - 1.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.from.checked_add(u64::try_from(self.entries.len()).ok()?)
    }

    /// The bytes. The same segment always has the same.
    ///
    /// # Errors
    /// [`BadSegment`] where a limit is passed, or the origin cannot stand in a line.
    pub fn encode(&self) -> Result<Vec<u8>, BadSegment> {
        if self.entries.is_empty() || self.entries.len() > MAX_SEGMENT_ENTRIES {
            return Err(BadSegment::Entries);
        }
        if !is_origin(self.origin) {
            return Err(BadSegment::Header("origin"));
        }
        if self.size().is_none() {
            return Err(BadSegment::Header("first position"));
        }
        if self.checkpoint.is_empty() {
            return Err(BadSegment::Head);
        }
        let count = self.entries.len();
        let mut bytes = format!("{FORMAT}\n{}\n{}\n{count}\n", self.origin, self.from).into_bytes();
        let mut left = MAX_SEGMENT_BYTES.saturating_sub(bytes.len());
        for entry in &self.entries {
            left = left.checked_sub(2 + entry.len()).ok_or(BadSegment::TooLarge)?;
            push_to_bundle(&mut bytes, entry).ok_or(BadSegment::EntryTooLong)?;
        }
        if self.checkpoint.len() > left {
            return Err(BadSegment::TooLarge);
        }
        bytes.extend_from_slice(self.checkpoint.as_bytes());
        Ok(bytes)
    }

    /// Reads the bytes of a segment. Its head is text, and no more is known of it: see [`super::head::HeadVerifier`].
    ///
    /// # Errors
    /// [`BadSegment`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BadSegment> {
        if bytes.len() > MAX_SEGMENT_BYTES {
            return Err(BadSegment::TooLarge);
        }
        let mut rest = bytes;
        if line(&mut rest) != Some(FORMAT) {
            return Err(BadSegment::UnknownFormat);
        }
        let origin = line(&mut rest).filter(|o| is_origin(o)).ok_or(BadSegment::Header("origin"))?;
        let from = number(&mut rest).ok_or(BadSegment::Header("first position"))?;
        let count = number(&mut rest).ok_or(BadSegment::Header("number of entries"))?;
        let count = usize::try_from(count).map_err(|_| BadSegment::Entries)?;
        if count == 0 || count > MAX_SEGMENT_ENTRIES {
            return Err(BadSegment::Entries);
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let (len, tail) = rest.split_first_chunk::<2>().ok_or(BadSegment::Truncated)?;
            let (entry, tail) =
                tail.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or(BadSegment::Truncated)?;
            entries.push(entry);
            rest = tail;
        }
        let checkpoint = std::str::from_utf8(rest).map_err(|_| BadSegment::Head)?;
        let segment = Self { origin, from, entries, checkpoint };
        if checkpoint.is_empty() {
            return Err(BadSegment::Truncated);
        }
        if segment.size().is_none() {
            return Err(BadSegment::Header("first position"));
        }
        Ok(segment)
    }
}

fn is_origin(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ORIGIN_BYTES && !text.contains(char::is_control)
}

/// The next line without its line feed.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = rest.iter().take(MAX_ORIGIN_BYTES + 1).position(|b| *b == b'\n')?;
    let (line, tail) = rest.split_at_checked(end)?;
    *rest = tail.split_first()?.1;
    std::str::from_utf8(line).ok()
}

/// The next line as a decimal number, written in the one shortest way.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let text = line(rest)?;
    let number = text.parse::<u64>().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment() -> Segment<'static> {
        Segment {
            origin: "vault.example.kz/lerna",
            from: 28,
            entries: vec![b"one", b"", b"three"],
            checkpoint: "vault.example.kz/lerna\n31\n\n",
        }
    }

    #[test]
    fn the_encoding_is_frozen() {
        assert_eq!(
            segment().encode().unwrap(),
            b"sandyq-segment 1\nvault.example.kz/lerna\n28\n3\n\
              \x00\x03one\x00\x00\x00\x05threevault.example.kz/lerna\n31\n\n"
        );
        assert_eq!(segment().size(), Some(31));
    }

    #[test]
    fn limits_hold_both_ways() {
        let entry = vec![7; 65_535];
        let with = |entries: Vec<&'static [u8]>| Segment { entries, ..segment() };
        assert_eq!(with(vec![]).encode(), Err(BadSegment::Entries));
        assert_eq!(with(vec![b"x"; 65_537]).encode(), Err(BadSegment::Entries));
        let most = with(vec![b"x"; 65_536]).encode().unwrap();
        assert_eq!(Segment::decode(&most).unwrap().entries.len(), 65_536);
        let large = Segment { entries: vec![&entry; 1_024], ..segment() };
        assert_eq!(large.encode(), Err(BadSegment::TooLarge));
        assert!(Segment { entries: vec![&entry; 1_023], ..segment() }.encode().is_ok());
        let longer = vec![7; 65_536];
        assert_eq!(Segment { entries: vec![&longer], ..segment() }.encode(), Err(BadSegment::EntryTooLong));
        assert_eq!(Segment::decode(&vec![0; MAX_SEGMENT_BYTES + 1]), Err(BadSegment::TooLarge));
        for from in [u64::MAX, u64::MAX - 2] {
            assert_eq!(Segment { from, ..segment() }.encode(), Err(BadSegment::Header("first position")));
        }
        for origin in ["", "a\nb", &"o".repeat(513)] {
            assert_eq!(Segment { origin, ..segment() }.encode(), Err(BadSegment::Header("origin")));
        }
        assert!(Segment { origin: &"o".repeat(512), ..segment() }.encode().is_ok());
    }

    #[test]
    fn numbers_have_one_spelling() {
        for (from, to) in
            [("\n28\n", "\n028\n"), ("\n28\n", "\n+28\n"), ("\n3\n", "\n 3\n"), ("\n3\n", "\n\n")]
        {
            let text = String::from_utf8(segment().encode().unwrap()).unwrap().replacen(from, to, 1);
            assert!(matches!(Segment::decode(text.as_bytes()), Err(BadSegment::Header(_))), "{to:?}");
        }
        let most = format!("{FORMAT}\no\n{}\n1\n\0\0head", u64::MAX);
        assert_eq!(Segment::decode(most.as_bytes()), Err(BadSegment::Header("first position")));
    }

    #[test]
    fn a_cut_segment_is_none_until_its_head_begins() {
        let bytes = segment().encode().unwrap();
        let head = bytes.len() - segment().checkpoint.len();
        for cut in 0..=head {
            assert!(Segment::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        // A cut head is text still; its signature tells.
        assert!(Segment::decode(&bytes[..=head]).is_ok());
    }

    proptest! {
        #[test]
        fn segments_round_trip(
            origin in "[a-z.]{1,20}/[a-z]{1,9}",
            from in 0..u64::MAX - 9,
            entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..9),
            checkpoint in "\\PC{1,99}",
        ) {
            let entries = entries.iter().map(Vec::as_slice).collect();
            let segment = Segment { origin: &origin, from, entries, checkpoint: &checkpoint };
            let bytes = segment.encode().unwrap();
            prop_assert_eq!(Segment::decode(&bytes), Ok(segment));
        }

        #[test]
        fn garbage_never_panics_and_what_decodes_is_canonical(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            tail in proptest::collection::vec(any::<u8>(), 0..99),
            keep in any::<prop::sample::Index>(),
            garbage in any::<bool>(),
        ) {
            let mut bytes = segment().encode().unwrap();
            if garbage {
                bytes.truncate(keep.index(bytes.len()));
                bytes.extend(tail);
            }
            for (at, byte) in edits {
                if let Some(len) = std::num::NonZero::new(bytes.len()) {
                    bytes[at.index(len.get())] = byte;
                }
            }
            if let Ok(segment) = Segment::decode(&bytes) {
                prop_assert_eq!(segment.encode().unwrap(), bytes);
            }
        }
    }
}
