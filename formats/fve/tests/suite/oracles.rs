use std::collections::BTreeMap;
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
use sha2::{Digest, Sha256};

use crate::test_data::hex;

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
        _ => (VolumeFormat::Standard, ConversionOptions::Decrypted),
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

/// What a tool made of a volume: its word, and for those that decrypt whether the bytes are the expected ones.
fn verdict(script: &Path, tool: &str, image: &Path, spec: &str, expected: &str) -> String {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", LIMIT_SECONDS, "bash"])
        .arg(script)
        .args(["decrypt", tool])
        .arg(image)
        .args(["0", spec]);
    let output = command.arg(image.with_extension(tool)).output().expect("bash runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name));
    let result = field("result=").unwrap_or(if output.status.success() { "silent" } else { "no answer" });
    match field("sha256=") {
        Some(hash) if hash == expected => format!("{result}, equal"),
        Some(_) => format!("{result}, DIFFERENT"),
        None => result.into(),
    }
}

/// Many volumes, all options mixed: ours gives the expected bytes each time, and so do the others where they can.
///
/// `LIFEBOAT_ORACLE_VOLUMES` sets how many; each takes some seconds of other programs' time.
#[test]
#[ignore = "an exploration of minutes that runs dislocker, dissect.fve and cryptsetup, which Lifeboat does not need: run it with --ignored --nocapture"]
fn other_readers_agree() {
    let Some(script) = script() else {
        println!("skipped: the script that runs other readers was not found");
        return;
    };
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let (first, count) = (number("LIFEBOAT_ORACLE_FIRST", 0), number("LIFEBOAT_ORACLE_VOLUMES", 40));
    let folder = tempfile::tempdir().unwrap();
    let tally: Mutex<BTreeMap<(&str, String), usize>> = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(first);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= first + count {
                        break;
                    }
                    compare(&script, folder.path(), number, &tally);
                }
            });
        }
    });
    for ((tool, verdict), count) in tally.into_inner().unwrap() {
        println!("{tool:12} {verdict:22} {count:4}");
    }
}

fn compare(
    script: &Path,
    folder: &Path,
    number: usize,
    tally: &Mutex<BTreeMap<(&'static str, String), usize>>,
) {
    let options = options(number);
    let plaintext = ntfs_plaintext(VOLUME_BYTES, options.sector_size, options.seed);
    let volume = options.format(plaintext.clone());
    let expected = volume.expected(plaintext);
    let decrypted = options.conversion == ConversionOptions::Decrypted;
    let secret = volume.secrets.first().map_or(&WrittenSecret::ClearKey, |(_, secret)| secret);
    let (spec, credential) = key_spec(secret, folder, number);
    let disk = Volume::open(&volume.image).unwrap();
    let key = if decrypted { None } else { disk.unlock(&credential).unwrap().volume_key };
    let plain = disk.decrypt(disk.metadata(), key.as_ref()).unwrap();
    let mut bytes = vec![0; VOLUME_BYTES];
    plain.read(0, &mut bytes).unwrap();
    assert!(bytes == expected, "{number}: {options:?}");
    let image = folder.join(format!("{number}.img"));
    std::fs::write(&image, &volume.image).unwrap();
    let expected = hex(&Sha256::digest(&expected));
    let kind = spec.split(':').next().unwrap_or_default().to_owned();
    for tool in TOOLS {
        let verdict = verdict(script, tool, &image, &spec, &expected);
        if !matches!(verdict.as_str(), "ok, equal" | "ok") {
            println!(
                "{number:3} {tool}: {verdict}: {} {} {:?} {:?} key {kind} of {:?} damage {:?} win7 {}",
                options.method.name(),
                options.sector_size,
                options.format,
                options.conversion,
                options.protectors,
                options.damage,
                options.windows_7_datums,
            );
        }
        *tally.lock().unwrap().entry((tool, verdict)).or_default() += 1;
        let _ = std::fs::remove_file(image.with_extension(tool));
    }
    let _ = std::fs::remove_file(image);
}
