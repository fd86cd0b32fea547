//! The keys of `lifeboat recover`: from files, standard input and prompts, and what to say about a mistyped one.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use lifeboat_disk::ImageFile;
use lifeboat_fve::{
    Analysis, BlockReport, CorrectionKind, Credential, ExternalKey, KeyPackage, Metadata, Password,
    ProtectionType, RecoveryPassword,
};
use lifeboat_recover::{CapturedMetadata, LockedVolume, open_volume, parse_recovery_passwords};
use lifeboat_schema::Exit;
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::output;

/// Longest key file that is looked at.
const MAX_KEY_FILE_BYTES: usize = 1 << 20;
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
    pub(crate) fn flags(&self) -> Vec<OsString> {
        let mut flags = Vec::new();
        for (name, files) in [
            ("--recovery-password-file", &self.recovery_password_file),
            ("--password-file", &self.password_file),
            ("--bek", &self.bek),
            ("--key-package", &self.key_package),
            ("--captured", &self.captured),
        ] {
            for file in files {
                flags.extend([name.into(), file.into()]);
            }
        }
        flags.extend(self.clear_key.then(|| "--clear-key".into()));
        flags
    }

    /// Refuses to read standard input twice: the second reader would find nothing.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        let files =
            [&self.recovery_password_file, &self.password_file, &self.bek, &self.key_package, &self.captured];
        match files.into_iter().flatten().filter(|path| path.as_os_str() == "-").count() {
            0 | 1 => Ok(()),
            _ => {
                Err(CliError::usage("standard input (-) can be read once only; put the other key in a file"))
            }
        }
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
        keys.credentials.push(Credential::ExternalKey(read_bek(path)?));
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

/// Reads a recovery or startup key file.
pub(crate) fn read_bek(path: &Path) -> Result<ExternalKey, CliError> {
    ExternalKey::parse(&read_bytes(path)?).map_err(|error| {
        CliError::new(Exit::NoAccess, format!("{} is no .BEK file: {error}", path.display()))
    })
}

/// Reads metadata regions that were captured earlier.
pub(crate) fn read_captured(paths: &[PathBuf]) -> Result<CapturedMetadata, CliError> {
    let mut captured = CapturedMetadata::default();
    for path in paths {
        // A clear key may stand in it.
        let region = read_bytes(path)?;
        Metadata::parse(&region).map_err(|error| {
            CliError::usage(format!("{} holds no BitLocker metadata region: {error}", path.display()))
        })?;
        captured.regions.push(region);
    }
    Ok(captured)
}

/// Reads a small file, or standard input; the bytes are wiped when they are dropped.
fn read_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let bytes = if path.as_os_str() == "-" {
        read_bounded(std::io::stdin())
    } else {
        std::fs::File::open(path).and_then(read_bounded)
    };
    let bytes = bytes.map_err(|error| CliError::file(path, "read", &error))?;
    if bytes.len() > MAX_KEY_FILE_BYTES {
        return Err(CliError::usage(format!(
            "{} is longer than any key or metadata region ({MAX_KEY_FILE_BYTES} bytes); is it the right file?",
            path.display()
        )));
    }
    Ok(bytes)
}

/// Reads to the end, or one byte more than a key file has.
fn read_bounded(file: impl std::io::Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Room for all, so that no copy is left behind when it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES + 64));
    file.take(MAX_KEY_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads text as people save it: UTF-8, or the UTF-16 of Windows' own recovery key files.
fn read_text(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let bytes = read_bytes(path)?;
    // Room for all, in UTF-8: a unit of UTF-16 takes three bytes at most.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() / 2 * 3 + 1));
    let is_text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => {
            let units = rest.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
            char::decode_utf16(units).try_for_each(|one| one.map(|one| text.push(one))).is_ok()
        }
        bytes => std::str::from_utf8(bytes).map(|all| text.push_str(all)).is_ok(),
    };
    if is_text {
        return Ok(text);
    }
    Err(CliError::new(Exit::NoAccess, format!("{} is no text (UTF-8 or UTF-16)", path.display())))
}

/// Says block by block what is wrong, which corrections pass, and which of them opens a volume; that one is answered.
/// Corrected digits are as secret as the password: only a terminal shows them, no log.
pub(crate) fn explain(
    analysis: &Analysis,
    volumes: &[LockedVolume<'_, ImageFile>],
    generations: &[Metadata],
) -> Option<RecoveryPassword> {
    let shows_digits = std::io::stderr().is_terminal();
    for line in explanation(analysis, shows_digits) {
        output::note(line);
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
        let recovery_key = candidate.recovery_key();
        let values = shows_digits.then(|| candidate.expose());
        let key = [Credential::RecoveryPassword(candidate)];
        for volume in &with_recovery {
            if open_volume(volume, &key, &[], generations).is_ok() {
                let blocks: Vec<String> = analysis
                    .blocks()
                    .iter()
                    .filter(|block| block.problem.is_some())
                    .map(|block| corrected(block, values.as_ref().map(|one| one.as_str())))
                    .collect();
                output::note(format!(
                    "With {} it opens volume {} of {}.",
                    blocks.join(" and "),
                    volume.place.number,
                    output::path(&volume.source.path)
                ));
                if !shows_digits {
                    output::note("The digits are a secret: run the command at a terminal to see them.");
                }
                return Some(RecoveryPassword::from_recovery_key(&recovery_key));
            }
        }
    }
    output::note("None of them opens a volume: more than one slip, or the password of another volume.");
    None
}

/// What is wrong with a recovery password, block by block.
fn explanation(analysis: &Analysis, shows_digits: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for block in analysis.blocks() {
        let Some(problem) = block.problem else { continue };
        lines.push(format!("block {} of 8 {problem}", block.number));
        if block.corrections.is_empty() {
            lines.push("  no single slip explains it: look it up again".to_owned());
        } else if shows_digits {
            lines.push("  one slip away, and right:".to_owned());
            let corrections = block.corrections.iter();
            lines.extend(corrections.map(|one| format!("    {:06}  {}", one.expose(), slip(one.kind))));
        } else {
            lines.push(format!("  {} blocks are one slip away, and right", block.corrections.len()));
        }
    }
    lines
}

/// A corrected block, with its digits from the whole corrected password where they may be shown.
fn corrected(block: &BlockReport, password: Option<&str>) -> String {
    match password.and_then(|password| password.split('-').nth(block.number - 1)) {
        Some(digits) => format!("{digits} in block {}", block.number),
        None => format!("one slip corrected in block {}", block.number),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrected_digits_are_for_terminals_only() {
        let text = "235818-357961-253979-013365-241120-245575-342914-591910";
        let analysis = Analysis::of(text).unwrap();
        let [shown, logged] = [true, false].map(|shows| explanation(&analysis, shows).join("\n"));
        assert!(shown.contains("357951") && shown.contains("block 2 of 8"), "{shown}");
        assert!(logged.contains("block 2 of 8"), "{logged}");
        let has_digits =
            |text: &str| text.split(|one: char| !one.is_ascii_digit()).any(|digits| digits.len() > 2);
        assert!(!has_digits(&logged), "{logged}");
        let block = &analysis.blocks()[1];
        assert!(!has_digits(&corrected(block, None)) && has_digits(&corrected(block, Some(text))));
    }

    #[test]
    fn key_files_are_read_within_bounds() {
        let long = vec![b'1'; MAX_KEY_FILE_BYTES + 100];
        assert_eq!(read_bounded(long.as_slice()).unwrap().len(), MAX_KEY_FILE_BYTES + 1);
        assert_eq!(read_bounded(&long[..MAX_KEY_FILE_BYTES]).unwrap().len(), MAX_KEY_FILE_BYTES);
        let twice =
            KeyArguments { bek: vec!["-".into()], captured: vec!["-".into()], ..KeyArguments::default() };
        assert_eq!(twice.check().unwrap_err().exit, Exit::Usage);
    }
}
