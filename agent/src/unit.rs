//! `lifeboat-agent service install` and `uninstall`: the unit of systemd, written, enabled and taken away.
//!
//! The unit is the one in `examples/systemd`, with this host's paths. It holds nothing else, starts nothing, and removes only a
//! file that it wrote itself.

use std::path::{Path, PathBuf};

/// The unit, with the paths of a package's installation.
const UNIT: &str = include_str!("../../examples/systemd/lifeboat-agent.service");

/// First line of every unit that was written here.
const MARK: &str = "# Written by lifeboat-agent service install.";

/// Name of the unit.
pub const UNIT_NAME: &str = "lifeboat-agent.service";

/// What the unit of a host differs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOptions {
    /// The program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Its state folder.
    pub state_folder: PathBuf,
    /// The vault, where it is a folder of this machine.
    pub vault_folder: Option<PathBuf>,
    /// The account that it runs under.
    pub user: String,
    /// Whether it may read files of every account.
    pub read_all_files: bool,
}

/// Why a unit was not written or taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// A value cannot stand in a unit.
    #[error("{what} {value:?} cannot stand in a unit: use an absolute path of plain characters")]
    BadValue {
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The file cannot be written or read.
    #[error("{path} cannot be used: {source}. Run it as root, or name another folder with --unit-folder")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file is somebody else's.
    #[error("{path} was not written by `lifeboat-agent service install`, and is left as it is")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

impl UnitOptions {
    /// The text of the unit.
    ///
    /// # Errors
    /// [`UnitError::BadValue`].
    pub fn text(&self) -> Result<String, UnitError> {
        let path = |what, path: &Path| checked(what, &path.display().to_string());
        let program = path("the program's path", &self.program)?;
        let config = path("the configuration's path", &self.config)?;
        let state = path("the state folder's path", &self.state_folder)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.user.is_empty() || !self.user.chars().all(plain) {
            return Err(UnitError::BadValue { what: "the account", value: self.user.clone() });
        }
        let mut writable = format!("ReadWritePaths={state}");
        if let Some(vault) = &self.vault_folder {
            writable.push_str(&format!(" {}", path("the vault's folder", vault)?));
        }
        let mut text = format!("{MARK}\n");
        for line in UNIT.lines().skip_while(|line| line.starts_with('#')) {
            let line = match line.split_once('=').map_or(line, |(key, _)| key) {
                "ExecStart" => format!("ExecStart={program} run --config {config}"),
                "User" => format!("User={}", self.user),
                // The account's own group.
                "Group" => continue,
                "StateDirectory" if !self.state_folder.starts_with("/var/lib") => writable.clone(),
                "StateDirectoryMode" if !self.state_folder.starts_with("/var/lib") => continue,
                "StateDirectory" => match (self.state_folder.strip_prefix("/var/lib"), &self.vault_folder) {
                    (Ok(folder), None) => format!("StateDirectory={}", folder.display()),
                    (Ok(folder), Some(_)) => format!("StateDirectory={}\n{writable}", folder.display()),
                    (Err(_), _) => writable.clone(),
                },
                // Among other users' files a capability counts only where these users are known.
                "PrivateUsers" if self.read_all_files => continue,
                "CapabilityBoundingSet" if self.read_all_files => {
                    "AmbientCapabilities=CAP_DAC_READ_SEARCH\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH"
                        .to_owned()
                }
                _ => line.to_owned(),
            };
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }
}

/// Writes the unit into `folder`; gives its path. One that was written here before is replaced.
///
/// # Errors
/// [`UnitError`].
pub fn install(options: &UnitOptions, folder: &Path) -> Result<PathBuf, UnitError> {
    let text = options.text()?;
    let path = folder.join(UNIT_NAME);
    own_or_absent(&path)?;
    let failed = |source| UnitError::File { path: path.clone(), source };
    let partial = path.with_extension("service.partial");
    std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, &path)).map_err(failed)?;
    Ok(path)
}

/// Removes the unit from `folder`; tells whether there was one.
///
/// # Errors
/// [`UnitError`].
pub fn uninstall(folder: &Path) -> Result<bool, UnitError> {
    let path = folder.join(UNIT_NAME);
    if !own_or_absent(&path)? {
        return Ok(false);
    }
    std::fs::remove_file(&path).map_err(|source| UnitError::File { path, source })?;
    Ok(true)
}

/// Whether the file is there and ours.
fn own_or_absent(path: &Path) -> Result<bool, UnitError> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.starts_with(MARK) => Ok(true),
        Ok(_) => Err(UnitError::Foreign { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(UnitError::File { path: path.to_owned(), source }),
    }
}

/// A value that systemd takes as it stands: no specifier, quote, variable or line of its own.
fn checked(what: &'static str, value: &str) -> Result<String, UnitError> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+' | ',' | ':' | '@');
    if value.starts_with('/') && value.chars().all(plain) {
        Ok(value.to_owned())
    } else {
        Err(UnitError::BadValue { what, value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> UnitOptions {
        UnitOptions {
            program: "/opt/lifeboat/lifeboat-agent".into(),
            config: "/etc/lifeboat-agent/agent.toml".into(),
            state_folder: "/var/lib/lifeboat-agent".into(),
            vault_folder: None,
            user: "lifeboat".to_owned(),
            read_all_files: false,
        }
    }

    #[test]
    fn a_unit_has_this_hosts_paths_and_stays_hardened() {
        let text = options().text().unwrap();
        for line in [
            "Type=notify",
            "ExecStart=/opt/lifeboat/lifeboat-agent run --config /etc/lifeboat-agent/agent.toml",
            "StateDirectory=lifeboat-agent",
            "CapabilityBoundingSet=",
            "ProtectSystem=strict",
            "NoNewPrivileges=yes",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
        let other = UnitOptions {
            state_folder: "/srv/state".into(),
            vault_folder: Some("/srv/vault".into()),
            read_all_files: true,
            ..options()
        };
        let text = other.text().unwrap();
        assert!(
            text.contains("ReadWritePaths=/srv/state /srv/vault\n") && !text.contains("\nStateDirectory"),
            "{text}"
        );
        assert!(text.contains("\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n"), "{text}");
        assert!(!text.contains("PrivateUsers"), "{text}");
        assert_eq!(text.matches("[Service]").count(), 1);
    }

    #[test]
    fn nothing_in_a_path_becomes_a_line_or_an_option() {
        for path in
            ["agent.toml", "/etc/a b", "/etc/%n", "/etc/$HOME", "/etc/a\nExecStart=/bin/sh", "/etc/\"a\""]
        {
            assert!(UnitOptions { config: path.into(), ..options() }.text().is_err(), "{path}");
        }
        assert!(UnitOptions { user: "a\nb".to_owned(), ..options() }.text().is_err());
    }

    #[test]
    fn only_units_of_its_own_are_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!uninstall(folder.path()).unwrap());
        let path = install(&options(), folder.path()).unwrap();
        install(&options(), folder.path()).unwrap();
        assert!(uninstall(folder.path()).unwrap() && !path.exists());
        std::fs::write(&path, "[Unit]\n").unwrap();
        assert!(matches!(install(&options(), folder.path()), Err(UnitError::Foreign { .. })));
        assert!(matches!(uninstall(folder.path()), Err(UnitError::Foreign { .. })));
        assert!(path.exists());
    }
}
