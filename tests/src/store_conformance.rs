//! What every kind of store must do, as one suite that runs on each of them.
//!
//! The suite writes below names of its own, so it can run again on a store that keeps its content: the
//! caller gives a fresh prefix. It panics at the first deviation and says which.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_vault::store::{ConditionalCreate, Created, Entry, Store, StoreError, StorePath};

/// What a store promises beyond the minimum.
#[derive(Debug, Clone, Copy)]
pub struct Promises {
    /// Of several creators of one name exactly one wins.
    pub enforces_create: bool,
}

fn path(text: &str) -> StorePath {
    StorePath::parse(text).expect("the suite's names are good")
}

/// Runs the suite on a store that holds nothing yet below its prefix.
pub async fn run(store: &Store, promises: Promises) {
    empty_store(store).await;
    create_and_read(store).await;
    ranges(store).await;
    missing(store).await;
    conflicts(store).await;
    listing(store).await;
    many_names(store).await;
    probe(store, promises).await;
    concurrent_creators(store, promises).await;
}

async fn empty_store(store: &Store) {
    let listing = store.list("", None).await.expect("an empty store can be listed");
    assert!(listing.objects.is_empty() && listing.foreign.is_empty(), "the store is not empty: {listing:?}");
    assert!(!store.describe().is_empty());
}

async fn create_and_read(store: &Store) {
    let large: Bytes = (0..5_000_000u32).map(|n| (n * 31 % 251) as u8).collect::<Vec<_>>().into();
    for (name, bytes) in [
        ("vault.json", Bytes::from_static(b"{}")),
        ("objects/w/empty.age", Bytes::new()),
        ("objects/w/large.age", large),
        ("a.b_c-d/e/f/g/h.i", Bytes::from_static(b"deep")),
    ] {
        let path = path(name);
        let size = bytes.len() as u64;
        assert_eq!(store.head(&path).await.expect(name), None, "{name} before");
        assert_eq!(store.create_object(&path, bytes.clone()).await.expect(name), Created::Written);
        assert_eq!(store.create_object(&path, bytes.clone()).await.expect(name), Created::AlreadyThere);
        assert_eq!(store.create_record(&path, bytes.clone()).await.expect(name), Created::AlreadyThere);
        assert_eq!(store.head(&path).await.expect(name), Some(size), "{name} after");
        assert_eq!(store.read(&path, size).await.expect(name), bytes, "{name} read back");
        assert_eq!(store.read(&path, u64::MAX).await.expect(name), bytes, "{name} read without limit");
        if size > 0 {
            match store.read(&path, size - 1).await {
                Err(StoreError::TooLarge { size_bytes, max_bytes, .. }) => {
                    assert_eq!((size_bytes, max_bytes), (size, size - 1));
                }
                other => panic!("{name}: a limit of {} gave {other:?}", size - 1),
            }
        }
    }
}

async fn ranges(store: &Store) {
    let path = path("ranges");
    let bytes: Bytes = (0..100_000u32).map(|n| (n % 253) as u8).collect::<Vec<_>>().into();
    store.create_object(&path, bytes.clone()).await.expect("create");
    for range in [0..1, 0..100_000, 99_999..100_000, 4096..8192, 1..99_999] {
        let found = store.read_range(&path, range.clone()).await.expect("a range inside the object");
        assert_eq!(found, bytes.slice(range.start as usize..range.end as usize), "{range:?}");
    }
    assert!(store.read_range(&path, 5..5).await.expect("an empty range").is_empty());
    for (range, found) in
        [(99_999..100_001, 1), (100_000..100_001, 0), (200_000..200_010, 0), (0..u64::MAX, 100_000)]
    {
        match store.read_range(&path, range.clone()).await {
            Err(StoreError::Short { expected_bytes, found_bytes, .. }) => {
                assert_eq!((expected_bytes, found_bytes), (range.end - range.start, found), "{range:?}");
            }
            other => panic!("{range:?} gave {other:?}"),
        }
    }
}

async fn missing(store: &Store) {
    for name in ["absent", "objects/w/absent.age", "vault.json/below", "objects"] {
        let path = path(name);
        assert_eq!(store.head(&path).await.expect(name), None, "{name}");
        for result in [store.read(&path, 10).await, store.read_range(&path, 0..1).await] {
            assert!(matches!(result, Err(StoreError::NotFound { .. })), "{name}: {result:?}");
        }
    }
    assert!(store.list("absent", None).await.expect("list of nothing").objects.is_empty());
}

async fn conflicts(store: &Store) {
    let path = path("ledger/w/0000000001-x.json");
    let first = Bytes::from_static(b"the first record");
    assert_eq!(store.create_record(&path, first.clone()).await.expect("create"), Created::Written);
    for other in ["the other record", "a longer record than that", "short", ""] {
        let result = store.create_record(&path, Bytes::from(other)).await;
        assert!(matches!(result, Err(StoreError::Conflict { .. })), "{other:?}: {result:?}");
    }
    // For objects the name vouches for the content: only the size is looked at.
    let result = store.create_object(&path, Bytes::from_static(b"the OTHER record")).await;
    assert_eq!(result.expect("same size"), Created::AlreadyThere);
    let result = store.create_object(&path, Bytes::from_static(b"short")).await;
    assert!(matches!(result, Err(StoreError::Conflict { .. })), "{result:?}");
    assert_eq!(store.read(&path, 100).await.expect("read"), first, "a conflict changed the object");
}

async fn listing(store: &Store) {
    for name in ["list/b/2", "list/a/1", "list/b/10", "list/b2/1", "list/c"] {
        store.create_object(&path(name), Bytes::from(name)).await.expect(name);
    }
    let names = async |prefix: &str, after: Option<&str>| -> Vec<String> {
        let listing = store.list(prefix, after).await.expect(prefix);
        for listed in &listing.objects {
            assert_eq!(listed.size_bytes, listed.path.as_str().len() as u64);
        }
        listing.objects.into_iter().map(|listed| listed.path.to_string()).collect()
    };
    let all = ["list/a/1", "list/b/10", "list/b/2", "list/b2/1", "list/c"];
    assert_eq!(names("list", None).await, all);
    // A prefix is whole segments: `list/b` does not reach into `list/b2`.
    assert_eq!(names("list/b", None).await, ["list/b/10", "list/b/2"]);
    assert_eq!(names("list/b", Some("list/b/10")).await, ["list/b/2"]);
    assert_eq!(names("list", Some("list/b/1")).await, all[1..]);
    assert_eq!(names("list", Some("list/b/2")).await, all[3..]);
    assert_eq!(names("list", Some("list/c")).await, [""; 0]);
    assert_eq!(names("list/b", Some("list/zzz")).await, [""; 0]);
    for (prefix, after) in
        [("list/", None), ("/list", None), ("LIST", None), ("..", None), ("list", Some(""))]
    {
        let refused = store.list(prefix, after).await;
        assert!(
            matches!(refused, Err(StoreError::Configuration { .. })),
            "{prefix:?} {after:?}: {refused:?}"
        );
    }
}

/// More than one page of any service; then the same through the stream.
async fn many_names(store: &Store) {
    const COUNT: usize = 1_203;
    let name = |n: usize| format!("many/w/{n:010}-x");
    futures::stream::iter(0..COUNT)
        .map(|n| async move { store.create_object(&path(&name(n)), Bytes::from_static(b"x")).await })
        .buffer_unordered(16)
        .try_for_each(|created| async move {
            assert_eq!(created, Created::Written);
            Ok(())
        })
        .await
        .expect("many creates");
    for start in [None, Some(0), Some(1), Some(1000), Some(1001), Some(COUNT - 1)] {
        let after = start.map(name);
        let found = store.list("many/w", after.as_deref()).await.expect("list many");
        let expected: Vec<String> = (start.map_or(0, |n| n + 1)..COUNT).map(name).collect();
        let found: Vec<String> = found.objects.iter().map(|listed| listed.path.to_string()).collect();
        assert_eq!(found, expected, "after {after:?}");
    }
    // The number of a record without the rest of its name is a good place to start from.
    let from = store.list("many/w", Some("many/w/0000000600")).await.expect("list from a number");
    assert_eq!(from.objects[0].path.as_str(), name(600));
    let streamed: BTreeSet<String> = store
        .list_stream("many", None)
        .expect("stream")
        .map_ok(|entry| match entry {
            Entry::Object(listed) => listed.path.to_string(),
            Entry::Foreign(name) => panic!("foreign name {name}"),
        })
        .try_collect()
        .await
        .expect("stream");
    assert_eq!(streamed, (0..COUNT).map(name).collect());
}

async fn probe(store: &Store, promises: Promises) {
    let found = store.probe_conditional_create(&path("probe/1")).await.expect("probe");
    assert_eq!(found == ConditionalCreate::Enforced, promises.enforces_create, "the probe found {found:?}");
    // Asked again under the same name it must not be fooled by what it left there.
    let again = store.probe_conditional_create(&path("probe/1")).await.expect("probe again");
    assert_eq!(again == ConditionalCreate::Enforced, promises.enforces_create, "the probe found {again:?}");
}

async fn concurrent_creators(store: &Store, promises: Promises) {
    for round in 0..8 {
        let path = path(&format!("race/{round}"));
        let creators = (0..16).map(|n| {
            let (store, path) = (store.clone(), path.clone());
            tokio::spawn(
                async move { store.create_record(&path, Bytes::from(format!("creator {n:02}"))).await },
            )
        });
        let mut winners = Vec::new();
        for (n, result) in futures::future::join_all(creators).await.into_iter().enumerate() {
            match result.expect("no panic") {
                Ok(Created::Written) => winners.push(n),
                Ok(Created::AlreadyThere) => panic!("creator {n} took another's bytes for its own"),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => panic!("creator {n}: {error}"),
            }
        }
        let stands = store.read(&path, 100).await.expect("one of them stands");
        let stands = String::from_utf8(stands.to_vec()).expect("text");
        let standing: usize = stands.strip_prefix("creator ").and_then(|n| n.parse().ok()).expect(&stands);
        assert!(winners.contains(&standing), "{stands} stands, but {winners:?} won");
        if promises.enforces_create {
            assert_eq!(winners.len(), 1, "round {round}: {winners:?} won");
        }
    }
}
