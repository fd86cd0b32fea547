#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::{NotJson, members};
use crate::layout::{MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_MEMBERS};

fn names(text: &str) -> Result<Vec<(String, String)>, NotJson> {
    Ok(members(text)?.into_iter().map(|member| (member.name, member.value.to_string())).collect())
}

#[test]
fn members_are_named_and_cut_out() {
    let text = " { \"a\" : 1 , \"\\u0062\\n\":[{\"x\":\"]}\"}], \"\\ud83d\\ude00\" : {} } ";
    let found = names(text).unwrap();
    let wanted = [("a", "1"), ("b\n", r#"[{"x":"]}"}]"#), ("😀", "{}")];
    assert_eq!(found, wanted.map(|(name, value)| (name.to_string(), value.to_string())));
    assert_eq!(names("{}"), Ok(Vec::new()));
}

#[test]
fn each_broken_rule_is_named() {
    let check = |text: &str, at, why| assert_eq!(names(text), Err(NotJson { at, why }), "{text}");
    check("[]", 0, "there is no object");
    check("", 0, "there is no object");
    check("{} x", 3, "something follows the end");
    check("{\"a\":1", 6, "an object is not closed");
    check("{\"a\":[1}", 8, "an object or array is not closed");
    check("{a:1}", 1, "there is no name of a member");
    check("{\"a\" 1}", 5, "there is no colon behind a name");
    check("{\"a\":}", 5, "there is no value");
    check("{\"a\":tru}", 5, "there is no value");
    check("{\"a\":-}", 6, "a number has no digits");
    check("{\"a\":1.}", 7, "a number has no digits");
    check("{\"a\":\"\n\"}", 7, "a string holds a control character");
    check("{\"a\":\"", 6, "a string is not closed");
    check("{\"a\":\"\\x\"}", 8, "a string holds an unknown escape");
    check("{\"a\":\"\\ud800\"}", 13, "a string holds half a character");
    check("{\"a\":\"\\udc00\"}", 12, "a string holds half a character");
    check("{\"a\":\"\\u00g0\"}", 11, "an escape is no number");
    check("{\"a\":1,\"\\u0061\":2}", 18, "an object has two members of one name");
}

#[test]
fn depth_and_width_are_bounded() {
    let nested = |depth: usize| std::format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(names(&nested(MAX_DOCUMENT_DEPTH)).is_ok());
    assert_eq!(names(&nested(MAX_DOCUMENT_DEPTH + 1)).unwrap_err().why, "it is nested too deep");
    assert!(names(&nested(1 << 20)).is_err());
    let wide = |count: usize| {
        let members: Vec<String> = (0..count).map(|number| std::format!("\"{number}\":0")).collect();
        std::format!("{{{}}}", members.join(","))
    };
    assert_eq!(names(&wide(MAX_DOCUMENT_MEMBERS)).unwrap().len(), MAX_DOCUMENT_MEMBERS);
    assert!(names(&wide(MAX_DOCUMENT_MEMBERS + 1)).is_err());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// What serde_json says of the same text.
fn theirs(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str::<Map<String, Value>>(text).ok()
}

proptest! {
    #[test]
    fn what_another_parser_wrote_reads_the_same(
        map in prop::collection::btree_map(any::<String>(), value(), 0..5),
        is_pretty: bool,
    ) {
        let map: Map<String, Value> = map.into_iter().collect();
        let text = if is_pretty { serde_json::to_string_pretty(&map) } else { serde_json::to_string(&map) };
        let text = text.unwrap();
        let ours: Map<String, Value> = names(&text)
            .unwrap()
            .into_iter()
            .map(|(name, value)| (name, serde_json::from_str(&value).unwrap()))
            .collect();
        prop_assert_eq!(ours, serde_json::from_str::<Map<String, Value>>(&text).unwrap());
    }

    #[test]
    fn another_parser_agrees_on_what_is_json(
        map in prop::collection::btree_map("[a-c]", value(), 1..4),
        at: prop::sample::Index,
        change in prop_oneof![Just(None), "[\\[\\]{}:,\"0-9eE.+\\\\u \n-]".prop_map(Some)],
    ) {
        let map: Map<String, Value> = map.into_iter().collect();
        let mut characters: Vec<char> = serde_json::to_string(&map).unwrap().chars().collect();
        let at = at.index(characters.len());
        match change {
            Some(change) => characters[at] = change.chars().next().unwrap(),
            None => drop(characters.remove(at)),
        }
        let text: String = characters.into_iter().collect();
        match (names(&text), theirs(&text)) {
            (Ok(_), Some(_)) | (Err(_), None) => {}
            // It takes the last of two members of one name.
            (Err(bad), Some(_)) => prop_assert_eq!(bad.why, "an object has two members of one name"),
            // It knows numbers, and refuses those that are too large.
            (Ok(_), None) => {
                let error = serde_json::from_str::<Map<String, Value>>(&text).unwrap_err().to_string();
                prop_assert!(error.contains("number out of range"), "{text}: {error}");
            }
        }
    }
}
