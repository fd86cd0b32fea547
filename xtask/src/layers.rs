//! `cargo xtask layers`: the arrows between our crates, as DESIGN section 8 draws them.
//!
//! ```text
//! agent, restore-cli -> engine, escrow, hyperv -> vault, formats/* -> nothing of ours; everything -> schema
//! ```
//! `config` lies between the programs and the vault; `hyperv` implements a port of `engine`.

use serde_json::Value;

use crate::arguments::Arguments;
use crate::{Failure, workspace};

/// A folder, or all folders below one (`formats/*`), with what its crate may use. `schema` goes without saying.
const ARROWS: &[(&str, &[&str])] = &[
    ("schema", &[]),
    ("formats/*", &[]),
    ("crates/vault", &[]),
    ("crates/config", &["crates/vault"]),
    ("crates/disk", &["formats/*"]),
    ("crates/keys", &["formats/*"]),
    ("crates/guardian", &["formats/*"]),
    ("crates/hgs", &["crates/guardian", "formats/*"]),
    // Works with disks alone: no vault is needed.
    ("crates/recover", &["crates/disk", "formats/*"]),
    ("crates/engine", &["crates/vault", "crates/disk", "crates/keys", "crates/recover", "formats/*"]),
    ("crates/audit", &["crates/vault"]),
    ("crates/escrow", &["crates/vault", "formats/*"]),
    (
        "crates/hyperv",
        &["crates/engine", "crates/vault", "crates/disk", "crates/guardian", "crates/hgs", "formats/*"],
    ),
    // One run of an importer, which a person and the agent start alike.
    ("crates/importer", &["crates/config", "crates/escrow", "crates/vault"]),
    // Holds what escrow keeps against what the engine captured.
    ("crates/prove", &["crates/engine", "crates/escrow", "crates/recover", "crates/vault", "formats/*"]),
    ("agent", &["crates/*", "formats/*"]),
    ("restore-cli", &["crates/*", "formats/*"]),
    ("tests", &["agent", "restore-cli", "crates/*", "formats/*"]),
    ("xtask", &[]),
];

/// Folders whose crates may not even use `schema`.
const ALONE: &[&str] = &["formats/*", "schema", "xtask"];

/// One of our crates: its name, its folder, the folders of ours that it uses.
struct Crate {
    name: String,
    folder: String,
    uses: Vec<String>,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.finish()?;
    let broken = check()?;
    if broken.is_empty() {
        println!("the arrows between the crates are as DESIGN section 8 draws them");
        return Ok(());
    }
    Err(format!("the layers of DESIGN section 8 are broken:\n  {}", broken.join("\n  ")))
}

/// Everything that breaks a rule, in words.
pub(crate) fn check() -> Result<Vec<String>, Failure> {
    let crates = crates(&workspace::metadata()?)?;
    let mut broken = broken_arrows(&crates);
    for one in crates.iter().filter(|one| matches(&one.folder, "formats/*")) {
        let path = format!("{}/src/lib.rs", one.folder);
        let text = read(&path)?;
        if text.lines().all(|line| line.is_empty() || line.starts_with("//")) {
            // A format that is still to be written breaks no rule.
            continue;
        }
        if text.lines().all(|line| line.is_empty() || line.starts_with("//")) {
            // A format that is still to be written breaks no rule.
            continue;
        }
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            if !text.lines().any(|line| line == attribute) {
                broken.push(format!("{path}: lacks {attribute}: a format is bytes in, values out"));
            }
        }
    }
    for path in workspace::files()?.iter().filter(|path| path.ends_with(".rs")) {
        let allowed = path.starts_with("crates/hyperv/") || path.starts_with("xtask/");
        let loosens = |line: &str| {
            line.contains("(unsafe_code") && !line.contains("forbid(") && !line.contains("deny(")
        };
        if !allowed && read(path)?.lines().any(loosens) {
            broken.push(format!("{path}: allows unsafe code; only crates/hyperv may"));
        }
    }
    Ok(broken)
}

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(workspace::root().join(path)).map_err(|error| format!("{path}: {error}"))
}

/// The members of the workspace, from the answer of `cargo metadata`.
fn crates(metadata: &Value) -> Result<Vec<Crate>, Failure> {
    let root = metadata["workspace_root"].as_str().ok_or("cargo metadata names no workspace root")?;
    let below =
        |path: &str| path.strip_prefix(root).map(|path| path.trim_matches(['/', '\\']).replace('\\', "/"));
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let mut crates = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let manifest =
            package["manifest_path"].as_str().and_then(below).ok_or("a member lies outside the workspace")?;
        let folder = manifest.trim_end_matches("/Cargo.toml").to_owned();
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let uses =
            dependencies.filter_map(|dependency| dependency["path"].as_str().and_then(below)).collect();
        crates.push(Crate { name, folder, uses });
    }
    Ok(crates)
}

fn broken_arrows(crates: &[Crate]) -> Vec<String> {
    let mut broken = Vec::new();
    for Crate { name, folder, uses } in crates {
        let last = folder.rsplit('/').next().unwrap_or(folder);
        if folder != "xtask" && *name != format!("lifeboat-{last}") {
            broken.push(format!("{folder}: is named {name}; a package is named lifeboat-<folder>"));
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(pattern, _)| matches(folder, pattern)) else {
            broken.push(format!(
                "{folder}: has no place in the layers; add it to xtask/src/layers.rs and say why"
            ));
            continue;
        };
        for used in uses {
            let alone = ALONE.iter().any(|pattern| matches(folder, pattern));
            let is_allowed = allowed.iter().any(|pattern| matches(used, pattern))
                || (used == "schema" && !alone)
                // A crate's own tests turn on its features.
                || used == folder;
            if !is_allowed {
                broken.push(format!("{folder} uses {used}; it may use {}", describe(allowed, alone)));
            }
        }
    }
    broken
}

fn describe(allowed: &[&str], alone: bool) -> String {
    let all: Vec<&str> = allowed.iter().copied().chain((!alone).then_some("schema")).collect();
    if all.is_empty() { "nothing of ours".to_owned() } else { all.join(", ") }
}

fn matches(folder: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(above) => folder.starts_with(above),
        None => folder == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_its_layers() {
        let broken = check().expect("the workspace can be read");
        assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn forbidden_arrows_are_named() {
        let one = |name: &str, folder: &str, uses: &[&str]| Crate {
            name: name.to_owned(),
            folder: folder.to_owned(),
            uses: uses.iter().map(|&used| used.to_owned()).collect(),
        };
        let broken = broken_arrows(&[
            one("lifeboat-vmcx", "formats/vmcx", &["formats/vmcx"]),
            one("lifeboat-vhdx", "formats/vhdx", &["schema"]),
            one("lifeboat-vault", "crates/vault", &["schema", "crates/engine"]),
            one("lifeboat-engine", "crates/engine", &["crates/vault", "schema", "crates/hyperv"]),
            one("lifeboat-restore-cli", "restore-cli", &["agent"]),
            one("vault-two", "crates/two", &[]),
        ]);
        let expected = [
            "formats/vhdx uses schema; it may use nothing of ours",
            "crates/vault uses crates/engine; it may use schema",
            "crates/engine uses crates/hyperv; it may use crates/vault, crates/disk, crates/keys, crates/recover, formats/*, schema",
            "restore-cli uses agent; it may use crates/*, formats/*, schema",
            "crates/two: is named vault-two; a package is named lifeboat-<folder>",
            "crates/two: has no place in the layers; add it to xtask/src/layers.rs and say why",
        ];
        assert_eq!(broken, expected);
    }
}
