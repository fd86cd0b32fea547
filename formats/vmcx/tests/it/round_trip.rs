//! The writer against the reader, whatever the tree and options.

use crate::support::SparseFile;
use lifeboat_vmcx::{
    BuilderNode, Container, KeyFlags, KeyKind, Remark, StringNul, TreeBuilder, Value, VmcxWriter, Wholeness,
    WriteError, WriteOptions,
};
use proptest::prelude::*;

const LIMIT_BYTES: usize = 1 << 20;

pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(Value::Node),
        1 => any::<i64>().prop_map(Value::Int),
        1 => any::<u64>().prop_map(Value::UInt),
        1 => any::<f64>().prop_filter("is not itself", |number| !number.is_nan()).prop_map(Value::Double),
        1 => any::<bool>().prop_map(Value::Bool),
        2 => ".{0,40}".prop_map(Value::String),
        1 => "[a-z]{0,20}\0{0,3}".prop_map(Value::String),
        // On both sides of 2048 bytes, with and without a NUL.
        1 => (1018usize..1030).prop_map(|units| Value::String("x".repeat(units))),
        1 => prop::collection::vec(any::<u16>(), 0..8).prop_map(|mut units| {
            units.insert(0, 0xd800);
            units.push(0x41);
            match String::from_utf16(&units) {
                Ok(text) => Value::String(text),
                Err(_) => Value::RawString(units),
            }
        }),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Value::Array),
        1 => (2040usize..2056).prop_map(|size| Value::Array(vec![0xa5; size])),
        1 => (10u8..=255, prop::collection::vec(any::<u8>(), 0..64))
            .prop_map(|(kind, bytes)| Value::Unknown { kind: KeyKind(kind), bytes }),
    ]
}

/// Entries hang below any node that came before them; names repeat now and then.
fn any_tree() -> impl Strategy<Value = TreeBuilder> {
    tree_of(any_value())
}

/// Such a tree of values of one's choosing.
pub(crate) fn tree_of(values: impl Strategy<Value = Value>) -> impl Strategy<Value = TreeBuilder> {
    let entry = (any::<prop::sample::Index>(), "[a-zA-Zé_]{1,12}|[a-c]|x{254}", values, 0u8..8);
    prop::collection::vec(entry, 0..200).prop_map(|entries| {
        let mut tree = TreeBuilder::new();
        let mut nodes: Vec<(BuilderNode, u32)> = vec![(tree.root(), 0)];
        for (parent, name, value, flags) in entries {
            let (parent, depth) = *parent.get(&nodes);
            let is_node = value == Value::Node && depth < 60;
            let id = tree.append(parent, &name, value);
            tree.set_flags(id, KeyFlags(flags));
            if is_node {
                nodes.push((id, depth + 1));
            }
        }
        tree
    })
}

pub(crate) fn any_options() -> impl Strategy<Value = WriteOptions> {
    (any::<bool>(), 0u32..5, 1u32..4, any::<u16>(), 0u8..2, prop_oneof![Just(0u32), 0u32..=145]).prop_map(
        |(nul, alignment, pages, header_sequence, file_object_flags, pending_entries)| WriteOptions {
            string_nul: if nul { StringNul::Store } else { StringNul::Omit },
            data_alignment: 0x1000 << alignment,
            key_table_bytes: 0x1000 * pages,
            header_sequence,
            file_object_flags,
            pending_entries,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(tree in any_tree(), options in any_options()) {
        let pending_entries = options.pending_entries;
        let bytes = VmcxWriter::with_options(options.clone()).encode(&tree).expect("a tree without mistakes");
        let inspection = Container::inspect(&bytes[..]).expect("a slice");
        let expected = match pending_entries {
            0 => Wholeness::Whole,
            pending_entries => Wholeness::Dirty { pending_entries },
        };
        prop_assert_eq!(inspection.report.wholeness, expected, "{:?}", inspection.report.corruptions);
        prop_assert!(inspection.report.remarks.iter().all(|remark| matches!(
            remark,
            Remark::SameName { .. } | Remark::UnknownValue { .. }
        )), "{:?}", inspection.report.remarks);
        let container = inspection.container.expect("a readable container");
        prop_assert_eq!(container.header().sequence, options.header_sequence);
        let again = container.to_builder(LIMIT_BYTES).expect("small values");
        prop_assert_eq!(&again, &tree);
        prop_assert!(VmcxWriter::with_options(options).encode(&again).expect("the same tree") == bytes);
    }
}

#[test]
fn an_empty_tree_is_a_container() {
    let bytes = VmcxWriter::new().encode(&TreeBuilder::new()).expect("no mistake");
    let container = Container::open(&bytes[..]).expect("a whole file");
    assert_eq!(container.tree().iter().count(), 0);
    assert!(container.tree().get("/").is_some_and(|root| root.children().len() == 0));
}

#[test]
fn many_objects_chain_their_tables() {
    let mut tree = TreeBuilder::new();
    for number in 0..1000u32 {
        tree.put(&format!("/blocks/block{number}"), number.to_le_bytes().repeat(512));
    }
    let bytes = VmcxWriter::new().encode(&tree).expect("no mistake");
    let inspection = Container::inspect(&bytes[..]).expect("a slice");
    assert_eq!(inspection.report.wholeness, Wholeness::Whole, "{:?}", inspection.report.corruptions);
    assert_eq!(inspection.report.facts.object_tables, 5);
    assert_eq!(inspection.report.facts.file_objects, 1000);
    assert_eq!(inspection.report.facts.file_object_bytes, 1000 * 2048);
    assert!(inspection.report.facts.key_tables > 5);
    assert_eq!(inspection.container.expect("readable").to_builder(2048).expect("small values"), tree);
}

#[test]
fn children_come_in_insertion_order() {
    let tree = TreeBuilder::new().set("/z", 1).set("/a", 2).set("/m/deep", 3).set("/b", 4).set("/m/er", 5);
    let bytes = VmcxWriter::new().encode(&tree).expect("no mistake");
    let container = Container::open(&bytes[..]).expect("a whole file");
    let names: Vec<_> = container.tree().root().children().map(|child| child.name()).collect();
    assert_eq!(names, ["z", "a", "m", "b"]);
    let paths: Vec<_> = container.tree().iter().map(|node| node.path()).collect();
    assert_eq!(paths, ["/z", "/a", "/m", "/m/deep", "/m/er", "/b"]);
    let sequences: Vec<_> =
        container.tree().root().children().map(|child| child.insertion_sequence()).collect();
    assert_eq!(sequences, [1, 2, 3, 4]);
    assert_eq!(container.tree().get("/m/er").and_then(|node| node.as_int()), Some(5));
    assert!(container.tree().get("m/er").is_none());
    assert!(container.tree().get("/m/er/er").is_none());
}

#[test]
fn large_file_objects_are_not_read() {
    let tree = TreeBuilder::new().set("/savedstate/RamBlock0", vec![7; 3 << 20]).set("/name", "web01");
    let file = SparseFile::of(&VmcxWriter::new().encode(&tree).expect("no mistake"));
    let container = Container::open(file).expect("a whole file");
    let node = container.tree().get("/savedstate/RamBlock0").expect("the block");
    assert!(matches!(node.value(), Value::External { kind: KeyKind::ARRAY, range } if range.size == 3 << 20));
    assert!(container.load_value(node, (3 << 20) - 1).is_err());
    assert!(container.load_value(node, 3 << 20).expect("readable") == Value::Array(vec![7; 3 << 20]));
    let file = container.into_port();
    // Headers, log, one object table, one key table; then the block once.
    assert!(file.read_bytes.get() - (3 << 20) < 0x4000, "{}", file.read_bytes.get());
}

#[test]
fn a_builder_changes_what_it_read() {
    let bytes = VmcxWriter::new()
        .encode(&TreeBuilder::new().set("/keep/this", 1).set("/keep/not", 2).set("/change", "old"))
        .expect("no mistake");
    let mut tree = Container::open(&bytes[..]).expect("a whole file").to_builder(0).expect("no file objects");
    assert!(tree.remove("/keep/not"));
    assert!(!tree.remove("/keep/not"));
    tree.put("/change", "new");
    assert_eq!(tree.value("/change"), Some(&Value::string("new")));
    let bytes = VmcxWriter::new().encode(&tree).expect("no mistake");
    let container = Container::open(&bytes[..]).expect("a whole file");
    let expected = TreeBuilder::new().set("/keep/this", 1).set("/change", "new");
    assert_eq!(container.to_builder(0).expect("no file objects"), expected);
}

#[test]
fn the_writer_refuses_what_the_format_cannot_hold() {
    let refusal = |tree: TreeBuilder| VmcxWriter::new().encode(&tree).expect_err("a mistake");
    let long = "n".repeat(255);
    for path in ["", "name", "//name", "/name/", "/"] {
        assert_eq!(refusal(TreeBuilder::new().set(path, 1)), WriteError::Path { path: path.to_owned() });
    }
    assert_eq!(
        refusal(TreeBuilder::new().set(&format!("/{long}"), 1)),
        WriteError::Name { name: long.clone() }
    );
    assert_eq!(refusal(TreeBuilder::new().set("/a\0b", 1)), WriteError::Name { name: "a\0b".to_owned() });
    let below = || WriteError::BelowValue { path: "/a/b".to_owned() };
    assert_eq!(refusal(TreeBuilder::new().set("/a", 1).set("/a/b", 2)), below());
    assert_eq!(
        refusal(TreeBuilder::new().set("/a/b", 1).set("/a", 2)),
        WriteError::BelowValue { path: "/a".to_owned() }
    );
    assert_eq!(refusal(TreeBuilder::new().set(&"/d".repeat(65), 1)), WriteError::TooDeep { limit: 64 });
    let known = Value::Unknown { kind: KeyKind::INT, bytes: vec![0; 8] };
    assert_eq!(refusal(TreeBuilder::new().set("/v", known)), WriteError::Value { name: "v".to_owned() });
    for options in [
        WriteOptions { data_alignment: 0x800, ..WriteOptions::default() },
        WriteOptions { data_alignment: 0x1800, ..WriteOptions::default() },
        WriteOptions { key_table_bytes: 0, ..WriteOptions::default() },
        WriteOptions { key_table_bytes: 0x1001, ..WriteOptions::default() },
        WriteOptions { pending_entries: 146, ..WriteOptions::default() },
    ] {
        let refusal = VmcxWriter::with_options(options).encode(&TreeBuilder::new());
        assert!(matches!(refusal, Err(WriteError::Option { .. })));
    }
    let deepest = TreeBuilder::new().set(&"/d".repeat(64), 1);
    let bytes = VmcxWriter::new().encode(&deepest).expect("64 levels");
    assert!(Container::open(&bytes[..]).is_ok());
}
