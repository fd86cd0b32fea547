//! Rules that JSON text must keep before a record or body is parsed from it.
//!
//! Readers of one signed line must not disagree on what it says. `jq` takes the last of two equal keys and
//! rounds integers from 2^53; other tools differ again. So such text is refused, whoever signed it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

/// Nesting that documents may have; those of the vault use less than half of it.
pub const MAX_DEPTH: u32 = 16;

/// First integer that JSON readers in the field do not carry exactly.
pub const INTEGER_LIMIT: u64 = 1 << 53;

/// Checks `text` for duplicate keys, floats, integers from 2^53 on, and nesting deeper than [`MAX_DEPTH`].
///
/// # Errors
/// Names the first rule that is broken, with the place in the text.
pub fn check(text: &[u8]) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Rule { depth: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Parses a document of type `T` after [`check`].
///
/// # Errors
/// What [`check`] refuses, and what `T` refuses.
pub fn parse<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, serde_json::Error> {
    check(text)?;
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Rule {
    depth: u32,
}

impl Rule {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Rule {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rule {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without floats, large integers and duplicate keys")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        if value < INTEGER_LIMIT { Ok(()) } else { Err(E::custom("an integer from 2^53 on")) }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.visit_u64(value.unsigned_abs())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(E::custom("a floating-point number"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(inner)?;
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format_args!("the key {twice:?} twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_readers_would_read_differently() {
        let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
        let refused = [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"\u0062":2}}"#,
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":-9007199254740992}"#,
            r#"{"a":18446744073709551616}"#,
            r#"{"a":1} {"#,
            r#"{"a":NaN}"#,
            deep.as_str(),
            "",
        ];
        for text in refused {
            assert!(check(text.as_bytes()).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn accepts_plain_documents() {
        let deep = format!("{}{}", "[".repeat(16), "]".repeat(16));
        for text in [r#"{"a":9007199254740991,"b":[null,true,-1,"x"],"c":{"a":1}}"#, deep.as_str()] {
            check(text.as_bytes()).unwrap();
        }
    }
}
