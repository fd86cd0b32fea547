//! Disk heads: round trips, every truncation, every flipped byte, hostile names, and a stock `tar`.

use std::process::Command;

use lifeboat_disk_head::{DiskHead, Error, MAX_PIECE_BYTES, MAX_PIECES, Piece, PieceName};
use proptest::prelude::*;

fn piece(name: PieceName, bytes: &[u8]) -> Piece {
    Piece { name, bytes: bytes.to_vec() }
}

fn sample() -> DiskHead {
    let id = "2fa54224-cd1b-4876-b211-5dbed83bf4b8".to_owned();
    DiskHead {
        pieces: vec![
            piece(PieceName::PartitionTable { offset: 0 }, &[0x55; 700]),
            piece(PieceName::PartitionTable { offset: u64::MAX }, b"x"),
            piece(PieceName::MetadataItem { id }, &[]),
            piece(PieceName::VolumeHead { volume: 1 << 20 }, &[0; 600]),
            piece(PieceName::RelocatedSectors { volume: 1 << 20, offset: 9 }, &[7; 512]),
            piece(
                PieceName::FveMetadata { volume: 1 << 20, offset: 77 },
                &[b"-FVE-FS-".as_slice(), &[0; 65528]].concat(),
            ),
            piece(PieceName::Other("new/kind".into()), &[0, 0, 1, 0]),
        ],
    }
}

#[test]
fn pieces_come_back_with_their_zeros() {
    let archive = sample().encode().unwrap();
    assert_eq!(DiskHead::parse(&archive).unwrap(), sample());
    // A region of 64 KiB that is mostly zeros costs two blocks.
    assert!(archive.len() <= 15 * 512, "{}", archive.len());
    assert_eq!(DiskHead::parse(&DiskHead::default().encode().unwrap()), Ok(DiskHead::default()));
    let region = PieceName::FveMetadata { volume: 1 << 20, offset: 77 };
    assert_eq!(sample().piece(&region).unwrap().len(), 65536);
    assert_eq!(sample().fve_metadata(1 << 20).map(|(offset, _)| offset).collect::<Vec<_>>(), [77]);
    assert_eq!(region.disk_offset(), Some((1 << 20) + 77));
    assert_eq!(region.volume(), Some(1 << 20));
}

#[test]
fn every_truncation_and_every_flip_is_noticed() {
    let archive = sample().encode().unwrap();
    for length in 0..archive.len() {
        assert!(DiskHead::parse(&archive[..length]).is_err(), "{length}");
    }
    for at in 0..archive.len() {
        let mut flipped = archive.clone();
        flipped[at] ^= 1;
        // Contents have no checksum of their own: the vault's digests cover the archive.
        if let Ok(parsed) = DiskHead::parse(&flipped) {
            assert_ne!(parsed, sample(), "{at}");
        }
    }
    let longer = [archive.as_slice(), &[0]].concat();
    assert_eq!(DiskHead::parse(&longer), Err(Error::Trailing { count: 1 }));
}

#[test]
fn names_that_lead_elsewhere_or_twice_are_refused() {
    for name in ["../x", "/x", "a//b", "a/./b", "", "é", "a b", "partition-table@0", "volume@1/head@0"] {
        let head = DiskHead { pieces: vec![piece(PieceName::Other(name.into()), b"x")] };
        assert!(matches!(head.encode(), Err(Error::Name { .. })), "{name}");
    }
    let long = DiskHead { pieces: vec![piece(PieceName::Other("a".repeat(120)), b"x")] };
    assert!(matches!(long.encode(), Err(Error::Name { .. })));
    let bad_id = DiskHead { pieces: vec![piece(PieceName::MetadataItem { id: "x".into() }, b"x")] };
    assert!(matches!(bad_id.encode(), Err(Error::Name { .. })));
    let one = piece(PieceName::VolumeHead { volume: 1 }, b"x");
    let twice = DiskHead { pieces: vec![one.clone(), one] };
    assert!(matches!(twice.encode(), Err(Error::Duplicate { .. })));
    let large =
        DiskHead { pieces: vec![piece(PieceName::VolumeHead { volume: 1 }, &vec![1; MAX_PIECE_BYTES + 1])] };
    assert!(matches!(large.encode(), Err(Error::PieceTooLarge { .. })));
    let many = (0..=MAX_PIECES as u64).map(|volume| piece(PieceName::VolumeHead { volume }, b"x")).collect();
    assert!(matches!(DiskHead { pieces: many }.encode(), Err(Error::TooManyPieces { .. })));
}

#[test]
fn a_piece_is_not_printed() {
    assert_eq!(format!("{:?}", sample().pieces[4]), "volume@1048576/relocated@9+512");
}

#[test]
#[allow(clippy::print_stdout, reason = "says what was skipped")]
fn stock_tar_unpacks_it() {
    let folder = std::env::temp_dir().join(format!("lifeboat-disk-head-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("head.tar");
    std::fs::write(&path, sample().encode().unwrap()).unwrap();
    match Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(&folder).status() {
        Ok(status) if status.success() => {
            assert_eq!(std::fs::read(folder.join("volume@1048576/relocated@9+512")).unwrap(), [7; 512]);
            assert_eq!(
                std::fs::read(folder.join("volume@1048576/fve-metadata@77+65536")).unwrap(),
                b"-FVE-FS-"
            );
        }
        _ => println!("skipped: no tar"),
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

proptest! {
    #[test]
    fn any_pieces_come_back(pieces in proptest::collection::btree_map(
        (any::<u64>(), any::<u64>(), 0_u8..4), proptest::collection::vec(0_u8..3, 0..2000), 0..12)) {
        let pieces = pieces.into_iter().map(|((volume, offset, kind), bytes)| {
            let name = match kind {
                0 => PieceName::PartitionTable { offset },
                1 => PieceName::RelocatedSectors { volume, offset },
                2 => PieceName::FveMetadata { volume, offset },
                _ => PieceName::Other(format!("x{volume}/{offset}")),
            };
            (name.clone(), Piece { name, bytes })
        }).collect::<std::collections::BTreeMap<_, _>>();
        let head = DiskHead { pieces: pieces.into_values().collect() };
        prop_assert_eq!(DiskHead::parse(&head.encode().unwrap()).unwrap(), head);
    }

    #[test]
    fn any_bytes_are_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        if let Ok(head) = DiskHead::parse(&bytes) {
            prop_assert_eq!(head.encode().unwrap(), bytes);
        }
    }
}
