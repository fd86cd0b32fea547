//! dissect.hypervisor on containers that our writer makes; says so when it is not there. CI installs it.
//!
//! What it cannot read, or reads differently, is a case of its own here, so that nothing is left out silently.

use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_vmcx::{Container, KeyKind, Node, StringNul, TreeBuilder, Value, VmcxWriter, WriteOptions};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value as Json, json};

use crate::round_trip::{any_options, any_value, tree_of};
use crate::support::test_data;

const LIMIT_BYTES: usize = 1 << 20;
/// Trees of every shape, with the writer's options mixed.
const GENERATED: usize = 200;

/// What dissect makes of files, each a tree or the text of its refusal; `None` when it is not there.
fn dissect(files: &[Vec<u8>]) -> Option<Vec<Json>> {
    let Some(python) = std::env::var_os("LIFEBOAT_DISSECT_PYTHON") else {
        println!("skipped: LIFEBOAT_DISSECT_PYTHON names no Python that has dissect.hypervisor");
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = (0..files.len()).map(|number| folder.path().join(number.to_string())).collect();
    for (path, bytes) in paths.iter().zip(files) {
        std::fs::write(path, bytes).expect("a file");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/vmcx_dissect.py");
    let output = Command::new(python).arg(script).args(paths).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// Our tree of a file in the script's form; of several siblings of one name the other reader keeps the last.
fn ours(file: &[u8]) -> Json {
    let container = Container::open(file).expect("a whole file");
    shown(&container, container.tree().root())
}

fn shown(container: &Container<&[u8]>, node: Node<'_>) -> Json {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match container.load_value(node, LIMIT_BYTES).expect("a small value") {
        Value::Node => {
            let children = node.children().map(|child| (child.name().to_owned(), shown(container, child)));
            json!(["Node", children.collect::<Map<_, _>>()])
        }
        Value::Int(number) => json!(["Int", number]),
        Value::UInt(number) => json!(["UInt", number]),
        Value::Double(number) => json!(["Double", hex(&number.to_le_bytes())]),
        Value::String(text) => json!(["String", text]),
        Value::Bool(truth) => json!(["Bool", truth]),
        Value::Array(bytes) => json!(["Array", hex(&bytes)]),
        other => panic!("the other reader has no form for {other:?}"),
    }
}

/// The first place at which two trees differ.
fn difference(ours: &Json, theirs: &Json, path: &str) -> Option<String> {
    match (ours[1].as_object(), theirs[1].as_object()) {
        (Some(mine), Some(other)) if mine.keys().eq(other.keys()) => {
            mine.iter().find_map(|(name, value)| difference(value, &other[name], &format!("{path}/{name}")))
        }
        _ => (ours != theirs).then(|| format!("{path}: {ours} and {theirs}")),
    }
}

fn encode(tree: &TreeBuilder, options: WriteOptions) -> Vec<u8> {
    VmcxWriter::with_options(options).encode(tree).expect("a tree without mistakes")
}

#[test]
fn dissect_reads_our_containers_as_we_do() {
    let is_readable = |value: &Value| match value {
        Value::Unknown { .. } | Value::RawString(_) => false,
        // A text that ends with a NUL is stored with one more, which it keeps.
        Value::String(text) => !text.ends_with('\0'),
        _ => true,
    };
    let trees = tree_of(any_value().prop_filter("it has no form for these", is_readable));
    let mut runner = TestRunner::deterministic();
    let files: Vec<Vec<u8>> = (0..GENERATED)
        .map(|_| {
            let tree = trees.new_tree(&mut runner).expect("a tree").current();
            let options = any_options().new_tree(&mut runner).expect("options").current();
            let readable = WriteOptions {
                pending_entries: 0,
                file_object_flags: 1,
                string_nul: StringNul::Omit,
                ..options
            };
            encode(&tree, readable)
        })
        .collect();
    let Some(theirs) = dissect(&files) else { return };
    for (number, (file, theirs)) in files.iter().zip(theirs).enumerate() {
        assert_eq!(difference(&ours(file), &theirs, ""), None, "container {number}");
    }
}

#[test]
fn dissect_reads_files_of_hyper_v_written_anew_as_we_read_the_originals() {
    for name in ["dissect-test.vmcx", "dissect-test.vmrs"] {
        let Some(original) = test_data(name) else { return };
        let container = Container::open(&original[..]).expect("a whole file");
        let tree = container.to_builder(LIMIT_BYTES).expect("small values");
        let Some(theirs) = dissect(&[original.clone(), encode(&tree, WriteOptions::default())]) else {
            return;
        };
        for theirs in theirs {
            assert_eq!(difference(&ours(&original), &theirs, ""), None, "{name}");
        }
    }
}

#[test]
fn what_dissect_does_not_read_is_known() {
    let value = || TreeBuilder::new().set("/configuration/name", "web01");
    let with = |value: Value| TreeBuilder::new().set("/configuration/odd", value);
    let large = || TreeBuilder::new().set("/state", vec![7u8; 4096]);
    let plain = WriteOptions::default();
    let cases = [
        (encode(&value(), WriteOptions { pending_entries: 3, ..plain.clone() }), "InvalidSignature"),
        (encode(&large(), WriteOptions { file_object_flags: 0, ..plain.clone() }), "Unknown file object"),
        (encode(&with(Value::Unknown { kind: KeyKind(186), bytes: vec![1] }), plain.clone()), "186"),
        (encode(&with(Value::RawString(vec![0xd800, 0x41])), plain), "UnicodeDecodeError"),
    ];
    let files: Vec<Vec<u8>> = cases.iter().map(|(file, _)| file.clone()).collect();
    let Some(theirs) = dissect(&files) else { return };
    for ((file, expected), theirs) in cases.iter().zip(theirs) {
        assert!(Container::open(&file[..]).is_ok(), "we read it: {expected}");
        let refusal = theirs.as_str().unwrap_or("read");
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
}

#[test]
fn dissect_keeps_the_nul_that_openvmm_counts() {
    let tree = TreeBuilder::new().set("/name", "web01");
    let file = encode(&tree, WriteOptions { string_nul: StringNul::Store, ..WriteOptions::default() });
    let Some(theirs) = dissect(std::slice::from_ref(&file)) else { return };
    assert_eq!(ours(&file)[1]["name"], json!(["String", "web01"]));
    assert_eq!(theirs[0][1]["name"], json!(["String", "web01\0"]));
}
