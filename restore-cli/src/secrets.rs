//! Secrets at the command line: passphrases by prompt or file, keys and identities from their files.
//!
//! Never from arguments, never printed.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use age::Callbacks;
use age::secrecy::SecretString;
use lifeboat_schema::Exit;
use lifeboat_vault::key::{KeyError, SigningKey};
use lifeboat_vault::seal::{Identities, Passphrase};
use zeroize::Zeroizing;

use crate::error::CliError;

/// Longest passphrase file that is looked at.
const MAX_PASSPHRASE_FILE_BYTES: u64 = 64 << 10;

/// Where passphrases come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PassphraseSource {
    /// Read the passphrase of keys and identities from the first line of this file; `-` is standard input.
    #[arg(long, global = true, value_name = "FILE", env = "LIFEBOAT_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseSource {
    /// Whether a passphrase is given without a prompt.
    pub(crate) fn is_given(&self) -> bool {
        self.passphrase_file.is_some()
    }

    /// The passphrase for `what`: from the file, else at the prompt.
    pub(crate) fn ask(&self, what: &str) -> Result<Zeroizing<String>, CliError> {
        if let Some(path) = &self.passphrase_file {
            return read_first_line(path);
        }
        if !std::io::stdin().is_terminal() {
            return Err(CliError::new(
                Exit::NoAccess,
                format!(
                    "{what} is protected by a passphrase, and there is no terminal to ask for it: give --passphrase-file"
                ),
            ));
        }
        prompt(&format!("Passphrase of {what}: "))
    }

    /// A new passphrase for `what`, asked twice; empty means none.
    pub(crate) fn ask_new(&self, what: &str) -> Result<Zeroizing<String>, CliError> {
        if let Some(path) = &self.passphrase_file {
            return read_first_line(path);
        }
        loop {
            let first = prompt(&format!("New passphrase of {what} (empty: none): "))?;
            if first.is_empty() {
                return Ok(first);
            }
            if *prompt("Once more: ")? == *first {
                return Ok(first);
            }
            crate::output::note("The two are not the same; again.");
        }
    }
}

fn prompt(text: &str) -> Result<Zeroizing<String>, CliError> {
    rpassword::prompt_password(text)
        .map(Zeroizing::new)
        .map_err(|error| CliError::new(Exit::NoAccess, format!("no passphrase was read: {error}")))
}

fn read_first_line(path: &Path) -> Result<Zeroizing<String>, CliError> {
    use std::io::Read as _;
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_PASSPHRASE_FILE_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_PASSPHRASE_FILE_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| CliError::file(path, "read", &error))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(CliError::new(
            Exit::NoAccess,
            format!("{} holds no passphrase in its first line", path.display()),
        ));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Reads a signing key, asking for its passphrase if it has one.
pub(crate) fn read_signing_key(path: &Path, passphrases: &PassphraseSource) -> Result<SigningKey, CliError> {
    let text = Zeroizing::new(std::fs::read(path).map_err(|error| CliError::file(path, "read", &error))?);
    match SigningKey::parse(&text, None) {
        Err(KeyError::PassphraseNeeded) => {
            let passphrase = passphrases.ask(&path.display().to_string())?;
            Ok(SigningKey::parse(&text, Some(passphrase.as_bytes()))
                .map_err(|error| CliError::from(error).about(path.display()))?)
        }
        other => other.map_err(|error| CliError::from(error).about(path.display())),
    }
}

/// Reads an identity file, asking for its passphrase if it has one.
pub(crate) fn read_identities(path: &Path, passphrases: &PassphraseSource) -> Result<Identities, CliError> {
    let file = Zeroizing::new(std::fs::read(path).map_err(|error| CliError::file(path, "read", &error))?);
    let passphrase = if Identities::is_protected(&file) {
        let text = passphrases.ask(&path.display().to_string())?;
        Some(Passphrase::new(text.to_string()))
    } else {
        None
    };
    Identities::parse(&file, passphrase.as_ref(), Terminal(passphrases.clone()))
        .map_err(|error| CliError::from(error).about(path.display()))
}

/// Lets age plugins talk to the person at the terminal.
#[derive(Clone)]
struct Terminal(PassphraseSource);

impl Callbacks for Terminal {
    fn display_message(&self, message: &str) {
        crate::output::note(crate::output::plain(message));
    }

    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }

    fn request_public_string(&self, _: &str) -> Option<String> {
        None
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        self.0.ask(&crate::output::plain(description)).ok().map(|text| SecretString::from(text.to_string()))
    }
}
