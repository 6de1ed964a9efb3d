//! The mirror: a second place, outside the database, that holds every entry and head of every log.
//!
//! ```text
//! sandyq-mirror                                                       marks the place, and names this layout
//! <platform>/segments/<size>-<from>-<replica>-<random, 16 hex digits> a segment; both numbers in 20 digits
//! <platform>/heads/<replica>                                          how far this replica knows the mirror complete
//! ```
//!
//! Several replicas write at once and never to the same name: a segment's name holds its writer and 64 random bits, a
//! head's its writer. A segment is written once; a head is replaced. Nothing depends on conditional puts or on locks.

use std::{fmt, path::Path, str::FromStr as _, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;

pub use super::place::Listing;
use super::{
    error::BlobError,
    place::{Kind, Place, Put},
    s3::Bucket,
};
use crate::domain::{
    names::PlatformName,
    replica::ReplicaName,
    rng::{Rng, random_bytes},
    territory::{Territory, Use},
};

/// Most bytes of a segment: 64 MiB.
pub const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// Most bytes of a head.
const MAX_HEAD_BYTES: u64 = 16 << 10;

const MIRROR: Kind = Kind {
    tidy: false,
    what: "mirror",
    used_for: Use::Mirror,
    marker: "sandyq-mirror",
    text: "sandyq-mirror 1\n",
};

/// Name of a segment: what its writer says it holds. Ordered by size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Size of the log at its end.
    pub size: u64,
    /// Position of its first entry.
    pub from: u64,
    /// Its writer.
    pub replica: ReplicaName,
    /// Makes the name unique.
    random: String,
    platform: PlatformName,
}

impl SegmentName {
    fn new(
        platform: &PlatformName,
        from: u64,
        size: u64,
        replica: &ReplicaName,
        rng: &dyn Rng,
    ) -> Result<Self, BlobError> {
        if from >= size {
            return Err(BlobError::EmptyRange { from, size });
        }
        let random = HEXLOWER.encode(&random_bytes::<8>(rng)?);
        Ok(Self { size, from, replica: replica.clone(), random, platform: platform.clone() })
    }

    /// Parses the last part of an object's name; `None` where it is not one that [`fmt::Display`] prints.
    fn parse(platform: &PlatformName, file: &str) -> Option<Self> {
        let (size, rest) = file.split_once('-')?;
        let (from, rest) = rest.split_once('-')?;
        let (replica, random) = rest.rsplit_once('-')?;
        let name = Self {
            size: size.parse().ok()?,
            from: from.parse().ok()?,
            replica: ReplicaName::from_str(replica).ok()?,
            random: HEXLOWER.encode(&<[u8; 8]>::try_from(HEXLOWER.decode(random.as_bytes()).ok()?).ok()?),
            platform: platform.clone(),
        };
        (name.from < name.size && name.file() == file).then_some(name)
    }

    fn file(&self) -> String {
        format!("{:020}-{:020}-{}-{}", self.size, self.from, self.replica, self.random)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/segments/{}", self.platform, self.file())
    }
}

/// How far a replica says the mirror is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaHead {
    /// Who says so.
    pub replica: ReplicaName,
    /// A signed checkpoint, unchecked.
    pub checkpoint: String,
}

/// A mirror to read from.
#[derive(Clone)]
pub struct MirrorReader(Place);

impl MirrorReader {
    /// A directory that holds a mirror. Each later operation fails after `limit`; this one reads one small file, without
    /// a limit.
    ///
    /// # Errors
    /// [`BlobError::NotMarked`], [`BlobError::Directory`].
    pub fn directory(path: &Path, limit: Duration) -> Result<Self, BlobError> {
        Place::directory(path, &MIRROR, limit).map(Self)
    }

    /// A bucket that holds a mirror, reached where `territory` admits it.
    ///
    /// # Errors
    /// [`BlobError`]; [`BlobError::NotMarked`] also where it is empty.
    pub async fn bucket(
        bucket: &Bucket,
        territory: &Arc<dyn Territory>,
        limit: Duration,
    ) -> Result<Self, BlobError> {
        Place::bucket(bucket, territory, &MIRROR, limit).await.map(Self)
    }

    /// Heads of all replicas.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn heads(&self, platform: &PlatformName) -> Result<Listing<ReplicaHead>, BlobError> {
        let prefix = format!("{platform}/heads");
        let names = self.0.list(&prefix, |file| file.parse::<ReplicaName>().ok()).await?;
        let mut found = Vec::new();
        for replica in names.found {
            let bytes = self.0.read(format!("{prefix}/{replica}"), MAX_HEAD_BYTES).await?;
            // Bytes that are no text make a head that does not verify.
            found.push(ReplicaHead { replica, checkpoint: String::from_utf8_lossy(&bytes).into_owned() });
        }
        Ok(Listing { found, strange: names.strange })
    }

    /// All segments, by size.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn segments(&self, platform: &PlatformName) -> Result<Listing<SegmentName>, BlobError> {
        let prefix = format!("{platform}/segments");
        self.0.list(&prefix, |file| SegmentName::parse(platform, file)).await
    }

    /// The bytes of a segment.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] before anything is read; otherwise [`BlobError`].
    pub async fn read_segment(&self, name: &SegmentName) -> Result<Vec<u8>, BlobError> {
        self.0.read(name.to_string(), MAX_SEGMENT_BYTES).await
    }
}

/// A mirror that one replica writes to.
#[derive(Clone)]
pub struct Mirror {
    reader: MirrorReader,
    replica: ReplicaName,
}

impl Mirror {
    /// A directory, made with mode 0700 where it is missing; its parent must be there. Each later operation fails after
    /// `limit`; this one runs on the calling thread, without a limit.
    ///
    /// # Errors
    /// [`BlobError::NotADirectory`]; [`BlobError::NotMarked`] where it holds other files and was never a mirror;
    /// [`BlobError::Directory`].
    pub fn directory(path: &Path, replica: ReplicaName, limit: Duration) -> Result<Self, BlobError> {
        Place::create(path, &MIRROR)?;
        Ok(Self { reader: MirrorReader::directory(path, limit)?, replica })
    }

    /// A bucket of an S3 service, reached where `territory` admits it; one that is empty is made a mirror.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn bucket(
        bucket: &Bucket,
        territory: &Arc<dyn Territory>,
        replica: ReplicaName,
        limit: Duration,
    ) -> Result<Self, BlobError> {
        let place = Place::create_bucket(bucket, territory, &MIRROR, limit).await?;
        Ok(Self { reader: MirrorReader(place), replica })
    }

    /// The same mirror, to read from.
    #[must_use]
    pub const fn reader(&self) -> &MirrorReader {
        &self.reader
    }

    /// Writes a segment with the entries from position `from` up to a log of `size`, whole or not at all. It is durable
    /// when this returns, under a name that nobody else can choose. After [`BlobError::TimedOut`] it may be there: write
    /// it again; a second copy does no harm.
    ///
    /// # Errors
    /// [`BlobError`]; [`BlobError::NotMarked`] where the disk is no longer there.
    pub async fn put_segment(
        &self,
        platform: &PlatformName,
        from: u64,
        size: u64,
        bytes: Vec<u8>,
        rng: &dyn Rng,
    ) -> Result<SegmentName, BlobError> {
        let name = SegmentName::new(platform, from, size, &self.replica, rng)?;
        if u64::try_from(bytes.len()).is_ok_and(|len| len <= MAX_SEGMENT_BYTES) {
            self.reader.0.put(&name.to_string(), bytes, Put::New).await?;
            Ok(name)
        } else {
            Err(self.reader.0.too_large(name.to_string(), MAX_SEGMENT_BYTES))
        }
    }

    /// Replaces this replica's head: a signed checkpoint up to which it knows the segments to be there. A write that
    /// timed out may come after a later one and set the head back; it then says less, but nothing untrue.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn put_head(&self, platform: &PlatformName, checkpoint: &str) -> Result<(), BlobError> {
        let object = format!("{platform}/heads/{}", self.replica);
        self.reader.0.put(&object, checkpoint.as_bytes().to_vec(), Put::Over).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRng;

    #[test]
    fn names_of_segments_sort_by_size_and_have_one_spelling() {
        let platform: PlatformName = "lerna".parse().unwrap();
        let replica = "sandyq-0".parse().unwrap();
        let name = |from, size| SegmentName::new(&platform, from, size, &replica, &SystemRng::new()).unwrap();
        let mut names = [name(0, u64::MAX), name(99, 100), name(0, 100), name(3, 7)];
        for name in &names {
            assert_eq!(SegmentName::parse(&platform, &name.file()).as_ref(), Some(name));
        }
        let mut printed = names.each_ref().map(ToString::to_string);
        names.sort();
        printed.sort();
        assert_eq!(printed, names.each_ref().map(ToString::to_string));
        assert_ne!(name(0, 1), name(0, 1));
        assert!(SegmentName::new(&platform, 7, 7, &replica, &SystemRng::new()).is_err());

        let good = "00000000000000000007-00000000000000000003-a-b-0123456789abcdef";
        assert_eq!(SegmentName::parse(&platform, good).unwrap().replica.as_str(), "a-b");
        for bad in [
            "",
            "7-3-a-0123456789abcdef",
            "00000000000000000003-00000000000000000003-a-0123456789abcdef",
            "00000000000000000007-00000000000000000003-0123456789abcdef",
            "00000000000000000007-00000000000000000003-a-0123456789ABCDEF",
            "00000000000000000007-00000000000000000003-a-0123456789abcd",
            "+0000000000000000007-00000000000000000003-a-0123456789abcdef",
            "99999999999999999999-00000000000000000003-a-0123456789abcdef",
            "00000000000000000007-00000000000000000003-a-0123456789abcdef/x",
        ] {
            assert_eq!(SegmentName::parse(&platform, bad), None, "{bad}");
        }
    }
}
