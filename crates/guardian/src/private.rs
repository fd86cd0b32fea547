//! Private keys where they can be recognised without a password: PEM blocks, DER files, XML key values, base64 inside text.
//!
//! Looks at the outline only: that a key stands there is what matters, not which one. What is hidden in a form that nobody
//! uses is not found.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Label that the first line of a PEM block of any private key ends with.
const PEM_PRIVATE: &str = "PRIVATE KEY-----";
const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const PEM_ENCRYPTED_HEADER: &str = "Proc-Type: 4,ENCRYPTED";
/// First bytes of a PVK file of Windows: 0xB0B5F11E, little-endian.
const PVK_MAGIC: [u8; 4] = [0x1E, 0xF1, 0xB5, 0xB0];
/// Fewest characters of base64 that are taken for a key: an RSA key of 1024 bits has some 800.
const MIN_BASE64_CHARACTERS: usize = 256;
/// Characters of base64 that are decoded to see an outline; a multiple of four.
const OUTLINE_CHARACTERS: usize = 64;

/// What private material stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrivateMaterial {
    /// Private keys that nothing protects.
    pub open: u64,
    /// Private keys or PFX containers under a password.
    pub protected: u64,
}

impl PrivateMaterial {
    /// Looks for private material in the bytes of a file.
    pub fn find(bytes: &[u8]) -> Self {
        match DerKind::of(bytes) {
            Some(DerKind::Pfx | DerKind::EncryptedPrivateKey) => return Self { open: 0, protected: 1 },
            Some(DerKind::PrivateKey) => return Self { open: 1, protected: 0 },
            Some(DerKind::Certificate) | None => {}
        }
        if bytes.starts_with(&PVK_MAGIC) {
            // Whether it is encrypted: the fourth of its numbers. A file that breaks off before it opens nothing.
            let is_open = bytes.get(12..16) == Some(&[0; 4]);
            return Self { open: is_open.into(), protected: (!is_open).into() };
        }
        text_of(bytes).map(|text| Self::in_text(&text)).unwrap_or_default()
    }

    fn in_text(text: &str) -> Self {
        let mut found = Self::default();
        for (at, _) in text.match_indices(PEM_BEGIN) {
            let block = &text[at..];
            let label = block.lines().next().unwrap_or_default().trim_end();
            if !label.ends_with(PEM_PRIVATE) {
                continue;
            }
            let header = block.lines().nth(1).unwrap_or_default();
            match label == PEM_ENCRYPTED || header.starts_with(PEM_ENCRYPTED_HEADER) {
                true => found.protected += 1,
                false => found.open += 1,
            }
        }
        if found != Self::default() {
            return found;
        }
        if text.contains("RSAKeyValue") && (text.contains("<D>") || text.contains(":D>")) {
            found.open += 1;
        }
        // Whatever wraps them: elements of XML, or a file of base64 alone.
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c) || c.is_ascii_whitespace();
        for run in text.split(|c| !is_base64(c)).filter(|run| run.len() >= MIN_BASE64_CHARACTERS) {
            let run: String = run.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            if run.len() < MIN_BASE64_CHARACTERS {
                continue;
            }
            let Some(start) = run.get(..OUTLINE_CHARACTERS) else { continue };
            match STANDARD_NO_PAD.decode(start).ok().as_deref().and_then(DerKind::of) {
                Some(DerKind::PrivateKey) => found.open += 1,
                Some(DerKind::Pfx | DerKind::EncryptedPrivateKey) => found.protected += 1,
                Some(DerKind::Certificate) | None => {}
            }
        }
        found
    }

    /// Tells whether there is any.
    pub fn is_some(self) -> bool {
        self.open + self.protected > 0
    }
}

/// What DER bytes are by their first elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DerKind {
    Certificate,
    Pfx,
    PrivateKey,
    EncryptedPrivateKey,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const CONTEXT_0: u8 = 0xA0;
/// Object identifiers of PKCS#5 and PKCS#12 begin so: 1.2.840.113549.1.
const PKCS: [u8; 7] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01];
const PKCS_5: u8 = 0x05;
const PKCS_7: u8 = 0x07;
const PKCS_12: u8 = 0x0C;

impl DerKind {
    /// Recognises the beginning; what follows need not be there.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let (SEQUENCE, outer) = element(bytes)? else { return None };
        let first = *outer.first()?;
        match first {
            INTEGER => {
                let (_, version) = element(outer)?;
                let rest = outer.get(2 + version.len()..)?;
                let follows = *rest.first()?;
                match (version, follows) {
                    // PFX: version 3, then content of PKCS#7.
                    ([3], SEQUENCE) => is_pkcs(element(rest)?.1, &[PKCS_7]).then_some(Self::Pfx),
                    // PKCS#8: version, algorithm. PKCS#1: version, modulus. SEC1: version, key.
                    ([0 | 1], SEQUENCE) => {
                        let (_, algorithm) = element(rest)?;
                        (algorithm.first() == Some(&OBJECT_IDENTIFIER)).then_some(Self::PrivateKey)
                    }
                    ([0 | 1], INTEGER) => (element(rest)?.1.len() >= 32).then_some(Self::PrivateKey),
                    ([1], OCTET_STRING) => Some(Self::PrivateKey),
                    _ => None,
                }
            }
            SEQUENCE => {
                let (_, inner) = element(outer)?;
                match *inner.first()? {
                    OBJECT_IDENTIFIER if is_pkcs(inner, &[PKCS_5, PKCS_12]) => {
                        Some(Self::EncryptedPrivateKey)
                    }
                    // Version, or the serial number of version 1.
                    CONTEXT_0 | INTEGER => Some(Self::Certificate),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

fn is_pkcs(content: &[u8], families: &[u8]) -> bool {
    element(content).is_some_and(|(tag, id)| {
        tag == OBJECT_IDENTIFIER
            && id.strip_prefix(&PKCS).and_then(<[u8]>::first).is_some_and(|family| families.contains(family))
    })
}

/// Tag and content of the element that bytes begin with; the content may be cut short.
fn element(bytes: &[u8]) -> Option<(u8, &[u8])> {
    const INDEFINITE: u8 = 0x80;
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if length == INDEFINITE {
        return Some((tag, rest));
    }
    if length < INDEFINITE {
        return Some((tag, rest.get(..usize::from(length)).unwrap_or(rest)));
    }
    let digits = usize::from(length & 0x7F);
    let (digits, rest) = rest.split_at_checked(digits).filter(|(digits, _)| digits.len() <= 4)?;
    let length = digits.iter().fold(0usize, |length, digit| length << 8 | usize::from(*digit));
    Some((tag, rest.get(..length).unwrap_or(rest)))
}

/// The text of a file in UTF-8 or UTF-16; what is no character becomes a replacement, so that keys beside it are found.
pub(crate) fn text_of(bytes: &[u8]) -> Option<String> {
    let units = |from: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| from(*pair)).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xFF, 0xFE, ..] => Some(units(u16::from_le_bytes)),
        [0xFE, 0xFF, ..] => Some(units(u16::from_be_bytes)),
        [first, 0, ..] if *first != 0 => Some(units(u16::from_le_bytes)),
        [0, second, ..] if *second != 0 => Some(units(u16::from_be_bytes)),
        _ => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
    .filter(|text| !text.is_empty())
}
