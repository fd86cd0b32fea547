//! The parent locator of a differencing disk: which state of which disk it was made from, and where that was.
//!
//! Only the linkage decides which file is the parent. The paths are hints, written by whoever wrote the file: a
//! caller must not open absolute paths from an untrusted file. MS-VHDX 2.6.2.6.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use uguid::Guid;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::{Corruption, LocatorRule, VhdxError};
use crate::layout::{
    KEY_ABSOLUTE_PATH, KEY_PARENT_LINKAGE, KEY_PARENT_LINKAGE2, KEY_RELATIVE_PATH, KEY_VOLUME_PATH,
    LOCATOR_VHDX, MAX_LOCATOR_PAIRS, RawLocatorHeader, RawLocatorPair,
};

/// Parent locator of type VHDX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentLocator {
    linkage: Guid,
    linkage2: Option<Guid>,
    pairs: Vec<(String, String)>,
}

impl ParentLocator {
    /// Creates a locator that names `linkage`, the parent's DataWriteGuid, without any path.
    #[must_use]
    pub fn new(linkage: Guid) -> Self {
        Self {
            linkage,
            linkage2: None,
            pairs: vec![(KEY_PARENT_LINKAGE.into(), alloc::format!("{{{linkage}}}"))],
        }
    }

    /// Adds a second accepted DataWriteGuid, as a merge does; the all-zero GUID is written, but never matches.
    #[must_use]
    pub fn with_linkage2(mut self, linkage2: Guid) -> Self {
        self.linkage2 = (linkage2 != Guid::ZERO).then_some(linkage2);
        self.set(KEY_PARENT_LINKAGE2, alloc::format!("{{{linkage2}}}"));
        self
    }

    /// Adds the path relative to the child's folder, with backslashes.
    #[must_use]
    pub fn with_relative_path(mut self, path: &str) -> Self {
        self.set(KEY_RELATIVE_PATH, path.into());
        self
    }

    /// Adds the absolute path.
    #[must_use]
    pub fn with_absolute_path(mut self, path: &str) -> Self {
        self.set(KEY_ABSOLUTE_PATH, path.into());
        self
    }

    fn set(&mut self, key: &str, value: String) {
        match self.pairs.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((key.into(), value)),
        }
    }

    /// Returns the DataWriteGuid that the parent had when the link was made.
    #[must_use]
    pub fn linkage(&self) -> Guid {
        self.linkage
    }

    /// Returns the second accepted DataWriteGuid, present while a merge changes the parent.
    #[must_use]
    pub fn linkage2(&self) -> Option<Guid> {
        self.linkage2
    }

    /// Tells whether a disk with this DataWriteGuid is the parent.
    #[must_use]
    pub fn accepts(&self, data_write_guid: Guid) -> bool {
        self.linkage == data_write_guid || self.linkage2 == Some(data_write_guid)
    }

    /// Returns the path relative to the child's folder, as written: backslashes, often a leading `.\`.
    #[must_use]
    pub fn relative_path(&self) -> Option<&str> {
        self.value(KEY_RELATIVE_PATH)
    }

    /// Returns the path by volume GUID, as written.
    #[must_use]
    pub fn volume_path(&self) -> Option<&str> {
        self.value(KEY_VOLUME_PATH)
    }

    /// Returns the absolute path, as written.
    #[must_use]
    pub fn absolute_path(&self) -> Option<&str> {
        self.value(KEY_ABSOLUTE_PATH)
    }

    /// Returns the value of a key; keys are case-sensitive.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Lists all keys with their values in file order, those that this reader does not know included.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Parses the metadata item.
    ///
    /// # Errors
    /// [`VhdxError::UnsupportedParentType`] for another type of locator, [`Corruption::ParentLocator`] for a
    /// malformed one.
    pub fn parse(item: &[u8]) -> Result<Self, VhdxError> {
        let broken = |rule| Corruption::ParentLocator { rule };
        let (header, rest) =
            RawLocatorHeader::ref_from_prefix(item).map_err(|_| broken(LocatorRule::Length))?;
        let locator_type = Guid::from_bytes(header.locator_type);
        if locator_type != LOCATOR_VHDX {
            return Err(VhdxError::UnsupportedParentType { locator_type });
        }
        let count = header.pair_count.get();
        if count == 0 || count > MAX_LOCATOR_PAIRS {
            return Err(broken(LocatorRule::PairCount).into());
        }
        let (raw_pairs, _) = <[RawLocatorPair]>::ref_from_prefix_with_elems(rest, count.into())
            .map_err(|_| broken(LocatorRule::Length))?;
        let mut pairs: Vec<(String, String)> = Vec::with_capacity(count.into());
        for pair in raw_pairs {
            let key = parse_text(item, pair.key_offset, pair.key_length)?;
            let value = parse_text(item, pair.value_offset, pair.value_length)?;
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(broken(LocatorRule::DuplicateKey).into());
            }
            pairs.push((key, value));
        }
        let linkage_of = |key: &str| {
            let value = pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value);
            value.map(|text| parse_guid(text).ok_or(broken(LocatorRule::LinkageGuid))).transpose()
        };
        let linkage = linkage_of(KEY_PARENT_LINKAGE)?.ok_or(broken(LocatorRule::LinkageMissing))?;
        // Hyper-V writes an all-zero second linkage where there is none.
        let linkage2 = linkage_of(KEY_PARENT_LINKAGE2)?.filter(|guid| *guid != Guid::ZERO);
        Ok(Self { linkage, linkage2, pairs })
    }

    /// Encodes the metadata item, or answers the text that is longer than its field can say.
    ///
    /// # Errors
    /// The key or value whose UTF-16 form has more than 65,535 bytes.
    pub fn encode(&self) -> Result<Vec<u8>, &str> {
        let head = size_of::<RawLocatorHeader>();
        let mut item = vec![0; head + self.pairs.len() * size_of::<RawLocatorPair>()];
        let header = RawLocatorHeader {
            locator_type: LOCATOR_VHDX.to_bytes(),
            reserved: U16::ZERO,
            pair_count: U16::new(u16::try_from(self.pairs.len()).unwrap_or(u16::MAX)),
        };
        item[..head].copy_from_slice(header.as_bytes());
        for (index, (key, value)) in self.pairs.iter().enumerate() {
            let (key_offset, key_length) = append_text(&mut item, key)?;
            let (value_offset, value_length) = append_text(&mut item, value)?;
            let pair = RawLocatorPair { key_offset, value_offset, key_length, value_length };
            let slot = head + index * size_of::<RawLocatorPair>();
            item[slot..slot + size_of::<RawLocatorPair>()].copy_from_slice(pair.as_bytes());
        }
        Ok(item)
    }
}

fn parse_text(item: &[u8], offset: U32, length: U16) -> Result<String, Corruption> {
    let broken = |rule| Corruption::ParentLocator { rule };
    let (start, length) = (offset.get() as usize, usize::from(length.get()));
    if start == 0 || length == 0 {
        return Err(broken(LocatorRule::StringRange));
    }
    let bytes = start
        .checked_add(length)
        .and_then(|end| item.get(start..end))
        .ok_or(broken(LocatorRule::StringRange))?;
    if !length.is_multiple_of(2) {
        return Err(broken(LocatorRule::Utf16));
    }
    let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    char::decode_utf16(units).collect::<Result<_, _>>().map_err(|_| broken(LocatorRule::Utf16))
}

fn append_text<'t>(item: &mut Vec<u8>, text: &'t str) -> Result<(U32, U16), &'t str> {
    let start = u32::try_from(item.len()).map_err(|_| text)?;
    item.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    let length = u16::try_from(item.len() - start as usize).map_err(|_| text)?;
    Ok((U32::new(start), U16::new(length)))
}

/// Parses a GUID with or without braces, in either case.
fn parse_guid(text: &str) -> Option<Guid> {
    let bare = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    Guid::try_parse(bare).ok()
}
