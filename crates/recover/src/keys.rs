//! Keys as they come from files: recovery passwords, several to a file.

use lifeboat_fve::{Analysis, RecoveryPassword, RecoveryPasswordError};

/// Recovery passwords of one file that are looked at; each costs a tenth of a second per BitLocker protector.
const MAX_PASSWORDS: usize = 64;

/// Why a file gives no recovery password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is no line with digits.
    #[error("it holds no recovery password: no line has digits")]
    Empty,
    /// There are more lines than anyone means.
    #[error("it holds more than {MAX_PASSWORDS} lines with digits; give the one that belongs to the volume")]
    TooMany,
    /// A line is not a recovery password.
    #[error("line {line}: {source}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        source: RecoveryPasswordError,
    },
}

/// Parses the text of a file: one recovery password per line; empty lines and lines that begin with `#` are passed
/// over. In a file of other text, such as the one that Windows saves or prints, the words that look like a recovery
/// password count. Where one is mistyped, its analysis comes with the error.
///
/// # Errors
/// [`KeyFileError`], and the [`Analysis`] of the first mistyped line that can be cut in blocks.
pub fn parse_recovery_passwords(
    text: &str,
) -> Result<Vec<RecoveryPassword>, (KeyFileError, Option<Analysis>)> {
    let mut passwords = Vec::new();
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().zip(1..).filter(|(line, _)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    let lines: Vec<(&str, usize)> = lines.collect();
    let has_digits_only = |line: &str| !line.contains(|one: char| one.is_alphabetic());
    let in_words = || {
        let words =
            lines.iter().flat_map(|(line, number)| line.split_whitespace().map(|word| (word, *number)));
        words.filter(|(word, _)| looks_like_password(word)).collect::<Vec<_>>()
    };
    let found = match lines.iter().all(|(line, _)| has_digits_only(line)) {
        true => lines.clone(),
        false => in_words(),
    };
    let found = if found.is_empty() { lines.clone() } else { found };
    for (line, number) in found {
        if passwords.len() == MAX_PASSWORDS {
            return Err((KeyFileError::TooMany, None));
        }
        let of_line = |source| KeyFileError::Line { line: number, source };
        let analysis = Analysis::of(line).map_err(|error| (of_line(error), None))?;
        match analysis.password() {
            Ok(password) => passwords.push(password),
            Err(error) => return Err((of_line(error), Some(analysis))),
        }
    }
    if passwords.is_empty() {
        return Err((KeyFileError::Empty, None));
    }
    Ok(passwords)
}

/// Tells whether a word among others is meant as a recovery password: seven dashes between digits, as no GUID has.
fn looks_like_password(word: &str) -> bool {
    word.matches('-').count() == 7 && word.chars().all(|one| one.is_ascii_digit() || one == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "235818-357951-253979-013365-241120-245575-342914-591910";

    #[test]
    fn files_of_passwords() {
        let count = |text: &str| parse_recovery_passwords(text).map(|found| found.len());
        assert_eq!(count(&format!("\u{feff}# from AD\r\n{RIGHT}\r\n\r\n  {RIGHT}  ")).ok(), Some(2));
        assert!(matches!(count(""), Err((KeyFileError::Empty, None))));
        let many = format!("{RIGHT}\n").repeat(MAX_PASSWORDS + 1);
        assert!(matches!(count(&many), Err((KeyFileError::TooMany, None))));
        // As Windows saves it.
        let saved = format!(
            "BitLocker Drive Encryption recovery key\r\n\r\nIdentifier:\r\n\r\n\t64311DEA-4587-4029-924A-BA299647998E\r\n\r\nRecovery Key:\r\n\r\n\t{RIGHT}\r\n"
        );
        assert_eq!(count(&saved).ok(), Some(1));
        assert!(matches!(count("no password here"), Err((KeyFileError::Line { line: 1, .. }, None))));
        let (error, analysis) = parse_recovery_passwords(&RIGHT.replace("357951", "357961")).err().unwrap();
        assert!(matches!(error, KeyFileError::Line { line: 1, .. }), "{error}");
        assert!(error.to_string().contains("block 2 of 8"), "{error}");
        assert!(!error.to_string().contains("357961"), "{error}");
        assert!(analysis.unwrap().blocks()[1].problem.is_some());
    }
}
