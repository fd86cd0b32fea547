//! Keys that come from the environment, and the nearest known one to a key that is unknown.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Parses `text` with some keys replaced: each change is a variable, its key, and the value.
pub(crate) fn parse<T: DeserializeOwned>(
    text: &str,
    changes: Vec<(String, String, String)>,
) -> Result<T, String> {
    let mut table: Table = toml::from_str(text).map_err(|error| error.to_string())?;
    for (variable, key, value) in changes {
        let key = key.to_ascii_lowercase();
        let mut steps: Vec<&str> = key.split("__").collect();
        let last = steps.pop().expect("a split has one part at least");
        let mut at = &mut table;
        for step in steps {
            let below = at.entry(step).or_insert_with(|| Value::Table(Table::new()));
            at = below.as_table_mut().ok_or_else(|| format!("{variable}: `{step}` is no table"))?;
        }
        at.insert(last.to_owned(), value_of(&value));
    }
    table.try_into().map_err(|error: toml::de::Error| error.to_string())
}

/// What a variable says: a number, a truth value or a list as in TOML, and a text otherwise.
fn value_of(text: &str) -> Value {
    let parsed: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    match parsed.and_then(|mut table| table.remove("value")) {
        Some(value @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_) | Value::String(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// Adds the known key that is nearest to an unknown one, which the message names with those it expected.
pub(crate) fn with_nearest(message: &str) -> String {
    let Some((_, rest)) = message.split_once("unknown field `") else { return message.to_owned() };
    let Some((unknown, expected)) = rest.split_once('`') else { return message.to_owned() };
    let known = expected.split('`').skip(1).step_by(2);
    let nearest = known.map(|key| (distance(unknown, key), key)).min();
    match nearest {
        // Further away it is a guess.
        Some((steps, key)) if steps <= 1 + unknown.chars().count() / 3 => {
            format!("{}\ndid you mean `{key}`?", message.trim_end())
        }
        _ => message.to_owned(),
    }
}

/// Letters to insert, take out or replace, or neighbours to swap, until one word is the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, steps) in
            [("", "", 0), ("a", "", 1), ("host", "hsot", 1), ("kitten", "sitting", 3), ("roots", "root", 1)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (steps, steps), "{one} {other}");
        }
    }

    #[test]
    fn values_are_what_they_look_like() {
        assert_eq!(value_of("7"), Value::Integer(7));
        assert_eq!(value_of("true"), Value::Boolean(true));
        assert_eq!(value_of("[\"a\"]"), Value::Array(vec![Value::String("a".into())]));
        assert_eq!(value_of("C:\\VMs"), Value::String("C:\\VMs".into()));
        assert_eq!(value_of("0 * * * *"), Value::String("0 * * * *".into()));
        assert_eq!(value_of("\"7\""), Value::String("7".into()));
    }
}
