//! The security keys of a VM: settings, VM key protector, vTPM state, policies.
//!
//! Which of VMCX and VMRS holds which key is not known for certain, so both are searched the same way and each finding keeps
//! the path where it was found; [`find_blob`] joins the two. The blobs are bytes here: nothing in this crate opens a VM key
//! protector or vTPM state. All key names are third-party knowledge, unverified (FORMAT.md section 10).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::container::{Container, FileRange};
use crate::error::ReadError;
use crate::read_at::ReadAt;
use crate::tree::{KeyKind, Node, Tree, Value};
use crate::view::UnexpectedValue;

/// Where all security keys lie.
const SECURITY: &str = "/configuration/security";

/// A security value that is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BlobKind {
    /// The VM key protector.
    KeyProtector,
    /// The last known good VM key protector.
    LastKnownGoodKeyProtector,
    /// The security policy.
    SecurityPolicy,
    /// The last known good security policy.
    LastKnownGoodSecurityPolicy,
    /// The encrypted policy of older versions.
    EncryptedPolicy,
    /// The encrypted vTPM state.
    VtpmNvram,
    /// The hash of the vTPM state before the last change; versions 8.2 and later.
    VtpmNvramHash,
}

impl BlobKind {
    /// Every kind.
    pub const ALL: [BlobKind; 7] = [
        BlobKind::KeyProtector,
        BlobKind::LastKnownGoodKeyProtector,
        BlobKind::SecurityPolicy,
        BlobKind::LastKnownGoodSecurityPolicy,
        BlobKind::EncryptedPolicy,
        BlobKind::VtpmNvram,
        BlobKind::VtpmNvramHash,
    ];

    /// Answers the path of the key.
    pub fn path(self) -> &'static str {
        match self {
            BlobKind::KeyProtector => "/configuration/security/keys/key_protector",
            BlobKind::LastKnownGoodKeyProtector => "/configuration/security/keys/lkg_key_protector",
            BlobKind::SecurityPolicy => "/configuration/security/policy/security_policy",
            BlobKind::LastKnownGoodSecurityPolicy => "/configuration/security/policy/lkg_security_policy",
            BlobKind::EncryptedPolicy => "/configuration/security/policy/encrypted_policy",
            BlobKind::VtpmNvram => "/configuration/security/vtpm/vtpm_engine_nvram",
            BlobKind::VtpmNvramHash => "/configuration/security/vtpm/vtpm_engine_nvram_hash",
        }
    }
}

/// Where the bytes of a security value lie.
///
/// The debug form shows sizes instead of bytes.
#[derive(Clone, PartialEq, Eq)]
pub enum BlobLocation {
    /// In a key table; these are the bytes.
    Inline(Vec<u8>),
    /// In a file object.
    FileObject(FileRange),
}

impl fmt::Debug for BlobLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobLocation::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            BlobLocation::FileObject(range) => {
                write!(f, "FileObject({} bytes at {})", range.size, range.offset)
            }
        }
    }
}

/// A security value and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityBlob {
    /// What it is.
    pub kind: BlobKind,
    /// Path of its key.
    pub path: String,
    /// Where its bytes lie.
    pub location: BlobLocation,
}

impl SecurityBlob {
    /// Answers the size in bytes.
    pub fn size_bytes(&self) -> u64 {
        match &self.location {
            BlobLocation::Inline(bytes) => bytes.len() as u64,
            BlobLocation::FileObject(range) => u64::from(range.size),
        }
    }

    /// Reads the bytes, at most `limit_bytes`, from the container in which the blob was found.
    ///
    /// # Errors
    /// When there are more, or the file object cannot be read.
    pub fn read<R: ReadAt>(
        &self,
        container: &Container<R>,
        limit_bytes: usize,
    ) -> Result<Vec<u8>, ReadError<R::Error>> {
        match &self.location {
            BlobLocation::FileObject(range) => container.read_range(*range, limit_bytes),
            BlobLocation::Inline(bytes) if bytes.len() > limit_bytes => {
                Err(ReadError::TooLarge { size_bytes: bytes.len() as u64, limit_bytes: limit_bytes as u64 })
            }
            BlobLocation::Inline(bytes) => Ok(bytes.clone()),
        }
    }
}

/// A key below `/configuration/security` whose meaning is not known, or whose value is not of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownKey {
    /// Path of the key.
    pub path: String,
    /// Kind of its value.
    pub kind: KeyKind,
}

/// What one file says about the security of a VM. A missing setting is `None`, and means false to Hyper-V.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityState {
    /// `settings/tpm_enabled`: the VM has a vTPM.
    pub tpm_enabled: Option<bool>,
    /// `settings/shielding_requested`: the VM is shielded.
    pub shielding_requested: Option<bool>,
    /// `settings/encrypt_state_migration`: saved state and migration traffic are encrypted.
    pub encrypt_state_migration: Option<bool>,
    /// `settings/data_protection_requested`: the name of the former in versions before 7.1.
    pub data_protection_requested: Option<bool>,
    /// `settings/ksd_enabled`: the VM has a key storage drive.
    pub ksd_enabled: Option<bool>,
    /// `settings/vbs_opt_out`: the VM has no virtualization-based security.
    pub vbs_opt_out: Option<bool>,
    /// Everything that is bytes, in the order of the file. Should one kind occur twice, [`SecurityState::blob`] answers the
    /// first.
    pub blobs: Vec<SecurityBlob>,
    /// Keys of unknown meaning.
    pub unknown_keys: Vec<UnknownKey>,
}

impl SecurityState {
    /// Collects the security keys of a tree; needs no read, because blobs in file objects are only located.
    pub fn of(tree: &Tree) -> Self {
        Self::collect(tree, &mut Vec::new())
    }

    /// Does what [`SecurityState::of`] does and notes values of an unexpected kind.
    pub(crate) fn collect(tree: &Tree, unexpected: &mut Vec<UnexpectedValue>) -> Self {
        let mut state = SecurityState::default();
        let Some(security) = tree.get(SECURITY) else { return state };
        let mut open: Vec<Node<'_>> = security.children().collect();
        open.reverse();
        while let Some(node) = open.pop() {
            if *node.value() == Value::Node {
                let at = open.len();
                open.extend(node.children());
                open[at..].reverse();
            } else {
                state.take(node, unexpected);
            }
        }
        state
    }

    fn take(&mut self, node: Node<'_>, unexpected: &mut Vec<UnexpectedValue>) {
        let path = node.path();
        let kind = node.value().kind();
        let wanted = if let Some(setting) = self.setting(&path[SECURITY.len()..]) {
            if let (Some(truth), None) = (node.as_bool(), *setting) {
                *setting = Some(truth);
                return;
            }
            Some(KeyKind::BOOL)
        } else if let Some(blob) = BlobKind::ALL.into_iter().find(|blob| blob.path() == path) {
            let location = match node.value() {
                Value::Array(bytes) => Some(BlobLocation::Inline(bytes.clone())),
                Value::External { kind: KeyKind::ARRAY, range } => Some(BlobLocation::FileObject(*range)),
                _ => None,
            };
            if let Some(location) = location {
                self.blobs.push(SecurityBlob { kind: blob, path, location });
                return;
            }
            Some(KeyKind::ARRAY)
        } else {
            None
        };
        if let Some(wanted) = wanted {
            unexpected.push(UnexpectedValue {
                path: path.clone(),
                wanted: wanted.name().unwrap_or_default(),
                found: kind,
            });
        }
        self.unknown_keys.push(UnknownKey { path, kind });
    }

    fn setting(&mut self, below_security: &str) -> Option<&mut Option<bool>> {
        Some(match below_security.strip_prefix("/settings/")? {
            "tpm_enabled" => &mut self.tpm_enabled,
            "shielding_requested" => &mut self.shielding_requested,
            "encrypt_state_migration" => &mut self.encrypt_state_migration,
            "data_protection_requested" => &mut self.data_protection_requested,
            "ksd_enabled" => &mut self.ksd_enabled,
            "vbs_opt_out" => &mut self.vbs_opt_out,
            _ => return None,
        })
    }

    /// Finds a blob.
    pub fn blob(&self, kind: BlobKind) -> Option<&SecurityBlob> {
        self.blobs.iter().find(|blob| blob.kind == kind)
    }

    /// Tells whether the file has no security key at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which file of a VM something was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repository {
    /// The configuration, `.vmcx`.
    Vmcx,
    /// The runtime state, `.vmrs`.
    Vmrs,
}

/// A blob and the file in which it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundBlob<'a> {
    /// The file.
    pub repository: Repository,
    /// The blob.
    pub blob: &'a SecurityBlob,
}

/// Finds a blob in the files of one VM, wherever it is; more than one answer means that they may contradict each other.
pub fn find_blob<'a>(kind: BlobKind, files: &[(Repository, &'a SecurityState)]) -> Vec<FoundBlob<'a>> {
    files
        .iter()
        .flat_map(|&(repository, state)| {
            let blobs = state.blobs.iter().filter(move |blob| blob.kind == kind);
            blobs.map(move |blob| FoundBlob { repository, blob })
        })
        .collect()
}
