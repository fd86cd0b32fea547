//! Patterns of places that a directory source leaves out.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use glob::{MatchOptions, Pattern};

use crate::error::BadPattern;

/// Matches the way Hyper-V's file systems compare names; `*` stays within one name, `**` does not.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: false,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A pattern such as `templates/**` or `**/*.tmp`, compared with paths below a root, with `/` on every system.
///
/// A folder that matches is not entered, a file that matches is not captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcludePattern(Pattern);

impl ExcludePattern {
    /// Tells whether the pattern matches a path relative to a root.
    pub(crate) fn matches(&self, relative: &Path) -> bool {
        if std::path::MAIN_SEPARATOR == '/' {
            return self.0.matches_path_with(relative, OPTIONS);
        }
        let text = relative.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
        self.0.matches_with(&text, OPTIONS)
    }
}

impl FromStr for ExcludePattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        Pattern::new(text).map(Self).map_err(|error| BadPattern {
            pattern: text.to_owned(),
            why: error.msg,
            character: error.pos,
        })
    }
}

impl fmt::Display for ExcludePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
