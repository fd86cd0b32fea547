//! Everything that is tested through the public interface, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it skipped"
)]

/// Disks made for tests, and what they must read as.
mod fixture;

/// Differencing chains: links, block states, a model.
mod chain;
/// Bytes read while the head of a large disk is opened.
mod head_cost;
/// Damaged and hostile files: truncation, flipped bytes, impossible sizes.
mod hostile;
/// Dirty logs: torn, wrapped, superseded.
mod log;
/// Other implementations read the same, where they are installed.
mod oracle;
/// Files written by Hyper-V and qemu, where the test data is present.
mod real_files;
/// VHD disks.
mod vhd;
/// What the writer writes.
mod writer;

#[test]
fn no_module_is_forgotten() {
    let listed = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(module == "main" || listed.contains(&format!("mod {module};")), "{name} is not in main.rs");
    }
}
