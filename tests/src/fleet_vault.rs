//! A vault of many VMs without their files: what an audit reads, made in seconds, for benchmarks.
//!
//! Real records, sealed bodies and secrets; the VMs in them are invented, and their artefacts are in no bundle: a check of such
//! a vault says so. Every fifth volume is less than proved, in all the ways that escrow and proofs can tell.

use std::collections::BTreeMap;
use std::path::Path;

use lifeboat_engine::admin::{Names, NewVault, add_writer, prepare};
use lifeboat_schema::{
    Addressees, ArtefactEntry, ArtefactKind, BODY_VERSION, BitLockerInfo, BodyHead, CertificateEntry, Class,
    ContainerKind, Digest, DiskEntry, DiskFileEntry, DiskHeadEntry, EncryptionKind, GuardianEntry, Kind,
    Layout, OwnerId, OwnerTerms, Pairing, PartEntry, PartitionScheme, PolicyRef, PolicyTerms, ProofEntry,
    ProofOutcome, ProtectorInfo, ProtectorKind, Role, RunEntry, SecretKind, SecuritySettings, SignatureState,
    SnapshotBody, StateValue, SubjectId, Time, VmEntry, VmRecord, VmSelector, VolumeCipher, VolumeHeadEntry,
    VolumeState, WriterId, WriterTerms,
};
use lifeboat_vault::key::SigningKey;
use lifeboat_vault::seal::NewIdentity;
use lifeboat_vault::store::Store;
use lifeboat_vault::vault::Vault;
use lifeboat_vault::writer::Writer;

use crate::statements::{NewSecret, escrow, prove, secret_digest, snapshot};

/// Volumes of each VM.
const VOLUMES_PER_VM: u32 = 2;
/// Secrets or proofs in one record.
const PER_RECORD: usize = 5000;

/// Writes `vault` and `kit` (vault.toml and audit.identity) into a folder. Panics where that fails.
pub async fn write_fleet_vault(folder: &Path, vms: u32, hosts: u32) {
    std::fs::create_dir_all(folder.join("vault")).expect("a folder");
    std::fs::create_dir_all(folder.join("kit")).expect("a folder");
    let root = std::fs::canonicalize(folder.join("vault")).expect("its path");
    let url = format!("file://{}", root.display());
    let store = Store::open(&url, &Default::default(), &|_| None).expect("a store");
    let now = Time::from_unix_seconds(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
            as i64,
    );
    let admins = [SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32])];
    let identities: BTreeMap<Role, NewIdentity> =
        Role::ALL.iter().map(|role| (*role, NewIdentity::generate())).collect();
    let owner = OwnerId::random([7; 10]);
    let recipients = identities.iter().map(|(role, one)| (*role, vec![one.recipient()])).collect();
    let terms = PolicyTerms {
        owners: vec![OwnerTerms { id: owner.clone(), vms: vec![VmSelector::All], recipients }],
        writers: Vec::new(),
    };
    let names = Names { owners: BTreeMap::from([(owner, "the owner".to_owned())]), ..Names::default() };
    let new = NewVault { admins: &admins, terms, names, now, nonce: [3; 16] };
    let (vault, _) = prepare(&store, new).expect("good terms").write().await.expect("a vault");

    let mut enrolled = Enrolled { vault: &vault, admin: &admins[0], number: 0, now, policy: None };
    let mut secrets = Vec::new();
    let mut proofs = Vec::new();
    for host in 0..hosts {
        let writer = enrolled.writer("h", Kind::Snapshot, &format!("host-{host}")).await;
        let numbers = (0..vms).filter(|number| number % hosts == host);
        let vms = numbers.map(|number| vm(number, now, &mut secrets, &mut proofs)).collect();
        let head = BodyHead {
            v: BODY_VERSION,
            vault: vault.id.clone(),
            writer: writer.id.clone(),
            seq: 1,
            kind: Kind::Snapshot,
            class: Class::Metadata,
            owner: OwnerId::random([7; 10]),
        };
        let body = SnapshotBody {
            head,
            host: format!("host-{host}"),
            run: RunEntry::default(),
            vms,
            companions: Vec::new(),
        };
        snapshot(&vault, &writer, body, now).await;
    }
    let importer = enrolled.writer("e", Kind::Escrow, "importer").await;
    for some in secrets.chunks(PER_RECORD) {
        escrow(&vault, &importer, some, now).await;
    }
    let operator = enrolled.writer("op", Kind::Proof, "operator").await;
    for some in proofs.chunks(PER_RECORD) {
        prove(&vault, &operator, some.to_vec(), now).await;
    }
    let policy = enrolled.policy.expect("writers were enrolled");
    let text = format!(
        "vault = \"{}\"\n\n[policy]\nseq = {}\nid = \"{}\"\n\n[store]\nurl = \"{url}\"\n",
        vault.id, policy.seq, policy.id
    );
    std::fs::write(folder.join("kit/vault.toml"), text).expect("vault.toml");
    let comments = [format!("vault: {}", vault.id), "role: audit".to_owned()];
    let identity = identities[&Role::Audit].file(&[comments[0].as_str(), comments[1].as_str()]);
    std::fs::write(folder.join("kit/audit.identity"), identity.expose()).expect("audit.identity");
}

struct Enrolled<'a> {
    vault: &'a Vault,
    admin: &'a SigningKey,
    number: u8,
    now: Time,
    policy: Option<PolicyRef>,
}

impl Enrolled<'_> {
    async fn writer(&mut self, prefix: &str, kind: Kind, name: &str) -> Writer {
        self.number += 1;
        let key = SigningKey::from_seed(&[100 + self.number; 32]);
        let id = WriterId::random(prefix, [self.number; 10]);
        let terms = WriterTerms {
            id: id.clone(),
            key: key.verifying_key().to_openssh(),
            kinds: vec![kind],
            max_silence_seconds: None,
            cut: None,
        };
        let policy = add_writer(self.vault, self.admin, terms, name, self.now).await.expect("a new policy");
        self.policy = Some(policy);
        Writer { id, key }
    }
}

/// An id of a thing by its number.
fn id(what: u8, number: u32) -> String {
    format!("{what:08x}-0000-4000-8000-{number:012x}")
}

fn digest(what: &str, number: u32) -> Digest {
    Digest::of(format!("{what} {number}").as_bytes())
}

fn certificate(number: u32) -> CertificateEntry {
    CertificateEntry {
        sha256: digest("certificate", number),
        sha1: format!("{number:040X}"),
        public_key: Some(digest("key", number)),
        not_before: Time::from_unix_seconds(1_735_689_600),
        not_after: Time::from_unix_seconds(2_366_841_600),
    }
}

fn guardian(number: u32, name: &str) -> GuardianEntry {
    GuardianEntry {
        name: name.to_owned(),
        host: None,
        signing: certificate(2 * number),
        encryption: certificate(2 * number + 1),
    }
}

fn vm(number: u32, now: Time, secrets: &mut Vec<NewSecret>, proofs: &mut Vec<ProofEntry>) -> VmEntry {
    let mut subject = [0; 10];
    subject[..4].copy_from_slice(&number.to_be_bytes());
    let subject = SubjectId::random(subject);
    let vm_id = id(1, number);
    let mut vm =
        VmRecord::unexplored(&vm_id, format!("vm-{number:05}"), Layout::Live, r"C:\ClusterStorage\Volume1");
    vm.generation = Some(2);
    vm.configuration_version = Some("10.0".to_owned());
    vm.runs_on = vec!["Windows Server 2022".to_owned(), "Windows Server 2025".to_owned()];
    vm.security = SecuritySettings {
        tpm_enabled: Some(true),
        shielding_requested: Some(true),
        encrypt_state_and_migration: Some(true),
        secure_boot: Some(true),
        secure_boot_template: Some("1734c6e8-3154-4dda-ba5f-a874cc483422".to_owned()),
    };
    let file = format!("Virtual Machines/{vm_id}.vmrs");
    let value = |what: &str, key: &str| StateValue {
        digest: digest(what, number),
        size: 40_000,
        file: file.clone(),
        key: key.to_owned(),
    };
    vm.vtpm = Some(value("vtpm", "/configuration/security/vtpm"));
    vm.key_protector = Some(value("kp", "/configuration/security/key_protector"));
    vm.pairing = Pairing::CapturedTogether;
    vm.addressed_to = Some(Addressees {
        owners: vec![guardian(number % 3, "Contoso Owner")],
        guardians: vec![guardian(10, "Primary Fabric"), guardian(11, "DR Fabric")],
        signed_by: digest("certificate", 20),
        signatures: SignatureState::ValidAsAssumed,
        max_offline_unwraps: 0,
    });
    let captured = Time::from_unix_seconds(now.unix_seconds() - i64::from(number % 500) * 600);
    for drive in 0..VOLUMES_PER_VM {
        let volume = number * VOLUMES_PER_VM + drive;
        plant(volume, &subject, captured, now, secrets, proofs);
        vm.disks.push(disk(volume, drive));
    }
    let names = ["vmcx", "vmrs", "vmgs", "disk-0.head", "disk-1.head"];
    let artefacts = names.iter().map(|name| ArtefactEntry {
        path: format!("Virtual Machines/{vm_id}.{name}"),
        kind: ArtefactKind::Other,
        class: Class::Machine,
        size: 131_072,
        digest: digest(name, number),
        parts: vec![PartEntry {
            object: digest("bundle", number / 100),
            offset: 4096,
            length: 60_000,
            size: 131_072,
            digest: digest(name, number),
        }],
    });
    VmEntry { subject, captured, vm, artefacts: artefacts.collect() }
}

fn disk(volume: u32, drive: u32) -> DiskEntry {
    let plain = |number: u32, kind: &str| VolumeHeadEntry {
        number,
        offset_bytes: u64::from(number) << 20,
        size_bytes: 100 << 20,
        partition_id: Some(id(10 + number as u8, volume)),
        partition_type: Some(kind.to_owned()),
        encryption: EncryptionKind::None,
        bitlocker: None,
        fve_metadata: None,
    };
    let protector = |what: u8, kind| ProtectorInfo {
        id: id(what, volume),
        kind,
        modified: Time::from_unix_seconds(1_767_225_600),
    };
    let mut encrypted = plain(3, "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");
    encrypted.encryption = EncryptionKind::Bitlocker;
    encrypted.fve_metadata = Some(digest("metadata", volume));
    encrypted.bitlocker = Some(BitLockerInfo {
        version: 2,
        volume_id: id(2, volume),
        state: VolumeState::Encrypted,
        cipher: VolumeCipher::AesXts256,
        metadata_copies: 3,
        metadata_copies_valid: 3,
        protectors: vec![protector(3, ProtectorKind::Tpm), protector(4, ProtectorKind::RecoveryPassword)],
    });
    let name = format!("disk-{volume:06}.vhdx");
    DiskEntry {
        controller: "scsi".to_owned(),
        controller_number: 0,
        drive,
        path: format!(r"C:\ClusterStorage\Volume1\Virtual Hard Disks\{name}"),
        problem: None,
        head: Some(DiskHeadEntry {
            container: ContainerKind::Vhdx,
            chain: vec![DiskFileEntry { name, data_write_guid: Some(id(5, volume)), vhd_id: None }],
            virtual_size_bytes: 64 << 30,
            sector_size_bytes: 512,
            virtual_disk_id: Some(id(6, volume)),
            scheme: PartitionScheme::Gpt,
            gpt_disk_id: Some(id(7, volume)),
            volumes: vec![
                plain(1, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
                plain(2, "e3c9e316-0b5c-4db8-817d-f92df00215ae"),
                encrypted,
            ],
            items: Vec::new(),
            artefact: Some(format!("Virtual Hard Disks/disk-{drive}.head")),
            secret_artefact: None,
        }),
    }
}

/// What is escrowed and proved of a volume.
fn plant(
    volume: u32,
    subject: &SubjectId,
    captured: Time,
    now: Time,
    secrets: &mut Vec<NewSecret>,
    proofs: &mut Vec<ProofEntry>,
) {
    // Not a recovery password of any volume: blocks of digits out of the number.
    let block = |index: u32| format!("{:06}", 11 * ((volume * 7919 + index * 104_729) % 65_536));
    let password = (0..8).map(block).collect::<Vec<_>>().join("-");
    if volume.is_multiple_of(40) {
        return;
    }
    let protector = id(4, volume);
    let outcome = match volume % 20 {
        4 => None,
        8 => Some(ProofOutcome::Refused),
        12 | 16 => Some(ProofOutcome::Key),
        _ => Some(ProofOutcome::Data),
    };
    if let Some(outcome) = outcome {
        proofs.push(ProofEntry {
            subject: subject.clone(),
            volume: id(2, volume),
            metadata: digest("metadata", volume),
            captured,
            protector: protector.clone(),
            kind: SecretKind::RecoveryPassword,
            secret: secret_digest(&password),
            outcome,
            proved: now,
        });
    }
    secrets.push(NewSecret { protector, password });
}
