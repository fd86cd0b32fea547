//! The workspace as cargo and git see it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Failure, process};

/// The root folder of the workspace.
pub(crate) fn root() -> PathBuf {
    // Read at run time: the workspace may have been moved since xtask was built.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = here.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().map_or(here.clone(), Path::to_path_buf)
}

/// The cargo that started us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // These describe xtask, and would rebuild what reads them, such as ring and everything above it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Members, their dependencies and the target folder: `cargo metadata`.
pub(crate) fn metadata() -> Result<Value, Failure> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    let text = process::output(&mut command)?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata answered no JSON: {error}"))
}

/// A folder of build output, such as `target/release`.
pub(crate) fn built(profile: &str) -> Result<PathBuf, Failure> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata names no target folder")?;
    Ok(Path::new(target).join(profile))
}

/// Path of one of our programs in a folder of build output.
pub(crate) fn program(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// Folders that hold output where there is no git to tell.
const OUTPUT: &[&str] = &["target", ".git", "corpus", "artifacts", "coverage"];

/// Files that git tracks or would track, relative to the root, sorted; without git, all files but output.
pub(crate) fn files() -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    if process::answers("git", &["-C", &root().to_string_lossy(), "rev-parse"]) {
        let mut command = Command::new("git");
        command.current_dir(root());
        command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let text = process::output(&mut command)?;
        files.extend(text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned));
    } else {
        walk("", &mut files)?;
    }
    files.retain(|name| root().join(name).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}

fn walk(above: &str, files: &mut Vec<String>) -> Result<(), Failure> {
    let failed = |error| format!("{above}: {error}");
    for entry in std::fs::read_dir(root().join(above)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().map_err(failed)?.is_dir() {
            files.push(format!("{above}{name}"));
        } else if !OUTPUT.contains(&&*name) && !name.starts_with("lifeboat-demo") {
            walk(&format!("{above}{name}/"), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_what_git_finds() {
        let mut walked = Vec::new();
        walk("", &mut walked).expect("the workspace can be read");
        for path in files().expect("the workspace can be read") {
            assert!(walked.contains(&path), "{path}");
        }
    }
}
