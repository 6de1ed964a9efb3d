//! The files of an exported log: C2SP tlog-tiles, and beside it the heads of each second and the right edge.
//!
//! ```text
//! checkpoint                 the head that the export is complete up to
//! tile/<level>/<index>       256 hashes; at the right edge tile/<level>/<index>.p/<width>
//! tile/entries/<index>       entries under tile/0/<index>, each preceded by its length in two bytes, big-endian
//! heads/<second>             the last head of each second since the epoch that had one
//! right-edge                 hashes in hexadecimal, one a line
//! ```

use super::tree::TILE_WIDTH;

/// The head.
pub const CHECKPOINT: &str = "checkpoint";
/// Directory of the heads.
pub const HEADS: &str = "heads";
/// The right edge.
pub const RIGHT_EDGE: &str = "right-edge";

/// Path of a tile of hashes with `width` hashes.
#[must_use]
pub fn tile_path(level: u8, index: u64, width: usize) -> String {
    format!("tile/{level}/{}", index_path(index, width))
}

/// Path of the entries under a tile of level 0.
#[must_use]
pub fn entries_path(index: u64, width: usize) -> String {
    format!("tile/entries/{}", index_path(index, width))
}

/// Groups of three digits, all but the last behind an `x`; `.p/<width>` where the tile is not complete.
fn index_path(index: u64, width: usize) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width == TILE_WIDTH { path } else { format!("{path}.p/{width}") }
}

/// Adds an entry to a bundle. `None` where it is longer than a bundle can say.
#[must_use]
pub fn push_to_bundle(bundle: &mut Vec<u8>, entry: &[u8]) -> Option<()> {
    let len = u16::try_from(entry.len()).ok()?;
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(entry);
    Some(())
}

/// The entries of a bundle; `None` where the lengths do not add up.
#[must_use]
pub fn split_bundle(bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let (entry, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        entries.push(entry);
        rest = tail;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_tlog_tiles() {
        assert_eq!(tile_path(0, 0, 256), "tile/0/000");
        assert_eq!(tile_path(2, 1_234_067, 256), "tile/2/x001/x234/067");
        assert_eq!(tile_path(1, 5, 17), "tile/1/005.p/17");
        assert_eq!(entries_path(1_000, 3), "tile/entries/x001/000.p/3");
    }

    #[test]
    fn bundles_round_trip() {
        let mut bundle = Vec::new();
        for entry in [&b"one"[..], b"", b"three"] {
            push_to_bundle(&mut bundle, entry).unwrap();
        }
        assert_eq!(split_bundle(&bundle).unwrap(), [&b"one"[..], b"", b"three"]);
        for cut in [1, 2, 3, 4, bundle.len() - 1] {
            assert!(split_bundle(&bundle[..cut]).is_none(), "{cut}");
        }
        assert!(push_to_bundle(&mut bundle, &vec![0; 65_536]).is_none());
    }
}
