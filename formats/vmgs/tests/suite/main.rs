//! Everything that is tested through the public interface, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it skipped"
)]

/// The first format: a document in a partition.
mod document;
/// Damaged and hostile files: truncation, flipped bytes, impossible values.
mod hostile;
/// Another reader of the third format, where Python can run it.
mod oracle;
/// Files of another writer, where the test data is present.
mod real_files;
/// The third format: files, sequences, crashes, keys, a model.
mod store;
/// Stores made for tests, and what they must read as.
mod support;

#[test]
fn no_module_is_forgotten() {
    let listed = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(module == "main" || listed.contains(&format!("mod {module};")), "{name} is not in main.rs");
    }
}
