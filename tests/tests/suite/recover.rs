//! `lifeboat disk inspect` and `lifeboat recover`: real BitLocker images with known answers, and disks made here.

mod trouble;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_disk::fixtures::{differencing_vhdx, dynamic_vhdx, fixed_vhd, flat, gpt_disk};
use lifeboat_fve::fixtures::{
    CopyDamage, Damage, FormattedVolume, ProtectorOptions, VolumeOptions, WrittenSecret, ntfs_plaintext,
};
use lifeboat_vhdx::{ReadAt as _, SparseImage, VhdxChain, VhdxReader};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::cli::desk::programs;
use crate::told;

/// What the command answered.
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(
            format!("{}{}", self.out, self.err).contains(text),
            "{text:?} is not in\n{}{}",
            self.out,
            self.err
        );
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(programs().join(format!("lifeboat{}", std::env::consts::EXE_SUFFIX)));
    command.current_dir(folder).env("NO_COLOR", "1").env("COLUMNS", "100").env_remove("LIFEBOAT_KIT");
    command
}

fn lifeboat(folder: &Path, arguments: &[&str]) -> Answer {
    let output = command(folder).args(arguments).stdin(Stdio::null()).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Answer {
        code: output.status.code().expect("it was not killed"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn sha256(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).expect("readable") {
            0 => break,
            have => hasher.update(&buffer[..have]),
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes an image as a sparse file.
fn write_sparse(path: &Path, image: &SparseImage) {
    use std::io::{Seek as _, SeekFrom};
    let mut file = std::fs::File::create(path).expect("a file");
    for (offset, bytes) in image.extents() {
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(&bytes)).expect("written");
    }
    file.set_len(image.size_bytes()).expect("a length");
}

/// The guest's bytes of a VHDX.
fn vhdx_content(path: &Path) -> Vec<u8> {
    let reader = VhdxReader::open(std::fs::read(path).expect("readable")).expect("a VHDX");
    let chain = VhdxChain::new(vec![reader]).expect("without parents");
    let mut bytes = vec![0; usize::try_from(chain.virtual_size_bytes()).expect("small")];
    chain.read_at(0, &mut bytes).expect("readable");
    bytes
}

#[derive(Deserialize)]
struct Images {
    image: Vec<Image>,
}

#[derive(Deserialize)]
struct Image {
    name: String,
    file: String,
    raw_bytes: u64,
    state_offset: u64,
    metadata_version: u16,
    current_state: u16,
    metadata_copies_crc_ok: u64,
    layout: String,
    cipher: String,
    volume_guid: String,
    protectors: Vec<StatedProtector>,
    password: Option<String>,
    #[serde(default)]
    recovery_passwords: Vec<StatedPassword>,
    bek_file: Option<String>,
    fvek: Option<String>,
    #[serde(default)]
    clear_key: bool,
    sha256_decrypted: Option<String>,
}

#[derive(Deserialize)]
struct StatedProtector {
    guid: String,
    kind: String,
}

#[derive(Deserialize)]
struct StatedPassword {
    protector: String,
    password: String,
}

fn bitlocker_folder() -> Option<PathBuf> {
    let shared = std::env::var_os("LIFEBOAT_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let folder = shared.join("bitlocker");
    if folder.join("images.toml").is_file() {
        return Some(folder);
    }
    told("skipped: test data not found");
    None
}

/// Unpacks all images into a folder; false where `tar` knows no xz.
fn unpack(data: &Path, images: &[Image], folder: &Path) -> bool {
    for image in images {
        let Some((archive, _)) = image.file.split_once(':') else {
            let packed = std::fs::File::open(data.join(&image.file)).expect("the file is listed");
            let mut out = std::fs::File::create(folder.join(&image.name)).expect("a file");
            std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut out).expect("valid gzip");
            continue;
        };
        if !folder.join("bitlk-images").is_dir() {
            let status =
                Command::new("tar").arg("xJSf").arg(data.join(archive)).arg("-C").arg(folder).status();
            if !status.is_ok_and(|status| status.success()) {
                told("skipped: `tar` with xz is not available");
                return false;
            }
        }
    }
    true
}

/// Flags for every key that the image states, each opening it alone.
fn keys(data: &Path, folder: &Path, image: &Image) -> Vec<Vec<String>> {
    let mut keys = Vec::new();
    let mut file = |flag: &str, name: String, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        keys.push(vec![flag.to_owned(), path.display().to_string()]);
    };
    for (number, stated) in image.recovery_passwords.iter().enumerate() {
        file("--recovery-password-file", format!("{}.{number}.recovery", image.name), &stated.password);
    }
    if let Some(password) = &image.password {
        file("--password-file", format!("{}.password", image.name), password);
    }
    if let Some(bek) = &image.bek_file {
        keys.push(vec!["--bek".to_owned(), data.join(bek).display().to_string()]);
    }
    if image.clear_key {
        keys.push(vec!["--clear-key".to_owned()]);
    }
    if image.current_state == 1 {
        keys.push(Vec::new());
    }
    keys
}

fn check_inspection(image: &Image, report: &Value) {
    let name = &image.name;
    assert_eq!(report["container"], "raw", "{name}");
    assert_eq!(report["virtual_size_bytes"], image.raw_bytes, "{name}");
    let volume = &report["volumes"][0];
    assert_eq!((&volume["number"], &volume["encryption"]), (&1.into(), &"bitlocker".into()), "{name}");
    let bitlocker = &volume["bitlocker"];
    assert_eq!(bitlocker["version"], image.metadata_version, "{name}");
    assert_eq!(bitlocker["volume_id"], *image.volume_guid, "{name}");
    assert_eq!(bitlocker["cipher"], *image.cipher, "{name}");
    assert_eq!(bitlocker["metadata_copies"], 3, "{name}");
    assert_eq!(bitlocker["metadata_copies_valid"], image.metadata_copies_crc_ok, "{name}");
    let has_clear_key = image.protectors.iter().any(|one| one.kind == "clear-key");
    let state = match (image.current_state, image.layout.as_str()) {
        (1, _) => "decrypted",
        (4, "eow") => "converting",
        (4, _) if has_clear_key => "suspended",
        (4, _) => "encrypted",
        _ => "converting",
    };
    assert_eq!(bitlocker["state"], state, "{name}");
    let found: Vec<(&str, &str)> = bitlocker["protectors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["id"].as_str().expect("an id"), one["type"].as_str().expect("a type")))
        .collect();
    let stated: Vec<(&str, &str)> =
        image.protectors.iter().map(|one| (one.guid.as_str(), one.kind.as_str())).collect();
    assert_eq!(found, stated, "{name}");
}

/// dissect.fve 4.6, the only witness for `eow_partial`, looks up the chunk where a read starts and keeps its state beyond
/// the end of the chunk; the stated digest was made with reads of 1 MiB, so this range stayed encrypted in it.
const EOW_WITNESS_ERROR: std::ops::Range<u64> = 0xc20_2000..0xc30_0000;

fn encrypt_as_the_witness_left_it(output: &Path, image: &Image) {
    use std::io::{Seek as _, SeekFrom};
    let fvek = image.fvek.as_deref().expect("stated");
    let digits: Vec<u8> = (0..fvek.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&fvek[at..at + 2], 16).expect("hexadecimal"))
        .collect();
    let key = lifeboat_fve::VolumeKey::new(lifeboat_fve::EncryptionMethod::AES_CBC_128, digits);
    let cipher = lifeboat_fve::SectorCipher::new(&key, 512).expect("it fits");
    let mut file = std::fs::File::options().read(true).write(true).open(output).expect("the output");
    let mut bytes = vec![0; (EOW_WITNESS_ERROR.end - EOW_WITNESS_ERROR.start) as usize];
    file.seek(SeekFrom::Start(EOW_WITNESS_ERROR.start)).expect("inside");
    file.read_exact(&mut bytes).expect("readable");
    cipher.encrypt(EOW_WITNESS_ERROR.start, &mut bytes).expect("whole sectors");
    file.seek(SeekFrom::Start(EOW_WITNESS_ERROR.start)).expect("inside");
    file.write_all(&bytes).expect("written");
}

fn check_image(data: &Path, folder: &Path, image: &Image) {
    let name = &image.name;
    let path = match image.file.split_once(':') {
        Some((_, member)) => folder.join(member),
        None => folder.join(name),
    };
    let path = path.display().to_string();
    let inspected = lifeboat(folder, &["disk", "inspect", &path, "--json"]).ends(0).json();
    check_inspection(image, &inspected);
    let is_cut = image.raw_bytes < image.state_offset && image.current_state == 4;
    let keys = keys(data, folder, image);
    assert!(!keys.is_empty(), "{name}");
    for key in &keys {
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        let proved =
            lifeboat(folder, &[&["recover", &path, "--verify-only", "--json"], key.as_slice()].concat());
        let proof = proved.json()["volumes"][0]["proof"].clone();
        let expected: &[&str] = match (image.current_state, image.layout.as_str()) {
            (1, _) => &["not-needed"],
            // Of the volumes under conversion one lost its data to its makers, the other its end: nothing to recognise.
            (_, "eow") => &["key", "data"],
            _ => &["data"],
        };
        // A conversion whose state was destroyed is refused, and its key proved all the same.
        assert_eq!(proved.code == 4, name == "aes-xts-128-eow", "{name}: {}", proved.out);
        assert!(expected.iter().any(|level| proof == **level), "{name} {key:?}: {}", proved.out);
    }
    let Some(stated) = &image.sha256_decrypted else { return };
    let key: Vec<&str> = keys[0].iter().map(String::as_str).collect();
    let output = folder.join(format!("{name}.plain"));
    let read_back = folder.join(format!("{name}.secrets"));
    let [to, secrets] = [&output, &read_back].map(|path| path.display().to_string());
    let arguments = ["recover", &path, "--to", &to, "--read-back", &secrets];
    let answer = lifeboat(folder, &[&arguments[..], key.as_slice()].concat());
    assert_eq!(
        answer.code,
        if is_cut || image.layout == "eow" && image.current_state == 4 { 3 } else { 0 },
        "{name}: {}{}",
        answer.out,
        answer.err
    );
    if name == "eow_partial" {
        encrypt_as_the_witness_left_it(&output, image);
    }
    assert_eq!(sha256(&output), *stated, "{name}");
    std::fs::remove_file(&output).expect("removed");
    // What is stated comes back, and is said nowhere.
    let secrets = std::fs::read_to_string(&read_back).expect("text");
    for stated in &image.recovery_passwords {
        let line = format!("recovery-password {} {}", stated.protector, stated.password);
        assert!(secrets.contains(&line), "{name}: {line}");
        assert!(!answer.out.contains(&stated.password) && !answer.err.contains(&stated.password), "{name}");
    }
    if let Some(bek) = &image.bek_file {
        let hex: String = std::fs::read(data.join(bek))
            .expect("the BEK file")
            .iter()
            .take(156)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let key = hex.get(hex.len() - 64..).expect("a key");
        assert!(secrets.contains(key), "{name}: the external key");
    }
}

#[test]
fn every_real_image_comes_out_as_stated() {
    let Some(data) = bitlocker_folder() else { return };
    let text = std::fs::read_to_string(data.join("images.toml")).expect("readable");
    let images: Images = toml::from_str(&text).expect("valid");
    assert!(images.image.len() >= 20);
    let folder = tempfile::tempdir().expect("a temporary folder");
    if !unpack(&data, &images.image, folder.path()) {
        return;
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(image) = images.image.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check_image(&data, folder.path(), image);
                }
            });
        }
    });
    let stated = images.image.iter().filter(|image| image.sha256_decrypted.is_some()).count();
    told(&format!(
        "{} images proved by every key, {stated} decrypted to the stated digest",
        images.image.len()
    ));
    real_image_in_containers(&folder, &data, &images.image);
}

/// A real volume on a GPT disk inside a VHDX and behind a differencing one.
fn real_image_in_containers(folder: &tempfile::TempDir, data: &Path, images: &[Image]) {
    let folder = folder.path();
    let image = images.iter().find(|image| image.name == "aes-xts-128").expect("it is listed");
    let (_, member) = image.file.split_once(':').expect("packed");
    let volume = std::fs::read(folder.join(member)).expect("unpacked");
    let (parts, size) = gpt_disk(&[&[0; 1 << 20], &volume]);
    write_sparse(&folder.join("base.vhdx"), &dynamic_vhdx(&parts, size));
    write_sparse(&folder.join("disk.avhdx"), &differencing_vhdx(&[], size, 1, "base.vhdx"));
    let key = &keys(data, folder, image)[0];
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    for (disk, to) in [("base.vhdx", "one.raw"), ("disk.avhdx", "two.raw"), ("disk.avhdx", "three.vhdx")] {
        lifeboat(folder, &[&["recover", disk, "--to", to], key.as_slice()].concat()).ends(0);
        let stated = image.sha256_decrypted.as_deref().expect("stated");
        if to.ends_with(".vhdx") {
            let digest = Sha256::digest(vhdx_content(&folder.join(to)));
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, stated);
        } else {
            assert_eq!(sha256(&folder.join(to)), stated);
        }
        std::fs::remove_file(folder.join(to)).expect("removed");
    }
}

const VOLUME_BYTES: usize = 4 << 20;

/// A folder with `disk.vhdx` (GPT, one BitLocker volume) and `key.txt`.
struct Case {
    folder: tempfile::TempDir,
    volume: FormattedVolume,
    expected: Vec<u8>,
    password: String,
}

impl Case {
    fn new(options: &VolumeOptions) -> Self {
        let plain = ntfs_plaintext(VOLUME_BYTES, 512, options.seed);
        let volume = options.format(plain.clone());
        let expected = volume.expected(plain);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (parts, size) = gpt_disk(&[&volume.image]);
        write_sparse(&folder.path().join("disk.vhdx"), &dynamic_vhdx(&parts, size));
        let password = volume
            .secrets
            .iter()
            .find_map(|(_, secret)| match secret {
                WrittenSecret::RecoveryPassword(password) => Some(password.clone()),
                _ => None,
            })
            .unwrap_or_default();
        std::fs::write(folder.path().join("key.txt"), &password).expect("written");
        Self { folder, volume, expected, password }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &str) -> Answer {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        lifeboat(self.folder.path(), &arguments)
    }
}

#[test]
fn a_disk_is_inspected_in_every_container() {
    let case = Case::new(&VolumeOptions::default());
    let (parts, size) = gpt_disk(&[&case.volume.image]);
    let raw = flat((parts, size));
    std::fs::write(case.path("disk.vhd"), fixed_vhd(raw.clone())).expect("written");
    std::fs::write(case.path("disk.img"), &raw).expect("written");
    for (name, container) in [("disk.vhdx", "vhdx"), ("disk.vhd", "vhd"), ("disk.img", "raw")] {
        let report = case.run(&format!("disk inspect {name} --json")).ends(0).json();
        assert_eq!(report["container"], container);
        assert_eq!(report["volumes"][0]["bitlocker"]["protectors"][0]["modified"], "2020-01-01T00:00:00Z");
    }
    case.run("disk inspect disk.vhdx")
        .ends(0)
        .says("BitLocker")
        .says("recovery password")
        .says(&case.volume.secrets[0].0.to_string());
    case.run("disk inspect none.vhdx").ends(2);
    // Nothing but noise: an answer, not an error.
    std::fs::write(case.path("noise"), [0xa5; 4096]).expect("written");
    assert_eq!(case.run("disk inspect noise --json").ends(0).json()["volumes"][0]["encryption"], "unknown");
    case.run("recover noise --verify-only").ends(2).says("no BitLocker volume");
}

#[test]
fn what_is_mistyped_is_answered_by_block() {
    let case = Case::new(&VolumeOptions::default());
    // One digit of the third block is another.
    let mut blocks: Vec<String> = case.password.split('-').map(str::to_owned).collect();
    let right = blocks[2].clone();
    let wrong = if right.starts_with('9') { "8" } else { "9" };
    blocks[2].replace_range(3..4, if &right[3..4] == wrong { "7" } else { wrong });
    std::fs::write(case.path("typo.txt"), blocks.join("-")).expect("written");
    let answer = case.run("recover disk.vhdx --recovery-password-file typo.txt --to out").ends(5);
    assert!(answer.err.contains("block 3 of 8"), "{}", answer.err);
    assert!(answer.err.contains("With one slip corrected in block 3 it opens volume 1"), "{}", answer.err);
    // Nobody reads it at a terminal: the digits would stand in a log.
    let mut blocks_of_both = blocks.iter().chain(std::iter::once(&right));
    assert!(blocks_of_both.all(|block| !answer.err.contains(block.as_str())), "{}", answer.err);
    // The error itself names no digit, and nothing was written.
    let error = answer.err.lines().find(|line| line.starts_with("error:")).expect("an error");
    assert!(!error.contains(&blocks[2]) && !error.contains(&right), "{error}");
    assert!(!case.path("out").exists());
    let json =
        case.run("recover disk.vhdx --recovery-password-file typo.txt --json --verify-only").ends(5).json();
    assert_eq!(json["exit_code"], 5);
    // Right in form, of another volume.
    let other = Case::new(&VolumeOptions { seed: 9, ..VolumeOptions::default() });
    std::fs::write(case.path("other.txt"), &other.password).expect("written");
    let answer = case.run("recover disk.vhdx --recovery-password-file other.txt --to out").ends(5);
    let answer = answer.says("wrong key").says(&case.volume.secrets[0].0.to_string());
    assert!(!answer.err.contains(&other.password));
    case.run("recover disk.vhdx --to out").ends(5).says("--recovery-password-file");
    case.run("recover disk.vhdx --bek key.txt --to out").ends(5).says("no .BEK file");
    assert!(!case.path("out").exists());
}

#[test]
fn the_ways_are_told_and_the_card_asks_for_them() {
    let options = VolumeOptions {
        protectors: vec![
            ProtectorOptions::Tpm(lifeboat_fve::ProtectionType::TPM),
            ProtectorOptions::recovery_password(),
        ],
        ..VolumeOptions::default()
    };
    let case = Case::new(&options);
    let id = case.volume.secrets[1].0.to_string();
    case.run("recover disk.vhdx --plan")
        .ends(0)
        .says("needs secret")
        .says("restore the VM with its vTPM")
        .says(&id);
    let plan = case.run("recover disk.vhdx --plan --recovery-password-file key.txt --json").ends(0).json();
    let ways = plan["disks"][0]["volumes"][0]["ways"].as_array().expect("ways").clone();
    let way = |name: &str| ways.iter().find(|way| way["way"] == name).expect("the way")["standing"].clone();
    assert_eq!((way("recovery-password"), way("clear-key")), ("open".into(), "closed".into()));
    case.run("recover disk.vhdx --card card.html").ends(0);
    case.run("recover disk.vhdx --card card.txt").ends(0);
    for name in ["card.html", "card.txt"] {
        let card = std::fs::read_to_string(case.path(name)).expect("text");
        assert!(
            card.contains("msFVE-RecoveryGuid=\\") && card.contains(&format!("recoveryKeys/{id}")),
            "{name}"
        );
        assert!(!card.contains(&case.password));
    }
    case.run("recover disk.vhdx --card card.txt").ends(2).says("card.txt is there already");
    // Proved, with the way back to a sealed volume.
    let proved = case.run("recover disk.vhdx --recovery-password-file key.txt --verify-only").ends(0);
    proved.says("PROVED ON DATA").says("manage-bde -protectors -add $drive -tpm");
}

/// Compares answers with the snapshot of that name.
fn snapshot(name: &str, case: &Case, typed: &[&str]) {
    if cfg!(windows) {
        return; // Paths and the system's own words are others there.
    }
    let shown: Vec<String> = typed
        .iter()
        .map(|typed| {
            let answer = case.run(typed);
            let err: String = answer.err.lines().map(|line| format!("! {line}\n")).collect();
            format!("$ lifeboat {typed}\n{}{err}exit {}\n", answer.out, answer.code)
        })
        .collect();
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
        snapshot_path => "snapshots",
    }, {
        insta::assert_snapshot!(name, shown.join("\n"));
    });
}

#[test]
fn what_a_person_sees() {
    let options = VolumeOptions {
        protectors: vec![
            ProtectorOptions::Tpm(lifeboat_fve::ProtectionType::TPM),
            ProtectorOptions::recovery_password(),
            ProtectorOptions::ExternalKey,
        ],
        damage: vec![Damage::Copy(1, CopyDamage::Zeroed)],
        ..VolumeOptions::default()
    };
    let case = Case::new(&options);
    snapshot("disk-inspect", &case, &["disk inspect disk.vhdx", "disk inspect disk.vhdx --json"]);
    snapshot("recover-plan", &case, &["recover disk.vhdx --plan"]);
    snapshot(
        "recover",
        &case,
        &[
            "recover disk.vhdx --verify-only",
            "recover disk.vhdx --recovery-password-file key.txt --verify-only",
            "recover disk.vhdx --recovery-password-file key.txt --read-back secrets.txt",
            "recover disk.vhdx --recovery-password-file key.txt --whole-disk --to whole.vhdx",
            "recover disk.vhdx --recovery-password-file key.txt --to whole.vhdx",
            "recover disk.vhdx --recovery-password-file key.txt --list",
        ],
    );
    case.run("recover disk.vhdx --card card.txt").ends(0);
    let card = std::fs::read_to_string(case.path("card.txt")).expect("text");
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
        snapshot_path => "snapshots",
    }, {
        insta::assert_snapshot!("handover-card", card);
    });
}

#[test]
fn a_whole_disk_comes_out_as_a_vhdx_and_nothing_is_overwritten() {
    let case = Case::new(&VolumeOptions::default());
    case.run("recover disk.vhdx --recovery-password-file key.txt --whole-disk --to whole.vhdx").ends(0);
    let whole = vhdx_content(&case.path("whole.vhdx"));
    assert!(whole[1 << 20..(1 << 20) + VOLUME_BYTES] == case.expected);
    let report = case.run("disk inspect whole.vhdx --json").ends(0).json();
    assert_eq!(report["volumes"][0]["encryption"], "none");
    let before = sha256(&case.path("whole.vhdx"));
    case.run("recover disk.vhdx --recovery-password-file key.txt --to whole.vhdx")
        .ends(2)
        .says("is there already");
    assert_eq!(sha256(&case.path("whole.vhdx")), before);
    // The raw volume on standard input's key.
    let mut child = command(case.folder.path())
        .args(["recover", "disk.vhdx", "--recovery-password-file", "-", "--to", "plain.raw"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("a pipe").write_all(case.password.as_bytes()).expect("written");
    assert!(child.wait().expect("it ends").success());
    assert!(std::fs::read(case.path("plain.raw")).expect("readable") == case.expected);
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_a_part_that_the_next_run_finishes() {
    use std::os::unix::process::ExitStatusExt as _;
    let options = VolumeOptions::default();
    let plain = ntfs_plaintext(256 << 20, 512, 3);
    let volume = options.format(plain.clone());
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("volume.img"), &volume.image).expect("written");
    let WrittenSecret::RecoveryPassword(password) = &volume.secrets[0].1 else {
        panic!("a recovery password")
    };
    std::fs::write(folder.path().join("key.txt"), password).expect("written");
    let arguments = ["recover", "volume.img", "--recovery-password-file", "key.txt", "--to", "plain.raw"];
    let mut child = command(folder.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let journal = folder.path().join("plain.raw.partial.journal");
    // Until the first parts are noted.
    for _ in 0..2000 {
        let lines = std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        if lines > 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let status = child.wait().expect("it ends");
    assert_eq!(status.signal(), None);
    if status.code() == Some(0) {
        told("the machine was too fast to be interrupted");
        return;
    }
    assert_eq!(status.code(), Some(130));
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert!(said.contains("the same command goes on"), "{said}");
    assert!(!folder.path().join("plain.raw").exists());
    let report = lifeboat(folder.path(), &[&arguments[..], &["--json"]].concat()).ends(0).json();
    assert!(report["written"]["resumed_bytes"].as_u64().expect("a number") > 0, "{report}");
    assert!(std::fs::read(folder.path().join("plain.raw")).expect("readable") == volume.expected(plain));
    let names = std::fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(names, 3, "no part and no journal is left");
}

#[test]
fn destroyed_metadata_is_said_and_captured_metadata_replaces_it() {
    let damage = (0..3).map(|copy| Damage::Copy(copy, CopyDamage::FlippedByte(300))).collect();
    let case = Case::new(&VolumeOptions { damage, ..VolumeOptions::default() });
    let inspected = case.run("disk inspect disk.vhdx --json").ends(4);
    assert!(inspected.json()["volumes"][0].get("bitlocker").is_none());
    case.run("recover disk.vhdx --recovery-password-file key.txt --to out")
        .ends(4)
        .says("none of the 3 metadata copies");
    std::fs::write(case.path("region.bin"), &case.volume.metadata_region).expect("written");
    case.run("recover disk.vhdx --captured region.bin --recovery-password-file key.txt --to out").ends(0);
    assert!(std::fs::read(case.path("out")).expect("readable") == case.expected);
    // The first sector alone: the copies are found by looking.
    let case = Case::new(&VolumeOptions { damage: vec![Damage::BootSector], ..VolumeOptions::default() });
    case.run("recover disk.vhdx --recovery-password-file key.txt --to out").ends(2).says("--search-metadata");
    case.run("recover disk.vhdx --search-metadata --recovery-password-file key.txt --to out").ends(0);
    assert!(std::fs::read(case.path("out")).expect("readable") == case.expected);
    // One whole copy is enough.
    let damage = (0..2).map(|copy| Damage::Copy(copy, CopyDamage::Zeroed)).collect();
    let case = Case::new(&VolumeOptions { damage, ..VolumeOptions::default() });
    case.run("recover disk.vhdx --recovery-password-file key.txt --to out")
        .ends(0)
        .says("1 of 3 metadata copies");
    assert!(std::fs::read(case.path("out")).expect("readable") == case.expected);
}

#[test]
fn files_come_out_without_an_image() {
    let packed = include_bytes!("../../../crates/recover/tests/data/ntfs.img.gz");
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut plain).expect("gzip");
    plain.resize(24 << 20, 0);
    let volume = VolumeOptions::default().format(plain);
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("volume.img"), &volume.image).expect("written");
    let WrittenSecret::RecoveryPassword(password) = &volume.secrets[0].1 else {
        panic!("a recovery password")
    };
    std::fs::write(folder.path().join("key.txt"), password).expect("written");
    let run = |arguments: &str| {
        let arguments = format!("recover volume.img --recovery-password-file key.txt {arguments}");
        lifeboat(folder.path(), &arguments.split(' ').collect::<Vec<_>>())
    };
    run("--list").ends(0).says("Users/").says("many/");
    let listed = run("--list Users/Anna --json").ends(0).json();
    assert_eq!(listed["entries"][1]["name"], "large.txt");
    run("--extract Users/Anna/Documents --to out").ends(0).says("Extracted 1 files");
    let text = std::fs::read_to_string(folder.path().join("out/Report.txt")).expect("it is there");
    assert_eq!(text, "the report");
    run("--extract packed --to packed").ends(3).says("compress");
    run("--list nowhere").ends(2).says("there is no nowhere");
    assert!(!folder.path().join("volume.img.partial").exists());
}
