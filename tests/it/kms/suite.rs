//! What every KMS does, whatever its kind.

use std::{collections::BTreeSet, sync::Arc};

use sandyq::{
    crypto::{
        aead::{Key, wrap_version},
        digest::RowKey,
        kms::{Kms, KmsError},
        random::SystemRng,
    },
    domain::{canonical::Canonical, secret::Sealed},
};
use tokio::task::JoinSet;

/// Whether two keys are one: their bytes stay where they are.
pub fn same(a: &Key, b: &Key) -> bool {
    let image = Canonical::new("t");
    RowKey::new(a).mac(&image) == RowKey::new(b).mac(&image)
}

fn refused<T>(result: Result<T, KmsError>) -> String {
    match result {
        Err(error @ KmsError::Version { .. }) => error.to_string(),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("not refused"),
    }
}

async fn does_not_open(kms: &dyn Kms, place: &Canonical, wrapped: &Sealed, what: &str) {
    match kms.unwrap(place, wrapped).await {
        Err(KmsError::DoesNotOpen(_)) => {}
        Err(error) => panic!("{what}: another error: {error}"),
        Ok(_) => panic!("{what}: it opens"),
    }
}

/// Runs the suite; `open` answers the KMS with a root key of this name, each time by a handle of its own.
pub async fn conforms(open: impl Fn(&str) -> Arc<dyn Kms>) {
    let rng = SystemRng::new();
    let (kms, second) = (open("root"), open("root"));
    assert!(matches!(kms.versions().await, Err(KmsError::NoRoot)), "nothing is made by asking");
    assert!(kms.check(&rng).await.is_err());
    kms.make_first(&rng).await.unwrap();
    assert!(second.make_first(&rng).await.is_err(), "a root key is made once");
    kms.check(&rng).await.unwrap();
    assert!(kms.describe().contains("root"), "{}", kms.describe());

    wraps_for_a_place(kms.as_ref(), second.as_ref()).await;
    let other = open("other");
    other.make_first(&rng).await.unwrap();
    let foreign = other.wrap(&Canonical::new("t"), &Key::random(&rng).unwrap(), &rng).await.unwrap();
    does_not_open(kms.as_ref(), &Canonical::new("t"), &foreign, "another root's").await;

    versions_come_and_go(kms.as_ref(), second.as_ref()).await;
    serves_many_at_once(&kms, second.as_ref()).await;
    assert_eq!(other.versions().await.unwrap().present, BTreeSet::from([1]), "another root is left alone");
}

async fn wraps_for_a_place(kms: &dyn Kms, second: &dyn Kms) {
    let (rng, place) = (SystemRng::new(), Canonical::new("t").text("here"));
    let key = Key::random(&rng).unwrap();
    let wrapped = kms.wrap(&place, &key, &rng).await.unwrap();
    assert_eq!(wrap_version(&wrapped), Ok(1));
    assert!(same(&second.unwrap(&place, &wrapped).await.unwrap(), &key));
    let again = kms.wrap(&place, &key, &rng).await.unwrap();
    assert!(again != wrapped, "no nonce comes twice");
    does_not_open(kms, &Canonical::new("t").text("there"), &wrapped, "another place").await;
    let bytes = wrapped.as_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        does_not_open(kms, &place, &Sealed::from_bytes(changed), &format!("byte {at}")).await;
    }
    for end in [0, 1, 6, 17, 18, bytes.len() - 1] {
        let cut = Sealed::from_bytes(bytes[..end].to_vec());
        does_not_open(kms, &place, &cut, &format!("cut to {end}")).await;
    }
    assert!(same(&kms.unwrap(&place, &wrapped).await.unwrap(), &key), "refusing harms nothing");
}

async fn versions_come_and_go(kms: &dyn Kms, second: &dyn Kms) {
    let (rng, place) = (SystemRng::new(), Canonical::new("t"));
    let key = Key::random(&rng).unwrap();
    let of_first = kms.wrap(&place, &key, &rng).await.unwrap();

    assert_eq!(kms.add_version(&rng).await.unwrap(), 2);
    let versions = second.versions().await.unwrap();
    assert_eq!((versions.active, versions.present), (1, BTreeSet::from([1, 2])));
    let wrapped = second.wrap(&place, &key, &rng).await.unwrap();
    assert_eq!(wrap_version(&wrapped), Ok(1), "an added version is not active");
    assert!(refused(kms.activate(9).await).contains("root version 9 is not there"));

    kms.activate(2).await.unwrap();
    kms.activate(2).await.unwrap();
    assert_eq!(second.versions().await.unwrap().active, 2);
    let of_second = second.wrap(&place, &key, &rng).await.unwrap();
    assert_eq!(wrap_version(&of_second), Ok(2), "a change holds for every handle");
    for wrapped in [&of_first, &of_second] {
        assert!(same(&second.unwrap(&place, wrapped).await.unwrap(), &key), "old wraps still open");
    }
    // A wrap is opened with the version that it names, and no other is tried.
    let mut renamed = of_first.as_bytes().to_vec();
    renamed[5] = 2;
    does_not_open(kms, &place, &Sealed::from_bytes(renamed), "renamed").await;

    // Back and forth, as where a rotation is given up.
    kms.activate(1).await.unwrap();
    assert_eq!(wrap_version(&second.wrap(&place, &key, &rng).await.unwrap()), Ok(1));
    assert!(refused(kms.destroy(2).await).contains("newer than the active one"));
    assert!(refused(kms.destroy(1).await).contains("is active"));
    kms.activate(2).await.unwrap();

    assert_eq!(second.add_version(&rng).await.unwrap(), 3);
    kms.activate(3).await.unwrap();
    assert!(refused(kms.destroy(2).await).contains("not the oldest"));
    kms.destroy(1).await.unwrap();
    assert!(refused(kms.destroy(1).await).contains("is not there"));
    assert!(refused(kms.activate(1).await).contains("is not there"));
    assert_eq!(second.versions().await.unwrap().present, BTreeSet::from([2, 3]));
    does_not_open(kms, &place, &of_first, "destroyed").await;
    does_not_open(second, &place, &of_first, "destroyed").await;
    assert!(same(&second.unwrap(&place, &of_second).await.unwrap(), &key));
    assert_eq!(kms.add_version(&rng).await.unwrap(), 4, "no number is used twice");
    kms.check(&rng).await.unwrap();
}

async fn serves_many_at_once(kms: &Arc<dyn Kms>, second: &dyn Kms) {
    let mut tasks = JoinSet::new();
    for number in 0..24 {
        let kms = Arc::clone(kms);
        tasks.spawn(async move {
            let (rng, place) = (SystemRng::new(), Canonical::new("t").int(number));
            let key = Key::random(&rng).unwrap();
            let wrapped = kms.wrap(&place, &key, &rng).await.unwrap();
            assert!(same(&kms.unwrap(&place, &wrapped).await.unwrap(), &key));
            wrap_version(&wrapped).unwrap()
        });
    }
    second.activate(3).await.unwrap();
    while let Some(version) = tasks.join_next().await {
        assert_eq!(version.unwrap(), 3);
    }
}
