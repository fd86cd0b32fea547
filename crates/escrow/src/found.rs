//! What an import gives: secrets with their ids, and what could not be read.

use std::fmt;

use lifeboat_fve::Guid;
use lifeboat_schema::{EscrowSource, SecretKind, Time};

use crate::error::{Problem, Trouble};
use crate::secret::Secret;

/// Problems that are kept one by one; a source of another kind than it seems would fill the memory with them.
pub(crate) const MAX_PROBLEMS: usize = 10_000;

/// Longest text of a hint, in characters; longer ones are cut. A distinguished name has at most 255 for each part.
const MAX_HINT_CHARS: usize = 512;

/// Where something stands in its source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The source as a whole.
    Whole,
    /// A line, from 1.
    Line(usize),
    /// A place in a JSON document, such as `$[0].KeyProtector[1]`.
    Path(String),
    /// An entry of a directory, by its name there.
    Entry(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("as a whole"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Path(path) => f.write_str(path),
            Self::Entry(name) => f.write_str(name),
        }
    }
}

/// What a source says of the machine and volume; for people, and to tell volumes apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Name of the computer, or its id in Entra.
    pub computer: Option<String>,
    /// Id of the volume as BitLocker names it.
    pub volume: Option<Guid>,
    /// Where the volume was mounted, such as `C:`.
    pub mount: Option<String>,
    /// Whether the source says that someone was shown the secret, so that it should have been replaced since.
    pub is_disclosed: bool,
}

/// One secret as found.
pub struct FoundSecret {
    /// The BitLocker protector that it opens, where the source says so.
    pub protector: Option<Guid>,
    /// The secret.
    pub secret: Secret,
    /// Where in the source.
    pub place: Place,
    /// When the source says that it was made or stored.
    pub time: Option<Time>,
    /// Whether the time is only that of the file's last change, which copying or touching it makes anew.
    pub is_time_of_file: bool,
    /// What else the source says.
    pub hints: Hints,
}

impl fmt::Debug for FoundSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundSecret")
            .field("kind", &self.secret.kind())
            .field("protector", &self.protector)
            .field("place", &self.place)
            .field("time", &self.time)
            .field("hints", &self.hints)
            .finish_non_exhaustive()
    }
}

/// What one source gave.
#[derive(Debug)]
pub struct Import {
    /// What the source is.
    pub source: EscrowSource,
    /// Secrets, in the order of the source.
    pub found: Vec<FoundSecret>,
    /// What could not be read, the first ten thousand.
    pub problems: Vec<Problem>,
    /// Further problems that are only counted.
    pub more_problems: usize,
}

impl Import {
    /// Returns an import of `source` with nothing in it yet.
    #[must_use]
    pub fn new(source: EscrowSource) -> Self {
        Self { source, found: Vec::new(), problems: Vec::new(), more_problems: 0 }
    }

    /// Adds a problem, or counts it where there are many.
    pub(crate) fn problem(&mut self, place: Place, what: Trouble) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { place, what });
        } else {
            self.more_problems += 1;
        }
    }

    /// Adds a recovery password, and says so when it has no id.
    pub(crate) fn password(
        &mut self,
        protector: Option<Guid>,
        password: lifeboat_fve::RecoveryPassword,
        place: Place,
        time: Option<Time>,
        hints: Hints,
    ) {
        if protector.is_none() {
            self.problem(place.clone(), Trouble::NoId);
        }
        let secret = Secret::RecoveryPassword(password);
        self.found.push(FoundSecret { protector, secret, place, time, is_time_of_file: false, hints });
    }

    /// Tells whether anything in it may be a secret that could not be read.
    #[must_use]
    pub fn has_losses(&self) -> bool {
        self.more_problems > 0 || self.problems.iter().any(|problem| problem.what.loses())
    }

    /// Counts the secrets of one kind.
    #[must_use]
    pub fn count(&self, kind: SecretKind) -> usize {
        self.found.iter().filter(|one| one.secret.kind() == kind).count()
    }
}

/// Cuts a hint to a sane length, drops control characters; nothing where nothing is left, or where a recovery password
/// stands in it, as in a table whose columns are shifted.
pub(crate) fn hint(text: &str) -> Option<String> {
    if crate::shapes::holds_password(text) {
        return None;
    }
    let clean: String = text.trim().chars().filter(|c| !c.is_control()).take(MAX_HINT_CHARS).collect();
    (!clean.is_empty()).then_some(clean)
}
