//! PFX files of `openssl pkcs12`, in the forms that Windows has written over the years, and hostile ones.

use std::path::Path;
use std::process::{Command, Stdio};

use lifeboat_keys::{KeyPair, MAX_PFX_BYTES, PfxError, parse_pfx};
use zeroize::Zeroizing;

const PASSWORD: &str = "pässword 1";

/// Runs `openssl`; `None` where it is not installed, or cannot do this.
fn openssl(folder: &Path, arguments: &[&str]) -> Option<()> {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().ok()?.success().then_some(())
}

/// A self-signed certificate with its key, and a PFX of both in each form that this `openssl` can write.
struct Files {
    folder: tempfile::TempDir,
    forms: Vec<(&'static str, Vec<u8>)>,
}

const FORMS: [(&str, &[&str]); 5] = [
    ("AES-256 and SHA-256", &["-keypbe", "AES-256-CBC", "-certpbe", "AES-256-CBC", "-macalg", "SHA256"]),
    ("AES-128 and SHA-512", &["-keypbe", "AES-128-CBC", "-certpbe", "AES-128-CBC", "-macalg", "SHA512"]),
    ("3DES and SHA-1", &["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "SHA1"]),
    ("RC2 and 3DES", &["-legacy"]),
    ("no encryption", &["-keypbe", "NONE", "-certpbe", "NONE", "-macalg", "SHA256"]),
];

impl Files {
    #[allow(clippy::print_stdout, reason = "says what was skipped")]
    fn make() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let request =
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"];
        let rest = ["-days", "30", "-subj", "/CN=Shielded VM Signing Certificate (Owner) (HOST1)"];
        if openssl(folder.path(), &[request.as_slice(), &rest].concat()).is_none() {
            println!("skipped: no openssl");
            return None;
        }
        let mut forms = Vec::new();
        for (name, options) in FORMS {
            let export = [
                "pkcs12", "-export", "-inkey", "key.pem", "-in", "cert.pem", "-name", "Owner", "-out",
                "a.pfx",
            ];
            let password = format!("pass:{PASSWORD}");
            let arguments = [export.as_slice(), options, &["-passout", &password]].concat();
            match openssl(folder.path(), &arguments) {
                Some(()) => {
                    forms.push((name, std::fs::read(folder.path().join("a.pfx")).expect("it was written")))
                }
                None => println!("skipped: this openssl does not write {name}"),
            }
        }
        assert!(!forms.is_empty());
        Some(Self { folder, forms })
    }
}

fn open(bytes: &[u8], password: &str) -> Result<Vec<KeyPair>, PfxError> {
    parse_pfx(bytes, &Zeroizing::new(password.to_owned()))
}

/// The error of a file that gives no keys.
fn refused(bytes: &[u8], password: &str) -> PfxError {
    match open(bytes, password) {
        Ok(pairs) => panic!("{} pairs", pairs.len()),
        Err(error) => error,
    }
}

#[test]
fn every_form_gives_the_pair_that_was_put_in() {
    let Some(files) = Files::make() else { return };
    let pem = std::fs::read_to_string(files.folder.path().join("key.pem")).unwrap();
    let key = lifeboat_key_protector::PrivateKey::parse_pem(&pem).unwrap();
    for (name, bytes) in &files.forms {
        let pairs = open(bytes, PASSWORD).unwrap_or_else(|error| panic!("{name}: {error}"));
        let [pair] = pairs.as_slice() else { panic!("{name}: {} pairs", pairs.len()) };
        assert!(pair.key.belongs_to(&pair.certificate) && key.belongs_to(&pair.certificate), "{name}");
        assert_eq!(pair.friendly_name.as_deref(), Some("Owner"), "{name}");
        assert_eq!(pair.certificate.guardian_name().guardian, "Owner");
    }
}

#[test]
fn a_wrong_password_is_told_from_what_is_no_pfx() {
    let Some(files) = Files::make() else { return };
    for (name, bytes) in &files.forms {
        for wrong in ["", "password 1", "pässword 1 "] {
            let error = refused(bytes, wrong);
            assert!(matches!(error, PfxError::WrongPassword), "{name} with {wrong:?}: {error}");
        }
    }
    for bytes in [b"".as_slice(), b"no pfx", &[0x30, 0x80], &[0x30, 0x03, 0x02, 0x01, 0x03], &[0; 100]] {
        assert!(matches!(refused(bytes, PASSWORD), PfxError::NotPfx { .. }), "{bytes:?}");
    }
    assert!(matches!(refused(&vec![0x30; MAX_PFX_BYTES + 1], PASSWORD), PfxError::TooLarge { .. }));
}

#[test]
fn a_file_without_mac_or_key_is_named() {
    let Some(files) = Files::make() else { return };
    let export = ["pkcs12", "-export", "-in", "cert.pem", "-out", "b.pfx", "-passout", "pass:x"];
    let without_mac = [export.as_slice(), &["-inkey", "key.pem", "-nomac"]].concat();
    let path = files.folder.path().join("b.pfx");
    if openssl(files.folder.path(), &without_mac).is_some() {
        assert!(matches!(refused(&std::fs::read(&path).unwrap(), "x"), PfxError::NoMac));
    }
    let without_key = [export.as_slice(), &["-nokeys"]].concat();
    if openssl(files.folder.path(), &without_key).is_some() {
        assert!(matches!(refused(&std::fs::read(&path).unwrap(), "x"), PfxError::NoPrivateKey));
    }
}

#[test]
fn every_truncation_and_every_flip_is_refused_or_gives_the_same_key() {
    let Some(files) = Files::make() else { return };
    let (_, whole) = &files.forms[0];
    for length in (0..whole.len()).step_by(7) {
        assert!(open(&whole[..length], PASSWORD).is_err(), "cut at {length}");
    }
    let mut survived = 0;
    // Each try that gets as far as the MAC costs its iterations; a third of the bytes is enough.
    for at in (0..whole.len()).step_by(3) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(pairs) = open(&flipped, PASSWORD) {
            survived += 1;
            assert!(pairs.iter().all(|pair| pair.key.belongs_to(&pair.certificate)), "flip at {at}");
        }
    }
    assert!(survived < 4, "{survived} altered files were taken");
}

#[test]
fn an_error_tells_no_password() {
    let Some(files) = Files::make() else { return };
    for (_, bytes) in &files.forms {
        assert!(!refused(bytes, "very-secret").to_string().contains("very-secret"));
    }
}
