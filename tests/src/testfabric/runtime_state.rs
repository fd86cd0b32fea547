//! VM key protector, vTPM state and saved memory, and the tree of a VMRS that holds them.
//!
//! VM key protector, its last known good copy, policies, vTPM state and its hash change together, as hyperv-formats, section
//! 3.2, describes one commit of Hyper-V. The vTPM state is random: nothing here could decrypt it.

use lifeboat_key_protector::TransportKey;
use lifeboat_key_protector::layout::NO_KEY_PROTECTOR;
use lifeboat_vmcx::{BlobKind, TreeBuilder};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::cast::Cast;
use super::error::FabricError;
use super::identity::VmIdentity;
use super::options::{FabricOptions, VmKind, VmTrait};
use super::stream::Stream;

/// Where in the vTPM state the marker stands.
const MARKER_OFFSET: usize = 1234;
/// Version of security policies of configuration versions above 8.0.
const POLICY_VERSION: u32 = 0x101;
const SHIELDED: u32 = 1;

/// The secret side of a VM at one time.
pub(crate) struct SecretState {
    /// The value of the key; `None` when there is no key, four bytes when it is empty.
    pub(crate) key_protector: Option<Vec<u8>>,
    pub(crate) transport_key: Vec<u8>,
    pub(crate) vtpm: Vec<u8>,
    previous_vtpm_hash: [u8; 32],
    policy: Vec<u8>,
}

impl SecretState {
    /// Makes the state after `rolls` rolls; that of a checkpoint has streams of its own.
    pub(crate) fn make(
        options: &FabricOptions,
        cast: &Cast,
        vm: &VmIdentity,
        rolls: u32,
        purpose: &str,
        marker: &[u8; 32],
    ) -> Result<Option<Self>, FabricError> {
        if !vm.plan.kind.has_vtpm() {
            return Ok(None);
        }
        let stream = |part: &str, rolls: u32| {
            Stream::new(options.seed, &format!("{purpose} {part}"), &[vm.number.into(), rolls.into()])
        };
        let transport_key = stream("transport key", rolls).bytes(32);
        let key_protector = if vm.has(VmTrait::KeyProtectorAbsent) {
            None
        } else if vm.has(VmTrait::KeyProtectorEmpty) {
            Some(NO_KEY_PROTECTOR.to_vec())
        } else {
            let key = TransportKey::new(Zeroizing::new(transport_key.clone()))?;
            Some(cast.key_protector(vm.wrapped, &key, rolls > 0, &mut stream("key protector", rolls))?)
        };
        let vtpm = |rolls| {
            let mut vtpm = stream("vtpm", rolls).bytes(options.sizes.vtpm_state_bytes as usize);
            vtpm[MARKER_OFFSET..][..marker.len()].copy_from_slice(marker);
            vtpm
        };
        let previous_vtpm_hash =
            rolls.checked_sub(1).map_or([0; 32], |before| Sha256::digest(vtpm(before)).into());
        let shielded = if vm.plan.kind == VmKind::Shielded { SHIELDED } else { 0 };
        let policy = [POLICY_VERSION.to_le_bytes(), shielded.to_le_bytes()].concat();
        Ok(Some(Self { key_protector, transport_key, vtpm: vtpm(rolls), previous_vtpm_hash, policy }))
    }

    /// The VM key protector, if it is one.
    pub(crate) fn whole_key_protector(&self) -> Option<&[u8]> {
        self.key_protector.as_deref().filter(|value| *value != NO_KEY_PROTECTOR)
    }

    /// A part of the VM key protector that occurs in no other.
    ///
    /// Its last long text is the guardian signature, which covers the ciphertexts of the transport key.
    pub(crate) fn key_protector_marker(&self) -> Option<Vec<u8>> {
        const LONG: usize = 300;
        let is_text = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let mut texts = self.whole_key_protector()?.split(|byte| !is_text(byte));
        texts.rfind(|text| text.len() >= LONG).map(|text| text[..48].to_vec())
    }

    /// Puts VM key protector and last known good one into a tree.
    pub(crate) fn put_key_protector(&self, tree: &mut TreeBuilder) {
        if let Some(value) = &self.key_protector {
            tree.put(BlobKind::KeyProtector.path(), value.clone());
            tree.put(BlobKind::LastKnownGoodKeyProtector.path(), value.clone());
        }
    }

    fn put_vtpm(&self, tree: &mut TreeBuilder) {
        tree.put(BlobKind::SecurityPolicy.path(), self.policy.clone());
        tree.put(BlobKind::LastKnownGoodSecurityPolicy.path(), self.policy.clone());
        tree.put(BlobKind::VtpmNvram.path(), self.vtpm.clone());
        tree.put(BlobKind::VtpmNvramHash.path(), self.previous_vtpm_hash.to_vec());
    }
}

/// Makes the tree of a VMRS.
pub(crate) fn tree(
    vm: &VmIdentity,
    secrets: Option<&SecretState>,
    memory: Option<&mut Stream>,
) -> TreeBuilder {
    let (major, minor) = vm.version;
    let version = i64::from(major) << 8 | i64::from(minor);
    let mut tree = TreeBuilder::new()
        .set("/configuration/properties/version", version)
        .set("/configuration/_ac6b8dc1-3257-4a70-b1b2-a9c9215659ad_/VDEVVersion", 2048)
        .set("/configuration/_e51b7ef6-4a7f-4780-aaae-d4b291aacd2e_/VDEVVersion", 512);
    let metrics = tree.put("/configuration/global_settings/metrics", lifeboat_vmcx::Value::Node);
    // Siblings of one name, as real files have them.
    for class in ["4764334D-E001-4176-82EE-5594EC9B530E", "83F8638B-8DCA-4152-9EDA-2CA8B33039B4"] {
        let device = tree.append(metrics, "devicetype", lifeboat_vmcx::Value::Node);
        tree.append(device, "guid", class);
    }
    if let Some(secrets) = secrets {
        if !vm.has(VmTrait::KeyProtectorInConfiguration) {
            secrets.put_key_protector(&mut tree);
        }
        secrets.put_vtpm(&mut tree);
    }
    if let Some(stream) = memory {
        // The content of saved memory is opaque to every reader of ours; only sizes are as in real files.
        tree.put("/savedstate/VmVersion", version);
        tree.put("/savedstate/savedVM/partition_state", stream.bytes(6000));
        for block in 0..2 {
            tree.put(&format!("/savedstate/RamMemoryBlock{block}"), stream.bytes(48));
            tree.put(&format!("/savedstate/RamBlock{block}"), stream.bytes(16 << 10));
        }
    }
    tree
}
