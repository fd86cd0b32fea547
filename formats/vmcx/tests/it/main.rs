//! All integration tests of the crate.
//!
//! * `damage`: one file per broken rule, and what reading makes of it; flips and truncations of a file of our own.
//! * `oracle`: dissect.hypervisor on what our writer makes.
//! * `real_files`: files of Hyper-V and of another writer, when they are at hand.
//! * `replay`: dirty files.
//! * `round_trip`: the writer against the reader, whatever the tree and options.
//! * `view`: the typed view over trees of our own.
//! * `support`: what several of these need.

#![allow(clippy::print_stdout, reason = "tests say what they skipped and what they measured")]

mod damage;
mod oracle;
mod real_files;
mod replay;
mod round_trip;
mod support;
mod view;

#[test]
fn no_module_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = std::fs::read_to_string(folder.join("main.rs")).expect("this file");
    for entry in std::fs::read_dir(folder).expect("this folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
        let module = name.strip_suffix(".rs").expect("a module");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name} is not a module");
    }
}
