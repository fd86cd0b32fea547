//! What must not happen on a day when everything else went wrong already.

use super::*;

/// A disk with two volumes, whose recovery passwords differ: `one.txt` and `two.txt`.
fn two_volumes() -> (tempfile::TempDir, [Vec<u8>; 2]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let volumes = [(21, "one.txt"), (22, "two.txt")].map(|(seed, key)| {
        let plain = ntfs_plaintext(VOLUME_BYTES, 512, seed);
        let volume = VolumeOptions { seed, ..VolumeOptions::default() }.format(plain.clone());
        let WrittenSecret::RecoveryPassword(password) = &volume.secrets[0].1 else {
            panic!("a recovery password")
        };
        std::fs::write(folder.path().join(key), password).expect("written");
        let expected = volume.expected(plain);
        (volume.image, expected)
    });
    let (parts, size) = gpt_disk(&[&volumes[0].0, &volumes[1].0]);
    write_sparse(&folder.path().join("disk.vhdx"), &dynamic_vhdx(&parts, size));
    (folder, volumes.map(|(_, expected)| expected))
}

fn run(folder: &Path, arguments: &str) -> Answer {
    lifeboat(folder, &arguments.split(' ').collect::<Vec<_>>())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_source_is_never_written_to() {
    let case = Case::new(&VolumeOptions::default());
    let source = "out.vhdx.partial";
    std::fs::rename(case.path("disk.vhdx"), case.path(source)).expect("renamed");
    let (before, files) = (sha256(&case.path(source)), names(case.folder.path()));
    for out in ["--to out.vhdx", "--whole-disk --to out.vhdx", "--to out.vhdx.partial"] {
        let answer = case.run(&format!("recover {source} --recovery-password-file key.txt {out}"));
        answer.ends(2).says("a source is never written to");
    }
    let arguments = format!("recover {source} --recovery-password-file key.txt --read-back {source}");
    case.run(&arguments).ends(2).says("is there already");
    assert_eq!((sha256(&case.path(source)), names(case.folder.path())), (before, files));
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let case = Case::new(&VolumeOptions::default());
    let files = names(case.folder.path());
    for (one, other) in [
        ("--plan", "--to out"),
        ("--plan", "--verify-only"),
        ("--plan", "--list"),
        ("--plan", "--read-back out"),
        ("--plan", "--volume 1"),
        ("--verify-only", "--to out"),
        ("--verify-only", "--list"),
        ("--verify-only", "--card out"),
        ("--verify-only", "--read-back out"),
        ("--list=Users", "--to out"),
        ("--list=Users", "--card out"),
        ("--list=Users", "--extract a --to out"),
        ("--to out", "--card out2"),
        ("--read-back out", "--card out2"),
        ("--suspend-overlay out", "--to out2"),
        ("--suspend-overlay out", "--plan"),
        ("--suspend-overlay out", "--verify-only"),
        ("--suspend-overlay out", "--list=Users"),
        ("--suspend-overlay out", "--card out2"),
        ("--extract a --to out", "--whole-disk"),
        ("--extract a --to out", "--no-space-check"),
    ] {
        for (first, second) in [(one, other), (other, one)] {
            let arguments = format!("recover disk.vhdx --recovery-password-file key.txt {first} {second}");
            case.run(&arguments).ends(2).says("cannot be used with");
        }
    }
    case.run("recover disk.vhdx --recovery-password-file - --bek - --verify-only").ends(2).says("once only");
    case.run("recover disk.vhdx --recovery-password-file key.txt --to out --read-back out")
        .ends(2)
        .says("the name of the output itself");
    assert_eq!(names(case.folder.path()), files);
}

#[test]
fn a_disk_that_is_not_wholly_decrypted_is_not_called_so() {
    let (folder, expected) = two_volumes();
    let folder = folder.path();
    let start = (1 << 20, (1 << 20) + VOLUME_BYTES);
    for (name, flags) in [("some.vhdx", ""), ("one.vhdx", " --volume 1")] {
        let arguments =
            format!("recover disk.vhdx --recovery-password-file one.txt --whole-disk --to {name}{flags}");
        let answer = run(folder, &arguments).ends(3);
        let answer = answer
            .says("[still-locked] volume 2 of disk.vhdx: it stays encrypted in the output")
            .says("decrypted but for one BitLocker volume that stays encrypted");
        assert!(!answer.out.contains("nothing is encrypted"), "{}", answer.out);
        let whole = vhdx_content(&folder.join(name));
        assert!(whole[start.0..start.0 + VOLUME_BYTES] == expected[0]);
        assert!(whole[start.1..start.1 + VOLUME_BYTES] != expected[1]);
    }
    // With both keys everything is decrypted, whichever volume is named.
    let keys = "--recovery-password-file one.txt --recovery-password-file two.txt";
    let report =
        run(folder, &format!("recover disk.vhdx {keys} --whole-disk --volume 2 --to all.vhdx --json"))
            .ends(0);
    assert_eq!(report.json()["volumes"].as_array().map(Vec::len), Some(2));
    let whole = vhdx_content(&folder.join("all.vhdx"));
    assert!(whole[start.0..start.0 + VOLUME_BYTES] == expected[0]);
    assert!(whole[start.1..start.1 + VOLUME_BYTES] == expected[1]);
}

#[test]
fn a_file_beside_the_output_comes_last() {
    let case = Case::new(&VolumeOptions::default());
    let key = "recover disk.vhdx --recovery-password-file key.txt";
    // A name that is taken is said before the work, not after it.
    std::fs::write(case.path("secrets.txt"), b"mine").expect("written");
    case.run(&format!("{key} --to out --read-back secrets.txt")).ends(2).says("secrets.txt is there already");
    assert!(!case.path("out").exists() && !case.path("out.partial").exists());
    // What did not come to its end leaves nothing in the way of the same command.
    std::fs::write(case.path("out.partial"), b"someone's").expect("written");
    for _ in 0..2 {
        case.run(&format!("{key} --to out --read-back new.txt"))
            .ends(2)
            .says("out.partial is not the beginning");
        assert!(!case.path("new.txt").exists());
    }
    assert_eq!(std::fs::read(case.path("out.partial")).expect("readable"), b"someone's");
    std::fs::remove_file(case.path("out.partial")).expect("removed");
    case.run(&format!("{key} --to out --read-back new.txt")).ends(0);
    assert!(std::fs::read_to_string(case.path("new.txt")).expect("text").contains(&case.password));
    assert_eq!(std::fs::read(case.path("secrets.txt")).expect("readable"), b"mine");
}

#[test]
fn a_reader_that_goes_away_costs_nothing() {
    let case = Case::new(&VolumeOptions::default());
    let start = |to: &str, out: Stdio| {
        command(case.folder.path())
            .args(["recover", "disk.vhdx", "--recovery-password-file", "key.txt", "--to", to])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs")
    };
    let mut child = start("plain.raw", Stdio::piped());
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(std::fs::read(case.path("plain.raw")).expect("it was written") == case.expected);
    // An answer that cannot be written is a failure, and the work is done all the same.
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else { return };
    assert_eq!(start("more.raw", full.into()).wait().expect("it ends").code(), Some(1));
    assert!(case.path("more.raw").exists());
}

#[test]
fn what_comes_from_elsewhere_is_shown_as_text() {
    let case = Case::new(&VolumeOptions::default());
    let name = "a\u{1b}[2Jb\u{202e}.vhdx";
    let answer = lifeboat(case.folder.path(), &["recover", name, "--verify-only"]).ends(2);
    assert!(answer.err.contains("a\u{fffd}[2Jb\u{fffd}.vhdx"), "{:?}", answer.err);
    assert!(!answer.err.contains(['\u{1b}', '\u{202e}']), "{:?}", answer.err);
    // Nothing that is too long for a key is read to its end.
    std::fs::File::create(case.path("long")).and_then(|file| file.set_len(1 << 40)).expect("a long file");
    for flag in ["--captured", "--bek", "--recovery-password-file", "--password-file", "--key-package"] {
        case.run(&format!("recover disk.vhdx {flag} long --verify-only"))
            .ends(2)
            .says("is it the right file?");
    }
}

#[test]
fn a_machine_that_nobody_can_type_at_gets_an_overlay() {
    let options = VolumeOptions {
        protectors: vec![
            ProtectorOptions::recovery_password(),
            ProtectorOptions::Tpm(lifeboat_fve::ProtectionType::TPM),
        ],
        ..VolumeOptions::default()
    };
    let case = Case::new(&options);
    let before = sha256(&case.path("disk.vhdx"));
    let key = "recover disk.vhdx --recovery-password-file key.txt";
    let answer = case.run(&format!("{key} --suspend-overlay boot.avhdx")).ends(3);
    let answer =
        answer.says("[open-to-anyone] boot.avhdx").says("Merge-VHD").says("until protection is resumed");
    let tpm = answer.out.find("-protectors -add $drive -tpm").expect("the TPM is sealed to anew");
    let enabled = answer.out.find("-protectors -enable $drive").expect("protection is resumed");
    assert!(tpm < enabled && !answer.out.contains(&case.password), "{}", answer.out);
    assert_eq!(sha256(&case.path("disk.vhdx")), before);
    // Found again through its parent, open to anyone, and the same volume.
    let inspected = case.run("disk inspect boot.avhdx --json").ends(0).json();
    assert_eq!(
        (&inspected["container"], &inspected["volumes"][0]["bitlocker"]["state"]),
        (&"avhdx".into(), &"suspended".into())
    );
    case.run("recover boot.avhdx --clear-key --to plain.raw").ends(0);
    assert!(std::fs::read(case.path("plain.raw")).expect("readable") == case.expected);
    // Refused where there can be none, and nothing is left.
    case.run(&format!("{key} --suspend-overlay boot.avhdx")).ends(2).says("is there already");
    case.run(&format!("{key} --suspend-overlay boot.img")).ends(2).says("the overlay of a VHDX is a VHDX");
    case.run("recover boot.avhdx --clear-key --suspend-overlay more.avhdx").ends(2).says("suspended already");
    let report = case.run(&format!("{key} --suspend-overlay more.vhdx --json")).ends(3).json();
    assert_eq!(
        (&report["overlay"]["path"], &report["overlay"]["parent"]),
        (&"more.vhdx".into(), &"disk.vhdx".into())
    );
    assert_eq!(names(case.folder.path()), ["boot.avhdx", "disk.vhdx", "key.txt", "more.vhdx", "plain.raw"]);
}
