//! LDIF (RFC 2849) of recovery objects, as `ldifde`, `ldapsearch` and others export them.
//!
//! Lines are unfolded and values decoded; nothing else of LDIF matters here. A record that lost its beginning or end
//! still gives what it holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lifeboat_schema::EscrowSource;
use zeroize::Zeroizing;

use crate::directory::{MAX_KEY_PACKAGE_BYTES, RecoveryObject};
use crate::error::Trouble;
use crate::found::{Import, Place};

/// Longest unfolded line that is looked at: a key package in base64.
const MAX_LINE_BYTES: usize = MAX_KEY_PACKAGE_BYTES * 2;

/// Lines that are looked at to tell LDIF.
const SAMPLE_LINES: usize = 200;

/// Tells whether text is LDIF.
pub(crate) fn is_ldif(text: &str) -> bool {
    text.lines().take(SAMPLE_LINES).any(|line| {
        line.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("dn:"))
            || line.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("msFVE-") && line.contains(':'))
    })
}

/// Imports LDIF.
pub(crate) fn import(text: &str) -> Import {
    let mut import = Import::new(EscrowSource::Ldif);
    let mut record: Option<(RecoveryObject, usize)> = None;
    let mut unfolded = Zeroizing::new(String::with_capacity(MAX_LINE_BYTES));
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        unfolded.clear();
        unfolded.push_str(line.get(..line.len().min(MAX_LINE_BYTES)).unwrap_or_default());
        while let Some((more, _)) = lines.next_if(|(next, _)| next.starts_with(' ') && !line.is_empty()) {
            if unfolded.len() + more.len() <= MAX_LINE_BYTES {
                unfolded.push_str(&more[1..]);
            }
        }
        if unfolded.trim().is_empty() {
            finish(record.take(), &mut import);
            continue;
        }
        if unfolded.starts_with('#') {
            continue;
        }
        let Some((name, value)) = unfolded.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("dn") {
            finish(record.take(), &mut import);
        }
        let (object, _) = record.get_or_insert_with(|| (RecoveryObject::default(), number));
        let place = Place::Line(number);
        if let Some(encoded) = value.strip_prefix(':') {
            match STANDARD.decode(encoded.trim()).map(Zeroizing::new) {
                Ok(bytes) => object.attribute(name, &bytes, &place, &mut import),
                Err(_) => {
                    object.is_recovery_object |= name.to_ascii_lowercase().starts_with("msfve-");
                    import.problem(place, Trouble::BadValue("a base64 attribute"));
                }
            }
        } else {
            object.attribute(name, value.trim().as_bytes(), &place, &mut import);
        }
    }
    finish(record, &mut import);
    if import.found.is_empty() && import.problems.is_empty() {
        import.problem(Place::Whole, Trouble::Nothing);
    }
    import
}

fn finish(record: Option<(RecoveryObject, usize)>, import: &mut Import) {
    if let Some((object, line)) = record {
        object.finish(&Place::Line(line), import);
    }
}
