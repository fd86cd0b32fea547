//! The keys of `lifeboat recover`: from files, standard input and prompts, and what to say about a mistyped one.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use lifeboat_disk::ImageFile;
use lifeboat_fve::{
    Analysis, BlockReport, CorrectionKind, Credential, ExternalKey, KeyPackage, Metadata, Password,
    ProtectionType, RecoveryPassword,
};
use lifeboat_recover::{LockedVolume, open_volume, parse_recovery_passwords};
use lifeboat_schema::Exit;
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::output;

/// Longest key file that is looked at.
const MAX_KEY_FILE_BYTES: u64 = 1 << 20;
/// Corrections of a mistyped recovery password that are tried on the disks: each takes a tenth of a second.
const MAX_CANDIDATES: usize = 64;

/// Keys to try. Several of each may be given.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Keys")]
pub(crate) struct KeyArguments {
    /// File with a recovery password (48 digits), or several, one per line; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_password_file: Vec<PathBuf>,
    /// File whose first line is the password that people type to unlock the drive; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Vec<PathBuf>,
    /// Recovery or startup key file (.BEK).
    #[arg(long, value_name = "FILE")]
    pub(crate) bek: Vec<PathBuf>,
    /// Use the clear key that stands on a volume whose protection is suspended.
    #[arg(long)]
    pub(crate) clear_key: bool,
    /// Key package (.KPG), to be opened by its recovery password.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_package: Vec<PathBuf>,
    /// Metadata region captured earlier from the same volume: takes the place of destroyed copies, and lets keys of
    /// that time open the disk of today.
    #[arg(long, value_name = "FILE")]
    pub(crate) captured: Vec<PathBuf>,
}

impl KeyArguments {
    /// Whether any key is given.
    pub(crate) fn is_given(&self) -> bool {
        !self.recovery_password_file.is_empty()
            || !self.password_file.is_empty()
            || !self.bek.is_empty()
            || self.clear_key
    }

    /// The flags that say the same.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        for (name, files) in [
            ("--recovery-password-file", &self.recovery_password_file),
            ("--password-file", &self.password_file),
            ("--bek", &self.bek),
            ("--key-package", &self.key_package),
            ("--captured", &self.captured),
        ] {
            for file in files {
                flags.extend([name.to_owned(), file.display().to_string()]);
            }
        }
        flags.extend(self.clear_key.then(|| "--clear-key".to_owned()));
        flags
    }
}

/// Keys that were read.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) credentials: Vec<Credential>,
    pub(crate) packages: Vec<KeyPackage>,
}

/// Reads every key file. A mistyped recovery password is answered by block, and its corrections are tried on `volumes`.
pub(crate) fn read(
    arguments: &KeyArguments,
    volumes: &[LockedVolume<'_, ImageFile>],
    generations: &[Metadata],
) -> Result<Keys, CliError> {
    let mut keys = Keys::default();
    for path in &arguments.recovery_password_file {
        let text = read_text(path)?;
        match parse_recovery_passwords(&text) {
            Ok(passwords) => keys.credentials.extend(passwords.into_iter().map(Credential::RecoveryPassword)),
            Err((error, analysis)) => {
                if let Some(analysis) = analysis {
                    explain(&analysis, volumes, generations);
                }
                return Err(CliError::new(
                    Exit::NoAccess,
                    format!(
                        "{}: {error}. Correct the file, or look the password up again; nothing was tried with it as it is",
                        path.display()
                    ),
                ));
            }
        }
    }
    for path in &arguments.password_file {
        let text = read_text(path)?;
        let line = text.trim_start_matches('\u{feff}').lines().next().unwrap_or_default();
        if line.is_empty() {
            let message = format!("{} holds no password in its first line", path.display());
            return Err(CliError::new(Exit::NoAccess, message));
        }
        keys.credentials.push(Credential::Password(Password::new(line.to_owned())));
    }
    for path in &arguments.bek {
        let bytes = read_bytes(path)?;
        let key = ExternalKey::parse(&bytes).map_err(|error| {
            CliError::new(Exit::NoAccess, format!("{} is no .BEK file: {error}", path.display()))
        })?;
        keys.credentials.push(Credential::ExternalKey(key));
    }
    if arguments.clear_key {
        keys.credentials.push(Credential::ClearKey);
    }
    for path in &arguments.key_package {
        let bytes = read_bytes(path)?;
        let package = KeyPackage::parse(&bytes).map_err(|error| {
            CliError::new(Exit::NoAccess, format!("{} is no key package: {error}", path.display()))
        })?;
        keys.packages.push(package);
    }
    Ok(keys)
}

fn read_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_KEY_FILE_BYTES).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut bytes))
    };
    read.map_err(|error| CliError::file(path, "read", &error))?;
    Ok(bytes)
}

/// Reads text as people save it: UTF-8, or the UTF-16 of Windows' own recovery key files.
fn read_text(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let bytes = read_bytes(path)?;
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => {
            let units = rest.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        }
        bytes => std::str::from_utf8(bytes).ok().map(str::to_owned),
    };
    text.map(Zeroizing::new).ok_or_else(|| {
        CliError::new(Exit::NoAccess, format!("{} is no text (UTF-8 or UTF-16)", path.display()))
    })
}

/// Says block by block what is wrong, which corrections pass, and which of them opens a volume; that one is answered.
pub(crate) fn explain(
    analysis: &Analysis,
    volumes: &[LockedVolume<'_, ImageFile>],
    generations: &[Metadata],
) -> Option<RecoveryPassword> {
    for block in analysis.blocks() {
        let Some(problem) = block.problem else { continue };
        output::note(format!("block {} of 8 {problem}", block.number));
        if block.corrections.is_empty() {
            output::note("  no single slip explains it: look it up again");
            continue;
        }
        output::note("  one slip away, and right:");
        for correction in &block.corrections {
            output::note(format!("    {:06}  {}", correction.expose(), slip(correction.kind)));
        }
    }
    let with_recovery: Vec<_> = volumes
        .iter()
        .filter(|volume| {
            let protectors = volume.fve().metadata().protectors();
            protectors.iter().any(|one| one.protection == ProtectionType::RECOVERY_PASSWORD)
        })
        .collect();
    let candidates = analysis.candidates(MAX_CANDIDATES);
    if candidates.is_empty() || candidates.len() == MAX_CANDIDATES || with_recovery.is_empty() {
        return None;
    }
    output::note(format!("Trying {} corrections on the disk...", candidates.len()));
    for candidate in candidates {
        let values = candidate.expose();
        let recovery_key = candidate.recovery_key();
        let key = [Credential::RecoveryPassword(candidate)];
        for volume in &with_recovery {
            if open_volume(volume, &key, &[], generations).is_ok() {
                let blocks: Vec<String> = analysis
                    .blocks()
                    .iter()
                    .filter(|block| block.problem.is_some())
                    .map(|block| corrected(block, &values))
                    .collect();
                output::note(format!(
                    "With {} it opens volume {} of {}.",
                    blocks.join(" and "),
                    volume.place.number,
                    volume.source.path.display()
                ));
                return Some(RecoveryPassword::from_recovery_key(&recovery_key));
            }
        }
    }
    output::note("None of them opens a volume: more than one slip, or the password of another volume.");
    None
}

/// A corrected block, from the whole corrected password.
fn corrected(block: &BlockReport, password: &str) -> String {
    let digits = password.split('-').nth(block.number - 1).unwrap_or_default();
    format!("{digits} in block {}", block.number)
}

fn slip(kind: CorrectionKind) -> String {
    match kind {
        CorrectionKind::Replace { position } => format!("digit {position} is another"),
        CorrectionKind::Swap { position } => format!("digits {position} and {} are swapped", position + 1),
        CorrectionKind::Insert { position } => format!("a digit is missing at place {position}"),
        CorrectionKind::Remove { position } => format!("digit {position} is too many"),
    }
}

/// Whether a person can be asked.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for one line, shown while it is typed. None when there is no more input.
pub(crate) fn ask(question: &str) -> Option<Zeroizing<String>> {
    let mut err = std::io::stderr();
    let _ = write!(err, "{question} ");
    let _ = err.flush();
    let mut line = Zeroizing::new(String::with_capacity(256));
    match std::io::stdin().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(Zeroizing::new(line.trim().to_owned())),
    }
}

/// Asks a question that anything but yes answers with no.
pub(crate) fn yes(question: &str) -> bool {
    ask(&format!("{question} [y/N]"))
        .is_some_and(|answer| matches!(answer.to_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a recovery password until one passes its checks; its digits are shown. None when the person gives up.
pub(crate) fn ask_recovery_password(
    volumes: &[LockedVolume<'_, ImageFile>],
    generations: &[Metadata],
) -> Option<RecoveryPassword> {
    loop {
        let text = ask("Recovery password, 48 digits (empty: none at hand):")?;
        if text.is_empty() {
            return None;
        }
        match Analysis::of(&text) {
            Ok(analysis) => match analysis.password() {
                Ok(password) => return Some(password),
                Err(_) => {
                    if let Some(password) = explain(&analysis, volumes, generations)
                        && yes("Take it so?")
                    {
                        return Some(password);
                    }
                }
            },
            Err(error) => output::note(error.to_string()),
        }
    }
}

/// Asks for a password without showing it.
pub(crate) fn ask_password() -> Option<Password> {
    let text = rpassword::prompt_password("Password of the drive (empty: none at hand): ").ok()?;
    let text = Zeroizing::new(text);
    (!text.is_empty()).then(|| Password::new(text.to_string()))
}
