//! Other readers of BitLocker on the volumes that the fixture writer makes; the result of a run is `ORACLES.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_fve::fixtures::{
    ConversionOptions, CopyDamage, Damage, EowOptions, ProtectorOptions, VolumeOptions, WrittenSecret,
    ntfs_plaintext,
};
use lifeboat_fve::{
    Credential, EncryptionMethod, ExternalKey, Password, ProtectionType, RecoveryPassword, Volume,
    VolumeFormat,
};

const VOLUME_BYTES: usize = 1 << 20;
/// After this a tool is taken to hang.
const LIMIT_SECONDS: &str = "90";
const TOOLS: [&str; 4] = ["dissect", "dislocker", "cryptsetup", "bdeinfo"];

/// Finds the script that runs the other readers.
fn script() -> Option<PathBuf> {
    let data = std::env::var_os("LIFEBOAT_TEST_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let script = data.parent()?.join("tools/bitlocker-oracles.sh");
    script.is_file().then_some(script)
}

/// Options of volume `number`: every choice cycles at its own pace, so that they meet in all combinations.
fn options(number: usize) -> VolumeOptions {
    let pick = |choices: usize, pace: usize| number / pace % choices;
    let method = EncryptionMethod(0x8000 + pick(6, 1) as u16);
    let windows_7_datums = pick(3, 7) == 2;
    let recovery = ProtectorOptions::recovery_password;
    let with_backup = || ProtectorOptions::RecoveryPassword { backup_info: true, pbkdf2: false };
    let password = || ProtectorOptions::Password("test password 1".into());
    // The first one is what the tools get; what stands before or beside it must not disturb them.
    let protectors = match pick(9, 3) {
        0 => vec![recovery()],
        1 => vec![with_backup(), password()],
        2 => vec![password(), recovery()],
        3 => vec![ProtectorOptions::ExternalKey, recovery()],
        4 => vec![recovery(), ProtectorOptions::Tpm(ProtectionType::TPM)],
        5 => vec![recovery(), ProtectorOptions::recovery_password()],
        6 => vec![ProtectorOptions::ClearKey, recovery()],
        7 => vec![recovery(), ProtectorOptions::PublicKey],
        _ => vec![ProtectorOptions::ExternalKey, ProtectorOptions::Tpm(ProtectionType::TPM_PIN)],
    };
    // With more chunks in a region than sixteen, dissect.fve 4.6 does not come to an end on some bitmaps.
    let eow = EowOptions { chunk_bytes: 0x8000, encrypted_of_256: 128 };
    let (format, conversion) = match pick(8, 5) {
        0..=2 => (VolumeFormat::Standard, ConversionOptions::Finished),
        3 => (VolumeFormat::ToGo, ConversionOptions::Finished),
        4 => (VolumeFormat::Standard, ConversionOptions::Paused { boundary: 0x9_5000 }),
        5 => (VolumeFormat::EncryptOnWrite, ConversionOptions::EncryptOnWrite(eow)),
        6 => (VolumeFormat::Vista, ConversionOptions::Finished),
        _ => (VolumeFormat::Standard, ConversionOptions::Paused { boundary: 0x1_0000 }),
    };
    let damage = match pick(5, 11) {
        3 => vec![Damage::Copy(0, CopyDamage::FlippedByte(200))],
        // Sector 0 of a Vista volume knows only the first copy.
        4 if format == VolumeFormat::Vista => {
            vec![Damage::Copy(1, CopyDamage::Zeroed), Damage::Copy(2, CopyDamage::Zeroed)]
        }
        4 => vec![Damage::Copy(0, CopyDamage::Zeroed), Damage::Copy(1, CopyDamage::Zeroed)],
        _ => Vec::new(),
    };
    VolumeOptions {
        method,
        sector_size: if pick(4, 13) == 3 { 4096 } else { 512 },
        format,
        conversion,
        protectors,
        damage,
        windows_7_datums: windows_7_datums || format == VolumeFormat::Vista,
        seed: number as u64,
        ..VolumeOptions::default()
    }
}

fn key_spec(secret: &WrittenSecret, folder: &Path, number: usize) -> (String, Credential) {
    match secret {
        WrittenSecret::RecoveryPassword(text) => {
            (format!("rp:{text}"), Credential::RecoveryPassword(RecoveryPassword::parse(text).unwrap()))
        }
        WrittenSecret::Password(text) => {
            (format!("pw:{text}"), Credential::Password(Password::new(text.clone())))
        }
        WrittenSecret::Bek(bytes) => {
            let path = folder.join(format!("{number}.BEK"));
            std::fs::write(&path, bytes).unwrap();
            (format!("bek:{}", path.display()), Credential::ExternalKey(ExternalKey::parse(bytes).unwrap()))
        }
        WrittenSecret::ClearKey => ("clear".into(), Credential::ClearKey),
        WrittenSecret::None => panic!("the first protector opens"),
    }
}

/// What a reader made of a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Decrypted it, and every byte is the expected one.
    Equal,
    /// Opened it; it is a reader that does not decrypt.
    Opened,
    /// Gave the expected bytes up to here, and then no more.
    EqualUpTo(usize),
    /// Gave other bytes in one read, the expected ones sector by sector.
    EqualBySector,
    /// The same, but for ranges that BitLocker keeps for itself and that read as zeros.
    EqualButReserved,
    /// Gave other bytes.
    Different,
    /// The word for its refusal.
    Refused(String),
}

impl Outcome {
    fn is_success(&self) -> bool {
        matches!(self, Outcome::Equal | Outcome::Opened)
    }

    fn text(&self) -> String {
        match self {
            Outcome::Equal => "equal".into(),
            Outcome::Opened => "opens".into(),
            Outcome::EqualUpTo(_) => "equal as far as it goes".into(),
            Outcome::EqualBySector => "DIFFERENT in one read, equal sector by sector".into(),
            Outcome::EqualButReserved => "DIFFERENT, equal sector by sector but for reserved ranges".into(),
            Outcome::Different => "DIFFERENT".into(),
            Outcome::Refused(word) => word.clone(),
        }
    }
}

/// What a reader should give.
struct Wanted<'v> {
    bytes: &'v [u8],
    /// The ranges of them that are zeros whatever was encrypted.
    reserved: &'v [Range<u64>],
    sector_size: u32,
}

/// The other readers and where they work.
struct Oracles {
    script: PathBuf,
    folder: tempfile::TempDir,
}

impl Oracles {
    fn outcome(&self, tool: &str, image: &Path, spec: &str, wanted: &Wanted<'_>) -> Outcome {
        let out = image.with_extension(tool);
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT_SECONDS, "bash"]).arg(&self.script).args(["decrypt", tool]);
        let output = command.arg(image).args(["0", spec]).arg(&out).output().expect("bash runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let result = text.split_whitespace().find_map(|word| word.strip_prefix("result="));
        let bytes = std::fs::read(&out).ok();
        let _ = std::fs::remove_file(&out);
        match (result, bytes) {
            (Some("ok"), None) => Outcome::Opened,
            (Some("ok"), Some(bytes)) if bytes == wanted.bytes => Outcome::Equal,
            (Some("ok"), Some(bytes)) if wanted.bytes.starts_with(&bytes) => Outcome::EqualUpTo(bytes.len()),
            (Some("ok"), Some(_)) if tool == "dissect" => {
                let mut bytes = self.by_sector(image, spec, wanted.sector_size);
                if bytes == wanted.bytes {
                    return Outcome::EqualBySector;
                }
                let have = bytes.len() as u64;
                for range in wanted.reserved.iter().filter(|range| range.end <= have) {
                    bytes[range.start as usize..range.end as usize].fill(0);
                }
                if bytes == wanted.bytes { Outcome::EqualButReserved } else { Outcome::Different }
            }
            (Some("ok"), Some(_)) => Outcome::Different,
            (word, _) => Outcome::Refused(word.unwrap_or("no answer in time").into()),
        }
    }

    /// What dissect.fve gives when each sector is read on its own.
    fn by_sector(&self, image: &Path, spec: &str, sector_size: u32) -> Vec<u8> {
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        let installed = std::env::var_os("BITLOCKER_ORACLES_DIR")
            .map(PathBuf::from)
            .or_else(|| Some(cache?.join("lifeboat-dev/bitlocker-oracles")))
            .expect("HOME is set");
        let output = Command::new("timeout")
            .args(["--kill-after=5", LIMIT_SECONDS])
            .arg(installed.join("venv/bin/python"))
            .args(["-c", READ_BY_SECTOR])
            .arg(image)
            .args([spec, &sector_size.to_string()])
            .output();
        output.expect("python runs").stdout
    }
}

const READ_BY_SECTOR: &str = r#"
import sys
from dissect.fve.bde import bde
volume = bde.BDE(open(sys.argv[1], "rb"))
kind, _, key = sys.argv[2].partition(":")
if kind == "rp": volume.unlock_with_recovery_password(key)
elif kind == "pw": volume.unlock_with_passphrase(key)
elif kind == "bek": volume.unlock_with_bek(open(key, "rb"))
else: volume.unlock_with_clear_key()
plain = volume.open()
while sector := plain.read(int(sys.argv[3])): sys.stdout.buffer.write(sector)
"#;

/// Why a reader is known not to give all bytes of such a volume; none if it should.
fn known_reason(tool: &str, outcome: &Outcome, options: &VolumeOptions, key: &str) -> Option<&'static str> {
    let is_vista = options.format == VolumeFormat::Vista;
    let is_on_write = matches!(options.conversion, ConversionOptions::EncryptOnWrite(_));
    let is_paused = matches!(options.conversion, ConversionOptions::Paused { .. });
    let is_first_copy_damaged = options.damage.iter().any(|damage| matches!(damage, Damage::Copy(0, _)));
    match (tool, outcome) {
        ("dissect", Outcome::EqualBySector) if is_on_write => {
            Some("encrypt-on-write: takes the state of the chunk where a read starts for all of the read")
        }
        ("dissect", Outcome::EqualButReserved) if is_on_write && options.sector_size == 4096 => {
            Some("encrypt-on-write, 4096-byte sectors: does not hide bitmaps smaller than a sector")
        }
        ("dissect", Outcome::Refused(_)) if is_vista && is_first_copy_damaged => {
            Some("Vista, first metadata copy damaged")
        }
        ("dislocker", Outcome::EqualUpTo(length)) => match options.conversion {
            ConversionOptions::Paused { boundary } if boundary <= *length as u64 => {
                Some("conversion paused: the output ends at the boundary or a page behind it")
            }
            _ => None,
        },
        ("dislocker", Outcome::Refused(_)) if is_vista => Some("Vista"),
        ("dislocker", Outcome::Refused(_)) if is_on_write => Some("encrypt-on-write"),
        ("cryptsetup" | "bdeinfo", Outcome::Refused(_)) => {
            let is_xts_256 = options.method == EncryptionMethod::AES_XTS_256;
            let reasons = [
                (is_vista, "Vista"),
                (is_on_write || is_paused, "conversion in progress"),
                (is_first_copy_damaged, "first metadata copy damaged"),
                (key == "clear", "clear key"),
                (is_xts_256 && tool == "bdeinfo", "AES-XTS-256"),
            ];
            reasons.iter().find(|(applies, _)| *applies).map(|(_, reason)| *reason)
        }
        _ => None,
    }
}

/// Many volumes, all options mixed: ours gives the expected bytes each time, and so do the others where they can.
///
/// `LIFEBOAT_ORACLE_VOLUMES` sets how many; each takes some seconds of other programs' time. The report goes to
/// the file that `LIFEBOAT_ORACLE_REPORT` names.
#[test]
#[ignore = "compares with dislocker, dissect.fve and cryptsetup, which have to be installed: `cargo xtask oracles` runs it, in CI too"]
fn other_readers_agree() {
    let Some(script) = script() else {
        println!("skipped: the script that runs other readers was not found");
        return;
    };
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let (first, count) = (number("LIFEBOAT_ORACLE_FIRST", 0), number("LIFEBOAT_ORACLE_VOLUMES", 40));
    let oracles = Oracles { script, folder: tempfile::tempdir().unwrap() };
    let tally = Tally::default();
    let next = AtomicUsize::new(first);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= first + count {
                        break;
                    }
                    compare(&oracles, number, &tally);
                }
            });
        }
    });
    let report = tally.report(count);
    println!("{report}");
    if let Some(path) = std::env::var_os("LIFEBOAT_ORACLE_REPORT") {
        std::fs::write(path, &report).unwrap();
    }
    assert!(!report.contains(UNKNOWN), "what a reader made of a volume is not explained");
}

/// The reason of an outcome that nobody has looked into.
const UNKNOWN: &str = "NOT EXPLAINED";

/// A reader, its outcome in words, and why.
type Row = (&'static str, String, &'static str);

/// Outcomes with the volumes that had them.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<Row, Vec<usize>>>);

impl Tally {
    fn add(&self, tool: &'static str, outcome: &Outcome, reason: &'static str, number: usize) {
        let mut tally = self.0.lock().unwrap();
        tally.entry((tool, outcome.text(), reason)).or_default().push(number);
    }

    fn report(&self, volumes: usize) -> String {
        let mut text = format!(
            "Volumes: {volumes}. Lifeboat: every byte as expected on all of them.\n\n\
             | reader | outcome | why | volumes | numbers |\n|---|---|---|---|---|\n"
        );
        let tally = self.0.lock().unwrap();
        for tool in TOOLS {
            for ((_, outcome, reason), numbers) in tally.iter().filter(|((name, ..), _)| *name == tool) {
                let count = numbers.len();
                let shown = if reason.is_empty() { "the others".into() } else { ranges(numbers) };
                let _ = writeln!(text, "| {tool} | {outcome} | {reason} | {count} | {shown} |");
            }
        }
        text
    }
}

/// Sorted numbers with neighbours joined: `3, 7–9`.
fn ranges(numbers: &[usize]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}–{}", run[0], run[run.len() - 1]),
    });
    runs.collect::<Vec<_>>().join(", ")
}

#[test]
fn numbers_are_joined() {
    assert_eq!(ranges(&[9, 3, 8, 7, 11]), "3, 7–9, 11");
}

fn compare(oracles: &Oracles, number: usize, tally: &Tally) {
    let options = options(number);
    let plaintext = ntfs_plaintext(VOLUME_BYTES, options.sector_size, options.seed);
    let volume = options.format(plaintext.clone());
    let expected = volume.expected(plaintext);
    let folder = oracles.folder.path();
    let (spec, credential) = key_spec(volume.secret(0), folder, number);
    let disk = Volume::open(&volume.image).unwrap();
    let key = disk.unlock(&credential).unwrap().volume_key;
    let plain = disk.decrypt(disk.metadata(), key.as_ref()).unwrap();
    let mut bytes = vec![0; VOLUME_BYTES];
    plain.read(0, &mut bytes).unwrap();
    assert!(bytes == expected, "{number}: {options:?}");
    let image = folder.join(format!("{number}.img"));
    std::fs::write(&image, &volume.image).unwrap();
    let kind = spec.split(':').next().unwrap_or_default();
    for tool in TOOLS {
        let wanted =
            Wanted { bytes: &expected, reserved: &volume.reserved, sector_size: options.sector_size };
        let outcome = oracles.outcome(tool, &image, &spec, &wanted);
        let reason = if outcome.is_success() {
            ""
        } else {
            known_reason(tool, &outcome, &options, kind).unwrap_or(UNKNOWN)
        };
        if reason == UNKNOWN {
            println!(
                "{number:3} {tool}: {outcome:?}: {} {} {:?} {:?} key {kind} of {:?} damage {:?} win7 {}",
                options.method.name(),
                options.sector_size,
                options.format,
                options.conversion,
                options.protectors,
                options.damage,
                options.windows_7_datums,
            );
        }
        tally.add(tool, &outcome, reason, number);
    }
    let _ = std::fs::remove_file(image);
}
