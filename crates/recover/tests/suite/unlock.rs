use lifeboat_disk::FveCapture;
use lifeboat_disk::fixtures::MemoryFiles;
use lifeboat_fve::fixtures::{
    CopyDamage, Damage, ProtectorOptions, VolumeOptions, WrittenSecret, ntfs_plaintext,
};
use lifeboat_fve::{Authentication, Credential, EncryptionMethod, ProtectionType, RecoveryPassword, Witness};
use lifeboat_recover::{
    CapturedMetadata, HandoverCard, KeyProof, LockedVolume, OpenFailure, Outcome, next_steps, open_together,
    open_volume, plan, read_back_text,
};
use lifeboat_schema::{RecoverPlan, WayKind, WayStanding};

use crate::fixture::{self, credential, from_files, locked, source};

const VOLUME_BYTES: usize = 1 << 20;

fn every_protector() -> VolumeOptions {
    VolumeOptions {
        protectors: vec![
            ProtectorOptions::Tpm(ProtectionType::TPM),
            ProtectorOptions::recovery_password(),
            ProtectorOptions::Password("Grüße".to_owned()),
            ProtectorOptions::ExternalKey,
            ProtectorOptions::PublicKey,
        ],
        ..VolumeOptions::default()
    }
}

fn plain(seed: u64) -> Vec<u8> {
    ntfs_plaintext(VOLUME_BYTES, 512, seed)
}

fn wiped(regions: &[&[u8]]) -> Vec<zeroize::Zeroizing<Vec<u8>>> {
    regions.iter().map(|region| region.to_vec().into()).collect()
}

fn wrong_password() -> Credential {
    Credential::RecoveryPassword(RecoveryPassword::from_recovery_key(&[3; 16]))
}

fn standing(plan: &RecoverPlan, way: WayKind) -> Option<WayStanding> {
    let ways = &plan.disks[0].volumes[0].ways;
    ways.iter().find(|one| one.way == way).map(|one| one.standing)
}

#[test]
fn every_key_is_proved_and_gives_every_other_secret_back() {
    let volume = every_protector().format(plain(1));
    let source = source(&volume.image);
    let locked = locked(&source);
    let mut opened_by = Vec::new();
    for (id, secret) in &volume.secrets {
        if matches!(secret, WrittenSecret::None) {
            continue;
        }
        let keys = [wrong_password(), credential(secret)];
        let opened = open_volume(&locked, &keys, &[], &[]).unwrap();
        assert_eq!(opened.protector, Some(*id));
        assert_eq!(opened.authentication, Some(Authentication::Authenticated));
        assert!(
            matches!(opened.proof, KeyProof::Data(proof) if matches!(proof.witness, Witness::BootSector(_)))
        );
        opened_by.extend(opened.opened_by);
        let (text, passwords, external_keys) = read_back_text(&locked, &opened);
        assert_eq!((passwords, external_keys), (1, 1));
        for (_, secret) in &volume.secrets {
            match secret {
                WrittenSecret::RecoveryPassword(password) => assert!(text.contains(password)),
                WrittenSecret::Bek(bytes) => {
                    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    assert!(text.contains(&hex));
                }
                _ => {}
            }
        }
    }
    assert_eq!(opened_by, ["recovery password", "password", "recovery key (BEK)"]);
}

#[test]
fn a_wrong_key_is_told_from_a_key_that_does_not_fit() {
    let volume = every_protector().format(plain(2));
    let source = source(&volume.image);
    let locked = locked(&source);
    let failure = open_volume(&locked, &[wrong_password()], &[], &[]).err().unwrap().to_string();
    assert!(failure.contains("wrong key") && failure.contains(&volume.secrets[1].0.to_string()), "{failure}");
    let failure = open_volume(&locked, &[Credential::ClearKey], &[], &[]).err().unwrap().to_string();
    assert!(failure.contains("no BitLocker protector that a clear key opens"), "{failure}");
    assert!(matches!(open_volume(&locked, &[], &[], &[]), Err(OpenFailure::NoKeys)));
    // Hardware encryption and FIPS are named, whatever the key.
    let options = VolumeOptions { method: EncryptionMethod::NONE, ..VolumeOptions::default() };
    let volume = options.format(plain(2));
    let hardware = crate::fixture::source(&volume.image);
    let failure = open_volume(&crate::fixture::locked(&hardware), &[wrong_password()], &[], &[]);
    assert!(failure.err().unwrap().to_string().contains("hardware"));
    let pbkdf2 = ProtectorOptions::RecoveryPassword { backup_info: false, pbkdf2: true };
    let volume = VolumeOptions { protectors: vec![pbkdf2], ..VolumeOptions::default() }.format(plain(2));
    let fips = crate::fixture::source(&volume.image);
    let failure = open_volume(&crate::fixture::locked(&fips), &[wrong_password()], &[], &[]);
    assert!(failure.err().unwrap().to_string().contains("FIPS"));
}

#[test]
fn a_key_of_another_time_opens_the_disk_through_its_metadata() {
    let first = VolumeOptions::default().format(plain(3));
    let second = first.next_generation(vec![ProtectorOptions::recovery_password()], 33, true);
    let (old_secret, new_secret) = (&first.secrets[0].1, &second.secrets[0].1);
    let source = source(&second.image);
    let locked = locked(&source);
    assert!(open_volume(&locked, &[credential(old_secret)], &[], &[]).is_err());
    let captured = CapturedMetadata {
        head: Vec::new(),
        regions: wiped(&[&[0; 4096], &second.metadata_region, &first.metadata_region]),
    };
    let generations = captured.generations();
    assert_eq!(generations.len(), 2);
    let opened = open_volume(&locked, &[credential(old_secret)], &[], &generations).unwrap();
    assert_eq!(opened.generation, Some(1));
    assert!(matches!(opened.proof, KeyProof::Data(_)));
    assert_eq!(open_volume(&locked, &[credential(new_secret)], &[], &generations).unwrap().generation, None);
    // Metadata of another volume opens with its own key, and proves nothing here.
    let other = VolumeOptions { seed: 77, ..VolumeOptions::default() }.format(plain(4));
    let other_metadata =
        CapturedMetadata { head: Vec::new(), regions: wiped(&[&other.metadata_region]) }.generations();
    let failure = open_volume(&locked, &[credential(&other.secrets[0].1)], &[], &other_metadata);
    assert!(failure.err().unwrap().to_string().contains("could not be proved on this disk"));
}

#[test]
fn captured_metadata_takes_the_place_of_destroyed_copies() {
    let whole = VolumeOptions::default().format(plain(5));
    let whole_source = source(&whole.image);
    let reader = whole_source.layout.volumes[0].reader(&whole_source.disk);
    let captured = CapturedMetadata::of(&FveCapture::read(&reader).unwrap());
    let copies = (0..3).map(|copy| Damage::Copy(copy, CopyDamage::Zeroed)).collect();
    let broken = VolumeOptions { damage: copies, ..VolumeOptions::default() }.format(plain(5));
    let source = source(&broken.image);
    let volume = &source.layout.volumes[0];
    assert!(LockedVolume::open(&source, 0, volume, None).is_err());
    let before = plan(std::slice::from_ref(&source), &[], &[]);
    assert_eq!(standing(&before, WayKind::CapturedMetadata), Some(WayStanding::NeedsSecret));
    let locked = LockedVolume::open(&source, 0, volume, Some(&captured)).unwrap();
    assert!(locked.uses_capture);
    let opened = fixture::opened(&locked, &whole);
    assert!(matches!(opened.proof, KeyProof::Data(_)));
}

#[test]
fn captured_metadata_counts_only_with_a_proof_on_this_disk() {
    let whole = VolumeOptions::default().format(plain(5));
    let copies = (0..3).map(|copy| Damage::Copy(copy, CopyDamage::Zeroed)).collect();
    let broken = VolumeOptions { damage: copies, ..VolumeOptions::default() }.format(plain(5));
    let other = VolumeOptions { seed: 77, ..VolumeOptions::default() }.format(plain(6));
    // Metadata of another volume, of the same place and size; and of one that is not encrypted any more.
    let decrypted = VolumeOptions {
        seed: 78,
        conversion: lifeboat_fve::fixtures::ConversionOptions::Decrypted,
        ..VolumeOptions::default()
    }
    .format(plain(7));
    let later = whole.next_generation(vec![ProtectorOptions::recovery_password()], 33, true);
    let source = source(&broken.image);
    let volume = &source.layout.volumes[0];
    let foreign: [&[u8]; 2] = [&decrypted.metadata_region, &other.metadata_region];
    for count in 1..=2 {
        let captured = CapturedMetadata { head: Vec::new(), regions: wiped(&foreign[..count]) };
        let locked = LockedVolume::open(&source, 0, volume, Some(&captured)).unwrap();
        for keys in [vec![], vec![credential(&other.secrets[0].1)], vec![credential(&whole.secrets[0].1)]] {
            let failure = open_volume(&locked, &keys, &[], &captured.generations());
            assert!(failure.is_err(), "{count} foreign, {} keys: opened", keys.len());
        }
    }
    // Among the foreign ones, and behind a later generation, the right one is found.
    let regions = wiped(&[foreign[0], foreign[1], &later.metadata_region, &whole.metadata_region]);
    let captured = CapturedMetadata { head: Vec::new(), regions };
    let locked = LockedVolume::open(&source, 0, volume, Some(&captured)).unwrap();
    for secret in [&whole.secrets[0].1, &later.secrets[0].1] {
        let opened = open_volume(&locked, &[credential(secret)], &[], &[]).unwrap();
        assert!(matches!(opened.proof, KeyProof::Data(_)));
        let (text, passwords, _) = read_back_text(&locked, &opened);
        let WrittenSecret::RecoveryPassword(password) = secret else { panic!("a recovery password") };
        assert!(passwords == 1 && text.contains(password), "the metadata that the key opened is read back");
        lifeboat_recover::PlainVolume::new(&locked, &opened).unwrap();
    }
}

#[test]
fn what_opens_one_disk_opens_the_others() {
    // The OS volume, and a data volume whose external key stands on a third one, which a password opens.
    let os = VolumeOptions { seed: 10, ..VolumeOptions::default() }.format(plain(10));
    let external = |seed| VolumeOptions {
        seed,
        protectors: vec![ProtectorOptions::ExternalKey],
        ..VolumeOptions::default()
    };
    let data = external(20).format(plain(20));
    // The same key on a volume that a password opens too: seeds make keys, places make them different.
    let sibling = VolumeOptions {
        seed: 20,
        protectors: vec![ProtectorOptions::ExternalKey, ProtectorOptions::recovery_password()],
        ..VolumeOptions::default()
    }
    .format(plain(21));
    let alone = external(40).format(plain(40));
    let files = MemoryFiles::default()
        .with_bytes("os.img", &os.image)
        .with_bytes("data.img", &data.image)
        .with_bytes("sibling.img", &sibling.image)
        .with_bytes("alone.img", &alone.image);
    let sources = ["os.img", "data.img", "sibling.img", "alone.img"].map(|path| from_files(&files, path));
    let locked: Vec<_> = sources
        .iter()
        .enumerate()
        .map(|(index, source)| LockedVolume::open(source, index, &source.layout.volumes[0], None).unwrap())
        .collect();
    let keys = [credential(&os.secrets[0].1), credential(&sibling.secrets[1].1)];
    let opened = open_together(&locked, &keys, &[], &[]);
    let from: Vec<_> =
        opened.iter().map(|one| (one.result.is_ok(), one.key_from.map(|place| place.disk))).collect();
    assert_eq!(from, [(true, None), (true, Some(2)), (true, None), (false, None)]);
    let plan = plan(&sources, &locked, &opened);
    let way = |disk: usize, kind: WayKind| {
        plan.disks[disk].volumes[0].ways.iter().find(|one| one.way == kind).unwrap()
    };
    assert_eq!(way(0, WayKind::RecoveryPassword).standing, WayStanding::Open);
    assert_eq!(way(1, WayKind::ExternalKey).standing, WayStanding::Open);
    assert!(way(1, WayKind::ExternalKey).why.contains("disk 3"), "{}", way(1, WayKind::ExternalKey).why);
    assert_eq!(way(3, WayKind::ExternalKey).standing, WayStanding::NeedsSecret);
    // A volume that only auto-unlock opens is said so.
    let statements = &plan.disks[3].volumes[0].statements;
    assert!(statements.iter().any(|one| one.text.contains("auto-unlock")), "{statements:?}");
    assert!(!plan.disks[1].volumes[0].statements.iter().any(|one| one.text.contains("auto-unlock")));
}

#[test]
fn the_plan_says_which_ways_are_open() {
    let mut options = every_protector();
    let volume = options.format(plain(6));
    let source = source(&volume.image);
    let locked = [locked(&source)];
    let before = plan(std::slice::from_ref(&source), &locked, &[]);
    for (way, expected) in [
        (WayKind::RestoreWithVtpm, WayStanding::UnknownHere),
        (WayKind::RecoveryPassword, WayStanding::NeedsSecret),
        (WayKind::ExternalKey, WayStanding::NeedsSecret),
        (WayKind::EncryptedExternalKey, WayStanding::Closed),
        (WayKind::ClearKey, WayStanding::Closed),
        (WayKind::Password, WayStanding::NeedsSecret),
        (WayKind::Tpm, WayStanding::Closed),
        (WayKind::PublicKey, WayStanding::Closed),
    ] {
        assert_eq!(standing(&before, way), Some(expected), "{way:?}");
    }
    assert!(before.disks[0].volumes[0].ways.iter().all(|way| !way.why.is_empty()));
    // Nothing at hand: the card has every id and every query.
    let card = HandoverCard::new(&[&locked[0]]);
    let recovery = volume.secrets[1].0.to_string();
    assert!(card.text().contains(&recovery) && card.html().contains(&recovery));
    assert!(card.text().contains(&format!("{}.BEK", volume.secrets[3].0.to_string().to_uppercase())));
    // The steps seal to the new vTPM and retire the password that was used.
    let metadata = locked[0].fve().metadata();
    let steps = next_steps(&Outcome::KeyProved, metadata, Some(volume.secrets[1].0));
    let script = steps.powershell.unwrap();
    let add = script.find("-add $drive -recoverypassword").unwrap();
    assert!(add < script.find("-delete $drive -type tpm").unwrap());
    assert!(script.contains(&recovery.to_uppercase()));
    // Suspended: open to anyone.
    options.protectors.push(ProtectorOptions::ClearKey);
    let suspended = options.format(plain(6));
    let suspended_source = crate::fixture::source(&suspended.image);
    let suspended_locked = [crate::fixture::locked(&suspended_source)];
    let open = plan(std::slice::from_ref(&suspended_source), &suspended_locked, &[]);
    assert_eq!(standing(&open, WayKind::ClearKey), Some(WayStanding::Open));
}
