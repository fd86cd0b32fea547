//! What a store makes of failing, lying and dying layers below it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lifeboat_tests::fault_store::{Call, Fault, FaultStore, Rule, When};
use lifeboat_vault::store::{ConditionalCreate, Created, Store, StoreError, StoreOptions};

use super::{faulty, memory, path};

const BYTES: Bytes = Bytes::from_static(b"some sealed bytes");

#[tokio::test]
async fn a_write_that_happened_counts_whatever_the_answer_was() {
    for fault in
        [Fault::Unavailable(When::After), Fault::TimedOut(When::After), Fault::Conflicting(When::After)]
    {
        let (store, faults) = faulty(1);
        faults.inject(Rule::once(Call::Put, fault));
        let created = store.create_record(&path("r"), BYTES).await;
        assert_eq!(created.expect("written"), Created::AlreadyThere, "{fault:?}");
        assert_eq!(faults.counts().puts, 1, "{fault:?}: it was written twice");
        assert_eq!(faults.peek("r").await.expect("peek"), BYTES);
    }
}

#[tokio::test]
async fn a_write_that_did_not_happen_is_repeated_where_no_layer_below_does() {
    for fault in [Fault::TimedOut(When::Before), Fault::Conflicting(When::Before)] {
        let (store, faults) = faulty(1);
        faults.inject(Rule { times: 3, ..Rule::always(Call::Put, fault) });
        assert_eq!(store.create_object(&path("o"), BYTES).await.expect("written"), Created::Written);
        assert_eq!(faults.counts().puts, 4, "{fault:?}");
        assert_eq!(faults.peek("o").await.expect("peek"), BYTES);

        let (store, faults) = faulty(1);
        faults.inject(Rule::always(Call::Put, fault));
        let error = store.create_object(&path("o"), BYTES).await.expect_err("never written");
        assert!(error.is_transient(), "{fault:?}: {error}");
        assert_eq!(faults.counts().puts, 4, "{fault:?}: not bounded by max_retries");
    }
    // A 503 has been repeated below; doing it again would multiply the attempts.
    let (store, faults) = faulty(1);
    faults.inject(Rule::always(Call::Put, Fault::Unavailable(When::Before)));
    let error = store.create_object(&path("o"), BYTES).await.expect_err("never written");
    assert!(error.is_transient() && error.to_string().contains("SlowDown"), "{error}");
    assert_eq!(faults.counts().puts, 1);
}

#[tokio::test]
async fn a_false_exists_is_told_from_a_true_one() {
    // A 409 while another's record stands there: a conflict, not a success.
    let (store, faults) = faulty(1);
    faults.replace("r", "another record").await.expect("behind the back");
    faults.inject(Rule::always(Call::Put, Fault::Conflicting(When::Before)));
    let result = store.create_record(&path("r"), BYTES).await;
    assert!(matches!(result, Err(StoreError::Conflict { .. })), "{result:?}");
    // The object vanishes between the refusal and the look.
    let (store, faults) = faulty(1);
    faults.hide_new_from_reads(true);
    assert_eq!(store.create_record(&path("r"), BYTES).await.expect("first"), Created::Written);
    let error = store.create_record(&path("r"), BYTES).await.expect_err("said to exist, never seen");
    assert!(error.is_transient() && error.to_string().contains("shows no object"), "{error}");
    faults.hide_new_from_reads(false);
    assert_eq!(store.create_record(&path("r"), BYTES).await.expect("now"), Created::AlreadyThere);
    // The look itself is refused.
    let (store, faults) = faulty(1);
    faults.replace("r", BYTES).await.expect("behind the back");
    faults.inject(Rule::always(Call::Head, Fault::Denied));
    let error = store.create_record(&path("r"), BYTES).await.expect_err("cannot look");
    assert!(error.is_denied(), "{error}");
}

#[tokio::test]
async fn each_failure_has_its_meaning_and_its_advice() {
    let (store, faults) = faulty(1);
    faults.replace("o", BYTES).await.expect("behind the back");
    let denied = Rule::once(Call::Put, Fault::Denied);
    faults.inject(denied);
    faults.inject(Rule::once(Call::Put, Fault::Full));
    faults.inject(Rule::once(Call::Get, Fault::Unavailable(When::Before)));
    faults.inject(Rule::once(Call::Get, Fault::Truncated(3)));
    faults.inject(Rule::once(Call::Get, Fault::Extended(3)));
    faults.inject(Rule::once(Call::List, Fault::TimedOut(When::Before)));
    let put = || async { store.create_object(&path("new"), BYTES).await.expect_err("fails") };
    let get = || async { store.read(&path("o"), 1000).await.expect_err("fails") };
    let errors = [
        ("Denied", put().await),
        ("Full", put().await),
        ("Unreachable", get().await),
        ("Short", get().await),
        ("TooLarge", get().await),
        ("Unreachable", store.list("", None).await.expect_err("fails")),
    ];
    for (expected, error) in &errors {
        let text = error.to_string();
        assert!(format!("{error:?}").starts_with(expected), "{expected}: {error:?}");
        assert!(text.contains("fault store") && text.ends_with('.'), "{text}");
        assert_eq!(error.is_transient(), *expected == "Unreachable", "{text}");
    }
    // With all of that over, everything works, and nothing half-written is left.
    assert_eq!(store.read(&path("o"), 1000).await.expect("read"), BYTES);
    assert_eq!(store.list("", None).await.expect("list").objects.len(), 1);
    assert_eq!(store.create_object(&path("new"), BYTES).await.expect("write"), Created::Written);
}

#[tokio::test]
async fn a_bit_flip_passes_the_store_and_repeats_with_its_seed() {
    let mut seen = Vec::new();
    for seed in [7, 7, 8] {
        let (store, faults) = faulty(seed);
        faults.replace("o", BYTES).await.expect("behind the back");
        faults.inject(Rule::once(Call::Get, Fault::BitFlipped));
        let read = store.read(&path("o"), 1000).await.expect("a store does not notice");
        let flipped: u32 = read.iter().zip(&BYTES).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((read.len(), flipped), (BYTES.len(), 1));
        seen.push(read);
        assert_eq!(store.read(&path("o"), 1000).await.expect("read"), BYTES);
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
}

#[tokio::test]
async fn a_process_dies_at_any_write_before_or_after_it() {
    for when in [When::Before, When::After] {
        for nth in 1..=5 {
            let (store, faults) = faulty(1);
            faults.crash_at(nth, when);
            let mut written = 0;
            for n in 0..5 {
                written += u64::from(store.create_object(&path(&format!("o{n}")), BYTES).await.is_ok());
            }
            assert!(faults.is_dead());
            assert_eq!(written, nth - 1, "{when:?}");
            assert!(store.read(&path("o0"), 100).await.is_err(), "the dead read");
            assert!(store.list("", None).await.is_err(), "the dead list");
            faults.revive();
            let stands = store.list("", None).await.expect("list").objects.len() as u64;
            assert_eq!(stands, nth - 1 + u64::from(when == When::After), "{when:?} {nth}");
            // The same work again finds what is there and writes the rest.
            for n in 0..5 {
                store.create_object(&path(&format!("o{n}")), BYTES).await.expect("after the restart");
            }
            assert_eq!(store.list("", None).await.expect("list").objects.len(), 5);
        }
    }
}

#[tokio::test]
async fn stale_listings_and_changes_behind_the_back_are_seen_as_they_are() {
    let (store, faults) = faulty(1);
    store.create_object(&path("old"), BYTES).await.expect("write");
    faults.hide_new_from_lists(true);
    store.create_object(&path("new"), BYTES).await.expect("write");
    assert_eq!(store.list("", None).await.expect("list").objects.len(), 1);
    assert_eq!(store.head(&path("new")).await.expect("head"), Some(BYTES.len() as u64));
    faults.hide_new_from_lists(false);
    assert_eq!(store.list("", None).await.expect("list").objects.len(), 2);
    faults.remove("old").await.expect("behind the back");
    faults.replace("new", "x").await.expect("behind the back");
    faults.replace("Foreign Name", "x").await.expect("behind the back");
    let listing = store.list("", None).await.expect("list");
    assert_eq!(listing.objects.len(), 1);
    assert_eq!(listing.objects[0].size_bytes, 1);
    assert_eq!(listing.foreign, ["Foreign Name"]);
}

#[tokio::test]
async fn calls_are_counted() {
    let (store, faults) = faulty(1);
    store.create_object(&path("o"), BYTES).await.expect("write");
    store.create_record(&path("o"), BYTES).await.expect("again");
    store.read_range(&path("o"), 0..4).await.expect("read");
    store.list("", None).await.expect("list");
    let counts = faults.counts();
    assert_eq!((counts.puts, counts.heads, counts.gets, counts.lists), (2, 1, 2, 1));
    assert_eq!((counts.bytes_written, counts.bytes_read), (34, 21));
}

#[tokio::test]
async fn rules_hit_what_they_name_and_chances_repeat_with_their_seed() {
    let outcomes = async |seed| {
        let (store, faults) = faulty(seed);
        let fault = Fault::Denied;
        faults.inject(Rule { per_mille: 300, ..Rule::always(Call::Put, fault) }.named("some"));
        let mut outcomes = Vec::new();
        for n in 0..200 {
            store.create_object(&path(&format!("other/{n}")), BYTES).await.expect("not named");
            outcomes.push(store.create_object(&path(&format!("some/{n}")), BYTES).await.is_ok());
        }
        outcomes
    };
    let first = outcomes(1).await;
    assert_eq!(first, outcomes(1).await);
    assert_ne!(first, outcomes(2).await);
    let failed = first.iter().filter(|ok| !**ok).count();
    assert!((30..90).contains(&failed), "{failed} of 200 failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_enforce_creates_is_found_out() {
    let store = memory().decorated(|inner| {
        let faults = FaultStore::new(inner, 1);
        faults.ignore_conditions(true);
        std::sync::Arc::new(faults)
    });
    let found = store.probe_conditional_create(&path("probe")).await.expect("probe");
    assert_eq!(found, ConditionalCreate::Ignored);
    // The probe must not take a refusal for another reason for enforcement.
    let (store, faults) = faulty(1);
    faults.inject(Rule::always(Call::Put, Fault::Denied));
    assert!(store.probe_conditional_create(&path("probe")).await.expect_err("denied").is_denied());
    let (store, faults) = faulty(1);
    faults.inject(Rule::always(Call::Put, Fault::Conflicting(When::Before)));
    let result = store.probe_conditional_create(&path("probe")).await;
    assert!(matches!(result, Err(StoreError::NotFound { .. })), "{result:?}");
}

#[tokio::test]
async fn no_operation_outlasts_the_total_timeout() {
    let mut options = StoreOptions::default();
    options.retry.total_timeout_seconds = 1;
    options.retry.max_backoff_seconds = 1;
    let inner = object_store::memory::InMemory::new();
    let faults = FaultStore::new(inner, 1);
    for call in [Call::Put, Call::Get, Call::Head, Call::List] {
        faults.inject(Rule::always(call, Fault::Delayed(Duration::from_secs(600))));
    }
    let store = Store::from_object_store(std::sync::Arc::new(faults), "", &options).expect("open");
    let begin = Instant::now();
    let (name, list) = (path("o"), store.list("", None));
    let (a, b, c, d) =
        futures::join!(store.create_object(&name, BYTES), store.read(&name, 10), store.head(&name), list,);
    for error in [a.err(), b.err(), c.err(), d.err()] {
        assert!(error.expect("timed out").is_transient());
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn no_more_requests_run_at_once_than_allowed() {
    let mut options = StoreOptions::default();
    options.concurrency = 4.try_into().expect("not zero");
    let faults = FaultStore::new(object_store::memory::InMemory::new(), 1);
    faults.inject(Rule::always(Call::Head, Fault::Delayed(Duration::from_millis(50))));
    let store = Store::from_object_store(std::sync::Arc::new(faults.clone()), "", &options).expect("open");
    let name = path("o");
    let all = futures::future::join_all((0..12).map(|_| store.head(&name)));
    let watched = async {
        tokio::time::sleep(Duration::from_millis(25)).await;
        faults.counts().heads
    };
    let begin = Instant::now();
    let (_, at_first) = futures::join!(all, watched);
    assert_eq!(at_first, 4);
    assert!(begin.elapsed() >= Duration::from_millis(150), "three rounds of four");
}
