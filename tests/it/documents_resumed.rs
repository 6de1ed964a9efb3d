//! Uploads that break off: whatever breaks and however often, they end with the same bytes or with a clear error, and what
//! they leave is what the rows name.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use sandyq::{domain::document::Side, policy::decide::Denial, vault::error::VaultError};

use crate::common::{
    backend::{Backend, on_both},
    documents::{PART, ask, content, messages, start},
    places::{Place, buckets},
    random::{Choices, rounds},
    served::{Served, reason, request_id},
    uploads::{Open, send},
};

/// Sequences of one round.
const SEQUENCES: u32 = 500;
const WORKERS: u32 = 10;

/// How a sequence ended.
enum End {
    Stored,
    Refused,
}

on_both!(an_upload_of_which_the_end_alone_was_lost_is_ended_from_there);
async fn an_upload_of_which_the_end_alone_was_lost_is_ended_from_there(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = Open::new(&backend, dir.path(), 2).await;
    for (number, size) in [(1, 999), (2, PART + 999)] {
        let image = content(number.into(), size);
        let sent = open.upload(number, Side::Front, &image);
        let mut stream = open.begin(&sent, 0).await.unwrap();
        send(&mut stream, &image).await.unwrap();
        drop(stream);
        let (offset, _) = open.query(&sent).await.unwrap();
        assert_eq!(offset, u64::try_from(size).unwrap(), "all of it is durable");
        for astray in [offset - 1, offset + 1] {
            let told = open.begin(&sent, astray).await.err();
            assert_eq!(told, Some(Denial::UploadMoved.into()), "{astray} of {size}");
        }
        let stored = open.begin(&sent, offset).await.unwrap().finish().await.unwrap();
        assert!(open.read(stored).await.unwrap() == image, "{size}");
    }
}

/// One upload, broken off and carried on at random.
async fn sequence(open: &Open, number: u32, seed: u64, pool: &[u8]) -> End {
    let mut choices = Choices::quiet(seed);
    let sizes = [40, 700, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 9];
    let size = *choices.pick(&sizes);
    let at = usize::try_from(choices.below(u64::try_from(pool.len() - size).unwrap())).unwrap();
    let mut image = pool[at..at + size].to_vec();
    image[..16].copy_from_slice(&pool[..16]);
    let sent = open.upload(number, Side::Front, &image);
    let mut wrong = image.clone();
    let altered = size > 100 && choices.below(8) == 0;
    if altered {
        let place = 50 + usize::try_from(choices.below(u64::try_from(size - 50).unwrap())).unwrap();
        wrong[place] ^= 1;
    }
    let mut offset = 0;
    let mut older = None;
    for _ in 0..choices.below(4) {
        let mut stream = open.begin(&sent, offset).await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let begins = usize::try_from(offset).unwrap();
        let stops =
            begins + usize::try_from(choices.below(u64::try_from(size - begins).unwrap().max(1))).unwrap();
        let taken = send(&mut stream, &image[begins..stops]).await;
        assert_eq!(taken, Ok(()), "seed {seed}");
        older = Some((stream, stops));
        offset = open.query(&sent).await.unwrap_or_else(|e| panic!("seed {seed}: {e}")).0;
        assert_eq!(offset, u64::try_from(stops / PART * PART).unwrap(), "seed {seed}: at a border");
        let astray = [offset + 1, offset + u64::try_from(PART).unwrap()];
        if choices.below(4) == 0 {
            let told = open.begin(&sent, *choices.pick(&astray)).await.err();
            assert_eq!(told, Some(Denial::UploadMoved.into()), "seed {seed}");
        }
        if choices.below(3) == 0 {
            // An earlier border is as good.
            let part = u64::try_from(PART).unwrap();
            offset = choices.below(offset / part + 1) * part;
        }
    }
    let mut last = open.begin(&sent, offset).await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    if let Some((mut stream, stops)) = older {
        // The stream before this one writes nothing more.
        let told = send(&mut stream, &image[stops..]).await;
        assert_eq!(told, Err(Denial::UploadMoved.into()), "seed {seed}");
    }
    let begins = usize::try_from(offset).unwrap();
    let spoilt = wrong[begins..] != image[begins..];
    let sending = send(&mut last, &wrong[begins..]).await;
    let finished = match sending {
        Ok(()) => last.finish().await,
        Err(error) => Err(error),
    };
    match finished {
        Ok(stored) => {
            assert!(!spoilt, "seed {seed}: other bytes than declared");
            assert!(open.read(stored).await.unwrap() == image, "seed {seed}: the same bytes");
            End::Stored
        }
        Err(VaultError::Denied(Denial::ContentDiffers)) if spoilt => End::Refused,
        Err(other) => panic!("seed {seed}: {other}"),
    }
}

on_both!(an_upload_that_breaks_off_ends_with_the_same_bytes_or_a_clear_error);
async fn an_upload_that_breaks_off_ends_with_the_same_bytes_or_a_clear_error(backend: Backend) {
    let mut seeds = Choices::from_seed(std::process::id().into());
    for _ in 0..rounds(1, 20) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::directory(&dir.path().join("documents"));
        sequences(&backend.fresh().await, &place, seeds.next(), SEQUENCES).await;
    }
}

on_both!(the_same_where_the_parts_lie_in_a_bucket);
async fn the_same_where_the_parts_lie_in_a_bucket(backend: Backend) {
    let mut seeds = Choices::from_seed(std::process::id().into());
    let dir = tempfile::tempdir().unwrap();
    for place in buckets(dir.path()).await {
        sequences(&backend.fresh().await, &place, seeds.next(), rounds(50, SEQUENCES)).await;
    }
}

/// As many sequences as there are people, some at a time.
async fn sequences(backend: &Backend, place: &Place, seeds: u64, count: u32) {
    let dir = tempfile::tempdir().unwrap();
    let open = Arc::new(Open::over(backend, dir.path(), count, place.parts.clone()).await);
    let pool = Arc::new(content(7, 5 * PART));
    let (stored, next) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(1)));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (open, pool) = (Arc::clone(&open), Arc::clone(&pool));
        let (stored, next) = (Arc::clone(&stored), Arc::clone(&next));
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number > count {
                    return;
                }
                let seed = seeds.wrapping_add(u64::from(number));
                if matches!(sequence(&open, number, seed, &pool).await, End::Stored) {
                    stored.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    let stored = stored.load(Ordering::SeqCst);
    assert!(stored > count / 2, "{stored} of {count} were stored in {}", place.name);
    // What is in the store is what rows name: streams that were overtaken left nothing.
    open.vault.work().await.unwrap();
    let touch = "UPDATE document_parts SET platform_id = platform_id";
    let named = backend.sql(dir.path(), touch).await;
    assert_eq!(u64::try_from(place.names().await.len()).unwrap(), named, "{}", place.name);
    let touch = "UPDATE uploads SET platform_id = platform_id";
    assert_eq!(backend.sql(dir.path(), touch).await, 0);
}

on_both!(a_stream_that_was_cut_is_carried_on_over_the_wire);
async fn a_stream_that_was_cut_is_carried_on_over_the_wire(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.with_images(1).await;
    let mut client = served.documents("backend").await;
    let image = content(1, 3 * PART + 77);
    let id = request_id();
    let of = |offset: usize| sandyq::grpc::pb::UploadStart {
        offset: i64::try_from(offset).unwrap(),
        ..start(1, sandyq::grpc::pb::DocumentSide::Front, &image)
    };
    // The client ends in the middle of the third part.
    let mut cut = messages(&id, of(0), &image, 100_000);
    cut.truncate(25);
    assert_eq!(reason(&client.send(cut).await.unwrap_err()), "UPLOAD_INCOMPLETE");
    // The connection goes away in the middle of a part.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut other = served.documents("backend").await;
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let sending = tokio::spawn(async move { other.0.upload_document(stream).await.map(drop) });
    for message in messages(&id, of(2 * PART), &image[2 * PART..], 100_000).into_iter().take(5) {
        sender.send(message).await.unwrap();
    }
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    let query = || sandyq::grpc::pb::QueryUploadRequest { request_id: id.clone() };
    let offset = client.0.query_upload(query()).await.unwrap().into_inner().offset;
    assert_eq!(offset, i64::try_from(2 * PART).unwrap());
    // Another content under the same id is another request.
    let other = sandyq::grpc::pb::UploadStart { sha256: vec![1; 32], ..of(2 * PART) };
    let refused = client.send(messages(&id, other, &image[2 * PART..], 100_000)).await;
    assert_eq!(reason(&refused.unwrap_err()), "REQUEST_ID_REUSED");
    let mut payments = served.documents("payments").await;
    let theirs = payments.0.query_upload(query()).await.unwrap_err();
    assert_eq!(reason(&theirs), "UPLOAD_NOT_FOUND", "an upload is its caller's own");
    let stored = client.send(messages(&id, of(2 * PART), &image[2 * PART..], 100_000)).await.unwrap();
    let again = client.send(messages(&id, of(0), &image, 100_000)).await.unwrap();
    assert_eq!(again, stored, "done, it is answered as before, wherever a retry begins");
    assert_eq!(served.objects().len(), 4);

    let document = stored.document_id;
    let side = sandyq::grpc::pb::DocumentSide::Front;
    for (offset, length) in
        [(0, 1), (PART - 1, 2), (PART, PART), (5, 3 * PART), (3 * PART, 0), (3 * PART + 76, 9), (9 * PART, 1)]
    {
        let number = |at: usize| i64::try_from(at).unwrap();
        let request = sandyq::grpc::pb::DownloadDocumentRequest {
            offset: number(offset),
            length: number(length),
            ..ask(&document, side)
        };
        let (head, bytes, ended) = payments.get(request).await;
        assert!(head.is_some() && ended.is_ok());
        let end = if length == 0 { image.len() } else { image.len().min(offset + length) };
        let expected = image.get(offset..end).unwrap_or_default();
        assert!(bytes == expected, "{} bytes from {offset}", bytes.len());
    }
    served.running.stop().await.unwrap();
}
