use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use lifeboat_disk::fixtures::{MemoryFiles, dynamic_vhdx, gpt_disk};
use lifeboat_fve::fixtures::{VolumeOptions, ntfs_plaintext};
use lifeboat_recover::{EntryKind, NtfsBrowser, PlainVolume, RecoverError, Unobserved};

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
    let report = browser.extract("Users", &to, &cancel, &Unobserved).unwrap();
    assert_eq!((report.files, report.left_out_count), (4, 0), "{report:?}");
    let expected = BTreeMap::from([
        ("Anna/Documents/Report.txt".to_owned(), b"the report".to_vec()),
        ("Anna/large.txt".to_owned(), large()),
        ("Größe.txt".to_owned(), "ümlaut".as_bytes().to_vec()),
        ("empty".to_owned(), Vec::new()),
    ]);
    assert!(tree(&to) == expected, "{:?}", tree(&to).keys());
    // Nothing is overwritten: the same once more leaves all out, and says so.
    let again = browser.extract("Users", &to, &cancel, &Unobserved).unwrap();
    assert_eq!((again.files, again.left_out_count), (0, 4));
    assert!(tree(&to) == expected);
    // One file alone; compressed content is named, not written wrong.
    let one = folder.path().join("one");
    browser.extract("Users/Anna/Documents/report.TXT", &one, &cancel, &Unobserved).unwrap();
    assert_eq!(tree(&one).into_keys().collect::<Vec<_>>(), ["Report.txt"]);
    let packed = browser.extract("packed", &folder.path().join("packed"), &cancel, &Unobserved).unwrap();
    assert_eq!(packed.files, 0);
    assert!(packed.left_out[0].contains("zip.txt") && packed.left_out[0].contains("compress"), "{packed:?}");
    assert!(tree(&folder.path().join("packed")).is_empty());
    // Stopped.
    let stopped = browser.extract("/", &folder.path().join("all"), &AtomicBool::new(true), &Unobserved);
    assert!(matches!(stopped, Err(RecoverError::Interrupted { .. })));
}

#[test]
fn damaged_structures_are_errors_and_end() {
    let volume = format(&VolumeOptions::default(), ntfs_plaintext(2 << 20, 512, 1));
    let source = crate::fixture::source(&volume.image);
    let locked = locked(&source);
    let opened = fixture::opened(&locked, &volume);
    let plain = PlainVolume::new(&locked, &opened).unwrap();
    // Looks like an NTFS, but is none.
    let error = NtfsBrowser::open(&plain).and_then(|mut browser| browser.list("/")).unwrap_err();
    assert!(matches!(error, RecoverError::FileSystem { .. }), "{error}");
}
