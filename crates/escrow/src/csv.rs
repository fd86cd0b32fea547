//! Tables: exports of MBAM and Configuration Manager, of `csvde`, and lists of one's own.
//!
//! Columns are known by their names where there are names, and by what stands in them. Every line is a row: a quote that
//! is never closed spoils its own row alone.

use lifeboat_fve::{Guid, SecretBytes};
use lifeboat_schema::{EscrowSource, Time};
use zeroize::Zeroizing;

use crate::detect::Input;
use crate::error::Trouble;
use crate::found::{FoundSecret, Hints, Import, Place, hint};
use crate::secret::Secret;
use crate::shapes::{self, Kind};
use crate::{directory, time};

const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];
/// Lines that are looked at to tell a table.
const SAMPLE_LINES: usize = 50;
/// Most columns that are looked at.
const MAX_COLUMNS: usize = 256;

/// What a column holds, by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Protector,
    Volume,
    Computer,
    Name,
    Time,
    Disclosed,
    Password,
    KeyPackage,
    /// An id of something else.
    OtherId,
    Unknown,
}

impl Column {
    fn of(name: &str) -> Self {
        let name: String =
            name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        match name.as_str() {
            "recoverykeyid" | "keyid" | "keyprotectorid" | "protectorid" | "passwordid"
            | "recoverypasswordid" | "recoveryguid" | "msfverecoveryguid" | "id" | "kennwortid"
            | "identifier" | "guid" => Self::Protector,
            "name" | "computername" | "computer" | "machine" | "machinename" | "hostname" | "rechner"
            | "devicename" | "ordinateur" | "vm" | "vmname" => Self::Computer,
            "dn" | "distinguishedname" => Self::Name,
            "lastupdatetime" | "whencreated" | "createddatetime" | "created" | "time" | "date" | "datum" => {
                Self::Time
            }
            "disclosed" => Self::Disclosed,
            "recoverykey"
            | "recoverypassword"
            | "msfverecoverypassword"
            | "password"
            | "key"
            | "kennwort"
            | "wiederherstellungskennwort"
            | "wiederherstellungsschlüssel"
            | "motdepasse" => Self::Password,
            "recoverykeypackage" | "keypackage" | "msfvekeypackage" => Self::KeyPackage,
            name if name.contains("volum") => Self::Volume,
            name if ["device", "machine", "object", "tenant", "user"]
                .iter()
                .any(|word| name.contains(word)) =>
            {
                Self::OtherId
            }
            _ => Self::Unknown,
        }
    }

    /// Tells whether neither a recovery password nor an id of its BitLocker protector belongs there.
    fn is_of_another_kind(self) -> bool {
        !matches!(self, Self::Protector | Self::Password | Self::KeyPackage | Self::Unknown)
    }
}

/// The value of a field.
enum Value {
    Id(Guid),
    Password(lifeboat_fve::RecoveryPassword),
    DamagedPassword(lifeboat_fve::RecoveryPasswordError),
    DamagedId,
    Other,
}

/// Bytes of `X'...'`, as `csvde` writes them.
fn hexadecimal(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = text.strip_prefix("X'").or_else(|| text.strip_prefix("x'"))?.strip_suffix('\'')?;
    hexadecimal_digits(digits)
}

fn hexadecimal_digits(digits: &str) -> Option<Zeroizing<Vec<u8>>> {
    if digits.len() > 2 * directory::MAX_KEY_PACKAGE_BYTES || !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let byte = |pair: &[u8; 2]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    digits.as_bytes().as_chunks::<2>().0.iter().map(byte).collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}

/// Bytes of a key package in any of the forms that exports have: `X'...'`, `0x...`, bare digits, base64.
fn key_package(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    use base64::Engine as _;
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let base64 = || {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok().map(Zeroizing::new)?;
        (bytes.len() <= directory::MAX_KEY_PACKAGE_BYTES).then_some(bytes)
    };
    let bytes = hexadecimal(text).or_else(|| hexadecimal_digits(digits)).or_else(base64)?;
    (!bytes.is_empty()).then_some(bytes)
}

impl Value {
    fn of(field: &str) -> Self {
        let field = field.trim();
        if let Some(bytes) = hexadecimal(field) {
            return <[u8; 16]>::try_from(bytes.as_slice()).map_or(Self::Other, |id| Self::Id(Guid(id)));
        }
        match shapes::classify(field.trim_start_matches('{').trim_end_matches('}')) {
            Some(Kind::Id(id)) => Self::Id(id),
            Some(Kind::Password(password)) => Self::Password(password),
            Some(Kind::DamagedPassword(error)) => Self::DamagedPassword(error),
            Some(Kind::DamagedId) => Self::DamagedId,
            None => Self::Other,
        }
    }
}

/// Splits a row; doubled quotes in a quoted field stand for one. Says whether a quote stays open.
fn split(line: &str, delimiter: char) -> (Vec<Zeroizing<String>>, bool) {
    let mut fields = vec![Zeroizing::new(String::with_capacity(line.len()))];
    let mut is_quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let field = fields.last_mut().expect("there is always one field");
        match c {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if is_quoted => is_quoted = false,
            '"' if field.trim().is_empty() => is_quoted = true,
            c if c == delimiter && !is_quoted => {
                if fields.len() == MAX_COLUMNS {
                    break;
                }
                fields.push(Zeroizing::new(String::with_capacity(64)));
            }
            c => field.push(c),
        }
    }
    (fields, is_quoted)
}

/// The delimiter of a table; nothing where text is none. In a table some row holds an id and a recovery password, or the
/// first row names a column for the latter.
pub(crate) fn delimiter(text: &str) -> Option<char> {
    let sample: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(SAMPLE_LINES).collect();
    let is_row = |line: &str, delimiter: char| {
        let (fields, _) = split(line, delimiter);
        let values: Vec<Value> = fields.iter().map(|field| Value::of(field)).collect();
        let has_password =
            values.iter().any(|value| matches!(value, Value::Password(_) | Value::DamagedPassword(_)));
        let has_id = values.iter().any(|value| matches!(value, Value::Id(_) | Value::DamagedId));
        has_password && has_id
    };
    let is_header = |line: &str, delimiter: char| {
        let (fields, _) = split(line, delimiter);
        fields.len() > 1 && fields.iter().any(|field| Column::of(field) == Column::Password)
    };
    let rows = |delimiter: char| sample.iter().filter(|line| is_row(line, delimiter)).count();
    let best = DELIMITERS
        .into_iter()
        .map(|one| (rows(one), one))
        .filter(|(rows, _)| *rows > 0)
        .max_by_key(|(rows, _)| *rows);
    best.map(|(_, one)| one).or_else(|| {
        DELIMITERS.into_iter().find(|one| sample.first().is_some_and(|line| is_header(line, *one)))
    })
}

/// Imports a table.
pub(crate) fn import(input: &Input<'_>, text: &str, delimiter: char) -> Import {
    let mut import = Import::new(EscrowSource::Csv);
    let mut columns: Option<Vec<Column>> = None;
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let (fields, is_open) = split(line, delimiter);
        if columns.is_none() {
            let names: Vec<Column> = fields.iter().map(|field| Column::of(field)).collect();
            let holds_values = fields.iter().any(|field| !matches!(Value::of(field), Value::Other))
                || !shapes::find(line).is_empty();
            columns = Some(if holds_values { Vec::new() } else { names });
            if !holds_values {
                continue;
            }
        }
        let place = Place::Line(number);
        if is_open {
            import.problem(place.clone(), Trouble::OpenQuote);
        }
        row(&fields, columns.as_deref().unwrap_or_default(), place, input.modified, &mut import);
    }
    if import.found.is_empty() && import.problems.is_empty() {
        import.problem(Place::Whole, Trouble::Nothing);
    }
    import
}

fn row(
    fields: &[Zeroizing<String>],
    columns: &[Column],
    place: Place,
    modified: Option<Time>,
    import: &mut Import,
) {
    let mut hints = Hints::default();
    let (mut named, mut others, mut from_name) = (Vec::new(), Vec::new(), None);
    let (mut passwords, mut packages, mut time, mut is_damaged) = (Vec::new(), Vec::new(), None, false);
    for (index, field) in fields.iter().enumerate() {
        let column = columns.get(index).copied().unwrap_or(Column::Unknown);
        let value = Value::of(field);
        if column.is_of_another_kind() && matches!(value, Value::Other) {
            // Columns that are shifted, or a note: what stands there is kept, and nothing is paired with it.
            for shape in shapes::find(field) {
                match shape.kind {
                    Kind::Password(password) => passwords.push(password),
                    Kind::DamagedPassword(error) => import.problem(place.clone(), Trouble::Password(error)),
                    Kind::Id(_) | Kind::DamagedId => continue,
                }
                is_damaged = true;
            }
        }
        match (column, value) {
            (_, Value::Password(password)) => passwords.push(password),
            (_, Value::DamagedPassword(error)) => {
                is_damaged = true;
                import.problem(place.clone(), Trouble::Password(error));
            }
            (Column::Volume, Value::Id(id)) => hints.volume = Some(id),
            (Column::OtherId, _) => {}
            (Column::Protector, Value::Id(id)) => named.push(id),
            (Column::Computer, _) => hints.computer = hint(field),
            (Column::Name, _) => from_name = shapes::only_id(field),
            (Column::Time, _) => time = time::parse(field),
            (Column::Disclosed, _) => hints.is_disclosed = matches!(field.trim(), "1" | "True" | "true"),
            (Column::KeyPackage, _) if field.trim().is_empty() => {}
            (Column::KeyPackage, _) => match key_package(field.trim()) {
                Some(package) => packages.push(package),
                None => import.problem(place.clone(), Trouble::BadValue("the key package")),
            },
            (Column::Protector, Value::Other) if field.trim().is_empty() => {}
            (Column::Protector, _) | (_, Value::DamagedId) => {
                is_damaged = true;
                import.problem(place.clone(), Trouble::DamagedId);
            }
            (_, Value::Id(id)) => others.push(id),
            (_, Value::Other) => {
                // Rows or fields that ran together: what is in them is kept, and nothing is paired.
                for shape in shapes::find(field) {
                    is_damaged = true;
                    match shape.kind {
                        Kind::Password(password) => passwords.push(password),
                        Kind::Id(id) => others.push(id),
                        Kind::DamagedPassword(error) => {
                            import.problem(place.clone(), Trouble::Password(error))
                        }
                        Kind::DamagedId => import.problem(place.clone(), Trouble::DamagedId),
                    }
                }
            }
        }
    }
    // A named column decides; without one, the only id; never one of several, and never beside a damaged one.
    let protector = match (named.as_slice(), others.as_slice()) {
        ([one], _) => Some(*one),
        ([], [one]) if !is_damaged => Some(*one),
        ([], []) if !is_damaged => from_name,
        _ => None,
    };
    let protector = protector.filter(|id| from_name.is_none_or(|name| name == *id) && passwords.len() <= 1);
    let time = time.or(modified);
    if passwords.is_empty()
        && !is_damaged
        && packages.is_empty()
        && let Some(id) = protector
    {
        import.problem(place.clone(), Trouble::NoPassword(id.to_string()));
    }
    for password in passwords {
        import.password(protector, password, place.clone(), time, hints.clone());
    }
    for mut package in packages {
        let secret = Secret::KeyPackage(SecretBytes::new(std::mem::take(&mut *package)));
        import.found.push(FoundSecret {
            protector,
            secret,
            place: place.clone(),
            time,
            is_time_of_file: false,
            hints: hints.clone(),
        });
    }
}
