//! One unambiguous byte form for what is authenticated: associated data of seals, images of rows, hashes of details.
//!
//! A label, then parts; each part is preceded by its length in four bytes, big-endian, so that no two different
//! lists of parts have the same bytes. Which parts follow is fixed by the label.

/// A labelled list of length-prefixed parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// An empty list under a label, such as the name of a table.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self(Vec::with_capacity(160)).text(label)
    }

    /// Adds bytes. Parts come from rows and requests, whose size limits lie far below 4 GiB.
    #[must_use]
    pub fn bytes(mut self, part: &[u8]) -> Self {
        let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }

    /// Adds text as UTF-8.
    #[must_use]
    pub fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    /// Adds a number as eight bytes, big-endian.
    #[must_use]
    pub fn int(self, part: i64) -> Self {
        self.bytes(&part.to_be_bytes())
    }

    /// Adds a truth value as one byte.
    #[must_use]
    pub fn flag(self, part: bool) -> Self {
        self.bytes(&[u8::from(part)])
    }

    /// Adds a number that may be missing: a truth value, then the number where there is one.
    #[must_use]
    pub fn optional_int(self, part: Option<i64>) -> Self {
        match part {
            None => self.flag(false),
            Some(number) => self.flag(true).int(number),
        }
    }

    /// Adds a list of texts: their number, then each.
    #[must_use]
    pub fn texts<'a>(self, parts: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let counted = self.int(i64::try_from(parts.len()).unwrap_or(i64::MAX));
        parts.fold(counted, Self::text)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_parts_have_different_bytes() {
        let forms = [
            Canonical::new("t"),
            Canonical::new("t").text(""),
            Canonical::new("t").text("a").text("b"),
            Canonical::new("t").text("ab"),
            Canonical::new("t").text("").text("ab"),
            Canonical::new("t").optional_int(None),
            Canonical::new("t").optional_int(Some(0)),
            Canonical::new("t").texts(["a"].into_iter()).text("b"),
            Canonical::new("t").texts(["a", "b"].into_iter()),
        ];
        for (i, a) in forms.iter().enumerate() {
            for (j, b) in forms.iter().enumerate() {
                assert_eq!(i == j, a == b, "{i} {j}");
            }
        }
    }
}
