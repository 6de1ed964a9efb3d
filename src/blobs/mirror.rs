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

use std::{fmt, future::Future, path::Path, str::FromStr as _, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, path::Path as Location,
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_stream::StreamExt as _;

use super::{
    error::{BlobError, Cause},
    fs,
};
use crate::domain::{
    names::PlatformName,
    replica::ReplicaName,
    rng::{Rng, random_bytes},
};

/// Most bytes of a segment: 64 MiB.
pub const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// Most bytes of a head.
const MAX_HEAD_BYTES: u64 = 16 << 10;

const MARKER: &str = "sandyq-mirror";
const MARKER_TEXT: &str = "sandyq-mirror 1\n";

/// Operations on the store at one time. One that does not end keeps its slot, so a stalled disk ties up this many
/// threads and no more.
const SLOTS: usize = 8;

/// Names that a listing reads as one operation.
const LISTED_AT_ONCE: usize = 1_024;

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

/// What is found under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// What belongs there.
    pub found: Vec<T>,
    /// Names that do not.
    pub strange: Vec<String>,
}

/// A mirror to read from.
#[derive(Clone)]
pub struct MirrorReader {
    store: Arc<dyn ObjectStore>,
    /// For messages.
    place: String,
    limit: Duration,
    slots: Arc<Semaphore>,
}

impl MirrorReader {
    /// A directory that holds a mirror. Each later operation fails after `limit`; this one reads one small file, without
    /// a limit.
    ///
    /// # Errors
    /// [`BlobError::NotAMirror`], [`BlobError::Directory`].
    pub fn directory(path: &Path, limit: Duration) -> Result<Self, BlobError> {
        let store = Arc::new(fs::open(path, MARKER, MARKER_TEXT)?);
        let slots = Arc::new(Semaphore::new(SLOTS));
        Ok(Self { store, place: path.display().to_string(), limit, slots })
    }

    /// Heads of all replicas.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn heads(&self, platform: &PlatformName) -> Result<Listing<ReplicaHead>, BlobError> {
        let prefix = format!("{platform}/heads");
        let names = self.list(&prefix, |file| file.parse::<ReplicaName>().ok()).await?;
        let mut found = Vec::new();
        for replica in names.found {
            let bytes = self.read(format!("{prefix}/{replica}"), MAX_HEAD_BYTES).await?;
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
        self.list(&prefix, |file| SegmentName::parse(platform, file)).await
    }

    /// The bytes of a segment.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] before anything is read; otherwise [`BlobError`].
    pub async fn read_segment(&self, name: &SegmentName) -> Result<Vec<u8>, BlobError> {
        self.read(name.to_string(), MAX_SEGMENT_BYTES).await
    }

    async fn read(&self, object: String, limit: u64) -> Result<Vec<u8>, BlobError> {
        let (store, location) = (Arc::clone(&self.store), Location::from(object.as_str()));
        let read = async move {
            let found = store.get_opts(&location, GetOptions::default()).await?;
            if found.meta.size > limit { Ok(None) } else { found.bytes().await.map(Some) }
        };
        match self.run("read", &object, read).await? {
            Some(bytes) => Ok(bytes.into()),
            None => Err(BlobError::TooLarge { object, limit }),
        }
    }

    async fn list<T: Ord>(
        &self,
        prefix: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Listing<T>, BlobError> {
        self.check_marker().await?;
        let mut listing = Listing { found: Vec::new(), strange: Vec::new() };
        let mut rest = self.store.list(Some(&Location::from(prefix)));
        loop {
            let some = async move {
                let mut names = Vec::new();
                while names.len() < LISTED_AT_ONCE {
                    let Some(object) = rest.next().await else { break };
                    names.push(String::from(object?.location));
                }
                Ok((rest, names))
            };
            let names;
            (rest, names) = self.run("list", prefix, some).await?;
            if names.is_empty() {
                break;
            }
            for name in names {
                let file = name.strip_prefix(prefix).and_then(|file| file.strip_prefix('/'));
                match file.and_then(&parse) {
                    Some(found) => listing.found.push(found),
                    None => listing.strange.push(name),
                }
            }
        }
        listing.found.sort();
        listing.strange.sort();
        Ok(listing)
    }

    /// Without its marker the place is another than the one that was opened: a disk that was unmounted, say. An empty
    /// listing there would be a lie, and a write lost.
    async fn check_marker(&self) -> Result<(), BlobError> {
        let store = Arc::clone(&self.store);
        let look = async move {
            match store.head(&Location::from(MARKER)).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        if self.run("read", MARKER, look).await? {
            Ok(())
        } else {
            Err(BlobError::NotAMirror(self.place.clone()))
        }
    }

    /// Runs one operation on the store in a slot, and waits for slot and end no longer than the limit. The operation
    /// goes on where the wait ends: what a disk has been told cannot be taken back, and the slot says that it is busy.
    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        object: &str,
        operation: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, BlobError> {
        let failed = |source| BlobError::Store { doing, object: object.to_owned(), source };
        let slots = Arc::clone(&self.slots);
        let outcome = timeout(self.limit, async {
            let slot = slots.acquire_owned().await.map_err(Cause::new)?;
            let task = tokio::spawn(async move {
                let outcome = operation.await;
                drop(slot);
                outcome
            });
            task.await.map_err(Cause::new)?.map_err(Cause::new)
        });
        match outcome.await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(BlobError::TimedOut { doing, object: object.to_owned() }),
        }
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
    /// [`BlobError::NotADirectory`]; [`BlobError::NotAMirror`] where it holds other files and was never a mirror;
    /// [`BlobError::Directory`].
    pub fn directory(path: &Path, replica: ReplicaName, limit: Duration) -> Result<Self, BlobError> {
        fs::create(path, MARKER, MARKER_TEXT)?;
        Ok(Self { reader: MirrorReader::directory(path, limit)?, replica })
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
    /// [`BlobError`]; [`BlobError::NotAMirror`] where the disk is no longer there.
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
            self.put(&name.to_string(), bytes, PutMode::Create).await?;
            Ok(name)
        } else {
            Err(BlobError::TooLarge { object: name.to_string(), limit: MAX_SEGMENT_BYTES })
        }
    }

    /// Replaces this replica's head: a signed checkpoint up to which it knows the segments to be there. A write that
    /// timed out may come after a later one and set the head back; it then says less, but nothing untrue.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn put_head(&self, platform: &PlatformName, checkpoint: &str) -> Result<(), BlobError> {
        let object = format!("{platform}/heads/{}", self.replica);
        self.put(&object, checkpoint.as_bytes().to_vec(), PutMode::Overwrite).await
    }

    async fn put(&self, object: &str, bytes: Vec<u8>, mode: PutMode) -> Result<(), BlobError> {
        self.reader.check_marker().await?;
        let (store, location) = (Arc::clone(&self.reader.store), Location::from(object));
        let put = async move {
            let options = PutOptions { mode, ..PutOptions::default() };
            store.put_opts(&location, PutPayload::from(bytes), options).await
        };
        self.reader.run("write", object, put).await.map(drop)
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
