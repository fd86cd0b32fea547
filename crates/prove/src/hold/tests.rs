use lifeboat_disk_head::{DiskHead, Piece, PieceName};
use lifeboat_fve::VolumeFormat;
use lifeboat_fve::fixtures::{
    FormattedVolume, PreparedPassword, ProtectorOptions, VolumeOptions, WrittenSecret, ntfs_plaintext,
};

use super::*;

const VOLUME_BYTES: usize = 1 << 20;
const HEAD_BYTES: usize = 16 << 10;
const START: u64 = 1 << 20;

fn volume(protectors: Vec<ProtectorOptions>) -> FormattedVolume {
    let options = VolumeOptions { protectors, id_seed: Some(7), ..VolumeOptions::default() };
    options.format(ntfs_plaintext(VOLUME_BYTES, 512, 5))
}

fn password(seed: u64) -> ProtectorOptions {
    ProtectorOptions::PreparedPassword(PreparedPassword::new(seed))
}

/// What a host captures of a volume.
fn head(volume: &FormattedVolume) -> DiskHead {
    let piece = |name, bytes: &[u8]| Piece { name, bytes: bytes.to_vec() };
    let block = volume.virtualized_block as usize;
    DiskHead {
        pieces: vec![
            piece(PieceName::VolumeHead { volume: START }, &volume.image[..HEAD_BYTES]),
            piece(
                PieceName::RelocatedSectors { volume: START, offset: block as u64 },
                &volume.image[block..block + 8192],
            ),
            piece(
                PieceName::FveMetadata { volume: START, offset: volume.metadata_offsets[0] },
                &volume.metadata_region,
            ),
        ],
    }
}

fn captured(volume: &FormattedVolume) -> Captured {
    let digest = Digest::of(&volume.metadata_region);
    Captured::new(&[head(volume)], START, VOLUME_BYTES as u64, &digest).unwrap()
}

fn key(volume: &FormattedVolume, index: usize) -> HeldKey {
    let (id, secret) = &volume.secrets[index];
    match secret {
        WrittenSecret::RecoveryPassword(digits) => {
            HeldKey::parse(SecretKind::RecoveryPassword, Some(*id), digits.as_bytes()).unwrap()
        }
        WrittenSecret::Bek(file) => HeldKey::parse(SecretKind::RecoveryKey, None, file).unwrap(),
        _ => panic!("no recovery secret"),
    }
}

fn without_id(key: HeldKey) -> HeldKey {
    HeldKey { protector: None, ..key }
}

fn wrong(protector: Guid, number: u8) -> HeldKey {
    let digits = RecoveryPassword::from_recovery_key(&[number; 16]).expose();
    HeldKey::parse(SecretKind::RecoveryPassword, Some(protector), digits.as_bytes()).unwrap()
}

/// Every key on its BitLocker protector in every generation.
fn all_pairs(generations: &[Captured], keys: &[&HeldKey]) -> Question {
    let pairs = (0..generations.len()).flat_map(|generation| {
        let named = keys.iter().enumerate().filter_map(|(key, held)| Some((key, held.protector?)));
        named.map(move |(key, protector)| Pair { generation, key, protector })
    });
    Question { pairs: pairs.collect(), ..Question::default() }
}

fn outcomes(answer: &Answer, generation: usize, keys: usize) -> Vec<Option<ProofOutcome>> {
    let of =
        |key| answer.outcomes.iter().find(|one| one.pair.generation == generation && one.pair.key == key);
    (0..keys).map(|key| of(key).map(|one| one.outcome)).collect()
}

use ProofOutcome::{Data, Key, Refused, Unusable};

#[test]
fn one_stretch_settles_every_recovery_password_and_key_of_a_volume() {
    let disk =
        volume(vec![ProtectorOptions::Tpm(ProtectionType::TPM), password(1), password(2), password(3)]);
    let keys = [
        key(&disk, 1),
        key(&disk, 2),
        key(&disk, 3),
        wrong(disk.secrets[2].0, 9),
        wrong(disk.secrets[0].0, 8),
    ];
    let keys: Vec<&HeldKey> = keys.iter().collect();
    let generations = [captured(&disk)];
    let answer = hold(&generations, &keys, &all_pairs(&generations, &keys));
    assert_eq!(
        outcomes(&answer, 0, 5),
        [Some(Data), Some(Data), Some(Data), Some(Refused), Some(Refused)],
        "a password is none of a TPM"
    );
    assert_eq!(answer.stretches, 1);
}

#[test]
fn what_needs_no_stretch_comes_first() {
    let disk = volume(vec![password(1), ProtectorOptions::ExternalKey]);
    let keys = [key(&disk, 0), key(&disk, 1)];
    let keys: Vec<&HeldKey> = keys.iter().collect();
    let generations = [captured(&disk)];
    let answer = hold(&generations, &keys, &all_pairs(&generations, &keys));
    assert_eq!((outcomes(&answer, 0, 2), answer.stretches), (vec![Some(Data); 2], 0));
    let suspended = volume(vec![password(1), ProtectorOptions::ClearKey]);
    let keys = [key(&suspended, 0), wrong(suspended.secrets[0].0, 3)];
    let keys: Vec<&HeldKey> = keys.iter().collect();
    let generations = [captured(&suspended)];
    let answer = hold(&generations, &keys, &all_pairs(&generations, &keys));
    assert_eq!((outcomes(&answer, 0, 2), answer.stretches), (vec![Some(Data), Some(Refused)], 0));
}

#[test]
fn generations_of_one_volume_share_what_opens_them() {
    let tpm = || ProtectorOptions::Tpm(ProtectionType::TPM);
    let first = volume(vec![tpm(), password(1), password(2)]);
    // The second password is gone, and the first is as it was; then a new volume master key, too.
    let second = first.next_generation(vec![tpm(), password(1)], 1, false);
    let third = first.next_generation(vec![tpm(), password(1)], 3, true);
    let keys = [key(&first, 1), key(&first, 2)];
    let keys: Vec<&HeldKey> = keys.iter().collect();
    let generations = [captured(&second), captured(&first)];
    let answer = hold(&generations, &keys, &all_pairs(&generations, &keys));
    assert_eq!(outcomes(&answer, 0, 2), [Some(Data), Some(Data)], "a stale password opens it all the same");
    assert_eq!(outcomes(&answer, 1, 2), [Some(Data), Some(Data)]);
    assert_eq!(answer.stretches, 1);

    let generations = [captured(&third), captured(&first)];
    let answer = hold(&generations, &keys, &all_pairs(&generations, &keys));
    assert_eq!(outcomes(&answer, 0, 2), [Some(Data), Some(Data)], "the volume key is the same");
    assert_eq!(answer.stretches, 2);

    // Another volume key under the same ids: what fitted once is of no use any more.
    let options = VolumeOptions {
        protectors: vec![tpm(), password(4)],
        id_seed: Some(7),
        seed: 99,
        ..VolumeOptions::default()
    };
    let renewed = options.format(ntfs_plaintext(VOLUME_BYTES, 512, 5));
    let generations = [captured(&renewed), captured(&first)];
    let answer = hold(&generations, &keys, &all_pairs(&generations, &keys));
    assert_eq!(outcomes(&answer, 0, 2), [Some(Refused), Some(Refused)]);
    assert_eq!(outcomes(&answer, 1, 2), [Some(Data), Some(Data)]);
}

#[test]
fn an_earlier_proof_spares_the_stretch_for_an_older_generation() {
    let first = volume(vec![ProtectorOptions::Tpm(ProtectionType::TPM), password(1), password(2)]);
    let second =
        first.next_generation(vec![ProtectorOptions::Tpm(ProtectionType::TPM), password(1)], 1, false);
    let keys = [key(&first, 1), key(&first, 2)];
    let keys: Vec<&HeldKey> = keys.iter().collect();
    let generations = [captured(&second), captured(&first)];
    let mut question = all_pairs(&generations, &keys);
    let old: Vec<Pair> = question.pairs.extract_if(.., |pair| pair.generation == 1).collect();
    question.known = old.into_iter().map(|pair| (pair, Data)).collect();
    let answer = hold(&generations, &keys, &question);
    assert_eq!(outcomes(&answer, 0, 2), [Some(Data), Some(Data)]);
    assert_eq!((answer.outcomes.len(), answer.stretches), (2, 1));
}

#[test]
fn without_captured_sectors_a_secret_is_proved_on_the_key() {
    let disk = volume(vec![password(1)]);
    let mut head = head(&disk);
    head.pieces.retain(|piece| matches!(piece.name, PieceName::FveMetadata { .. }));
    let digest = Digest::of(&disk.metadata_region);
    let generations = [Captured::new(&[head], START, VOLUME_BYTES as u64, &digest).unwrap()];
    let held = key(&disk, 0);
    let answer = hold(&generations, &[&held], &all_pairs(&generations, &[&held]));
    assert_eq!(outcomes(&answer, 0, 1), [Some(Key)]);
    assert!(Captured::new(&[DiskHead::default()], START, VOLUME_BYTES as u64, &digest).is_err());
}

#[test]
fn altered_metadata_is_not_believed_about_other_secrets() {
    let options = VolumeOptions {
        protectors: vec![password(1), password(2)],
        wrong_validation_hash: true,
        ..VolumeOptions::default()
    };
    let disk = options.format(ntfs_plaintext(VOLUME_BYTES, 512, 5));
    let keys = [key(&disk, 0), key(&disk, 1)];
    let keys: Vec<&HeldKey> = keys.iter().collect();
    let generations = [captured(&disk)];
    let answer = hold(&generations, &keys, &all_pairs(&generations, &keys));
    assert_eq!((outcomes(&answer, 0, 2), answer.stretches), (vec![Some(Data); 2], 2));
}

#[test]
fn what_cannot_be_tried_is_no_refusal() {
    let disk = volume(vec![ProtectorOptions::RecoveryPassword { backup_info: false, pbkdf2: true }]);
    let held = key(&disk, 0);
    let generations = [captured(&disk)];
    let answer = hold(&generations, &[&held], &all_pairs(&generations, &[&held]));
    assert_eq!((outcomes(&answer, 0, 1), answer.stretches), (vec![Some(Unusable)], 0));
}

#[test]
fn passwords_without_an_id_find_their_volume() {
    let disk = volume(vec![password(1), password(2), password(3)]);
    let generations = [captured(&disk)];
    let keys = [key(&disk, 0), without_id(key(&disk, 1)), without_id(wrong(Guid([1; 16]), 5))];
    let keys: Vec<&HeldKey> = keys.iter().collect();
    let mut question = all_pairs(&generations, &keys);
    question.guesses = vec![(0, 1), (0, 2)];
    let answer = hold(&generations, &keys, &question);
    let of = |key| -> Vec<_> {
        let mine = answer.outcomes.iter().filter(|one| one.pair.key == key);
        mine.map(|one| (one.pair.protector, one.outcome)).collect()
    };
    assert_eq!(of(1), [(disk.secrets[1].0, Data)]);
    assert_eq!(of(2), [0, 1, 2].map(|index| (disk.secrets[index].0, Refused)));
    assert_eq!(answer.stretches, 1);

    // Alone they cost a stretch for each BitLocker protector, until one opens.
    let alone = [without_id(key(&disk, 1))];
    let alone: Vec<&HeldKey> = alone.iter().collect();
    let question = Question { guesses: vec![(0, 0)], ..Question::default() };
    let answer = hold(&generations, &alone, &question);
    assert_eq!((answer.outcomes.len(), answer.outcomes[0].outcome, answer.stretches), (1, Data, 2));
}

#[test]
fn a_key_package_is_proved_with_its_recovery_password() {
    const INFORMATION_HEADER_BYTES: usize = 64;
    let disk = volume(vec![password(1)]);
    let size = u32::from_le_bytes(disk.metadata_region[64..68].try_into().unwrap()) as usize;
    let package = &disk.metadata_region[INFORMATION_HEADER_BYTES..][..size];
    let id = disk.secrets[0].0;
    let package = HeldKey::parse(SecretKind::KeyPackage, Some(id), package).unwrap();
    let right = key(&disk, 0);
    let generations = [captured(&disk)];
    let keys = [&package, &right];
    let answer = hold(&generations, &keys, &all_pairs(&generations, &keys));
    assert_eq!(outcomes(&answer, 0, 2), [Some(Data), Some(Data)]);
    // Without its password nothing is said of it, so that it is tried when that is there.
    let alone = hold(&generations, &[&package], &all_pairs(&generations, &[&package]));
    assert!(alone.outcomes.is_empty());
}

#[test]
fn everything_else_is_read_back_with_any_one_key() {
    let disk = volume(vec![password(1), ProtectorOptions::ExternalKey, password(2)]);
    let later = disk.next_generation(vec![password(1), ProtectorOptions::ExternalKey, password(2)], 4, true);
    let generations = [captured(&later), captured(&disk)];
    let given = key(&disk, 1);
    let (read, stretches) = Bench::new(&generations, &[&given]).read_back();
    // The newer generation has another key for the same BitLocker protector.
    assert_eq!((read.len(), read[0].0, stretches), (1, 1, 0));
    let passwords: Vec<String> = read[0]
        .1
        .iter()
        .filter_map(|entry| match &entry.outcome {
            Ok(ReadBackSecret::RecoveryPassword(kept)) => Some(kept.expose().to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(passwords, [PreparedPassword::new(1).digits(), PreparedPassword::new(2).digits()]);
}

#[test]
fn volumes_of_every_layout_are_proved_on_data() {
    for (format, sector_size) in
        [(VolumeFormat::Standard, 512), (VolumeFormat::Standard, 4096), (VolumeFormat::ToGo, 512)]
    {
        let options = VolumeOptions {
            format,
            sector_size,
            protectors: vec![ProtectorOptions::ExternalKey],
            ..VolumeOptions::default()
        };
        let disk = options.format(ntfs_plaintext(VOLUME_BYTES, sector_size, 5));
        let held = key(&disk, 0);
        let generations = [captured(&disk)];
        let answer = hold(&generations, &[&held], &all_pairs(&generations, &[&held]));
        assert_eq!(outcomes(&answer, 0, 1), [Some(Data)], "{format:?} {sector_size}");
    }
}
