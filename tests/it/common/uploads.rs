//! An open vault with a place for documents, and uploads to it without a server.

use std::{path::Path, sync::Arc, time::Duration};

use sandyq::{
    blobs::parts::Parts,
    crypto::{digest::sha256, kms::local::LocalKms, random::SystemRng},
    domain::{
        document::Side,
        ids::RequestId,
        operation::{Operation, OperationState},
        subject::ValueSource,
        time::{Clock, Timestamp},
    },
    policy::model::View,
    store::Store,
    vault::{
        Vault,
        access::Call,
        act::Asker,
        documents::{Begun, Collected, Documents, Download, DownloadAsk, NewUpload, StoredSide, Uploading},
        error::VaultError,
        replay::{Asked, Part},
        subjects::SubjectName,
    },
};

use super::{
    backend::Backend,
    documents::policy,
    served::request_id,
    vault::{OpenVault, as_admin, asker, consent, person, spiffe},
};

pub struct Open {
    pub vault: Arc<Vault>,
    pub clock: Arc<Clock>,
}

/// An upload as its client knows it.
pub struct Sent<'a> {
    pub number: u32,
    pub side: Side,
    pub image: &'a [u8],
    pub request: RequestId,
}

/// The place of documents in a directory.
pub fn place(dir: &Path) -> Documents {
    let parts = Parts::create(&dir.join("documents"), Duration::from_secs(20)).unwrap();
    Documents::new(parts, 64)
}

pub fn reference(number: u32) -> SubjectName {
    SubjectName::Reference(format!("user-{number}"))
}

impl Open {
    /// With so many synthetic people, who consent to `payments`.
    pub async fn new(backend: &Backend, dir: &Path, people: u32) -> Self {
        let parts = Parts::create(&dir.join("documents"), Duration::from_secs(20)).unwrap();
        Self::over(backend, dir, people, parts).await
    }

    /// The same over another place of parts.
    pub async fn over(backend: &Backend, dir: &Path, people: u32, parts: Parts) -> Self {
        let OpenVault { vault, clock } = OpenVault::create(backend, dir, |store| store).await;
        let vault = vault.with_documents(Some(Documents::new(parts, 64)));
        let open = Self { vault: Arc::new(vault), clock };
        open.prepare(people).await;
        open
    }

    /// One more vault over the same store and documents, in the same time.
    pub async fn beside(store: Arc<dyn Store>, clock: &Arc<Clock>, dir: &Path) -> Self {
        let kms = LocalKms::open(&dir.join("root"), &dir.join("unseal")).unwrap();
        let (clock, rng) = (Arc::clone(clock), Arc::new(SystemRng::new()));
        let vault = Vault::open(store, Arc::new(kms), Arc::clone(&clock), rng, None).await.unwrap();
        let vault = vault.with_settings(super::vault::settings()).with_documents(Some(place(dir)));
        Self { vault: Arc::new(vault), clock }
    }

    /// The policy with images, and so many people who consent to `payments`.
    pub async fn prepare(&self, people: u32) {
        let vault = &self.vault;
        let admin = vault.caller(&super::vault::staff("admin")).unwrap();
        vault.apply_policy(&admin, as_admin(), policy(), false).await.unwrap();
        let people = (1..=people).map(|number| {
            let mut consent = consent(None);
            consent.terms.fields.push("id_image".parse().unwrap());
            consent.terms.policy_version = 2;
            sandyq::vault::tokenize::NewValues { consents: vec![consent], ..person(number, None) }
        });
        let backend = vault.caller(&spiffe("backend")).unwrap();
        let stored = vault.tokenize(&backend, asker("backend"), Call::BatchTokenize, people.collect()).await;
        assert!(stored.unwrap().iter().all(Result::is_ok));
    }

    pub fn upload<'a>(&self, number: u32, side: Side, image: &'a [u8]) -> Sent<'a> {
        let request = RequestId::parse(&request_id(), self.clock.now()).unwrap();
        Sent { number, side, image, request }
    }

    /// A stream of an upload, from an offset on.
    pub async fn begin(&self, sent: &Sent<'_>, offset: u64) -> Result<Box<Uploading>, VaultError> {
        match self.begin_or_find(sent, offset).await? {
            Begun::Open(uploading) => Ok(uploading),
            Begun::Stored(_) => panic!("it is not done"),
        }
    }

    /// The same, or what is stored already.
    pub async fn begin_or_find(&self, sent: &Sent<'_>, offset: u64) -> Result<Begun, VaultError> {
        let caller = self.vault.caller(&spiffe("backend")).unwrap();
        let request = Asked { id: sent.request, body_mac: [7; 32], part: Part::Alone };
        let asker = Asker { request: Some(request), ..asker("backend") };
        let new = NewUpload {
            subject: reference(sent.number),
            field: "id_image".parse().unwrap(),
            side: sent.side,
            size: u64::try_from(sent.image.len()).unwrap(),
            sha256: sha256(sent.image),
            source: ValueSource::Subject,
            replaces: 0,
            reference: None,
            offset,
        };
        self.vault.begin_upload(&caller, asker, new).await
    }

    /// Where the next stream of an upload begins.
    pub async fn query(&self, sent: &Sent<'_>) -> Result<(u64, Timestamp), VaultError> {
        let caller = self.vault.caller(&spiffe("backend")).unwrap();
        self.vault.query_upload(&caller, asker("backend"), sent.request).await
    }

    pub async fn put(&self, number: u32, side: Side, image: &[u8]) -> Result<StoredSide, VaultError> {
        let mut uploading = self.begin(&self.upload(number, side, image), 0).await?;
        send(&mut uploading, image).await?;
        uploading.finish().await
    }

    pub async fn erase(&self, number: u32) {
        let caller = self.vault.caller(&spiffe("backend")).unwrap();
        self.vault.erase_subject(&caller, asker("backend"), "", reference(number), None).await.unwrap();
    }

    pub async fn download(&self, stored: StoredSide) -> Result<Download, VaultError> {
        let ask = DownloadAsk {
            document: stored.document,
            side: stored.side,
            purpose: "payments".parse().unwrap(),
            view: View::Full,
            recipient: None,
            reference: None,
            bytes: 0..u64::MAX,
        };
        let caller = self.vault.caller(&spiffe("payments")).unwrap();
        self.vault.download_document(&caller, asker("payments"), ask).await
    }

    /// All bytes of a side.
    pub async fn read(&self, stored: StoredSide) -> Result<Vec<u8>, VaultError> {
        let (content, mut bytes) = (self.download(stored).await?.content.unwrap(), Vec::new());
        for from in content.starts() {
            bytes.extend_from_slice(&content.piece(from).await?.bytes);
        }
        Ok(bytes)
    }
}

impl Open {
    pub async fn survey(&self) -> Collected {
        let admin = self.vault.caller(&super::vault::staff("admin")).unwrap();
        self.vault.survey_documents(&admin, as_admin(), "lerna").await.unwrap()
    }

    pub async fn begin_collection(&self) -> Result<Operation, VaultError> {
        let admin = self.vault.caller(&super::vault::staff("admin")).unwrap();
        self.vault.collect_documents(&admin, as_admin(), "lerna").await
    }

    /// Collects, and answers how it ended.
    pub async fn collect(&self) -> OperationState {
        let begun = self.begin_collection().await.unwrap();
        let worked = self.vault.work().await.unwrap();
        let [long] = worked.long.as_slice() else { panic!("{worked:?}") };
        assert_eq!(long.id, begun.id);
        self.vault.work_long(long).await.unwrap();
        let admin = self.vault.caller(&super::vault::staff("admin")).unwrap();
        let call = Call::GetOperation;
        let ended = self.vault.operation(&admin, as_admin(), call, begun.id).await.unwrap().unwrap();
        ended.state
    }
}

/// Sends bytes, and stores each part that becomes complete.
pub async fn send(uploading: &mut Uploading, mut bytes: &[u8]) -> Result<(), VaultError> {
    while !bytes.is_empty() {
        let taken = uploading.take(bytes).await?;
        bytes = &bytes[taken..];
        if uploading.part_is_complete() {
            uploading.store_part().await?;
        }
    }
    uploading.stored().await
}

/// Objects in the document store.
pub fn objects(dir: &Path) -> usize {
    let (mut count, mut dirs) = (0, vec![dir.join("documents/1")]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { count += 1 }
        }
    }
    count
}
