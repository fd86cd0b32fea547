//! Names that restored files get: paths of a snapshot that stay in their folder, and a folder for each VM.
//!
//! Used by `write` before anything is written. What a snapshot says is only text here; no file system is asked.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::RestoreError;

/// Longest name in a path. File systems take 255 bytes, or more.
const MAX_SEGMENT_BYTES: usize = 200;

/// Deepest path of a file in a VM's folder.
const MAX_SEGMENTS: usize = 8;

/// Longest part of a folder's name that comes from one text: beside it an id and an ending have room.
const MAX_NAME_BYTES: usize = 120;

/// Folder of a VM that has neither a name nor an id that could be one.
const NAMELESS: &str = "vm";

/// What two names share that some file system takes for one.
pub(super) fn folded(name: &str) -> String {
    // Upper case first: two letters of one capital, such as both small sigmas, are one name on NTFS.
    name.to_uppercase().to_lowercase()
}

/// Refuses paths that could leave the VM's folder, on any system.
pub(crate) fn checked_path(path: &str) -> Result<PathBuf, RestoreError> {
    let bad = |why| RestoreError::BadPath { path: path.chars().take(200).collect(), why };
    let segments: Vec<&str> = path.split('/').collect();
    if segments.len() > MAX_SEGMENTS {
        return Err(bad("has too many folders"));
    }
    for segment in &segments {
        if segment.is_empty() || matches!(*segment, "." | "..") {
            return Err(bad("leaves its folder"));
        }
        if segment.len() > MAX_SEGMENT_BYTES {
            return Err(bad("has a name that is too long"));
        }
        if segment.chars().any(|c| c.is_control() || r#"\:*?"<>|"#.contains(c))
            || segment.ends_with(['.', ' '])
        {
            return Err(bad("has characters that not every file system takes"));
        }
        if is_device_name(segment) {
            return Err(bad("is the name of a device on Windows"));
        }
    }
    Ok(segments.iter().collect())
}

/// Names that Windows gives to devices, with any extension.
fn is_device_name(segment: &str) -> bool {
    let stem = segment.split('.').next().unwrap_or_default().trim_end().to_lowercase();
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul")
        || (stem.len() == 4
            && (stem.starts_with("com") || stem.starts_with("lpt"))
            && stem.as_bytes()[3].is_ascii_digit())
}

/// Names of script and runbook. VMs that are restored together share one of each: nobody reads through
/// thousands of files at night.
pub(super) fn names_beside(folders: &[String]) -> [String; 2] {
    let stem = if let [only] = folders { only } else { "restore" };
    [format!("{stem}.ps1"), format!("{stem}.md")]
}

/// A folder name for each VM of this name and id: its name as far as file systems take it, with its id where two
/// would be one. No two of them and of [`names_beside`] are the same on any file system.
pub(super) fn folder_names<'a>(vms: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let vms: Vec<(String, String)> = vms.map(|(name, id)| (safe_name(name), safe_name(id))).collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (name, _) in &vms {
        *counts.entry(folded(name)).or_default() += 1;
    }
    // Of several VMs these stand beside the folders; of one they are its folder's name with an ending.
    let mut taken: HashSet<String> = names_beside(&[]).iter().map(|name| folded(name)).collect();
    vms.into_iter()
        .map(|(name, id)| {
            let key = folded(&name);
            // Beside `web` stand `web.md` and `web.ps1`: a VM of such a name gets its id too.
            let alone = counts[&key] == 1 && !key.ends_with(".md") && !key.ends_with(".ps1");
            let stem = if id.is_empty() { NAMELESS } else { &id };
            let wanted = match (alone, name.is_empty()) {
                (_, true) => stem.to_owned(),
                (true, _) => name,
                (false, _) => format!("{name} {stem}"),
            };
            let counted = (2usize..).map(|number| format!("{stem} {number}"));
            [wanted, stem.to_owned()]
                .into_iter()
                .chain(counted)
                .find(|folder| checked_path(folder).is_ok() && taken.insert(folded(folder)))
                .expect("a safe name with a number is a path, and numbers do not end before VMs do")
        })
        .collect()
}

/// A text as far as file systems take it as a name; perhaps nothing is left.
fn safe_name(name: &str) -> String {
    let trim = |text: &str| text.trim_matches(|c: char| c == '.' || c.is_whitespace()).to_owned();
    let replaced: String =
        name.chars().map(|c| if c.is_control() || r#"/\:*?"<>|"#.contains(c) { '_' } else { c }).collect();
    let trimmed = trim(&replaced);
    let cut = trim(&trimmed[..trimmed.floor_char_boundary(MAX_NAME_BYTES)]);
    if is_device_name(&cut) { format!("_{cut}") } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_their_folder() {
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/.",
            "C:\\x",
            "a\\b",
            "a:b",
            "con",
            "Virtual Machines/NUL.vmcx",
            "com1.txt",
            "x.",
            "x ",
            "a/b/c/d/e/f/g/h/i",
            "a\u{0}b",
            &"x".repeat(300),
        ] {
            assert!(checked_path(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(checked_path("Virtual Machines/0A1B.vmcx").is_ok());
    }

    #[test]
    fn folder_names_hold_nothing_that_leads_elsewhere() {
        for (name, safe) in [
            ("web/..\\..", "web_.._"),
            ("..", ""),
            ("CON", "_CON"),
            (" a. ", "a"),
            (" . .a. .\u{3000}", "a"),
            ("größe", "größe"),
        ] {
            assert_eq!(safe_name(name), safe);
        }
    }

    #[test]
    fn long_names_are_cut_where_a_letter_ends() {
        let name = |text: &str| folder_names([(text, "id-1")].into_iter()).remove(0);
        assert_eq!(name(&"仮".repeat(100)), "仮".repeat(40));
        assert_eq!(name(&format!("x{}", "é".repeat(99))), format!("x{}", "é".repeat(59)));
        assert_eq!(name(&format!("{} . tail", "x".repeat(118))), "x".repeat(118));
        // Neither a name nor an id: there is a folder still.
        assert_eq!(name(" . "), "id-1");
        assert_eq!(folder_names([("..", "/")].into_iter()), ["_"]);
        assert_eq!(folder_names([("..", "."), ("", "")].into_iter()), ["vm", "vm 2"]);
    }

    #[test]
    fn no_two_names_are_one_on_any_file_system() {
        let long = "x".repeat(300);
        let vms = [
            ("web", "1"),
            ("WEB", "2"),
            ("web 1", "3"),
            ("web 1", "4"),
            ("db", "5"),
            ("restore.md", "6"),
            ("Restore.PS1", "7"),
            ("5", "8"),
            ("8", "8"),
            ("web 2", "2"),
            ("ΟΔΟΣ", "9"),
            ("οδος", "9"),
            ("οδοσ", "9"),
            ("..", "."),
            ("", "restore.md"),
            (long.as_str(), long.as_str()),
            (long.as_str(), long.as_str()),
        ];
        let folders = folder_names(vms.into_iter());
        let mut all: HashSet<String> = names_beside(&folders).iter().map(|name| folded(name)).collect();
        for (folder, vm) in folders.iter().zip(vms) {
            assert!(checked_path(folder).is_ok(), "{folder:?}");
            assert!(all.insert(folded(folder)), "{folder:?} of {vm:?} is taken");
        }
        assert_eq!(folders[..2], ["web 1", "WEB 2"]);
        assert_eq!(folders[4], "db");
        assert_eq!(folders[5], "restore.md 6");
        assert_eq!(folders[7], "5");
    }
}
