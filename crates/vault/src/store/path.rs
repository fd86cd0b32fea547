//! Names of objects in a store: checked once, then used as they are on every kind of store.
//!
//! A [`StorePath`] is relative to the store's prefix. It is lower case and holds nothing that a file system,
//! a URL or an S3 key would treat in its own way, so that one vault can be copied between all of them byte
//! for byte. It does not say which names a vault uses; that is the ledger's matter.

use std::fmt;
use std::str::FromStr;

/// Longest name of one object in bytes: far above `objects/<40>/<64>.age`, far below S3's 1,024 with a prefix.
pub const MAX_PATH_BYTES: usize = 512;

/// Longest segment in bytes: file systems stop at 255, and a staged file appends up to 21 characters.
pub const MAX_SEGMENT_BYTES: usize = 200;

/// Says why a text is not a [`StorePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a name that every store can hold: {why}")]
#[non_exhaustive]
pub struct BadStorePath {
    /// The text that was found, cut to 80 characters.
    pub text: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

/// Name of one object: segments of `a-z 0-9 . _ -` between slashes, none hidden, none reserved by a system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(String);

impl StorePath {
    /// Checks `text` and wraps it.
    pub fn parse(text: &str) -> Result<Self, BadStorePath> {
        text.parse()
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for StorePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for StorePath {
    type Err = BadStorePath;

    fn from_str(text: &str) -> Result<Self, BadStorePath> {
        let bad = |why| BadStorePath { text: text.chars().take(80).collect(), why };
        if text.is_empty() || text.len() > MAX_PATH_BYTES {
            return Err(bad("it must have 1 to 512 characters"));
        }
        for segment in text.split('/') {
            if segment.is_empty() {
                return Err(bad("no segment may be empty"));
            }
            if segment.len() > MAX_SEGMENT_BYTES {
                return Err(bad("no segment may have more than 200 characters"));
            }
            let allowed =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
            if !segment.bytes().all(allowed) {
                return Err(bad("only a-z, 0-9, '.', '_', '-' and '/' are allowed"));
            }
            if segment.starts_with('.') || segment.ends_with('.') {
                return Err(bad("no segment may begin or end with a dot"));
            }
            if is_reserved(segment) {
                return Err(bad("some file systems reserve this name"));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// Device names of Windows count with any extension: `nul.json` is as bad as `nul`.
fn is_reserved(segment: &str) -> bool {
    let stem = segment.split('.').next().unwrap_or(segment);
    let numbered = stem.len() == 4
        && (stem.starts_with("com") || stem.starts_with("lpt"))
        && stem.as_bytes()[3].is_ascii_digit();
    matches!(stem, "con" | "prn" | "aux" | "nul") || numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass_unchanged() {
        let digest = "0123456789abcdef".repeat(4);
        for text in [
            "vault.json",
            &format!("objects/host-1/{digest}.age"),
            &format!("ledger/-/0000000001-{digest}.json"),
            "a_b/c.d",
            "console/com10.x",
            &"a".repeat(200),
        ] {
            assert_eq!(StorePath::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn names_that_some_store_treats_in_its_own_way_are_refused() {
        let long = "a".repeat(201);
        let longest = vec!["a".repeat(100); 6].join("/");
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/../b",
            ".hidden",
            "a.",
            "A",
            "ä",
            "a b",
            "a%2fb",
            "a\\b",
            "a:b",
            "a#1",
            "a\0",
            "a\n",
            "nul",
            "nul.json",
            "x/com1",
            "x/lpt9.age",
            "aux/x",
            &long,
            &longest,
        ] {
            assert!(StorePath::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
