//! What a file is, told by its content, and the importer that reads it.

use lifeboat_schema::{EscrowSource, Time};

use crate::decode::decode;
use crate::error::Trouble;
use crate::found::{Import, Place};
use crate::{csv, json, key_file, ldif, text};

/// Largest file that is read: an LDIF export of 100,000 recovery objects with key packages has some 200 MiB.
pub const MAX_INPUT_BYTES: u64 = 512 << 20;

/// A file to import.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Name or path: recovery files carry an id in their names, opaque ones are known by its end.
    pub name: &'a str,
    /// The bytes.
    pub bytes: &'a [u8],
    /// When the file was last changed, for secrets without a time of their own.
    pub modified: Option<Time>,
}

impl Input<'_> {
    /// The name without folders, of any operating system.
    pub(crate) fn file_name(&self) -> &str {
        self.name.rsplit(['/', '\\']).next().unwrap_or_default()
    }
}

/// Imports a file of any known kind. What cannot be read is in the [`Import`], never lost in silence.
#[must_use]
pub fn import(input: &Input<'_>) -> Import {
    let mut import = read(input);
    for found in &mut import.found {
        found.is_time_of_file = input.modified.is_some() && found.time == input.modified;
    }
    import
}

fn read(input: &Input<'_>) -> Import {
    let mut refused = Import::new(EscrowSource::Text);
    if input.bytes.is_empty() {
        refused.problem(Place::Whole, Trouble::Empty);
        return refused;
    }
    let have = input.bytes.len() as u64;
    if have > MAX_INPUT_BYTES {
        refused.problem(Place::Whole, Trouble::TooLarge { have, most: MAX_INPUT_BYTES });
        return refused;
    }
    if let Some(import) = key_file::import(input) {
        return import;
    }
    let text = decode(input.bytes);
    if json::is_json(&text) {
        return json::import(input, &text);
    }
    if ldif::is_ldif(&text) {
        return ldif::import(&text);
    }
    match csv::delimiter(&text) {
        Some(delimiter) => csv::import(input, &text, delimiter),
        None => text::import(input, &text),
    }
}
