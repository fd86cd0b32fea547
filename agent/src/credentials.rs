//! Credentials of the store from a file: `NAME=value` on each line, with the names that the environment has.
//!
//! Read anew each time the store is opened, so that rotated credentials are taken without a restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Most bytes of such a file.
const MAX_BYTES: u64 = 64 << 10;

/// Why a credentials file cannot be used. No message holds a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("the credentials file {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("others can read the credentials file {path} (mode {mode:03o}); run `chmod 600` on it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A line is none of its form.
    #[error("line {line} of the credentials file {path} is not NAME=value")]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
    },
}

/// Credentials by the names of their variables.
#[derive(Default)]
pub struct Credentials(BTreeMap<String, Zeroizing<String>>);

impl Credentials {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let failed = |source| CredentialsError::Unreadable { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
            // systemd hands credentials over with 0440 in a folder that others cannot enter.
            if mode & 0o027 != 0 {
                return Err(CredentialsError::Exposed { path: path.to_owned(), mode });
            }
        }
        if metadata.len() > MAX_BYTES {
            let source = std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is larger than 64 KiB");
            return Err(failed(source));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
        let mut values = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || CredentialsError::Line { path: path.to_owned(), line: index + 1 };
            let (name, value) = line.split_once('=').ok_or_else(bad)?;
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let name = name.trim();
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err(bad());
            }
            let value = value.trim();
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            values.insert(name.to_owned(), Zeroizing::new(quoted.unwrap_or(value).to_owned()));
        }
        Ok(Self(values))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_names_and_values_and_nothing_of_them_is_in_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.credentials");
        let write = |text: &str, mode: u32| {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, text).unwrap();
            #[cfg(unix)]
            {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
                std::fs::set_permissions(&path, mode).unwrap();
            }
            let _ = mode;
        };
        write("# of the bucket\n\nAWS_ACCESS_KEY_ID = id\nAWS_SECRET_ACCESS_KEY=\"a=b\"\n", 0o600);
        let read = Credentials::read(&path).unwrap();
        assert_eq!(
            (read.get("AWS_ACCESS_KEY_ID"), read.get("AWS_SECRET_ACCESS_KEY")),
            (Some("id"), Some("a=b"))
        );
        assert_eq!(read.get("AWS_SESSION_TOKEN"), None);
        write("AWS_ACCESS_KEY_ID=id\nhunter2\n", 0o600);
        let error = Credentials::read(&path).err().unwrap().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        #[cfg(unix)]
        {
            write("A=b\n", 0o644);
            let error = Credentials::read(&path).err().unwrap().to_string();
            assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
        }
    }
}
