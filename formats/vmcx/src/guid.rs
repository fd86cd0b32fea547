//! GUIDs as Hyper-V writes them, in one spelling.

use alloc::string::String;
use core::fmt;

/// A GUID in lower case without braces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(String);

impl Guid {
    /// Parses a GUID in any case, with or without braces; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let inner = match text.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}')?,
            None => text,
        };
        let well_formed = inner.len() == 36
            && inner.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        well_formed.then(|| Guid(inner.to_ascii_lowercase()))
    }

    /// Answers the 36 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether all digits are zero, Hyper-V's way to say "none".
    pub fn is_nil(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'0' || byte == b'-')
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
