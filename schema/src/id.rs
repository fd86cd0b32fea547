//! Names of things in a vault: digests, vault, writer, owner and subject ids, roles, classes and kinds.
//!
//! Every id is checked when it is parsed, so that a parsed id can be put into a store path as it is: lower
//! case, no separators, no names that a file system reserves. Nothing here is secret.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Says why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {why}")]
#[non_exhaustive]
pub struct BadId {
    /// Which id was expected.
    pub what: &'static str,
    /// The text that was found, cut to 80 characters.
    pub text: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

impl BadId {
    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), why }
    }
}

/// BLAKE3 digest of 32 bytes; text form: 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Wraps 32 bytes that are already a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Hashes `data` with BLAKE3.
    pub fn of(data: &[u8]) -> Self {
        Self(*blake3::hash(data).as_bytes())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Makes a [`Digest`] of bytes that come in pieces.
#[derive(Default)]
pub struct DigestBuilder(blake3::Hasher);

impl DigestBuilder {
    /// Takes the next piece.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = |why| BadId::new("digest", text, why);
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(bad("it must have 64 hexadecimal digits"));
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
                return Err(bad("only the digits 0-9 and a-f are allowed"));
            };
            *byte = (high << 4) | low;
        }
        Ok(Self(bytes))
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Writes `bytes` in base32 (RFC 4648 alphabet, lower case, no padding).
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits & 31) as usize]));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(buffer << (5 - bits) & 31) as usize]));
    }
    text
}

/// Names that some file systems give to devices; no id may be one, whatever the platform.
const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];

fn check_name(what: &'static str, text: &str) -> Result<(), BadId> {
    let bad = |why| BadId::new(what, text, why);
    if text.is_empty() || text.len() > 40 {
        return Err(bad("it must have 1 to 40 characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(bad("only a-z, 0-9 and - are allowed"));
    }
    let device_with_number = text.len() == 4
        && (text.starts_with("com") || text.starts_with("lpt"))
        && text.as_bytes()[3].is_ascii_digit();
    if RESERVED.contains(&text) || device_with_number {
        return Err(bad("some file systems reserve this name"));
    }
    Ok(())
}

macro_rules! named_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                $check($what, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        text_serde!($name, $what);
    };
}

macro_rules! text_serde {
    ($name:ident, $what:literal) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $what })
            }
        }
    };
}

text_serde!(Digest, "BLAKE3 digest, 64 lower-case hexadecimal digits");

named_id!(
    /// Id of a writer: who owns one prefix of objects and one ledger; never reused.
    WriterId, "writer id", check_name
);
named_id!(
    /// Id of an owner: the party whose recipients a policy names for a set of VMs. Random; the name is sealed.
    OwnerId, "owner id", check_name
);
named_id!(
    /// Random id that stands for one VM in the records of one writer.
    SubjectId, "subject id", check_name
);
named_id!(
    /// Id of the recipients that one class of one owner's objects is sealed to.
    RecipientSetId, "recipient-set id", |what, text: &str| {
        if text.len() == 32 && text.bytes().all(|b| nibble(b).is_some()) {
            Ok(())
        } else {
            Err(BadId::new(what, text, "it must have 32 lower-case hexadecimal digits"))
        }
    }
);
named_id!(
    /// Id of a vault: `lb1` and the base32 form of the BLAKE3 digest of `vault.json`.
    VaultId, "vault id", |what, text: &str| {
        let digits = text.strip_prefix("lb1");
        if digits.is_some_and(|d| d.len() == 52 && d.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))) {
            Ok(())
        } else {
            Err(BadId::new(what, text, "it must be lb1 and 52 characters of a-z and 2-7"))
        }
    }
);

impl VaultId {
    /// The id of the vault whose `vault.json` has exactly these bytes.
    pub fn of(vault_json: &[u8]) -> Self {
        Self(format!("lb1{}", base32(Digest::of(vault_json).as_bytes())))
    }
}

impl WriterId {
    /// Makes an id from a prefix such as `h` and random bytes of the caller.
    pub fn random(prefix: &str, random: [u8; 10]) -> Self {
        Self(format!("{prefix}-{}", base32(&random)))
    }

    /// The one ledger whose records are signed by the admin keys of `vault.json`.
    pub fn admin() -> Self {
        Self("admin".to_owned())
    }
}

impl OwnerId {
    /// Makes an id from random bytes of the caller.
    pub fn random(random: [u8; 10]) -> Self {
        Self(format!("o-{}", base32(&random)))
    }
}

impl SubjectId {
    /// Makes an id from random bytes of the caller.
    pub fn random(random: [u8; 10]) -> Self {
        Self(format!("s{}", base32(&random)))
    }
}

impl RecipientSetId {
    /// The id of a set: `owner`, `class` and the recipients' texts in ascending byte order.
    pub fn of(owner: &OwnerId, class: Class, recipients: &[String]) -> Self {
        let mut sorted: Vec<&str> = recipients.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let text = format!("lifeboat-recipients-v1\n{owner}\n{class}\n{}\n", sorted.join("\n"));
        Self(Digest::of(text.as_bytes()).to_string()[..32].to_owned())
    }
}

macro_rules! closed_names {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The text form.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => Err(BadId::new($what, text, concat!("it must be one of", $(" ", $text,)*))),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": [$($text,)*] })
            }
        }
    };
}

closed_names!(
    /// Who may open a class of objects.
    Role, "role" {
        /// Lists what there is and what is missing.
        Audit = "audit",
        /// Brings a VM back.
        Restore = "restore",
        /// Holds recovery secrets.
        Escrow = "escrow",
    }
);

closed_names!(
    /// What an object holds, which fixes the roles that it is sealed to.
    Class, "class" {
        /// VmRecords, artefact entries and escrow entries without secrets: audit, restore and escrow.
        Metadata = "metadata",
        /// Configuration, vTPM state, VM key protectors and the like: restore.
        Machine = "machine",
        /// FVE metadata without clear keys, boot sectors, partition tables: restore and escrow.
        DiskHead = "disk-head",
        /// Recovery secrets, FVE metadata with a clear key, PFX files: escrow only.
        Secret = "secret",
    }
);

impl Class {
    /// The roles that objects of this class are sealed to.
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Class::Metadata => &[Role::Audit, Role::Restore, Role::Escrow],
            Class::Machine => &[Role::Restore],
            Class::DiskHead => &[Role::Restore, Role::Escrow],
            Class::Secret => &[Role::Escrow],
        }
    }
}

closed_names!(
    /// What a record states.
    Kind, "record kind" {
        /// Owners, recipients and writers from here on; signed by an admin key.
        Policy = "policy",
        /// The state of a host's VMs at one time.
        Snapshot = "snapshot",
        /// Escrowed recovery secrets.
        Escrow = "escrow",
        /// What a recovery secret was proved to open.
        Proof = "proof",
        /// A restore that was tried.
        Drill = "drill",
        /// A recovery secret that was shown to a person.
        Reveal = "reveal",
        /// Old identities sealed to new ones.
        Keyring = "keyring",
        /// Objects under a new header, by payload digest.
        Rewrap = "rewrap",
        /// A maintainer's observations and tombstones.
        Mark = "mark",
        /// Escrow records that an admin withdraws.
        Forget = "forget",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_text_round_trips_and_refuses_other_forms() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        let upper = digest.to_string().to_uppercase();
        for text in ["", "af13", upper.as_str()] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} was taken for a digest");
        }
    }

    #[test]
    fn vault_id_is_base32_of_the_digest() {
        let id = VaultId::of(b"{}\n");
        assert_eq!(id.as_str().len(), 55);
        assert_eq!(id.as_str().parse::<VaultId>().unwrap(), id);
        // RFC 4648 test vector, lower case and without padding.
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(b"foob"), "mzxw6yq");
    }

    #[test]
    fn writer_ids_are_safe_names_on_every_file_system() {
        assert!("h-abc234".parse::<WriterId>().is_ok());
        for bad in ["", "Host", "a_b", "a/b", "..", "con", "com1", "lpt9", &"x".repeat(41)] {
            assert!(bad.parse::<WriterId>().is_err(), "{bad:?} was taken for a writer id");
        }
    }

    #[test]
    fn recipient_sets_do_not_depend_on_order() {
        let owner: OwnerId = "o-x".parse().unwrap();
        let (a, b) = ("age1a".to_owned(), "age1b".to_owned());
        let one = RecipientSetId::of(&owner, Class::Machine, &[a.clone(), b.clone()]);
        assert_eq!(one, RecipientSetId::of(&owner, Class::Machine, &[b, a.clone()]));
        assert_ne!(one, RecipientSetId::of(&owner, Class::Machine, std::slice::from_ref(&a)));
        assert_ne!(one, RecipientSetId::of(&owner, Class::Secret, &[a]));
    }
}
