//! Recovery objects of AD DS (`msFVE-RecoveryInformation`), from LDIF, JSON or LDAP alike.
//!
//! The id stands twice, as an attribute and in the object's name: where the two do not agree, neither counts.

use lifeboat_fve::{Guid, RecoveryPassword, RecoveryPasswordError, SecretBytes};
use lifeboat_schema::Time;

use crate::error::Trouble;
use crate::found::{FoundSecret, Hints, Import, Place, hint};
use crate::secret::Secret;
use crate::{shapes, time};

/// Most bytes of a key package: the schema's `rangeUpper`.
pub(crate) const MAX_KEY_PACKAGE_BYTES: usize = 102_400;
/// Bytes of an id.
const ID_BYTES: usize = 16;

/// One recovery object as far as it was read.
#[derive(Default)]
pub(crate) struct RecoveryObject {
    /// Distinguished name.
    pub(crate) name: String,
    /// Everything in it that has the form of a recovery password.
    pub(crate) passwords: Vec<Result<RecoveryPassword, RecoveryPasswordError>>,
    /// Whether it is or may be a recovery object although nothing else says so.
    pub(crate) is_recovery_object: bool,
    ids: Vec<Guid>,
    volume: Option<Guid>,
    package: Option<SecretBytes>,
    created: Option<Time>,
}

/// The value of an attribute that has the form of an id: 16 bytes, or text.
fn id_of(value: &[u8]) -> Option<Guid> {
    if let Ok(bytes) = <[u8; ID_BYTES]>::try_from(value) {
        return Some(Guid(bytes));
    }
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

impl RecoveryObject {
    /// Takes one attribute; its name in any case. Other attributes are passed over.
    pub(crate) fn attribute(&mut self, name: &str, value: &[u8], place: &Place, import: &mut Import) {
        let name = name.split(';').next().unwrap_or_default().to_ascii_lowercase();
        self.is_recovery_object |= name.starts_with("msfve-");
        let wrong_size = |name, have| Trouble::WrongSize { name, have };
        match name.as_str() {
            "dn" | "distinguishedname" => {
                if let Ok(text) = std::str::from_utf8(value) {
                    text.trim().clone_into(&mut self.name);
                }
            }
            "objectclass" => {
                self.is_recovery_object |= value.eq_ignore_ascii_case(b"msFVE-RecoveryInformation");
            }
            "msfve-recoveryguid" => match id_of(value) {
                Some(id) => self.ids.push(id),
                None => import.problem(place.clone(), wrong_size("msFVE-RecoveryGuid", value.len())),
            },
            "msfve-volumeguid" => match id_of(value) {
                Some(id) => self.volume = Some(id),
                None => import.problem(place.clone(), wrong_size("msFVE-VolumeGuid", value.len())),
            },
            "msfve-keypackage" if (1..=MAX_KEY_PACKAGE_BYTES).contains(&value.len()) => {
                self.package = Some(SecretBytes::new(value.to_vec()));
            }
            "msfve-keypackage" => import.problem(place.clone(), wrong_size("msFVE-KeyPackage", value.len())),
            "whencreated" => {
                self.created = std::str::from_utf8(value).ok().and_then(time::parse);
            }
            // Whatever the attribute is called: what has the form of a recovery password is one.
            _ => {
                let Ok(text) = std::str::from_utf8(value) else { return };
                match shapes::classify(text.trim()) {
                    Some(shapes::Kind::Password(password)) => self.passwords.push(Ok(password)),
                    Some(shapes::Kind::DamagedPassword(error)) => self.passwords.push(Err(error)),
                    _ if name == "msfve-recoverypassword" => {
                        self.passwords.push(RecoveryPassword::parse(text));
                    }
                    // Within longer text, such as a note of an administrator.
                    _ => {
                        for shape in shapes::find(text) {
                            match shape.kind {
                                shapes::Kind::Password(password) => self.note(Ok(password)),
                                shapes::Kind::DamagedPassword(error) => self.note(Err(error)),
                                _ => {}
                            }
                        }
                    }
                }
            }
        }
    }

    /// Takes what stands in longer text, unless an attribute of its own says the same.
    fn note(&mut self, found: Result<RecoveryPassword, RecoveryPasswordError>) {
        let is_known = |password: &RecoveryPassword| {
            self.passwords.iter().flatten().any(|known| known.same_as(password))
        };
        if !found.as_ref().is_ok_and(is_known) {
            self.passwords.push(found);
        }
    }

    /// Puts what was read into the import.
    pub(crate) fn finish(self, place: &Place, import: &mut Import) {
        if !self.is_recovery_object && self.passwords.is_empty() {
            return;
        }
        let parts = split_name(&self.name);
        let own_name = parts.first().map(|part| part.as_str()).unwrap_or_default();
        let named = shapes::only_id(own_name);
        let is_one =
            |ids: &[Guid]| ids.len() <= 1 && named.is_none_or(|named| ids.iter().all(|id| *id == named));
        let protector = is_one(&self.ids).then(|| self.ids.first().copied().or(named)).flatten();
        let before_id = own_name.split('{').next().unwrap_or_default();
        let time = self.created.or_else(|| time::parse(before_id));
        // The object is a child of its computer.
        let computer = parts.get(1).filter(|_| named.is_some()).and_then(|part| hint(part));
        let hints = Hints { computer, volume: self.volume, ..Hints::default() };
        let label = || protector.map_or_else(|| own_name.to_owned(), |id| id.to_string());
        if self.passwords.is_empty() && self.package.is_none() {
            return import.problem(place.clone(), Trouble::NotReadable(label()));
        }
        if self.passwords.is_empty() {
            import.problem(place.clone(), Trouble::NotReadable(label()));
        }
        // Two passwords in one object: nobody can tell whose the id is.
        let protector = protector.filter(|_| self.passwords.len() <= 1);
        for password in self.passwords {
            match password {
                Ok(password) => import.password(protector, password, place.clone(), time, hints.clone()),
                Err(error) => import.problem(place.clone(), Trouble::Password(error)),
            }
        }
        if let Some(package) = self.package {
            let secret = Secret::KeyPackage(package);
            import.found.push(FoundSecret {
                protector,
                secret,
                place: place.clone(),
                time,
                is_time_of_file: false,
                hints,
            });
        }
    }
}

/// The values of the parts of a distinguished name, from the object up.
fn split_name(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = name.chars();
    while let Some(c) = characters.next() {
        match c {
            ',' => parts.push(String::new()),
            '\\' => {
                let escaped = characters.next().unwrap_or_default();
                parts.last_mut().expect("there is always one part").push(escaped);
            }
            c => parts.last_mut().expect("there is always one part").push(c),
        }
    }
    let value =
        |part: String| part.split_once('=').map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
    parts.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_their_commas() {
        assert_eq!(split_name(r"CN=a\,b, OU=c ,DC=d"), ["a,b", "c", "d"]);
        assert_eq!(split_name(""), [""]);
        assert_eq!(split_name("CN=x\\"), ["x\0"]);
    }
}
