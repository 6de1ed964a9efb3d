//! Database, documents and KMS come and go in turns, one after the other and in any order, while people's documents are stored and read
//! and a key is rotated. Nothing that was acknowledged is lost or wrong meanwhile; once all is there again everything ends by itself or
//! by its request id, and rows and objects name each other.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sandyq::{
    blobs::{parts::Parts, s3::Bucket},
    crypto::{
        kms::{
            Kms as _,
            transit::{Login, TransitKms, TransitOptions},
        },
        random::SystemRng,
    },
    domain::{document::Side, ids::OperationId, operation::OperationState},
    vault::{
        access::Call,
        documents::{Begun, Collected, Documents, StoredSide},
        error::VaultError,
        keys::KeyKind,
    },
};
use tokio::{task::JoinSet, time::timeout};
use tokio_stream::StreamExt as _;
use zeroize::Zeroizing;

use crate::{
    common::{
        backend::{Backend, here},
        documents::{PART, content},
        line::{Flow, Line},
        random::{Choices, rounds},
        s3::Server,
        transit::Double,
        uploads::{Open, Sent, send},
        vault::{OpenVault, as_admin, staff},
    },
    reconciled::{found, reconcile_vault},
};

/// How long a client waits while something is away.
const WITHIN: Duration = Duration::from_millis(400);
/// How long what was begun may take to end once everything is there: longer than the vault waits for any of the three.
const PATIENCE: Duration = Duration::from_mins(1);
const PLACES: usize = 3;
const SEED: u64 = 14;

/// Lines to the database, to the documents and to the KMS, and what is behind them.
struct House {
    lines: [Line; PLACES],
    server: Server,
    bucket: String,
    _kms: Double,
}

impl House {
    async fn open(dir: &Path, people: u32) -> (Self, Open) {
        let (database, backend) = Line::to_database(&Backend::postgres().await, dir);
        let server = Server::in_process(&dir.join("s3s-fs")).await;
        let (documents, begins) =
            Line::to_address(server.endpoint.strip_prefix("http://").unwrap().parse().unwrap()).await;
        let double = Double::start().await;
        double.let_in("s.root", 0);
        let (kms, asked) =
            Line::to_address(double.address().strip_prefix("https://").unwrap().parse().unwrap()).await;
        let options = TransitOptions {
            address: format!("https://{asked}"),
            authority: Some(double.authority().as_bytes().to_vec()),
            mount: "transit".to_owned(),
            key: "root".to_owned(),
            login: Login::TokenFile(Box::new(|| Ok(Zeroizing::new("s.root".to_owned())))),
            territory: here(),
        };
        let transit = Arc::new(TransitKms::new(options, Arc::default()).unwrap());
        transit.make_first(&SystemRng::new()).await.unwrap();
        let open = OpenVault::create_under(&backend, dir, transit, None, |store| store).await;
        open.enrol_auditor().await;
        let bucket = server.new_bucket().await;
        let behind = Bucket { endpoint: format!("http://{begins}"), ..server.bucket(&bucket) };
        let parts = Parts::bucket(&behind, &here(), Duration::from_secs(5)).await.unwrap();
        let OpenVault { vault, clock } = open;
        let open = Open { vault: Arc::new(vault.with_documents(Some(Documents::new(parts, 64)))), clock };
        open.prepare(people).await;
        (Self { lines: [database, documents, kms], server, bucket, _kms: double }, open)
    }

    fn set(&self, place: usize, flow: Flow) {
        self.lines[place].set(flow, flow);
    }

    /// Objects of the platform in the bucket, as its owner has it.
    async fn objects(&self) -> usize {
        let owner = self.server.owner(&self.bucket);
        owner.list(Some(&"1".into())).map(Result::unwrap).collect::<Vec<_>>().await.len()
    }
}

/// A subset of the places in any order.
fn some(choices: &mut Choices) -> Vec<usize> {
    let mut places: Vec<usize> = (0..PLACES).filter(|_| choices.below(3) > 0).collect();
    shuffle(&mut places, choices);
    places
}

fn shuffle(places: &mut [usize], choices: &mut Choices) {
    for last in (1..places.len()).rev() {
        let other = usize::try_from(choices.below(u64::try_from(last + 1).unwrap())).unwrap();
        places.swap(last, other);
    }
}

/// Stores a document, or ends storing it.
async fn store(open: &Open, sent: &Sent<'_>) -> Result<StoredSide, VaultError> {
    let offset = open.query(sent).await.map_or(0, |(offset, _)| offset);
    match open.begin_or_find(sent, offset).await? {
        Begun::Stored(stored) => Ok(stored),
        Begun::Open(mut uploading) => {
            send(&mut uploading, &sent.image[usize::try_from(offset).unwrap()..]).await?;
            uploading.finish().await
        }
    }
}

/// What an officer begins, and every process works on.
async fn rotate(open: &Open) -> Result<OperationId, VaultError> {
    let admin = open.vault.caller(&staff("admin")).unwrap();
    Ok(open.vault.rotate_key(&admin, as_admin(), "lerna", KeyKind::Platform, 0).await?.id)
}

/// Works as the server does, whatever fails.
async fn work(open: Arc<Open>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        if let Ok(worked) = open.vault.work().await {
            for due in worked.long {
                // The next round takes up what failed.
                let _ended = open.vault.work_long(&due).await;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// What became of the documents, by their number.
struct Kept<'i> {
    stored: Vec<(usize, StoredSide)>,
    unknown: Vec<(usize, Sent<'i>)>,
}

impl<'i> Kept<'i> {
    /// One more document is stored, and one of those that are is read.
    async fn go_on(&mut self, open: &Open, images: &'i [Vec<u8>], choices: &mut Choices) {
        let next = self.stored.len() + self.unknown.len();
        if let Some(image) = images.get(next) {
            let sent = open.upload(u32::try_from(next).unwrap() + 1, Side::Front, image);
            match timeout(WITHIN, store(open, &sent)).await {
                Ok(Ok(stored)) => self.stored.push((next, stored)),
                Ok(Err(VaultError::Unavailable)) | Err(_) => self.unknown.push((next, sent)),
                Ok(Err(other)) => panic!("{other:?}"),
            }
        }
        if !self.stored.is_empty() {
            let (number, stored) = *choices.pick(&self.stored);
            match timeout(WITHIN, open.read(stored)).await {
                Ok(Ok(bytes)) => assert!(bytes == images[number], "document {number}"),
                Ok(Err(VaultError::Unavailable)) | Err(_) => {}
                Ok(Err(other)) => panic!("{other:?}"),
            }
        }
    }
}

/// Until it is no longer unavailable.
async fn at_last<T>(mut what: impl AsyncFnMut() -> Result<T, VaultError>) -> T {
    let began = Instant::now();
    loop {
        match what().await {
            Ok(done) => return done,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_and_goes_in_turns_everything_ends_and_rows_and_objects_agree() {
    let turns = rounds(6, 60);
    let people = 6 * turns + 1;
    let mut choices = Choices::from_seed(SEED);
    // Every fourth in two parts.
    let size = |number: u32| 999 + if number.is_multiple_of(4) { PART } else { 0 };
    let images: Vec<_> = (0..people).map(|number| content(number.into(), size(number))).collect();
    let dir = tempfile::tempdir().unwrap();
    let (house, open) = House::open(dir.path(), people).await;
    let open = Arc::new(open);
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    workers.spawn(work(Arc::clone(&open), Arc::clone(&stop)));

    let (mut kept, mut rotation) = (Kept { stored: Vec::new(), unknown: Vec::new() }, None);
    kept.go_on(&open, &images, &mut choices).await;
    for _ in 0..turns {
        let mut clogged = some(&mut choices);
        for flow in [Flow::Held, Flow::Free] {
            for place in &clogged {
                house.set(*place, flow);
                kept.go_on(&open, &images, &mut choices).await;
                if rotation.is_none() {
                    rotation = timeout(WITHIN, rotate(&open)).await.ok().and_then(Result::ok);
                }
            }
            shuffle(&mut clogged, &mut choices);
        }
    }
    let (acknowledged, unknown) = (kept.stored.len(), kept.unknown.len());
    println!("{acknowledged} were acknowledged in {turns} turns, of {unknown} nobody knew");
    assert!(acknowledged > 0 && unknown > 0, "something was away, and not all of the time");

    // All is there again.
    for (number, sent) in std::mem::take(&mut kept.unknown) {
        let stored = at_last(async || store(&open, &sent).await).await;
        kept.stored.push((number, stored));
    }
    for (number, stored) in &kept.stored {
        assert!(at_last(async || open.read(*stored).await).await == images[*number], "document {number}");
    }
    // One that was begun though nobody heard of it is in the way of another until it has ended.
    let rotation = match rotation {
        Some(known) => known,
        None => at_last(async || rotate(&open).await).await,
    };
    let began = Instant::now();
    let admin = open.vault.caller(&staff("admin")).unwrap();
    loop {
        let found = open.vault.operation(&admin, as_admin(), Call::GetOperation, rotation).await;
        let state = found.unwrap().unwrap().state;
        if state == OperationState::Done {
            break;
        }
        assert!(state == OperationState::Running && began.elapsed() < PATIENCE, "the rotation: {state:?}");
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::SeqCst);
    workers.join_all().await;

    // Each reference leads to its object; what was left by what broke off goes, and no more than that.
    let survey = open.survey().await;
    assert_eq!((survey.missing, kept.stored.len()), (0, acknowledged + unknown), "{survey:?}");
    assert_eq!(open.collect().await, OperationState::Done);
    let parts: usize = kept.stored.iter().map(|(number, _)| images[*number].len().div_ceil(PART)).sum();
    assert_eq!(house.objects().await, parts);
    let objects = parts.try_into().unwrap();
    assert_eq!(open.survey().await, Collected { objects, ..Collected::default() });
    let agreed = reconcile_vault(&open.vault, "lerna").await;
    assert_eq!(found(&agreed), []);
    for (number, stored) in &kept.stored {
        assert!(open.read(*stored).await.unwrap() == images[*number], "document {number}");
    }
}
