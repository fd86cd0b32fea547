//! `file://` in odd surroundings: permissions, leftovers, full and read-only disks, killed writers.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use lifeboat_vault::store::{Created, FileCreate, Store, StoreError, StoreOptions};

use super::{file_store, file_url, nothing, path, skipped};

const BYTES: Bytes = Bytes::from_static(b"some sealed bytes");

#[tokio::test]
async fn a_folder_that_is_not_there_is_no_new_vault() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let root = parent.path().join("a/b");
    let url = file_url(&root);
    let error = Store::open(&url, &StoreOptions::default(), &nothing).expect_err("nothing there");
    assert!(error.to_string().contains("mounted"), "{error}");
    assert!(!root.exists());
    Store::create_root(&url).expect("create");
    Store::create_root(&url).expect("create what is there");
    let store = Store::open(&url, &StoreOptions::default(), &nothing).expect("open");
    assert_eq!(store.describe(), url);
    assert_eq!(store.create_object(&path("a/b/c"), BYTES).await.expect("write"), Created::Written);
    // A file in the place of the folder.
    let url = format!("{}/a/b/c", file_url(&root));
    assert!(Store::open(&url, &StoreOptions::default(), &nothing).is_err());
}

#[cfg(unix)]
#[tokio::test]
async fn folders_and_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().expect("a temporary folder");
    let root = parent.path().join("vault");
    Store::create_root(&file_url(&root)).expect("create");
    for (n, file_create) in [FileCreate::Auto, FileCreate::HardLink].into_iter().enumerate() {
        let name = format!("objects/w{n}/o.age");
        file_store(&root, file_create).create_object(&path(&name), BYTES).await.expect("write");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        let file = root.join(name);
        assert_eq!(mode(&file), 0o600);
        for folder in [root.as_path(), &root.join("objects"), file.parent().expect("parent")] {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
        assert_eq!(
            fs::read_dir(file.parent().expect("parent")).expect("list").count(),
            1,
            "staged file left"
        );
    }
}

#[tokio::test]
async fn leftovers_of_a_crash_are_neither_listed_nor_in_the_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("o")).expect("folder");
    for leftover in ["o/x.age#1", "o/x.age#18446744073709551615", "o/y.age#7"] {
        fs::write(folder.path().join(leftover), b"half a").expect("leftover");
    }
    let store = file_store(folder.path(), FileCreate::Auto);
    let listing = store.list("", None).await.expect("list");
    assert!(listing.objects.is_empty() && listing.foreign.is_empty(), "{listing:?}");
    assert_eq!(store.head(&path("o/x.age")).await.expect("head"), None);
    assert_eq!(store.create_object(&path("o/x.age"), BYTES).await.expect("write"), Created::Written);
    assert_eq!(store.list("o", None).await.expect("list").objects.len(), 1);
}

#[tokio::test]
async fn strange_names_are_reported_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = file_store(folder.path(), FileCreate::Auto);
    store.create_object(&path("o/x.age"), BYTES).await.expect("write");
    for name in ["README.TXT", "o/with space", ".hidden", "o/ä"] {
        fs::write(folder.path().join(name), b"x").expect("a stranger's file");
    }
    fs::create_dir(folder.path().join("empty")).expect("an empty folder");
    let listing = store.list("", None).await.expect("list");
    assert_eq!(listing.objects.len(), 1);
    assert_eq!(listing.foreign.len(), 4, "{:?}", listing.foreign);
}

#[cfg(unix)]
#[tokio::test]
async fn a_name_that_is_taken_by_anything_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    std::os::unix::fs::symlink("nowhere", root.join("dangling")).expect("link");
    fs::create_dir(root.join("folder")).expect("folder");
    for file_create in [FileCreate::Auto, FileCreate::Rename, FileCreate::HardLink] {
        let mut options = StoreOptions::default();
        options.file_create = file_create;
        options.retry.max_retries = 1;
        let store = Store::open(&file_url(root), &options, &nothing).expect("open");
        for name in ["dangling", "folder"] {
            let result = store.create_object(&path(name), BYTES).await;
            assert!(result.is_err(), "{name} {file_create:?}: {result:?}");
        }
    }
    assert!(root.join("dangling").is_symlink() && root.join("folder").is_dir());
}

/// Root may write everywhere, so this runs as anyone else only.
#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_denies_access_says_so() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = file_store(folder.path(), FileCreate::Auto);
    store.create_object(&path("o/x"), BYTES).await.expect("write");
    let set = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(folder.path().join("o"), permissions).expect("permissions");
    };
    set(0o500);
    if fs::write(folder.path().join("o/test"), b"x").is_ok() {
        skipped("this user may write everywhere");
        return;
    }
    let error = store.create_object(&path("o/y"), BYTES).await.expect_err("denied");
    assert!(error.is_denied(), "{error}");
    set(0o000);
    for error in [
        store.read(&path("o/x"), 100).await.err(),
        store.head(&path("o/x")).await.err(),
        store.list("o", None).await.err(),
    ] {
        let error = error.expect("denied");
        assert!(error.is_denied(), "{error}");
    }
    set(0o700);
}

/// Names the folder for [`writes_until_killed`], which is no test by itself.
const KILL_FOLDER: &str = "LIFEBOAT_TEST_KILL_FOLDER";

fn content(number: u32) -> Bytes {
    Bytes::from(number.to_le_bytes().repeat(75_000))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "no test by itself: a_killed_writer_leaves_whole_objects_only starts it as a process and kills it"]
async fn writes_until_killed() {
    let Ok(folder) = std::env::var(KILL_FOLDER) else { return };
    let store = file_store(Path::new(&folder), FileCreate::Auto);
    let mut number = 0;
    loop {
        let creates = (number..number + 8).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.create_object(&path(&format!("o/{n}")), content(n)).await })
        });
        for created in futures::future::join_all(creates).await {
            created.expect("no panic").expect("written");
        }
        number += 8;
    }
}

/// This program, which may have no name any more: another test has cargo build programs meanwhile, and cargo
/// may build this one anew.
fn this_program() -> std::path::PathBuf {
    let running = Path::new("/proc/self/exe");
    if running.exists() { running.into() } else { std::env::current_exe().expect("this program") }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_objects_only() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = file_store(folder.path(), FileCreate::Auto);
    let mut whole = 0;
    for round in 0..8 {
        let mut writer = std::process::Command::new(this_program())
            .args(["--exact", "store::folder::writes_until_killed", "--ignored"])
            .env(KILL_FOLDER, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("start the writer");
        // Until it has written something new, then at another moment in each round.
        while store.list("o", None).await.expect("list").objects.len() <= whole {
            assert!(writer.try_wait().expect("wait").is_none(), "the writer has ended by itself");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(round * 3)).await;
        writer.kill().expect("kill");
        writer.wait().expect("wait");
        let listing = store.list("o", None).await.expect("list");
        assert!(listing.foreign.is_empty() && listing.objects.len() > whole);
        whole = listing.objects.len();
        for listed in listing.objects {
            let number = listed.path.file_name().parse().expect("a number");
            assert_eq!(store.read(&listed.path, 1 << 20).await.expect("read"), content(number));
        }
    }
}

/// A mount of a few kilobytes, undone when dropped.
#[cfg(target_os = "linux")]
struct Tmpfs<'a>(&'a Path);

#[cfg(target_os = "linux")]
impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, options: &str) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).stderr(std::process::Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(at))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_says_so_and_leaves_nothing_half_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mount) = Tmpfs::mount(folder.path(), "size=256k") else {
        skipped("this user cannot mount a tmpfs");
        return;
    };
    let store = file_store(folder.path(), FileCreate::Auto);
    let block = Bytes::from(vec![7; 100_000]);
    let mut written = 0;
    let error = loop {
        match store.create_object(&path(&format!("o/{written}")), block.clone()).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(written, 2);
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(fs::read_dir(folder.path().join("o")).expect("list").count(), 2, "a staged file was left");
    for n in 0..written {
        assert_eq!(store.read(&path(&format!("o/{n}")), 100_000).await.expect("read"), block);
    }
    // With room again, the same call succeeds.
    fs::remove_file(folder.path().join("o/0")).expect("make room");
    assert_eq!(store.create_object(&path("o/2"), block).await.expect("write"), Created::Written);
    drop(mount);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_read_only_disk_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mount) = Tmpfs::mount(folder.path(), "size=64k,ro") else {
        skipped("this user cannot mount a tmpfs");
        return;
    };
    let error =
        file_store(folder.path(), FileCreate::Auto).create_object(&path("o"), BYTES).await.expect_err("ro");
    assert!(error.is_denied() && error.to_string().contains("read-only"), "{error}");
    drop(mount);
}
