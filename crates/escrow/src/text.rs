//! Text in any language: the files that Windows saves, `manage-bde -protectors -get`, mails, notes.
//!
//! A recovery password belongs to the nearest id before it that stands alone on its line, or behind a colon or equals
//! sign at its end, or to the only id on its own line. An id serves once, and never across something damaged.

use lifeboat_fve::Guid;
use lifeboat_schema::EscrowSource;

use crate::detect::Input;
use crate::error::Trouble;
use crate::found::{Hints, Import, Place, hint};
use crate::shapes::{self, Kind, Shape};

/// Beginnings of the word for a volume in the languages of Windows; ids that follow it are not of BitLocker protectors.
const VOLUME_WORDS: &[&str] = &["volum", "lecteur", "laufwerk", "datentr"];
/// Labels of a computer's name in lower case.
const COMPUTER_LABELS: &[&str] =
    &["computer", "computername", "computer name", "rechner", "ordinateur", "hostname", "name"];

/// Imports text.
pub(crate) fn import(input: &Input<'_>, text: &str) -> Import {
    let mut import = Import::new(EscrowSource::Text);
    let lines: Vec<&str> = text.lines().collect();
    let mut reader = Reader { import: &mut import, id: None, hints: Hints::default(), at: 0, last_id: None };
    let mut shapes = shapes::find(text).into_iter().peekable();
    let mut any = false;
    let mut is_manage_bde = false;
    while let Some(shape) = shapes.next() {
        any = true;
        let (line, range) = (shape.line, shape.range.clone());
        let own_line = |other: &Shape| other.line == line;
        reader.read_labels(&lines, line);
        let whole = lines.get(line - 1).copied().unwrap_or_default();
        let (before, after) =
            (whole.get(..range.start).unwrap_or_default(), whole.get(range.end..).unwrap_or_default());
        match shape.kind {
            Kind::Id(id) => {
                let label = label(&lines, line, before);
                let ends_line = after.trim().is_empty()
                    && (before.trim().is_empty() || before.trim_end().ends_with([':', '=']));
                let shares_line = shapes.peek().is_some_and(own_line);
                if VOLUME_WORDS.iter().any(|word| label.contains(word)) {
                    reader.hints.volume = Some(id);
                } else if ends_line || shares_line {
                    is_manage_bde |= before.trim() == "ID:";
                    reader.id(id, line);
                }
            }
            Kind::Password(password) => {
                let id = reader.id.take();
                let hints = reader.hints.clone();
                reader.import.password(id, password, Place::Line(line), input.modified, hints);
            }
            Kind::DamagedId => {
                reader.id = None;
                reader.import.problem(Place::Line(line), Trouble::DamagedId);
            }
            Kind::DamagedPassword(error) => {
                reader.id = None;
                reader.import.problem(Place::Line(line), Trouble::Password(error));
            }
        }
    }
    let last_id = reader.last_id.take();
    if is_manage_bde {
        import.source = EscrowSource::ManageBde;
    }
    if !any {
        import.problem(Place::Whole, Trouble::Nothing);
    } else if import.found.is_empty() && import.problems.is_empty() {
        match last_id {
            Some((id, line)) => import.problem(Place::Line(line), Trouble::NoPassword(id.to_string())),
            None => import.problem(Place::Whole, Trouble::Nothing),
        }
    }
    by_name(input, &mut import);
    import
}

/// Where the reading stands.
struct Reader<'a> {
    import: &'a mut Import,
    /// The id that the next recovery password belongs to.
    id: Option<Guid>,
    hints: Hints,
    /// Lines whose labels were read.
    at: usize,
    last_id: Option<(Guid, usize)>,
}

impl Reader<'_> {
    fn id(&mut self, id: Guid, line: usize) {
        self.id = Some(id);
        self.last_id = Some((id, line));
    }

    /// Takes hints from the lines up to `line`.
    fn read_labels(&mut self, lines: &[&str], line: usize) {
        for text in lines.get(self.at..line).unwrap_or_default() {
            if let Some(mount) = mount(text) {
                self.hints =
                    Hints { computer: self.hints.computer.take(), mount: Some(mount), ..Hints::default() };
            }
            if let Some((label, value)) = text.split_once([':', '='])
                && COMPUTER_LABELS.contains(&label.trim().to_lowercase().as_str())
                && shapes::classify(value.trim()).is_none()
            {
                self.hints = Hints { computer: hint(value), ..Hints::default() };
            }
        }
        self.at = self.at.max(line);
    }
}

/// The label of an id in lower case: what stands before it, else the line above that ends with a colon.
fn label(lines: &[&str], line: usize, before: &str) -> String {
    if !before.trim().is_empty() {
        return before.to_lowercase();
    }
    let above = lines.get(..line - 1).unwrap_or_default().iter().rev().find(|text| !text.trim().is_empty());
    above.filter(|text| text.trim_end().ends_with(':')).map(|text| text.to_lowercase()).unwrap_or_default()
}

/// The drive of a line such as `Volume C: [OS]`, in any language.
fn mount(line: &str) -> Option<String> {
    let (word, rest) = line.trim().split_once(' ')?;
    let drive = rest.trim_start().get(..2)?;
    let [letter, b':'] = drive.as_bytes() else { return None };
    let follows = rest.trim_start().get(2..)?.trim_start();
    let is_heading =
        word.chars().all(char::is_alphabetic) && (follows.is_empty() || follows.starts_with('['));
    (is_heading && letter.is_ascii_uppercase()).then(|| drive.to_owned())
}

/// Takes the id from the file's name where the text has none, and says where the two do not agree.
fn by_name(input: &Input<'_>, import: &mut Import) {
    let (Some(named), [only]) = (shapes::only_id(input.file_name()), import.found.as_mut_slice()) else {
        return;
    };
    match only.protector {
        None => {
            let is_clean = import.problems.iter().all(|problem| problem.what == Trouble::NoId);
            if is_clean && import.more_problems == 0 {
                only.protector = Some(named);
                import.problems.clear();
            }
        }
        Some(inside) if inside != named => {
            let what = Trouble::OtherName { name: named.to_string(), inside: inside.to_string() };
            import.problem(Place::Whole, what);
        }
        Some(_) => {}
    }
}

#[cfg(test)]
pub(crate) mod tests;
