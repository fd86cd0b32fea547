//! Stock tools: `age`, `zstd` and `tar` of any distribution read what we seal, and we read what `age` seals.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use lifeboat_schema::Digest;

use super::*;

/// Whether all of `tools` can be run; says so if not.
fn have(tools: &[&str]) -> bool {
    for tool in tools {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            println!("skipped: {tool} was not found");
            return false;
        }
    }
    true
}

/// Runs a command that must succeed in silence, and returns its output.
#[track_caller]
fn run(folder: &Path, command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).current_dir(folder).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{command:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn stock_tools_unpack_a_bundle() {
    if !have(&["age", "zstd", "tar"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let key = NewIdentity::generate();
    fs::write(path.join("key.txt"), key.file(&["role: restore"]).expose()).unwrap();
    let recipients = Recipients::parse(&[NewIdentity::generate().recipient(), key.recipient()]).unwrap();
    let contents: Vec<Vec<u8>> = [0usize, 1, 512, 70_000, 1_000_000]
        .iter()
        .map(|size| (0..*size).map(|i| (i * 7 + i / 251) as u8).collect())
        .collect();
    let mut sealer = sealer();
    let mut bundle = BundleWriter::create(&mut sealer, &recipients).unwrap();
    for content in &contents {
        bundle.append(&mut sealer, content).unwrap();
    }
    let object = bundle.finish(&mut sealer).unwrap();
    fs::write(path.join("object.age"), &object.bytes).unwrap();

    run(path, &["age", "-d", "-i", "key.txt", "-o", "object.tar.zst", "object.age"]);
    run(path, &["zstd", "-q", "-t", "object.tar.zst"]);
    run(path, &["zstd", "-q", "-d", "object.tar.zst"]);
    let listing = run(path, &["tar", "--utc", "--numeric-owner", "-tvf", "object.tar"]);
    let times_and_modes =
        listing.lines().all(|line| line.starts_with("-rw------- 0/0") && line.contains("1970-01-01"));
    assert!(times_and_modes && listing.lines().count() == contents.len(), "{listing}");
    fs::create_dir(path.join("out")).unwrap();
    run(path, &["tar", "-xf", "object.tar", "-C", "out"]);
    for content in &contents {
        let name = Digest::of(content).to_string();
        assert!(fs::read(path.join("out").join(&name)).unwrap() == *content, "{name}");
    }
    assert_eq!(fs::read_dir(path.join("out")).unwrap().count(), contents.len());
    // The pipe of the recipe.
    fs::create_dir(path.join("piped")).unwrap();
    run(path, &["sh", "-c", "age -d -i key.txt object.age | zstd -dc | tar -x -C piped"]);
    assert_eq!(fs::read_dir(path.join("piped")).unwrap().count(), contents.len());

    let body = sealer.seal_body(&recipients, br#"{"v":1}"#).unwrap();
    fs::write(path.join("body.age"), &body.bytes).unwrap();
    assert_eq!(run(path, &["sh", "-c", "age -d -i key.txt body.age | zstd -dc"]), r#"{"v":1}"#);
}

#[test]
fn we_open_what_stock_age_seals() {
    if !have(&["age", "age-keygen"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let made = Command::new("age-keygen").args(["-o", "key.txt"]).current_dir(path).output().unwrap();
    assert!(made.status.success());
    let identities = Identities::parse(&fs::read(path.join("key.txt")).unwrap(), None, NoCallbacks).unwrap();
    let recipient = run(path, &["age-keygen", "-y", "key.txt"]).trim().to_owned();
    assert_eq!(identities.recipients(), std::slice::from_ref(&recipient));
    // A plaintext of ours in an envelope of theirs.
    let (ours, to_us) = identity();
    let mut sealer = sealer();
    let mut bundle = BundleWriter::create(&mut sealer, &to_us).unwrap();
    let content: Vec<u8> = (0..200_000u32).map(|i| (i ^ (i >> 5)) as u8).collect();
    bundle.append(&mut sealer, &content).unwrap();
    let object = bundle.finish(&mut sealer).unwrap();
    fs::write(path.join("plaintext"), &*open(&object, &ours).unwrap()).unwrap();
    run(path, &["age", "-r", &recipient, "-o", "object.age", "plaintext"]);
    let bytes = fs::read(path.join("object.age")).unwrap();
    let header = Header::parse(&bytes).unwrap();
    assert_eq!(header.stanzas, 1);
    let key = ObjectKey::open(&bytes, header.header_bytes, bytes.len() as u64, &identities).unwrap();
    let plaintext = key.open_all(bytes, 1).unwrap();
    let mut seen = 0;
    let visit = |_, found: &[u8]| {
        assert!(found == content);
        seen += 1;
        Ok::<(), SealError>(())
    };
    Opener::new().unwrap().walk_bundle(&plaintext, 200_000, visit).unwrap();
    assert_eq!(seen, 1);
}

/// Answers the prompts of a program that reads its passphrase from the terminal.
fn run_with_terminal(folder: &Path, command: &str, typed: &str) -> bool {
    let line = format!("(sleep 1; printf '{typed}') | script -qec '{command}' /dev/null");
    let output = Command::new("sh").args(["-c", &line]).current_dir(folder).output().unwrap();
    output.status.success()
}

#[test]
fn stock_age_and_we_open_each_others_protected_identities() {
    if !have(&["age", "script"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let key = NewIdentity::generate();
    let text = key.file(&["vault: lb1abc"]);
    let passphrase = Passphrase::new("correct horse".to_owned());
    fs::write(path.join("ours.age"), text.protect_with_work_factor(&passphrase, 10).unwrap()).unwrap();
    assert!(run_with_terminal(path, "age -d -o ours.txt ours.age", "correct horse\\n"));
    assert_eq!(fs::read_to_string(path.join("ours.txt")).unwrap(), text.expose());
    assert!(run_with_terminal(path, "age -p -o theirs.age ours.txt", "correct horse\\ncorrect horse\\n"));
    let file = fs::read(path.join("theirs.age")).unwrap();
    let identities = Identities::parse(&file, Some(&passphrase), NoCallbacks).unwrap();
    assert_eq!(identities.recipients(), [key.recipient()]);
}
