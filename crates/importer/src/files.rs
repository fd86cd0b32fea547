//! Files of a run: those that are named, and those in folders that are named.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use lifeboat_escrow::{Input, MAX_INPUT_BYTES, NamedImport, import};
use lifeboat_schema::{Finding, Severity, Time};
use zeroize::Zeroizing;

use crate::error::ImporterError;

/// Folders within folders that are followed.
const MAX_FOLDER_DEPTH: usize = 16;
/// Longest file with a password that is looked at.
const MAX_SECRET_FILE_BYTES: u64 = 64 << 10;
/// Stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Lists the files to read. Links in folders are not followed; a folder without a file is a finding.
pub(crate) fn list(named: &[PathBuf], findings: &mut Vec<Finding>) -> Vec<Result<PathBuf, ImporterError>> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(Ok(path.clone()));
            continue;
        }
        let before = files.len();
        walk(path, 0, &mut files);
        if files.len() == before {
            findings.push(Finding::new(
                Severity::Warning,
                "escrow-folder-empty",
                path.display().to_string(),
                "it holds no file, so nothing was imported from it",
                "look where the export is written to",
            ));
        }
    }
    files
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<Result<PathBuf, ImporterError>>) {
    let entries = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return files.push(Err(ImporterError::file(folder, "read", error))),
    };
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_file() => files.push(Ok(entry.path())),
            Ok(kind) if kind.is_dir() && depth < MAX_FOLDER_DEPTH => walk(&entry.path(), depth + 1, files),
            Ok(_) => {}
            Err(error) => files.push(Err(ImporterError::file(&entry.path(), "read", error))),
        }
    }
}

/// Reads and imports one file.
pub(crate) fn read(path: &Path) -> Result<NamedImport, ImporterError> {
    let wrap = |error: std::io::Error| ImporterError::file(path, "read", error);
    // In one piece where the size is known, so that no copy of a part is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::new());
    let mut modified = None;
    if path == Path::new(STANDARD_INPUT) {
        std::io::stdin().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(wrap)?;
    } else {
        let file = std::fs::File::open(path).map_err(wrap)?;
        let about = file.metadata().map_err(wrap)?;
        bytes.reserve_exact(usize::try_from(about.len().min(MAX_INPUT_BYTES)).unwrap_or_default() + 1);
        modified = about.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        file.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(wrap)?;
    }
    let modified =
        modified.and_then(|since| i64::try_from(since.as_secs()).ok()).map(Time::from_unix_seconds);
    let is_input = path == Path::new(STANDARD_INPUT);
    let name = if is_input { "standard input".to_owned() } else { path.display().to_string() };
    let import = import(&Input { name: &name, bytes: &bytes, modified });
    Ok(NamedImport { name, import, cursor: None })
}

/// Refuses a file that others can read.
pub(crate) fn check_private(path: &Path) -> Result<(), ImporterError> {
    #[cfg(unix)]
    {
        let about = std::fs::metadata(path).map_err(|error| ImporterError::file(path, "read", error))?;
        let mode = std::os::unix::fs::MetadataExt::mode(&about) & 0o777;
        if mode & 0o077 != 0 {
            return Err(ImporterError::Exposed { path: path.to_owned(), mode });
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Reads the first line of a file that only its owner may read.
///
/// # Errors
/// [`ImporterError`]; no text of it holds the secret.
pub fn read_secret_file(path: &Path) -> Result<Zeroizing<String>, ImporterError> {
    check_private(path)?;
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_SECRET_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| ImporterError::file(path, "read", error))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(ImporterError::NoSecret { path: path.to_owned() });
    }
    Ok(Zeroizing::new(line.to_owned()))
}
