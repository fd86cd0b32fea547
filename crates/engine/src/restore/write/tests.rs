use std::time::Duration;

use lifeboat_schema::{Class, Content, RecipientSetId};
use lifeboat_vault::seal::{NewIdentity, NoCallbacks};

use super::super::fixture::{empty, found};
use super::*;

fn identities() -> Arc<Identities> {
    let text = NewIdentity::generate().file(&[]);
    Arc::new(Identities::parse(text.expose().as_bytes(), None, NoCallbacks).unwrap())
}

/// A restore of one VM with these files, none of which is written yet.
fn work(root: &Path, files: &[(&str, &[u8])]) -> Work {
    let targets = files.iter().map(|(path, content)| Target {
        vm: 0,
        temporary: root.join("vm").join(path),
        path: (*path).to_owned(),
        size: content.len() as u64,
        digest: Digest::of(content),
        parts: 1,
        missing: AtomicUsize::new(1),
        folder: 0,
    });
    Work {
        targets: targets.collect(),
        folders: vec![(root.join("vm"), AtomicBool::new(false))],
        openers: Mutex::default(),
        failures: Mutex::default(),
        stopped: AtomicBool::new(false),
    }
}

/// A bundle with one piece: the whole of a target.
fn job(target: usize, content: &[u8]) -> Job {
    let owner = "o-x".parse().unwrap();
    let part = PartEntry {
        object: Digest::of(b"object"),
        offset: 0,
        length: 1,
        size: content.len() as u64,
        digest: Digest::of(content),
    };
    let entry = ObjectEntry {
        name: Digest::of(b"object"),
        content: Content::Bundle,
        class: Class::Metadata,
        recipients: RecipientSetId::of(&owner, Class::Metadata, &[]),
        owner,
        size: 6,
        header: 1,
        payload: Digest::of(b"bject"),
    };
    let pieces = vec![Piece { part, target, at: 0 }];
    Job { writer: "h-host".parse().unwrap(), entry, pieces }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_path_is_a_file_or_a_folder_and_not_both() {
    for paths in [["a", "A"], ["a", "A/b"], ["A/b", "a"], ["x/y/z", "X/Y"], ["x/y", "x/Y/z/z"]] {
        let artefacts = paths.iter().map(|path| empty(path)).collect();
        let chosen = [(found("vm", "id", "disk", artefacts), String::new())];
        let error = failure(&chosen);
        assert!(matches!(error, Some(RestoreError::BadPath { .. })), "{paths:?}: {error:?}");
    }
    let artefacts = ["a", "b/a", "b/b", "B/c", "ab"].map(empty).to_vec();
    let chosen = [(found("vm", "id", "disk", artefacts), String::new())];
    assert!(failure(&chosen).is_none());
}

/// What keeps the only VM away.
fn failure(chosen: &[(Found, String)]) -> Option<RestoreError> {
    let (work, jobs) = prepare(chosen, &["vm".to_owned()], Path::new("scratch")).unwrap();
    let (_, error) = work.failures.into_inner().unwrap().pop()?;
    assert!(
        work.targets.is_empty() && work.folders.is_empty() && jobs.is_empty(),
        "nothing of it is written"
    );
    Some(error)
}

#[test]
fn a_file_of_no_parts_has_the_digest_of_nothing() {
    let mut artefact = empty("a");
    artefact.digest = Digest::of(b"something");
    let chosen = [(found("vm", "id", "disk", vec![artefact]), String::new())];
    let error = failure(&chosen);
    assert!(matches!(error, Some(RestoreError::WrongDigest { .. })), "{error:?}");
}

#[test]
fn what_was_published_goes_back_when_a_name_is_taken() {
    let to = tempfile::tempdir().unwrap();
    let scratch = Scratch::create(to.path()).unwrap();
    for name in ["restore.ps1", "restore.md", "one", "two"] {
        fs::create_dir(scratch.path.join(name)).unwrap();
    }
    fs::write(to.path().join("two"), "mine").unwrap();
    let names = ["restore.ps1", "restore.md", "one", "two"];
    let error = publish(&names, &scratch.path, to.path()).unwrap_err();
    assert!(matches!(&error, RestoreError::Exists { path } if path.ends_with("two")), "{error}");
    scratch.close().unwrap();
    assert_eq!(names_in(to.path()), ["two"]);
    assert_eq!(fs::read(to.path().join("two")).unwrap(), b"mine");

    // So it is when the file system refuses: here the last is not there.
    fs::remove_file(to.path().join("two")).unwrap();
    let scratch = Scratch::create(to.path()).unwrap();
    fs::create_dir(scratch.path.join("one")).unwrap();
    let error = publish(&["one", "two"], &scratch.path, to.path()).unwrap_err();
    assert!(matches!(error, RestoreError::Write { .. }), "{error}");
    scratch.close().unwrap();
    assert!(names_in(to.path()).is_empty());
}

#[test]
fn who_was_stopped_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let work = work(folder.path(), &[("a", b"a")]);
    drop(StopOnDrop(&work));
    let fetched = Fetched::Pieces(job(0, b"a"), vec![Some(b"a".to_vec())]);
    write_job(fetched, &identities(), &work).unwrap_err();
    work.make_folder(&work.targets[0]).unwrap_err();
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn the_last_one_removes_what_was_written() {
    let around = tempfile::tempdir().unwrap();
    let to = around.path().join("to");
    let scratch = Arc::new(Scratch::create(&to).unwrap());
    let thread = Arc::clone(&scratch);
    fs::write(scratch.path.join("half"), "half").unwrap();
    drop(scratch);
    assert!(thread.path.join("half").exists(), "it still writes there");
    drop(thread);
    assert!(names_in(around.path()).is_empty(), "with the folder that was made for it");
}

#[tokio::test]
async fn no_thread_runs_any_more_after_an_error() {
    let to = tempfile::tempdir().unwrap();
    let scratch = Arc::new(Scratch::create(to.path()).unwrap());
    let files: Vec<(String, Vec<u8>)> = (0..40).map(|n| (format!("f{n}"), vec![n; 1 << 16])).collect();
    let listed: Vec<(&str, &[u8])> = files.iter().map(|(n, c)| (n.as_str(), c.as_slice())).collect();
    let work = Arc::new(work(&scratch.path, &listed));
    let fetched = files.iter().enumerate().map(|(target, (_, content))| {
        Ok(Some(Fetched::Pieces(job(target, content), vec![Some(content.clone())])))
    });
    let fetched = futures::stream::iter(fetched);
    // Somebody else's file is where the third would be.
    work.make_folder(&work.targets[3]).unwrap();
    fs::write(&work.targets[3].temporary, "another").unwrap();
    let error =
        write_fetched(fetched, &work, &scratch, &identities(), 4, &super::Unobserved).await.unwrap_err();
    assert!(matches!(&error, RestoreError::Exists { path } if path.ends_with("f3")), "{error}");
    assert!(work.stopped.load(Ordering::Relaxed));
    assert_eq!(Arc::strong_count(&work), 1, "a thread still has it");
    Arc::into_inner(scratch).expect("a thread still has it").close().unwrap();
    assert!(names_in(to.path()).is_empty());
}

#[tokio::test]
async fn a_restore_that_is_dropped_leaves_nothing() {
    let around = tempfile::tempdir().unwrap();
    let to = around.path().join("to");
    let scratch = Arc::new(Scratch::create(&to).unwrap());
    let content = b"content".as_slice();
    let work = Arc::new(work(&scratch.path, &[("a", content), ("b", content)]));
    // The second never comes.
    let fetched =
        futures::stream::iter([Ok(Some(Fetched::Pieces(job(0, content), vec![Some(content.to_vec())])))])
            .chain(futures::stream::pending());
    let identities = identities();
    {
        let writing = write_fetched(fetched, &work, &scratch, &identities, 2, &super::Unobserved);
        tokio::time::timeout(Duration::from_millis(200), writing).await.unwrap_err();
    }
    assert!(work.stopped.load(Ordering::Relaxed));
    drop(scratch);
    for _ in 0..500 {
        if !to.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(names_in(around.path()).is_empty());
}

#[test]
fn a_bundle_that_is_not_what_its_name_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let work = work(folder.path(), &[("a", b"a")]);
    let fetched = Fetched::Whole(job(0, b"a"), bytes::Bytes::from_static(b"abject"));
    assert_eq!(write_job(fetched, &identities(), &work).unwrap(), 0);
    let failures = work.failures.into_inner().unwrap();
    let [(vms, error)] = failures.as_slice() else { panic!("{failures:?}") };
    assert!(vms.iter().eq([&0]) && error.to_string().contains("digest that is its name"), "{error}");
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn a_wrong_piece_keeps_its_own_vm_away_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut work = work(folder.path(), &[("a", b"a"), ("b", b"b"), ("c", b"c")]);
    work.targets[1].vm = 1;
    let mut pieces = job(0, b"a");
    // Another content than the snapshot says.
    pieces.pieces.extend(job(1, b"x").pieces);
    pieces.pieces.extend(job(2, b"c").pieces);
    let contents = [b"a", b"x", b"c"].map(|content| Some(content.to_vec()));
    write_job(Fetched::Pieces(pieces, contents.into()), &identities(), &work).unwrap();
    let failures = work.failures.into_inner().unwrap();
    let [(vms, error)] = failures.as_slice() else { panic!("{failures:?}") };
    assert!(vms.iter().eq([&1]), "{vms:?}");
    assert!(matches!(error, RestoreError::WrongDigest { path, .. } if path == "b"), "{error}");
    assert_eq!(names_in(&folder.path().join("vm")), ["a", "c"]);
}

#[test]
fn a_name_that_the_file_system_does_not_take_keeps_its_own_vm_away_only() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(300);
    let mut work = work(folder.path(), &[("a", b"a"), (&long, b"b"), ("c", b"c")]);
    work.targets[1].vm = 1;
    let mut pieces = job(0, b"a");
    pieces.pieces.extend(job(1, b"b").pieces);
    pieces.pieces.extend(job(2, b"c").pieces);
    let contents = [b"a", b"b", b"c"].map(|content| Some(content.to_vec()));
    write_job(Fetched::Pieces(pieces, contents.into()), &identities(), &work).unwrap();
    let failures = work.failures.into_inner().unwrap();
    let [(vms, error)] = failures.as_slice() else { panic!("{failures:?}") };
    assert!(vms.iter().eq([&1]) && error.is_refused_name(), "{error}");
    assert_eq!(names_in(&folder.path().join("vm")), ["a", "c"]);
    // What is wrong with the place is wrong for all.
    for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::PermissionDenied] {
        assert!(!RestoreError::Write { path: "to".into(), source: kind.into() }.is_of_some_vms());
    }
}

#[test]
fn only_a_full_disk_wants_space() {
    let said =
        |kind: std::io::ErrorKind| RestoreError::Write { path: "to".into(), source: kind.into() }.to_string();
    assert!(said(std::io::ErrorKind::StorageFull).contains("Free space or choose another folder"));
    assert!(said(std::io::ErrorKind::QuotaExceeded).contains("Free space"));
    let denied = said(std::io::ErrorKind::PermissionDenied);
    assert!(denied.contains("Look at the folder and its rights") && !denied.contains("space"), "{denied}");
    let left = RestoreError::Left {
        cause: Box::new(RestoreError::WrongDigest { path: "f".to_owned(), expected: Digest::of(b"") }),
        path: "scratch".into(),
        source: std::io::ErrorKind::PermissionDenied.into(),
    };
    assert!(left.to_string().contains("still in scratch"), "{left}");
    assert!(matches!(left.cause(), RestoreError::WrongDigest { .. }));
}
