//! Images of documents and faces: sides, types of content, parts.

use super::{code::coded, consent::RecordAddress, field::FieldType, ids::DocumentId};

/// Bytes of every part of a side but the last, which may have fewer.
pub const PART_BYTES: usize = 1 << 20;
/// Most bytes of one side, whatever a policy says.
pub const MAX_DOCUMENT_BYTES: u32 = 64 << 20;

coded!(
    /// A side of a document. All sides of one field of one subject are one set: they are destroyed together (rule R23).
    Side, "side" {
        /// The front of a document.
        Front = "front",
        /// The back of a document: on an identity card it carries the machine-readable zone.
        Back = "back",
        /// The only side of an image of a face.
        Face = "face",
    }
);

coded!(
    /// What the content is, as its first bytes say; what a client says of it is not believed.
    MediaType, "media type" {
        /// JPEG.
        Jpeg = "image/jpeg",
        /// PNG.
        Png = "image/png",
        /// WebP.
        Webp = "image/webp",
        /// HEIC, and other forms of HEIF.
        Heif = "image/heif",
        /// PDF.
        Pdf = "application/pdf",
    }
);

impl MediaType {
    /// What content that begins so is; `None` for all that the vault does not take.
    #[must_use]
    pub fn sniff(start: &[u8]) -> Option<Self> {
        infer::get(start)?.mime_type().parse().ok()
    }
}

impl FieldType {
    /// The sides that a document of this type has; none where its values are texts.
    #[must_use]
    pub const fn sides(self) -> &'static [Side] {
        match self {
            Self::DocumentImage => &[Side::Front, Side::Back],
            Self::FaceImage => &[Side::Face],
            Self::Iin
            | Self::Bin
            | Self::PersonName
            | Self::Phone
            | Self::Email
            | Self::DocumentNumber
            | Self::Date
            | Self::Ip
            | Self::Text => &[],
        }
    }

    /// Whether its content is uploaded as a document, and no value.
    #[must_use]
    pub const fn is_image(self) -> bool {
        !self.sides().is_empty()
    }
}

/// The place of one side of a document: the record that its set is, in the version of the side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SideAddress {
    /// The set, which is the record of a field of a subject; the version is the side's own.
    pub record: RecordAddress,
    /// The side.
    pub side: Side,
}

impl SideAddress {
    /// The set.
    #[must_use]
    pub const fn document(&self) -> DocumentId {
        DocumentId::from_bytes(*self.record.record.as_bytes())
    }
}

/// Parts that so many bytes make.
#[must_use]
pub fn parts_of(size: u64) -> u32 {
    let part = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
    u32::try_from(size.div_ceil(part)).unwrap_or(u32::MAX)
}

/// Bytes of the part at an index of a side of so many bytes.
#[must_use]
pub fn part_length(size: u64, index: u32) -> usize {
    let part = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
    let rest = size.saturating_sub(u64::from(index).saturating_mul(part));
    usize::try_from(rest.min(part)).unwrap_or(PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_known_by_its_first_bytes() {
        let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
        for (start, expected) in [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], Some(MediaType::Jpeg)),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Some(MediaType::Png)),
            (b"RIFF\x24\0\0\0WEBPVP8 ", Some(MediaType::Webp)),
            (heic, Some(MediaType::Heif)),
            (b"%PDF-1.7\n", Some(MediaType::Pdf)),
            (b"GIF89a\x01\0\x01\0", None),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\">", None),
            (b"PK\x03\x04", None),
            (b"\x7fELF", None),
            (b"%PD", None),
            (b"", None),
        ] {
            assert_eq!(MediaType::sniff(start), expected, "{start:?}");
        }
    }

    #[test]
    fn parts_add_up() {
        let part = u64::try_from(PART_BYTES).unwrap();
        for (size, parts) in
            [(1, 1), (part - 1, 1), (part, 1), (part + 1, 2), (5 * part, 5), (5 * part + 7, 6)]
        {
            assert_eq!(parts_of(size), parts);
            let all: usize = (0..parts).map(|index| part_length(size, index)).sum();
            assert_eq!(u64::try_from(all).unwrap(), size);
            assert_eq!(part_length(size, parts), 0);
        }
    }
}
