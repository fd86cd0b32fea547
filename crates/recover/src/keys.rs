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
/// over. Where a line is mistyped, its analysis comes with the error.
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
    for (line, number) in lines {
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
        let (error, analysis) = parse_recovery_passwords(&RIGHT.replace("357951", "357961")).err().unwrap();
        assert!(matches!(error, KeyFileError::Line { line: 1, .. }), "{error}");
        assert!(error.to_string().contains("block 2 of 8"), "{error}");
        assert!(!error.to_string().contains("357961"), "{error}");
        assert!(analysis.unwrap().blocks()[1].problem.is_some());
    }
}
