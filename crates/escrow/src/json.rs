//! JSON of any tool that puts a recovery password and its id into one object.
//!
//! `Get-BitLockerVolume`, `Get-ADObject`, Microsoft Graph and scripts differ in names and nesting; the objects that hold a
//! recovery password are found wherever they lie. A document that breaks off gives its passwords without their ids: in
//! what is left nobody can tell which id is whose.

use lifeboat_fve::Guid;
use lifeboat_schema::{EscrowSource, Time};
use serde_json::{Map, Value};
use zeroize::Zeroize;

use crate::detect::Input;
use crate::directory::RecoveryObject;
use crate::error::Trouble;
use crate::found::{Hints, Import, Place, hint};
use crate::shapes::{self, Kind};
use crate::time;

/// Members that name the BitLocker protector, in lower case without dashes and underscores, the surest first.
const ID_NAMES: &[&str] =
    &["keyprotectorid", "recoverykeyid", "recoverypasswordid", "protectorid", "passwordid", "keyid", "id"];
/// Parts of names of members whose ids are of something else.
const OTHER_ID_WORDS: &[&str] = &["volum", "device", "machine", "tenant", "object", "user"];
/// Members that name the computer.
const COMPUTER_NAMES: &[&str] =
    &["computername", "computer", "devicename", "hostname", "deviceid", "machinename"];
/// Members that tell when.
const TIME_NAMES: &[&str] = &["createddatetime", "lastupdatetime", "whencreated", "created", "time", "date"];

/// A parsed document that is wiped when dropped.
struct Document(Value);

impl Drop for Document {
    fn drop(&mut self) {
        // As deep as the parser goes, which has a limit of its own.
        fn wipe(value: &mut Value) {
            match value {
                Value::String(text) => text.zeroize(),
                Value::Array(items) => items.iter_mut().for_each(wipe),
                Value::Object(members) => members.values_mut().for_each(wipe),
                _ => {}
            }
        }
        wipe(&mut self.0);
    }
}

/// Tells whether text begins as a JSON document does.
pub(crate) fn is_json(text: &str) -> bool {
    let mut tokens = text.chars().filter(|c| !c.is_whitespace());
    matches!(
        (tokens.next(), tokens.next()),
        (Some('{'), Some('"' | '}')) | (Some('['), Some('{' | '[' | '"' | ']'))
    )
}

/// Imports one document, or several one after the other.
pub(crate) fn import(input: &Input<'_>, text: &str) -> Import {
    let mut import = Import::new(EscrowSource::Json);
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut walk = Walk { import: &mut import, modified: input.modified, is_any: false };
    let mut whole = 0;
    while let Some(document) = documents.next() {
        match document.map(Document) {
            Ok(document) => {
                whole = documents.byte_offset();
                walk.value(&document.0, "$", &Context::default());
            }
            Err(error) => {
                salvage(text, whole, &error, &mut walk);
                break;
            }
        }
    }
    let is_any = walk.is_any;
    if !is_any && import.problems.is_empty() {
        import.problem(Place::Whole, Trouble::Nothing);
    }
    import
}

/// Takes the recovery passwords out of what is not JSON.
fn salvage(text: &str, from: usize, error: &serde_json::Error, walk: &mut Walk<'_>) {
    let lines_before = text[..from].lines().count().saturating_sub(1);
    walk.import.problem(Place::Whole, Trouble::Malformed { line: error.line(), column: error.column() });
    for shape in shapes::find(&text[from..]) {
        let place = Place::Line(lines_before + shape.line);
        match shape.kind {
            Kind::Password(password) => {
                walk.is_any = true;
                walk.import.password(None, password, place, walk.modified, Hints::default());
            }
            Kind::DamagedPassword(error) => walk.import.problem(place, Trouble::Password(error)),
            Kind::Id(_) | Kind::DamagedId => {}
        }
    }
}

/// What the objects around say.
#[derive(Clone, Default)]
struct Context {
    computer: Option<String>,
    mount: Option<String>,
    volume: Option<Guid>,
}

struct Walk<'a> {
    import: &'a mut Import,
    modified: Option<Time>,
    is_any: bool,
}

/// Tells whether a text is one value, and no sentence.
fn is_one_word(text: &str) -> bool {
    !text.trim().chars().any(char::is_whitespace)
}

/// The name of a member without what writers vary.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn text_of<'v>(members: &'v Map<String, Value>, names: &[&str]) -> Option<&'v str> {
    let value = |wanted: &&str| {
        members.iter().find(|(name, value)| plain(name) == **wanted && value.is_string())?.1.as_str()
    };
    names.iter().find_map(value)
}

/// The path of a member; a name that is a recovery password is not told.
fn member_path(path: &str, name: &str) -> String {
    if shapes::holds_password(name) { format!("{path}.*") } else { format!("{path}.{name}") }
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, path: &str, context: &Context) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, &format!("{path}[{index}]"), context);
                }
            }
            Value::Object(members) => self.object(members, path, context),
            // A password in a plain list.
            Value::String(text) => self.lone_text(text, path, context),
            _ => {}
        }
    }

    fn lone_text(&mut self, text: &str, path: &str, context: &Context) {
        let place = Place::Path(path.to_owned());
        if is_one_word(text)
            && let Some(Kind::DamagedPassword(error)) = shapes::classify(text.trim())
        {
            return self.import.problem(place, Trouble::Password(error));
        }
        for password in self.longer_text(text, &place, &context.hints()) {
            self.is_any = true;
            self.import.password(None, password, place.clone(), self.modified, context.hints());
        }
    }

    /// Takes what stands within longer text: with its id where there is one of each. Gives back a recovery password
    /// beside which no id stands, for which its object may have one.
    fn longer_text(
        &mut self,
        text: &str,
        place: &Place,
        hints: &Hints,
    ) -> Vec<lifeboat_fve::RecoveryPassword> {
        let (mut passwords, mut ids, mut is_damaged) = (Vec::new(), Vec::new(), false);
        for shape in shapes::find(text) {
            match shape.kind {
                Kind::Password(password) => passwords.push(password),
                Kind::Id(id) => ids.push(id),
                Kind::DamagedPassword(error) => {
                    is_damaged = true;
                    self.import.problem(place.clone(), Trouble::Password(error));
                }
                Kind::DamagedId => is_damaged = true,
            }
        }
        if ids.is_empty() && !is_damaged {
            return passwords;
        }
        let id = ids.first().copied().filter(|_| ids.len() == 1 && passwords.len() == 1 && !is_damaged);
        for password in passwords {
            self.is_any = true;
            self.import.password(id, password, place.clone(), self.modified, hints.clone());
        }
        Vec::new()
    }

    fn object(&mut self, members: &Map<String, Value>, path: &str, around: &Context) {
        let mut context = around.clone();
        if let Some(computer) = text_of(members, COMPUTER_NAMES) {
            context.computer = hint(computer);
        }
        if let Some(mount) = text_of(members, &["mountpoint"]) {
            context.mount = hint(mount);
        }
        if let Some(volume) = text_of(members, &["volumeid", "volumeguid"]) {
            context.volume = volume.trim().parse().ok();
        }
        if members.keys().any(|name| plain(name).starts_with("msfve")) {
            return self.recovery_object(members, path);
        }
        self.kind(members);
        self.protectors_as_text(members, path);

        let mut passwords = Vec::new();
        for (name, value) in members {
            let Value::String(text) = value else {
                self.lone_text(name, path, &context);
                self.value(value, &member_path(path, name), &context);
                continue;
            };
            let place = || Place::Path(member_path(path, name));
            match shapes::classify(text.trim()).filter(|_| is_one_word(text)) {
                Some(Kind::Password(password)) => passwords.push((name, password)),
                Some(Kind::DamagedPassword(error)) => self.import.problem(place(), Trouble::Password(error)),
                Some(Kind::DamagedId) => self.import.problem(place(), Trouble::DamagedId),
                Some(Kind::Id(_)) => {}
                None => {
                    let within = self.longer_text(text, &place(), &context.hints());
                    passwords.extend(within.into_iter().map(|password| (name, password)));
                }
            }
        }
        let id = id_of(members);
        let time = text_of(members, TIME_NAMES).and_then(time::parse).or(self.modified);
        self.missing(members, path, id, passwords.is_empty());
        let id = id.filter(|_| passwords.len() == 1);
        let hints = Hints { is_disclosed: is_disclosed(members), ..context.hints() };
        for (name, password) in passwords {
            self.is_any = true;
            self.import.password(id, password, Place::Path(member_path(path, name)), time, hints.clone());
        }
    }

    /// Says what an object shows that should hold a recovery password and does not.
    fn missing(&mut self, members: &Map<String, Value>, path: &str, id: Option<Guid>, is_without: bool) {
        let Some(id) = id.filter(|_| is_without) else { return };
        let is_numerical = members.iter().any(|(name, value)| {
            plain(name) == "keyprotectortype"
                && (value.as_u64() == Some(3)
                    || value.as_str().is_some_and(|text| plain(text) == "recoverypassword"))
        });
        let is_listed =
            text_of(members, &["createddatetime"]).is_some() && text_of(members, &["deviceid"]).is_some();
        let place = || Place::Path(path.to_owned());
        if is_numerical {
            self.import.problem(place(), Trouble::NoPassword(id.to_string()));
        } else if is_listed && text_of(members, &["key"]).is_none() {
            self.import.problem(place(), Trouble::OnlyListed(id.to_string()));
        }
    }

    /// Tells what kind of document it is by the members of an object.
    fn kind(&mut self, members: &Map<String, Value>) {
        let has = |wanted: &str| members.keys().any(|name| plain(name) == wanted);
        if self.import.source == EscrowSource::Json {
            if has("keyprotector") || has("keyprotectorid") {
                self.import.source = EscrowSource::PowerShell;
            } else if has("createddatetime") && has("id") {
                self.import.source = EscrowSource::EntraJson;
            }
        }
    }

    /// PowerShell writes objects that lie too deep as text.
    fn protectors_as_text(&mut self, members: &Map<String, Value>, path: &str) {
        let is_text = |value: &Value| {
            value.as_str().is_some_and(|text| !text.trim().is_empty() && shapes::find(text).is_empty())
        };
        let protectors =
            members.iter().find(|(name, _)| plain(name) == "keyprotector").map(|(_, value)| value);
        let is_flat = match protectors {
            Some(Value::Array(items)) => items.iter().any(is_text),
            Some(value) => is_text(value),
            None => false,
        };
        if is_flat {
            self.import.problem(Place::Path(path.to_owned()), Trouble::NestedObjects);
        }
    }

    /// A recovery object of AD DS: binary attributes are arrays of numbers, or base64.
    fn recovery_object(&mut self, members: &Map<String, Value>, path: &str) {
        use base64::Engine as _;
        self.import.source = EscrowSource::AdJson;
        let place = Place::Path(path.to_owned());
        let mut object = RecoveryObject::default();
        for (name, value) in members {
            let is_binary =
                matches!(plain(name).as_str(), "msfverecoveryguid" | "msfvevolumeguid" | "msfvekeypackage");
            match value {
                Value::String(text) if is_binary && text.parse::<Guid>().is_err() => {
                    match base64::engine::general_purpose::STANDARD.decode(text.trim()) {
                        Ok(bytes) => object.attribute(name, &bytes, &place, self.import),
                        Err(_) => self.import.problem(place.clone(), Trouble::BadValue("a binary attribute")),
                    }
                }
                Value::String(text) => object.attribute(name, text.as_bytes(), &place, self.import),
                Value::Array(items) if is_binary => {
                    let bytes: Option<Vec<u8>> = items
                        .iter()
                        .map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                        .collect();
                    match bytes.map(zeroize::Zeroizing::new) {
                        Some(bytes) => object.attribute(name, &bytes, &place, self.import),
                        None => self.import.problem(place.clone(), Trouble::BadValue("a binary attribute")),
                    }
                }
                _ => {}
            }
        }
        let before = self.import.found.len();
        object.finish(&place, self.import);
        self.is_any |= self.import.found.len() > before;
    }
}

impl Context {
    fn hints(&self) -> Hints {
        Hints {
            computer: self.computer.clone(),
            mount: self.mount.clone(),
            volume: self.volume,
            is_disclosed: false,
        }
    }
}

/// The id of the BitLocker protector that an object speaks of: by the member's name, else the only id in it.
fn id_of(members: &Map<String, Value>) -> Option<Guid> {
    if let Some(text) = text_of(members, ID_NAMES) {
        // A member of that name that holds something else: no other id takes its place.
        return text.trim().parse().ok();
    }
    let mut ids = members.iter().filter_map(|(name, value)| {
        let name = plain(name);
        let is_other = OTHER_ID_WORDS.iter().any(|word| name.contains(word));
        value.as_str().filter(|_| !is_other)?.trim().parse::<Guid>().ok()
    });
    let first = ids.next()?;
    ids.next().is_none().then_some(first)
}

fn is_disclosed(members: &Map<String, Value>) -> bool {
    members.iter().any(|(name, value)| {
        plain(name) == "disclosed" && (value.as_bool() == Some(true) || value.as_u64() == Some(1))
    })
}
