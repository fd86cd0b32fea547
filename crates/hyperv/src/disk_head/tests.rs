use lifeboat_disk::fixtures::{MemoryFiles, differencing_vhdx, dynamic_vhdx, flat, gpt_disk, id};
use lifeboat_disk::{ParentSearch, open_disk};
use lifeboat_fve::fixtures::{
    CopyDamage, Damage, FormattedVolume, MIN_VOLUME_BYTES, ProtectorOptions, VolumeOptions, ntfs_plaintext,
};
use lifeboat_fve::{Credential, Metadata, ProtectionType, SectorCipher, prove_boot_sectors};
use lifeboat_schema::{ContainerKind, EncryptionKind, ProtectorKind, VolumeState};

use super::*;

const MIB: u64 = 1 << 20;

fn format(protectors: Vec<ProtectorOptions>) -> FormattedVolume {
    let options = VolumeOptions { protectors, ..VolumeOptions::default() };
    options.format(ntfs_plaintext(2 * MIN_VOLUME_BYTES as usize, 512, 1))
}

fn usual() -> Vec<ProtectorOptions> {
    vec![ProtectorOptions::Tpm(ProtectionType::TPM), ProtectorOptions::recovery_password()]
}

fn suspended() -> FormattedVolume {
    format([usual(), vec![ProtectorOptions::ClearKey]].concat())
}

fn clear_key(volume: &FormattedVolume) -> [u8; 32] {
    *Metadata::parse(&volume.metadata_region).unwrap().protectors()[2].clear_key().unwrap().expose()
}

/// The head of a disk with these volumes.
fn head_of(volumes: &[&[u8]]) -> CapturedHead {
    let (parts, size) = gpt_disk(volumes);
    let files = MemoryFiles::default().with("disk.vhdx", dynamic_vhdx(&parts, size));
    capture(&open_disk(&files, Path::new("disk.vhdx"), &ParentSearch::default()).unwrap()).unwrap()
}

fn pieces(archive: &[u8]) -> DiskHead {
    DiskHead::parse(archive).unwrap()
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

#[test]
fn a_bitlocker_volume_gives_everything_that_proves_a_key() {
    let volume = format(usual());
    let captured = head_of(&[&volume.image]);
    assert_eq!(captured.secret, None);
    let entry = &captured.entry;
    assert_eq!((entry.container, entry.scheme), (ContainerKind::Vhdx, PartitionScheme::Gpt));
    assert_eq!(entry.virtual_disk_id, Some(id(1).to_string()));
    assert_eq!(entry.gpt_disk_id, Some(id(999).to_string()));
    assert_eq!(entry.chain[0].name, "disk.vhdx");
    assert_eq!(entry.chain[0].data_write_guid, Some(id(200).to_string()));
    let [of_volume] = entry.volumes.as_slice() else { panic!("{:?}", entry.volumes) };
    assert_eq!((of_volume.offset_bytes, of_volume.encryption), (MIB, EncryptionKind::Bitlocker));
    assert_eq!(of_volume.partition_id, Some(id(1000).to_string()));
    assert_eq!(of_volume.fve_metadata, Some(Digest::of(&volume.metadata_region)));
    let bitlocker = of_volume.bitlocker.as_ref().unwrap();
    assert_eq!((bitlocker.state, bitlocker.metadata_copies_valid), (VolumeState::Encrypted, 3));
    let kinds: Vec<_> = bitlocker.protectors.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [ProtectorKind::Tpm, ProtectorKind::RecoveryPassword]);

    let head = pieces(&captured.head);
    assert_eq!(head.pieces.len(), 7, "{head:?}");
    let regions: Vec<_> = head.fve_metadata(MIB).collect();
    assert_eq!(regions.len(), 3);
    assert!(regions.iter().all(|(_, region)| *region == volume.metadata_region));
    assert_eq!(head.piece(&PieceName::VolumeHead { volume: MIB }).unwrap(), &volume.image[..HEAD_BYTES]);
    // With the volume key the kept sectors are recognised, and with another they are not.
    let relocated = PieceName::RelocatedSectors { volume: MIB, offset: volume.virtualized_block };
    let sectors = head.piece(&relocated).unwrap();
    let cipher = SectorCipher::new(&volume.volume_key, 512).unwrap();
    assert!(prove_boot_sectors(&cipher, volume.virtualized_block, &sectors[..8192]).is_ok());
    let other = VolumeOptions { seed: 2, ..VolumeOptions::default() };
    let other = other.format(ntfs_plaintext(MIN_VOLUME_BYTES as usize, 512, 1));
    let cipher = SectorCipher::new(&other.volume_key, 512).unwrap();
    assert!(prove_boot_sectors(&cipher, volume.virtualized_block, &sectors[..8192]).is_err());
    // Both copies of the partition table are there, header and all.
    let first = head.piece(&PieceName::PartitionTable { offset: 0 }).unwrap();
    assert_eq!(&first[512..520], b"EFI PART");
    let Some(Piece { bytes: last, .. }) = head.pieces.get(1) else { panic!("a second copy") };
    assert_eq!(&last[last.len() - 512..][..8], b"EFI PART");
}

#[test]
fn a_clear_key_is_for_escrow_alone() {
    let volume = suspended();
    let captured = head_of(&[&format(usual()).image, &volume.image]);
    let key = clear_key(&volume);
    assert!(!holds(&captured.head, &key));
    let secret = pieces(captured.secret.as_ref().unwrap());
    assert_eq!(secret.pieces.len(), 3, "{secret:?}");
    let start = captured.entry.volumes[1].offset_bytes;
    for (offset, region) in secret.fve_metadata(start) {
        assert!(volume.metadata_offsets.contains(&offset));
        assert_eq!(region, volume.metadata_region);
        assert!(Metadata::parse(region).unwrap().unlock(&Credential::ClearKey).is_ok());
    }
    let head = pieces(&captured.head);
    assert_eq!(head.fve_metadata(start).count(), 3);
    for (_, region) in head.fve_metadata(start) {
        let metadata = Metadata::parse(region).unwrap();
        assert!(metadata.has_clear_key() && metadata.unlock(&Credential::ClearKey).is_err());
    }
    // The digest is that of the whole region: it equals the disk's own.
    assert_eq!(captured.entry.volumes[1].fve_metadata, Some(Digest::of(&volume.metadata_region)));
    let state = captured.entry.volumes[1].bitlocker.as_ref().unwrap().state;
    assert_eq!(state, VolumeState::Suspended);
}

#[test]
fn a_damaged_region_counts_as_a_secret() {
    let mut volume = suspended();
    let key = clear_key(&volume);
    for (copies, shown) in [(1, 2), (3, 0)] {
        for offset in &volume.metadata_offsets[..copies] {
            // In the datums: the signature stays, the checksum does not fit.
            volume.image[*offset as usize + 130] ^= 0xff;
        }
        let captured = head_of(&[&volume.image]);
        assert!(!holds(&captured.head, &key));
        assert_eq!(pieces(&captured.head).fve_metadata(MIB).count(), shown);
        assert_eq!(pieces(captured.secret.as_ref().unwrap()).fve_metadata(MIB).count(), 3);
        for offset in &volume.metadata_offsets[..copies] {
            volume.image[*offset as usize + 130] ^= 0xff;
        }
    }
    // Nothing is left of a wiped region, so there is nothing to hide.
    let wiped = VolumeOptions {
        damage: vec![Damage::Copy(1, CopyDamage::Zeroed)],
        protectors: usual(),
        ..VolumeOptions::default()
    };
    let wiped = wiped.format(ntfs_plaintext(MIN_VOLUME_BYTES as usize, 512, 1));
    let captured = head_of(&[&wiped.image]);
    assert_eq!(captured.secret, None);
    assert_eq!(captured.entry.volumes[0].bitlocker.as_ref().unwrap().metadata_copies_valid, 2);
}

#[test]
fn metadata_inside_another_piece_is_hidden() {
    let mut pieces = Pieces::default();
    let mut bytes = vec![1; HEAD_BYTES];
    bytes[4096..4104].copy_from_slice(b"-FVE-FS-");
    let name = PieceName::VolumeHead { volume: 7 };
    pieces.take_plain(name.clone(), bytes.clone(), None);
    assert_eq!(pieces.secret, [Piece { name: name.clone(), bytes: bytes.clone() }]);
    bytes[4096..].fill(0);
    assert_eq!(pieces.shown, [Piece { name, bytes }]);

    // A region that sector 0 names, at an odd place inside the head.
    let mut pieces = Pieces::default();
    let capture = FveCapture {
        head: vec![2; HEAD_BYTES],
        regions: vec![lifeboat_disk::FveRegion {
            offset: 5000,
            status: lifeboat_fve::CopyStatus::Good,
            bytes: vec![3; 65536],
        }],
        relocated: Some((60_000, vec![4; 8192])),
        unreadable: Vec::new(),
    };
    pieces.take_bitlocker(0, capture);
    let shown: Vec<_> =
        pieces.shown.iter().map(|piece| piece.bytes.iter().filter(|&&byte| byte != 0).count()).collect();
    assert_eq!(shown, [5000, 0]);
    assert_eq!(pieces.secret.len(), 3);
}

#[test]
fn other_encryption_is_told_apart_and_plain_volumes_give_nothing() {
    let mut luks = vec![0x5a; MIB as usize];
    luks[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    let mut unknown = vec![0xa5; MIB as usize];
    unknown[0] = 1;
    let plain = ntfs_plaintext(MIB as usize, 512, 5);
    let captured = head_of(&[&luks, &unknown, &plain, &vec![0; MIB as usize]]);
    let kinds: Vec<_> = captured.entry.volumes.iter().map(|volume| volume.encryption).collect();
    assert_eq!(
        kinds,
        [EncryptionKind::Luks, EncryptionKind::Unknown, EncryptionKind::None, EncryptionKind::None]
    );
    let head = pieces(&captured.head);
    let volumes: Vec<_> = head.pieces.iter().filter_map(|piece| piece.name.volume()).collect();
    assert_eq!(volumes, [MIB, 2 * MIB]);
    assert_eq!(head.piece(&PieceName::VolumeHead { volume: MIB }).unwrap(), &luks[..HEAD_BYTES]);
    assert!(!holds(&captured.head, &plain[..512]));
}

#[test]
fn raw_disks_and_bare_volumes_have_heads_too() {
    let volume = format(usual());
    let files = MemoryFiles::default()
        .with_bytes("disk.raw", &flat(gpt_disk(&[&volume.image])))
        .with_bytes("volume.raw", &volume.image);
    let head =
        |path: &str| capture(&open_disk(&files, Path::new(path), &ParentSearch::default()).unwrap()).unwrap();
    let disk = head("disk.raw");
    assert_eq!((disk.entry.container, disk.entry.scheme), (ContainerKind::Raw, PartitionScheme::Gpt));
    assert_eq!(pieces(&disk.head).fve_metadata(MIB).count(), 3);
    let bare = head("volume.raw");
    assert_eq!(bare.entry.scheme, PartitionScheme::None);
    assert_eq!(pieces(&bare.head).fve_metadata(0).count(), 3);
    assert!(pieces(&bare.head).pieces.iter().all(|piece| piece.name.volume() == Some(0)));
}

/// Bytes that may be read for the head of a disk.
const MAX_HEAD_COST_BYTES: u64 = 4 << 20;

#[test]
#[allow(clippy::print_stdout, reason = "numbers that a person reads")]
fn the_head_of_a_2_tb_sparse_vhdx_is_cheap() {
    const DISK_BYTES: u64 = 2 << 40;
    let volume = suspended().image;
    let (parts, _) = gpt_disk(&[&volume]);
    let far = (0..2048).step_by(64).map(|gib| ((gib << 30) + (16 << 20), vec![3; 512]));
    let parts: Vec<_> = parts.into_iter().chain(far).collect();
    let images = MemoryFiles::default()
        .with("disk.vhdx", dynamic_vhdx(&parts, DISK_BYTES))
        .with("child.avhdx", differencing_vhdx(&[(1 << 40, vec![4; 512])], DISK_BYTES, 1, "disk.vhdx"));
    for path in ["disk.vhdx", "child.avhdx"] {
        let before = images.read_bytes();
        let disk = open_disk(&images, Path::new(path), &ParentSearch::default()).unwrap();
        let captured = capture(&disk).unwrap();
        let read = images.read_bytes() - before;
        println!("{path}: {read} bytes read");
        assert!(read < MAX_HEAD_COST_BYTES, "{read} bytes read");
        assert_eq!(captured.entry.virtual_size_bytes, DISK_BYTES);
        assert!(captured.secret.is_some());
    }
}

#[test]
fn a_disk_of_too_many_encrypted_volumes_is_kept_in_part_and_says_so() {
    let volume = format(usual());
    let many: Vec<&[u8]> = vec![volume.image.as_slice(); MAX_VOLUMES + 2];
    let captured = head_of(&many);
    assert_eq!(captured.entry.volumes.len(), MAX_VOLUMES + 2);
    let kept = captured.entry.volumes.iter().filter(|volume| volume.fve_metadata.is_some()).count();
    assert!(
        (1..=MAX_VOLUMES).contains(&kept) && captured.head.len() < MAX_PIECES_BYTES + (4 << 20),
        "{kept}"
    );
    let said = captured.left_out.unwrap();
    assert!(said.contains(&format!("of the last {} nothing is kept", MAX_VOLUMES + 2 - kept)), "{said}");
    assert_eq!(head_of(&[&volume.image]).left_out, None);
}
