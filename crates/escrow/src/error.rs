//! What an importer could not read, and why. No text of these ever holds a digit of a secret.

use lifeboat_fve::{BekError, Corruption, RecoveryPasswordError};

use crate::found::Place;

/// One thing that could not be read, or not wholly; everything else of the source was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Problem {
    /// Where it stands in the source.
    pub place: Place,
    /// What is wrong.
    pub what: Trouble,
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// Text that is meant as a recovery password and is none.
    #[error("no recovery password: {0}")]
    Password(RecoveryPasswordError),
    /// Text that is meant as an id and is none.
    #[error("an id is damaged: 32 hexadecimal digits in groups of 8-4-4-4-12 were expected")]
    DamagedId,
    /// A recovery password was taken without the id of its BitLocker protector.
    #[error("the recovery password has no id beside it, or more than one; it is kept without")]
    NoId,
    /// An id stands there without a recovery password.
    #[error("the id {0} has no recovery password beside it")]
    NoPassword(String),
    /// A recovery object of a directory whose password this account may not read.
    #[error(
        "the recovery object {0} shows no password: that usually means missing rights (msFVE-RecoveryPassword is confidential), not a missing password"
    )]
    NotReadable(String),
    /// A list of keys that holds ids alone.
    #[error("the key {0} is only listed: a list of Microsoft Graph never holds the keys, fetch each one")]
    OnlyListed(String),
    /// A key that the service lists and did not give.
    #[error("the key {id} was not given: {why}")]
    NotGiven {
        /// Its id.
        id: String,
        /// What the service said.
        why: String,
    },
    /// Keys that were not asked for after several in a row were not given.
    #[error("{0} further keys were not asked for, because several in a row were not given")]
    NotAsked(usize),
    /// PowerShell turned nested objects into text.
    #[error(
        "PowerShell turned the BitLocker protectors into text: export again with `ConvertTo-Json -Depth 4`"
    )]
    NestedObjects,
    /// The document breaks off or is malformed.
    #[error(
        "the document is malformed from line {line}, column {column} on; recovery passwords after that are kept without their ids"
    )]
    Malformed {
        /// Line of the document, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A quoted field does not end on its line.
    #[error("a quoted field does not end on its line")]
    OpenQuote,
    /// Base64 or hexadecimal digits that are none.
    #[error("the value of {0} is not in its encoding")]
    BadValue(&'static str),
    /// An id or key package of the wrong size.
    #[error("the value of {name} has {have} bytes")]
    WrongSize {
        /// Which value.
        name: &'static str,
        /// Bytes found.
        have: usize,
    },
    /// A `.BEK` file that is none.
    #[error("no recovery key (.BEK): {0}")]
    RecoveryKey(BekError),
    /// A key package of another layout than the one known here.
    #[error("the key package is not understood ({0}); it is kept as it is")]
    KeyPackage(Corruption),
    /// The name of the file and what is in it do not agree.
    #[error("the file's name says {name}, and it holds {inside}; what it holds counts")]
    OtherName {
        /// Id in the name.
        name: String,
        /// Id in the file.
        inside: String,
    },
    /// The source holds nothing that is meant as a recovery secret.
    #[error("it holds no recovery secret of any kind that is known here")]
    Nothing,
    /// The source is empty.
    #[error("it is empty")]
    Empty,
    /// The source is larger than any export.
    #[error("it has {have} bytes, and at most {most} are read")]
    TooLarge {
        /// Bytes found.
        have: u64,
        /// Bytes that are read at most.
        most: u64,
    },
}

impl Trouble {
    /// Tells whether a secret may have been lost, rather than taken with less beside it.
    #[must_use]
    pub fn loses(&self) -> bool {
        !matches!(self, Self::NoId | Self::OtherName { .. } | Self::KeyPackage(_))
    }
}
