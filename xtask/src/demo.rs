//! `cargo xtask demo`: the main job end to end, on a synthetic host and a vault in a folder.
//!
//! Every command is shown as one would type it, with its answer. It ends with a folder to explore.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::arguments::Arguments;
use crate::{Failure, process, workspace};

/// VMs of the synthetic host.
const VMS: &str = "12";

/// Exit code of our programs when someone should look at the findings.
const FINDINGS: i32 = 3;

/// Folder that is made where none is named.
const FOLDER: &str = "lifeboat-demo";

/// How many demos are kept beside each other.
const MOST_FOLDERS: u32 = 99;

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let out = arguments.path("--out")?;
    arguments.finish()?;
    let folder = new_folder(out)?;
    println!("Building Lifeboat; the first time this takes some minutes.");
    let programs = build()?;
    let demo = Demo { folder, programs };
    demo.run()
}

/// Builds our programs as `cargo test` builds them, so that a newcomer compiles everything once, and answers
/// their folder. Dependencies are optimised in that profile too.
fn build() -> Result<PathBuf, Failure> {
    let mut command = workspace::cargo();
    command.args(["build", "--workspace", "--bins"]);
    println!("$ {}", process::show(&command));
    process::run(&mut command)?;
    workspace::built("debug")
}

/// Builds our programs with optimisation and answers their folder.
pub(crate) fn build_released() -> Result<PathBuf, Failure> {
    let mut command = workspace::cargo();
    command.args(["build", "--release", "--bins"]);
    command.args(["-p", "lifeboat-agent", "-p", "lifeboat-restore-cli", "-p", "lifeboat-tests"]);
    println!("$ {}", process::show(&command));
    process::run(&mut command)?;
    workspace::built("release")
}

/// The folder that was asked for, or the first free name.
fn new_folder(out: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()));
    if let Some(out) = out {
        if out.symlink_metadata().is_ok() {
            return Err(format!(
                "{} is there already, and nothing is overwritten; name another folder, or remove it",
                out.display()
            ));
        }
        return absolute(&out);
    }
    let root = workspace::root();
    let names = (1..=MOST_FOLDERS).map(|n| if n == 1 { FOLDER.to_owned() } else { format!("{FOLDER}-{n}") });
    let mut free = names.map(|name| root.join(name)).filter(|path| path.symlink_metadata().is_err());
    let folder = free
        .next()
        .ok_or_else(|| format!("there are {MOST_FOLDERS} demo folders in {}; remove some", root.display()))?;
    absolute(&folder)
}

struct Demo {
    folder: PathBuf,
    programs: PathBuf,
}

/// A file of the VM that is lost.
struct Lost {
    /// Place in the synthetic fabric.
    place: String,
    /// Path in the VM's folder of an export.
    path: String,
}

impl Demo {
    fn run(&self) -> Result<(), Failure> {
        fs::create_dir_all(&self.folder).map_err(|error| format!("{}: {error}", self.folder.display()))?;

        heading("1. A host with virtual machines (made up, in the real file formats)");
        self.ours("testfabric", &["generate", "--vms", VMS, "--out", &self.typed("fabric")])?;

        heading(
            "2. A vault in a folder, with its keys (no passphrases: this is a demo; leave --no-passphrase out in earnest)",
        );
        let store = file_url(&self.folder.join("vault"));
        self.ours("lifeboat", &["init", "--store", &store, "--out", &self.typed("kit"), "--no-passphrase"])?;

        heading(
            "3. The host may write into the vault; its agent gets a key that signs and none that decrypts",
        );
        let root = self.folder.join("fabric/host-1").display().to_string();
        let kit = self.typed("kit");
        self.ours(
            "lifeboat",
            &["host", "enroll", "hv01", "--root", &root, "--out", &self.typed("agent"), "--kit", &kit],
        )?;

        heading("4. The agent takes its first snapshot");
        let config = self.typed("agent/agent.toml");
        self.ours("lifeboat-agent", &["run", "--once", "--config", &config])?;

        let (name, lost) = self.pick()?;
        heading(&format!(
            "5. A disaster: the files of {name} are gone from the host (the demo moves them to {})",
            self.typed("lost")
        ));
        self.lose(&lost)?;
        println!("The agent runs again, and does not forget the machine:");
        self.ours("lifeboat-agent", &["run", "--once", "--config", &config])?;

        heading("6. What the vault has");
        self.ours("lifeboat", &["vms", "--kit", &kit])?;

        heading(&format!("7. {name} is brought back"));
        let to = self.typed("restored");
        self.ours("lifeboat", &["restore", &name, "--to", &to, "--kit", &kit])?;

        heading("8. Are they the same files? The demo compares every byte with what was lost");
        self.compare(&name, &lost)?;

        heading("9. The whole vault, every byte");
        self.ours("lifeboat", &["check", "--read-data", "--kit", &kit])?;

        self.farewell(&name, &root);
        Ok(())
    }

    /// Runs one of our programs from the workspace's root and shows command and answer.
    fn ours(&self, program: &str, arguments: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new(self.program(program));
        command.current_dir(workspace::root()).args(arguments);
        // The caller's settings are for another vault.
        command.env_remove("LIFEBOAT_KIT").env_remove("LIFEBOAT_AGENT_CONFIG");
        let shown = process::show(&command);
        println!("$ {shown}");
        let status = command.status().map_err(|error| format!("{shown}: cannot be started: {error}"))?;
        match status.code() {
            Some(0) => {}
            Some(FINDINGS) => println!("(exit code 3: done, with findings to look at)"),
            _ => return Err(format!("{shown}: {status}")),
        }
        println!();
        Ok(())
    }

    /// A program's path, short where it lies below the root.
    fn program(&self, name: &str) -> PathBuf {
        let path = workspace::program(&self.programs, name);
        let root = workspace::root();
        path.strip_prefix(&root).map(|below| Path::new(".").join(below)).unwrap_or(path.clone())
    }

    /// A path in the demo's folder as one would type it at the workspace's root.
    fn typed(&self, name: &str) -> String {
        let path = self.folder.join(name);
        let root = std::path::absolute(workspace::root()).unwrap_or_default();
        path.strip_prefix(&root).unwrap_or(&path).display().to_string()
    }

    /// A VM with a checkpoint, if there is one, and its files.
    fn pick(&self) -> Result<(String, Vec<Lost>), Failure> {
        let path = self.folder.join("fabric/answers.json");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let answers: Value =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let vms = answers["vms"].as_array().ok_or("the answer sheet names no VMs")?;
        let checkpoints = |vm: &&Value| vm["checkpoints"].as_array().is_some_and(|all| !all.is_empty());
        let vm = vms.iter().find(checkpoints).or(vms.first()).ok_or("the answer sheet names no VM")?;
        let name = vm["name"].as_str().ok_or("the answer sheet gives a VM no name")?.to_owned();
        let files = vm["files"].as_array().into_iter().flatten();
        let text =
            |value: &Value| value.as_str().map(str::to_owned).ok_or("the answer sheet gives a file no path");
        let lost = files.map(|file| Ok(Lost { place: text(&file["place"])?, path: text(&file["path"])? }));
        Ok((name, lost.collect::<Result<_, Failure>>()?))
    }

    fn lose(&self, lost: &[Lost]) -> Result<(), Failure> {
        for Lost { place, .. } in lost {
            let (from, to) = (self.folder.join("fabric").join(place), self.folder.join("lost").join(place));
            let parent = to.parent().ok_or("a file without a folder")?;
            fs::create_dir_all(parent)
                .and_then(|()| fs::rename(&from, &to))
                .map_err(|error| format!("{}: {error}", from.display()))?;
            println!("gone: {place}");
        }
        Ok(())
    }

    /// Compares what was restored with what was lost, file by file, byte by byte, in both directions.
    fn compare(&self, name: &str, lost: &[Lost]) -> Result<(), Failure> {
        let restored = self.folder.join("restored").join(name);
        let mut there = BTreeMap::new();
        collect(&restored, "", &mut there)?;
        for Lost { place, path } in lost {
            let original = self.folder.join("lost").join(place);
            let original = fs::read(&original).map_err(|error| format!("{}: {error}", original.display()))?;
            let found = there.remove(path).ok_or_else(|| format!("{path} was not restored"))?;
            if fs::read(&found).map_err(|error| format!("{}: {error}", found.display()))? != original {
                return Err(format!("{path} is not what was lost"));
            }
            println!("identical: {path} ({} bytes)", original.len());
        }
        if let Some(other) = there.keys().next() {
            return Err(format!("{other} was restored and never there"));
        }
        println!();
        Ok(())
    }

    fn farewell(&self, name: &str, root: &str) {
        let (lifeboat, kit) = (self.program("lifeboat"), self.typed("kit"));
        let lifeboat = lifeboat.display();
        println!(
            "Done: {name} was lost and is back, byte for byte. This has never run on a real Hyper-V host."
        );
        println!("Everything is in {}:", self.typed(""));
        println!("  fabric/host-1  the host's files      vault     the vault, as a store sees it");
        println!(
            "  agent          what the host holds   kit       keys and identities: for people, not for hosts"
        );
        println!("  lost           what went missing     restored  what came back: read {name}.md");
        println!();
        println!("Try next:");
        println!("  {lifeboat} restore {name} --plan --kit {kit}");
        println!("  {lifeboat} snapshots --kit {kit}");
        println!("  {lifeboat} vms --json --kit {kit}");
        println!(
            "  {lifeboat} check --read-data --kit {kit}     # after you changed a byte of any file in {}",
            self.typed("vault")
        );
        println!("  put VMs of your own into {root} (an Export-VM folder), and run the agent again");
    }
}

/// All files below a folder, by path with `/`.
fn collect(folder: &Path, above: &str, files: &mut BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = format!("{above}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else {
            files.insert(path, entry.path());
        }
    }
    Ok(())
}

/// The `file://` URL of an absolute path.
pub(crate) fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    let text = path.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
    if !text.starts_with('/') {
        // A drive letter of Windows.
        url.push('/');
    }
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~:".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

fn heading(text: &str) {
    println!("== {text}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_urls() {
        assert_eq!(file_url(Path::new("/a b/c#d/ü")), "file:///a%20b/c%23d/%C3%BC");
    }

    #[test]
    fn an_existing_folder_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let error = new_folder(Some(folder.path().to_owned())).unwrap_err();
        assert!(error.contains("is there already"), "{error}");
        let new = folder.path().join("new");
        assert_eq!(new_folder(Some(new.clone())), Ok(new));
    }
}
