//! Words of a command that a person can copy to a shell.
//!
//! Names come from disks and folders of strangers: whatever a name holds, the shell must take it as one word.

use std::ffi::OsStr;

/// Joins words to a command.
pub(crate) fn command<'w>(words: impl IntoIterator<Item = &'w OsStr>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word for the shell that people have here: a POSIX shell, or PowerShell on Windows.
fn quoted(word: &OsStr) -> String {
    if cfg!(windows) { for_powershell(&word.to_string_lossy()) } else { for_posix(word.as_encoded_bytes()) }
}

fn is_harmless(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|one| one.is_ascii_alphanumeric() || "-_./:=+,".contains(one))
}

fn for_posix(word: &[u8]) -> String {
    match std::str::from_utf8(word) {
        Ok(text) if is_harmless(text) => text.to_owned(),
        Ok(text) if crate::output::plain(text) == text => format!("'{}'", text.replace('\'', r"'\''")),
        // Bytes that are no text, or that a terminal would act on.
        _ => {
            let mut quoted = "$'".to_owned();
            for &byte in word {
                match byte {
                    b'\'' | b'\\' => quoted.extend(['\\', char::from(byte)]),
                    b' '..=b'~' => quoted.push(char::from(byte)),
                    _ => quoted.push_str(&format!("\\x{byte:02x}")),
                }
            }
            quoted + "'"
        }
    }
}

fn for_powershell(text: &str) -> String {
    if is_harmless(text) && !text.contains(',') {
        return text.to_owned();
    }
    quoted_for_powershell(text)
}

/// In single quotes nothing has a meaning but quotes, of which PowerShell knows five.
pub(crate) fn quoted_for_powershell(text: &str) -> String {
    let mut quoted = "'".to_owned();
    for one in crate::output::plain(text).chars() {
        if matches!(one, '\'' | '\u{2018}'..='\u{201b}') {
            quoted.push(one);
        }
        quoted.push(one);
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&[u8]; 9] = [
        b"disk.vhdx",
        b"",
        b"a b",
        b"it's",
        b"$(reboot)`id`;*?~!#",
        b"line\nline",
        b"\x1b[2J\\",
        b"no text \xff'",
        "Größe\u{202e}x".as_bytes(),
    ];

    #[test]
    fn a_posix_shell_takes_each_word_as_it_is() {
        let quoted: Vec<String> = WORDS.iter().map(|word| for_posix(word)).collect();
        assert_eq!(quoted[..4], ["disk.vhdx", "''", "'a b'", r"'it'\''s'"]);
        assert!(quoted.iter().all(|word| word.chars().all(|one| !one.is_control() && one != '\u{202e}')));
        // As bash understands them; without it the comparison above must do.
        let script = format!("printf '%s\\0' {}", quoted.join(" "));
        let Ok(shell) = std::process::Command::new("bash").args(["-c", &script]).output() else { return };
        if cfg!(unix) {
            let words: Vec<&[u8]> = shell.stdout.split(|&byte| byte == 0).collect();
            assert_eq!(words[..WORDS.len()], WORDS);
        }
    }

    #[test]
    fn powershell_takes_each_word_as_it_is() {
        assert_eq!(for_powershell("disk.vhdx"), "disk.vhdx");
        assert_eq!(for_powershell("a b"), "'a b'");
        assert_eq!(for_powershell("it's; $x"), "'it''s; $x'");
        assert_eq!(for_powershell("x\u{2019}y"), "'x\u{2019}\u{2019}y'");
        assert_eq!(for_powershell(""), "''");
    }
}
