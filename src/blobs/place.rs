//! A place of objects with a marker of its own: opened, read, listed, written, each operation within a limit of time.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, path::Path as Location,
};
use prost::bytes::Bytes;
use tokio::{sync::Semaphore, time::timeout};
use tokio_stream::StreamExt as _;

use super::{
    error::{BlobError, Cause},
    fs,
    s3::Bucket,
};
use crate::domain::territory::{Territory, Use};

/// Operations on the store at one time, beside writes. One that does not end keeps its slot, so a stalled disk ties up this
/// many threads and no more.
const SLOTS: usize = 8;

/// Writes at one time: what is there can still be read where the disk takes no more of them. Each is synchronised, and a
/// commit of a database on the same disk waits for all that are on their way: with eight, reads of values beside uploads
/// were four times as slow as with two, and uploads no faster.
const WRITERS: usize = 2;

/// Each of them for a bucket, where an operation waits for the network and holds no thread.
const BUCKET_SLOTS: usize = 64;

/// Names that a listing reads as one operation.
const LISTED_AT_ONCE: usize = 1_024;

/// What a place is for: its name in messages, and its marker.
#[derive(Debug)]
pub(super) struct Kind {
    /// Whether directories that become empty go: where names have parts that are used once.
    pub(super) tidy: bool,
    pub(super) what: &'static str,
    pub(super) used_for: Use,
    pub(super) marker: &'static str,
    pub(super) text: &'static str,
}

/// How an object is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// Under a name that nothing has.
    New,
    /// In the place of what has the name.
    Over,
}

/// What is found under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// What belongs there.
    pub found: Vec<T>,
    /// Names that do not.
    pub strange: Vec<String>,
}

/// What a look at one object came to.
enum Looked {
    Bytes(Bytes),
    TooLarge,
    Missing(object_store::Error),
}

#[derive(Clone)]
pub(super) struct Place {
    store: Arc<dyn ObjectStore>,
    kind: &'static Kind,
    /// For messages.
    at: String,
    limit: Duration,
    slots: Arc<Semaphore>,
    writers: Arc<Semaphore>,
    /// Whether a name that is taken is refused. Not every S3 server does, so nothing depends on it: names are random.
    keeps_names: bool,
}

impl Place {
    /// Makes a directory where it is missing, and marks it where it is empty.
    pub(super) fn create(path: &Path, kind: &'static Kind) -> Result<(), BlobError> {
        fs::create(path, kind)
    }

    /// A directory that is marked.
    pub(super) fn directory(path: &Path, kind: &'static Kind, limit: Duration) -> Result<Self, BlobError> {
        let store = Arc::new(fs::open(path, kind)?);
        let (slots, writers) = (Arc::new(Semaphore::new(SLOTS)), Arc::new(Semaphore::new(WRITERS)));
        Ok(Self { store, kind, at: path.display().to_string(), limit, slots, writers, keeps_names: true })
    }

    /// A bucket, which is marked where it is empty.
    pub(super) async fn create_bucket(
        bucket: &Bucket,
        territory: &Arc<dyn Territory>,
        kind: &'static Kind,
        limit: Duration,
    ) -> Result<Self, BlobError> {
        let place = Self::at_bucket(bucket, territory, kind, limit)?;
        if !place.is_marked().await? {
            if !place.is_empty().await? {
                return Err(BlobError::NotMarked { what: kind.what, place: place.at });
            }
            place.write(kind.marker, kind.text.as_bytes().to_vec(), Put::Over).await?;
        }
        Ok(place)
    }

    /// A bucket that is marked.
    pub(super) async fn bucket(
        bucket: &Bucket,
        territory: &Arc<dyn Territory>,
        kind: &'static Kind,
        limit: Duration,
    ) -> Result<Self, BlobError> {
        let place = Self::at_bucket(bucket, territory, kind, limit)?;
        if place.is_marked().await? {
            Ok(place)
        } else {
            Err(BlobError::NotMarked { what: kind.what, place: place.at })
        }
    }

    fn at_bucket(
        bucket: &Bucket,
        territory: &Arc<dyn Territory>,
        kind: &'static Kind,
        limit: Duration,
    ) -> Result<Self, BlobError> {
        let store = Arc::new(bucket.open(kind, territory, limit)?);
        let slots = Arc::new(Semaphore::new(BUCKET_SLOTS));
        let writers = Arc::new(Semaphore::new(BUCKET_SLOTS));
        let at = format!("{}/{}", bucket.endpoint, bucket.bucket);
        Ok(Self { store, kind, at, limit, slots, writers, keeps_names: false })
    }

    /// Whether it has the marker; one of another layout is nobody's to write to.
    async fn is_marked(&self) -> Result<bool, BlobError> {
        let marker = self.kind.text.len().try_into().unwrap_or(u64::MAX);
        match self.look(self.kind.marker, marker).await? {
            Looked::Bytes(bytes) if bytes == self.kind.text.as_bytes() => Ok(true),
            Looked::Missing(_) => Ok(false),
            Looked::Bytes(_) | Looked::TooLarge => Err(self.not_marked()),
        }
    }

    async fn is_empty(&self) -> Result<bool, BlobError> {
        let mut all = self.store.list(None);
        self.run(&self.slots, "list", "", async move { all.next().await.transpose() })
            .await
            .map(|first| first.is_none())
    }

    pub(super) async fn read(&self, object: String, limit: u64) -> Result<Vec<u8>, BlobError> {
        match self.look(&object, limit).await? {
            Looked::Bytes(bytes) => Ok(bytes.into()),
            Looked::TooLarge => Err(self.too_large(object, limit)),
            Looked::Missing(error) => {
                let (what, source) = (self.kind.what, Cause::new(error));
                Err(BlobError::Store { what, doing: "read", object, source })
            }
        }
    }

    /// An object that may be missing. Where it is, the place must still be the one that was opened.
    pub(super) async fn find(&self, object: String, limit: u64) -> Result<Option<Vec<u8>>, BlobError> {
        match self.look(&object, limit).await? {
            Looked::Bytes(bytes) => Ok(Some(bytes.into())),
            Looked::TooLarge => Err(self.too_large(object, limit)),
            Looked::Missing(_) => self.check_marker().await.map(|()| None),
        }
    }

    async fn look(&self, object: &str, limit: u64) -> Result<Looked, BlobError> {
        let (store, location) = (Arc::clone(&self.store), Location::from(object));
        let read = async move {
            match store.get_opts(&location, GetOptions::default()).await {
                Ok(found) if found.meta.size > limit => Ok(Looked::TooLarge),
                Ok(found) => found.bytes().await.map(Looked::Bytes),
                Err(missing @ object_store::Error::NotFound { .. }) => Ok(Looked::Missing(missing)),
                Err(error) => Err(error),
            }
        };
        self.run(&self.slots, "read", object, read).await
    }

    pub(super) async fn list<T: Ord>(
        &self,
        prefix: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Listing<T>, BlobError> {
        self.check_marker().await?;
        let mut listing = Listing { found: Vec::new(), strange: Vec::new() };
        // Asked once more after its end, as the last slice is by the next one.
        let mut rest = self.store.list(Some(&Location::from(prefix))).fuse();
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
            (rest, names) = self.run(&self.slots, "list", prefix, some).await?;
            if names.is_empty() {
                break;
            }
            for name in names {
                let file = match prefix {
                    "" => Some(name.as_str()),
                    _ => name.strip_prefix(prefix).and_then(|file| file.strip_prefix('/')),
                };
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
        let look = has_marker(Arc::clone(&self.store), self.kind);
        let marked = self.run(&self.slots, "read", self.kind.marker, look).await?;
        marked.then_some(()).ok_or_else(|| self.not_marked())
    }

    fn not_marked(&self) -> BlobError {
        BlobError::NotMarked { what: self.kind.what, place: self.at.clone() }
    }

    /// Runs one operation on the store in a slot, and waits for slot and end no longer than the limit. The operation
    /// goes on where the wait ends: what a disk has been told cannot be taken back, and the slot says that it is busy.
    async fn run<T: Send + 'static>(
        &self,
        slots: &Arc<Semaphore>,
        doing: &'static str,
        object: &str,
        operation: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, BlobError> {
        let what = self.kind.what;
        let failed = |source| BlobError::Store { what, doing, object: object.to_owned(), source };
        let slots = Arc::clone(slots);
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
            Err(_) => Err(BlobError::TimedOut { what, doing, object: object.to_owned() }),
        }
    }

    /// Writes an object, whole or not at all; it is durable when this returns.
    pub(super) async fn put(&self, object: &str, bytes: Vec<u8>, how: Put) -> Result<(), BlobError> {
        let marked = has_marker(Arc::clone(&self.store), self.kind);
        let write = self.writing(object, bytes, how);
        let put = async move { if marked.await? { write.await.map(|()| true) } else { Ok(false) } };
        let written = self.run(&self.writers, "write", object, put).await?;
        written.then_some(()).ok_or_else(|| self.not_marked())
    }

    async fn write(&self, object: &str, bytes: Vec<u8>, how: Put) -> Result<(), BlobError> {
        self.run(&self.writers, "write", object, self.writing(object, bytes, how)).await
    }

    fn writing(
        &self,
        object: &str,
        bytes: Vec<u8>,
        how: Put,
    ) -> impl Future<Output = object_store::Result<()>> + Send + use<> {
        let (store, location) = (Arc::clone(&self.store), Location::from(object));
        let mode = match how {
            Put::New if self.keeps_names => PutMode::Create,
            Put::New | Put::Over => PutMode::Overwrite,
        };
        async move {
            let options = PutOptions { mode, ..PutOptions::default() };
            store.put_opts(&location, PutPayload::from(bytes), options).await.map(drop)
        }
    }

    /// Deletes an object that may be gone already.
    pub(super) async fn delete(&self, object: &str) -> Result<(), BlobError> {
        let (store, location) = (Arc::clone(&self.store), Location::from(object));
        let delete = async move {
            match store.delete(&location).await {
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                other => other.map(|()| true),
            }
        };
        // What is not there is gone only where the place is still the one that was opened, and not an empty mount point.
        if self.run(&self.slots, "delete", object, delete).await? {
            Ok(())
        } else {
            self.check_marker().await
        }
    }

    /// An object larger than such an object can be.
    pub(super) const fn too_large(&self, object: String, limit: u64) -> BlobError {
        BlobError::TooLarge { what: self.kind.what, object, limit }
    }
}

async fn has_marker(store: Arc<dyn ObjectStore>, kind: &Kind) -> object_store::Result<bool> {
    match store.head(&Location::from(kind.marker)).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use object_store::{
        memory::InMemory,
        throttle::{ThrottleConfig, ThrottledStore},
    };

    use super::*;

    const KIND: Kind = Kind {
        tidy: false,
        what: "test store",
        used_for: Use::Documents,
        marker: "sandyq-test",
        text: "sandyq-test 1\n",
    };
    const HOUR: Duration = Duration::from_hours(1);

    /// A place whose disk takes no write to its end within an hour.
    async fn stalled() -> Place {
        let never = ThrottleConfig { wait_put_per_call: HOUR, ..ThrottleConfig::default() };
        let inner = InMemory::new();
        inner.put(&Location::from(KIND.marker), PutPayload::from(KIND.text)).await.unwrap();
        Place {
            store: Arc::new(ThrottledStore::new(inner, never)),
            kind: &KIND,
            at: "here".to_owned(),
            limit: Duration::from_secs(2),
            slots: Arc::new(Semaphore::new(SLOTS)),
            writers: Arc::new(Semaphore::new(WRITERS)),
            keeps_names: true,
        }
    }

    #[tokio::test]
    async fn what_is_there_is_read_while_the_disk_takes_no_writes() {
        let place = stalled().await;
        let writes = (0..3 * SLOTS).map(|number| {
            let place = place.clone();
            tokio::spawn(async move { place.put(&format!("a/{number}"), vec![0; 8], Put::New).await })
        });
        for write in writes.collect::<Vec<_>>() {
            let ended = write.await.unwrap();
            assert!(matches!(ended, Err(BlobError::TimedOut { doing: "write", .. })), "{ended:?}");
        }
        // They are on their way still.
        assert_eq!(place.writers.available_permits(), 0);
        assert!(place.is_marked().await.unwrap());
        assert_eq!(place.list("a", |name| Some(name.to_owned())).await.unwrap().found, Vec::<String>::new());
        place.delete("a/none").await.unwrap();
    }
}
