use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use lifeboat_disk::fixtures::{MemoryFiles, dynamic_vhdx, gpt_disk};
use lifeboat_fve::fixtures::{VolumeOptions, ntfs_plaintext};
use lifeboat_recover::{EntryKind, ExtractOptions, NtfsBrowser, PlainVolume, RecoverError, Unobserved};

use crate::fixture::{self, format, from_files, locked, real_ntfs};

/// Every file below a folder, with its content.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn into(to: &Path) -> ExtractOptions {
    ExtractOptions { to: to.to_owned(), random_id: *b"8 random" }
}

fn large() -> Vec<u8> {
    (0..20_000).flat_map(|line| format!("line {line:06}\n").into_bytes()).collect()
}

#[test]
fn files_come_out_of_an_encrypted_volume() {
    // The fixture writer puts metadata copies into the volume, over content: only where the NTFS has none.
    let mut plain = real_ntfs();
    plain.resize(24 << 20, 0);
    let volume = format(&VolumeOptions::default(), plain);
    let (parts, size) = gpt_disk(&[&volume.image]);
    let files = MemoryFiles::default().with("disk.vhdx", dynamic_vhdx(&parts, size));
    let source = from_files(&files, "disk.vhdx");
    let locked = locked(&source);
    let opened = fixture::opened(&locked, &volume);
    let plain = PlainVolume::new(&locked, &opened).unwrap();
    let mut browser = NtfsBrowser::open(&plain).unwrap();

    let names = |entries: Vec<lifeboat_recover::Entry>| -> Vec<String> {
        entries.into_iter().map(|entry| entry.name).collect()
    };
    assert_eq!(names(browser.list("/").unwrap()), ["many", "packed", "Users", "Windows"]);
    assert_eq!(names(browser.list("C:\\users\\").unwrap()), ["Anna", "empty", "Größe.txt"]);
    let many = browser.list("many").unwrap();
    assert_eq!(many.len(), 60);
    assert!(many.iter().all(|entry| entry.kind == EntryKind::File && entry.size_bytes >= 8));
    let file = browser.list("Users/Anna/large.txt").unwrap();
    assert_eq!((file.len(), file[0].size_bytes), (1, 240_000));
    assert!(file[0].modified_unix_seconds > 1_700_000_000);
    for (path, is_missing) in [("Users/none", true), ("Users/empty/x", false), ("../etc", true)] {
        let error = browser.list(path).unwrap_err();
        assert_eq!(matches!(error, RecoverError::NoSuchPath { .. }), is_missing, "{error}");
    }

    let folder = tempfile::tempdir().unwrap();
    let cancel = AtomicBool::new(false);
    let to = folder.path().join("out");
    let report = browser.extract("Users", &into(&to), &cancel, &Unobserved).unwrap();
    assert_eq!((report.files, report.left_out_count), (4, 0), "{report:?}");
    let expected = BTreeMap::from([
        ("Anna/Documents/Report.txt".to_owned(), b"the report".to_vec()),
        ("Anna/large.txt".to_owned(), large()),
        ("Größe.txt".to_owned(), "ümlaut".as_bytes().to_vec()),
        ("empty".to_owned(), Vec::new()),
    ]);
    assert!(tree(&to) == expected, "{:?}", tree(&to).keys());
    // Nothing is overwritten: the same once more leaves all out, and says so.
    let again = browser.extract("Users", &into(&to), &cancel, &Unobserved).unwrap();
    assert_eq!((again.files, again.left_out_count), (0, 4));
    assert!(tree(&to) == expected);
    // One file alone; compressed content is named, not written wrong.
    let one = folder.path().join("one");
    browser.extract("Users/Anna/Documents/report.TXT", &into(&one), &cancel, &Unobserved).unwrap();
    assert_eq!(tree(&one).into_keys().collect::<Vec<_>>(), ["Report.txt"]);
    let packed =
        browser.extract("packed", &into(&folder.path().join("packed")), &cancel, &Unobserved).unwrap();
    assert_eq!(packed.files, 0);
    assert!(packed.left_out[0].contains("zip.txt") && packed.left_out[0].contains("compress"), "{packed:?}");
    assert!(tree(&folder.path().join("packed")).is_empty());
    // Stopped.
    let stopped =
        browser.extract("/", &into(&folder.path().join("all")), &AtomicBool::new(true), &Unobserved);
    assert!(matches!(stopped, Err(RecoverError::ExtractInterrupted { files: 0, .. })));
}

#[test]
fn damaged_structures_are_errors_and_end() {
    let volume = format(&VolumeOptions::default(), ntfs_plaintext(2 << 20, 512, 1));
    // Looks like an NTFS, but is none.
    fixture::with_plain(&fixture::source(&volume.image), &volume, |plain| {
        let error = NtfsBrowser::open(plain).and_then(|mut browser| browser.list("/")).unwrap_err();
        assert!(matches!(error, RecoverError::FileSystem { .. }), "{error}");
    });
}

/// Calls `work` with the files of the real NTFS, after `change` had its bytes.
fn with_files(change: impl FnOnce(&mut Vec<u8>), work: impl FnOnce(&mut NtfsBrowser<'_>)) {
    let mut plain = real_ntfs();
    plain.resize(24 << 20, 0);
    change(&mut plain);
    let volume = format(&VolumeOptions::default(), plain);
    fixture::with_plain(&fixture::source(&volume.image), &volume, |plain| {
        work(&mut NtfsBrowser::open(plain).unwrap());
    });
}

#[test]
fn an_extraction_touches_nothing_that_is_there() {
    with_files(
        |_| {},
        |browser| {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let cancel = AtomicBool::new(false);
            let elsewhere = tempfile::tempdir().unwrap();
            std::fs::create_dir(path("out")).unwrap();
            // Names that a temporary file could have been given, and links in the way.
            for name in ["out/empty.partial", "out/Größe.txt.partial"] {
                std::fs::write(path(name), b"mine").unwrap();
            }
            std::fs::write(elsewhere.path().join("victim"), b"mine").unwrap();
            #[cfg(unix)]
            for (name, to) in [("out/Anna", ""), ("out/Größe.txt", "victim"), ("out/empty", "none")] {
                std::os::unix::fs::symlink(elsewhere.path().join(to), path(name)).unwrap();
            }
            let report = browser.extract("Users", &into(&path("out")), &cancel, &Unobserved).unwrap();
            if cfg!(unix) {
                assert_eq!((report.files, report.left_out_count), (0, 3), "{report:?}");
            }
            assert_eq!(std::fs::read(elsewhere.path().join("victim")).unwrap(), b"mine");
            assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
            for name in ["out/empty.partial", "out/Größe.txt.partial"] {
                assert_eq!(std::fs::read(path(name)).unwrap(), b"mine");
            }
            let hidden = std::fs::read_dir(path("out")).unwrap();
            let hidden = hidden.filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".lifeboat")
            });
            assert_eq!(hidden.count(), 0, "no temporary file is left");
        },
    );
}

/// Replaces every UTF-16 occurrence of a name by one of the same length.
fn rename(bytes: &mut [u8], from: &str, to: &str) -> usize {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let (from, to) = (utf16(from), utf16(to));
    assert_eq!(from.len(), to.len());
    let mut count = 0;
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from) {
        at += found;
        bytes[at..at + from.len()].copy_from_slice(&to);
        count += 1;
    }
    count
}

#[test]
fn names_that_lead_elsewhere_are_named_and_left_out() {
    with_files(
        |bytes| {
            assert!(rename(bytes, "Report.txt", "../../../x") > 0);
            assert!(rename(bytes, "large.txt", "CON.a.txt") > 0);
            assert!(rename(bytes, "empty", "e\u{1b}[2J") > 0);
        },
        |browser| {
            let folder = tempfile::tempdir().unwrap();
            let to = folder.path().join("a/b/c/d");
            let report = browser.extract("Users", &into(&to), &AtomicBool::new(false), &Unobserved).unwrap();
            assert_eq!((report.files, report.left_out_count), (1, 3), "{report:?}");
            assert_eq!(tree(folder.path()).into_keys().collect::<Vec<_>>(), ["a/b/c/d/Größe.txt"]);
        },
    );
}

#[test]
fn a_file_that_claims_more_than_the_volume_holds_is_left_out() {
    // The sizes in the attribute of large.txt: allocated, data and initialized.
    let size = 240_000u64.to_le_bytes();
    for claimed in [1u64 << 40, (24 << 20) + 1, i64::MAX as u64] {
        with_files(
            |bytes| {
                let at =
                    bytes.windows(16).position(|window| window[..8] == size && window[8..] == size).unwrap();
                bytes[at..at + 8].copy_from_slice(&claimed.to_le_bytes());
            },
            |browser| {
                let folder = tempfile::tempdir().unwrap();
                let report =
                    browser.extract("Users/Anna", &into(folder.path()), &AtomicBool::new(false), &Unobserved);
                let report = report.unwrap();
                assert_eq!((report.files, report.left_out_count), (1, 1), "{report:?}");
                assert!(report.left_out[0].contains("large.txt"), "{report:?}");
            },
        );
    }
}
