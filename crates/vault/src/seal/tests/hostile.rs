//! Plaintexts that a recipient in league with the store could seal: everything the format does not allow.

use lifeboat_schema::Digest;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::super::frame::padding_zeros;
use super::super::member::{MAX_ENTRY_BYTES, entry_bytes, tar_header};
use super::*;

const NO_LIMIT: u64 = u64::MAX;

/// A change to an entry.
type Change<'a> = &'a dyn Fn(&mut [u8]);

/// A frame as the format wants it.
fn frame(content: &[u8]) -> Vec<u8> {
    frame_with(content, &[CParameter::ChecksumFlag(true)])
}

fn frame_with(content: &[u8], parameters: &[CParameter]) -> Vec<u8> {
    let mut compressor = Compressor::new(1).unwrap();
    for parameter in parameters {
        compressor.set_parameter(*parameter).unwrap();
    }
    compressor.compress(content).unwrap()
}

/// A frame of uncompressed blocks with any descriptor and whatever fields follow it.
fn stored_frame(descriptor: u8, fields: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = [&FRAME_MAGIC[..], &[descriptor], fields].concat();
    let mut blocks = content.chunks(128 * 1024).peekable();
    while let Some(block) = blocks.next() {
        let header = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        bytes.extend_from_slice(&header.to_le_bytes()[..3]);
        bytes.extend_from_slice(block);
    }
    // The checksum of the same content in any other frame.
    bytes.extend_from_slice(frame(content).last_chunk::<4>().unwrap());
    bytes
}

fn entry(content: &[u8]) -> Vec<u8> {
    let mut entry = tar_header(&Digest::of(content), content.len() as u64).to_vec();
    entry.extend_from_slice(content);
    entry.resize(entry_bytes(content.len()), 0);
    entry
}

fn padding(size: usize) -> Vec<u8> {
    padding_with(PADDING_MAGIC, padding_zeros(size as u64).unwrap() as usize)
}

fn padding_with(magic: [u8; 4], zeros: usize) -> Vec<u8> {
    let mut padding = [&magic[..], &(zeros as u32).to_le_bytes()].concat();
    padding.resize(padding.len() + zeros, 0);
    padding
}

/// Frames, the archive's end and the padding.
fn bundle(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut plaintext = frames.concat();
    plaintext.extend_from_slice(&frame(&[0; TAR_END_BYTES]));
    padded(plaintext)
}

fn padded(mut plaintext: Vec<u8>) -> Vec<u8> {
    plaintext.extend_from_slice(&padding(plaintext.len()));
    plaintext
}

fn walk_up_to(plaintext: &[u8], max_content_bytes: u64) -> Result<Vec<(MemberRef, Vec<u8>)>, SealError> {
    let mut members = Vec::new();
    Opener::new()?.walk_bundle(plaintext, max_content_bytes, |member, content| {
        members.push((member, content.to_vec()));
        Ok::<(), SealError>(())
    })?;
    Ok(members)
}

#[track_caller]
fn refused(plaintext: &[u8]) -> Corruption {
    match walk_up_to(plaintext, NO_LIMIT) {
        Err(SealError::Corrupt(corruption)) => corruption,
        Err(other) => panic!("{other}"),
        Ok(members) => panic!("{} members were accepted", members.len()),
    }
}

#[track_caller]
fn refused_frame(plaintext: &[u8]) -> FrameDefect {
    match refused(plaintext) {
        Corruption::Frame { defect, .. } => defect,
        other => panic!("{other}"),
    }
}

#[test]
fn what_we_build_here_is_a_bundle_where_nothing_is_wrong() {
    let contents = [&b"one"[..], b"", &[7; 5000], b"one"];
    let frames: Vec<_> = contents.iter().map(|content| frame(&entry(content))).collect();
    let members = walk_up_to(&bundle(&frames), 5006).unwrap();
    assert!(members.iter().map(|(_, content)| &content[..]).eq(contents));
    // Any zstd encoder will do, such as one that stores.
    let one = entry(b"one");
    let stored = stored_frame(0x64, &(one.len() as u16 - 256).to_le_bytes(), &one);
    assert_eq!(walk_up_to(&bundle(&[stored]), NO_LIMIT).unwrap()[0].1, b"one");
}

#[test]
fn frames_must_declare_size_and_checksum_and_use_nothing_else() {
    let one = entry(b"one");
    let checksum = CParameter::ChecksumFlag(true);
    let no_size = frame_with(&one, &[checksum, CParameter::ContentSizeFlag(false)]);
    assert_eq!(refused_frame(&bundle(&[no_size])), FrameDefect::NoContentSize);
    assert_eq!(refused_frame(&bundle(&[frame_with(&one, &[])])), FrameDefect::NoChecksum);
    let size = (one.len() as u32).to_le_bytes();
    // Descriptor: content size in 4 bytes, checksum; then bits that must not be there.
    for bit in [0x01, 0x02, 0x08, 0x10] {
        let plaintext = bundle(&[stored_frame(0xA4 | bit, &size, &one)]);
        assert_eq!(refused_frame(&plaintext), FrameDefect::Feature, "bit {bit:#x}");
    }
    // A window byte of 16 MiB; then the largest that there is.
    for (window, bytes) in [(14 << 3, 1 << 24), (0xFF, (1 << 41) / 8 * 15)] {
        let plaintext = bundle(&[stored_frame(0x84, &[&[window], &size[..]].concat(), &one)]);
        assert_eq!(refused_frame(&plaintext), FrameDefect::Window(bytes));
    }
    // 8 MiB exactly is allowed.
    let plaintext = bundle(&[stored_frame(0x84, &[&[13 << 3], &size[..]].concat(), &one)]);
    assert_eq!(walk_up_to(&plaintext, NO_LIMIT).unwrap()[0].1, b"one");
}

#[test]
fn sizes_that_lie_are_refused() {
    let one = entry(b"one");
    for lie in [one.len() - 512, one.len() + 512, 4096] {
        let plaintext = bundle(&[stored_frame(0xA4, &(lie as u32).to_le_bytes(), &one)]);
        assert_eq!(refused_frame(&plaintext), FrameDefect::Content, "{lie}");
    }
    let plaintext = bundle(&[stored_frame(0xA4, &1000u32.to_le_bytes(), &one)]);
    assert_eq!(refused_frame(&plaintext), FrameDefect::NotTar(1000));
    assert_eq!(refused_frame(&bundle(&[frame(&[])])), FrameDefect::NotTar(0));
    // Sizes that would not fit memory, and a checksum of something else.
    let plaintext = bundle(&[stored_frame(0x84 | 0x40, &[&[0], &u64::MAX.to_le_bytes()[..]].concat(), &one)]);
    assert_eq!(refused_frame(&plaintext), FrameDefect::ContentSize(u64::MAX));
    let mut wrong_sum = frame(&one);
    *wrong_sum.last_mut().unwrap() ^= 1;
    assert_eq!(refused_frame(&bundle(&[wrong_sum])), FrameDefect::Content);
}

#[test]
fn bombs_are_not_lit() {
    // One frame above the largest member.
    let bomb = frame(&vec![0; 16 << 20]);
    assert!(bomb.len() < 2000);
    assert_eq!(refused_frame(&bundle(&[bomb])), FrameDefect::ContentSize(16 << 20));
    let above = MAX_ENTRY_BYTES + TAR_BLOCK_BYTES;
    assert_eq!(refused_frame(&bundle(&[frame(&vec![0; above])])), FrameDefect::ContentSize(above as u64));
    // Many small frames of the largest size: the caller's sum stops them.
    let largest = frame(&entry(&vec![0; MAX_MEMBER_BYTES]));
    let plaintext = bundle(&vec![largest; 1000]);
    let limit = 3 * MAX_MEMBER_BYTES as u64;
    let mut visited = 0;
    let error = Opener::new()
        .unwrap()
        .walk_bundle(&plaintext, limit, |_, _| {
            visited += 1;
            Ok::<(), SealError>(())
        })
        .unwrap_err();
    assert!(
        matches!(error, SealError::Corrupt(Corruption::ExpansionLimit { max }) if max == limit),
        "{error}"
    );
    assert_eq!(visited, 3);
    // Small members, too, by a byte.
    let plaintext = bundle(&[frame(&entry(b"one"))]);
    assert!(walk_up_to(&plaintext, 3).is_ok());
    assert!(matches!(
        walk_up_to(&plaintext, 2),
        Err(SealError::Corrupt(Corruption::ExpansionLimit { max: 2 }))
    ));
}

#[test]
fn tar_headers_must_be_canonical() {
    let content = b"content";
    let good = entry(content);
    let refused_entry = |entry: &[u8]| refused(&bundle(&[frame(entry)]));
    // Every byte of the header counts.
    for position in 0..TAR_BLOCK_BYTES {
        let mut entry = good.clone();
        entry[position] ^= 1;
        let corruption = refused_entry(&entry);
        let named = matches!(corruption, Corruption::TarHeader { offset: 0 });
        assert!(named, "byte {position} of the header: {corruption}");
    }
    // With a sum that fits: another name, a GNU header, a pax header, a directory, a link, another mode.
    let with_sum = |change: Change<'_>| {
        let mut entry = good.clone();
        change(&mut entry);
        entry[148..156].fill(b' ');
        let sum: u32 = entry[..TAR_BLOCK_BYTES].iter().map(|b| u32::from(*b)).sum();
        entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        entry
    };
    for kind in *b"gxLK0152\0" {
        let entry = with_sum(&|entry| entry[156] = kind);
        if kind == b'0' {
            assert!(
                walk_up_to(&bundle(&[frame(&entry)]), NO_LIMIT).is_ok(),
                "the sum is made as it should be"
            );
        } else {
            assert_eq!(refused_entry(&entry), Corruption::TarHeader { offset: 0 }, "type {kind}");
        }
    }
    let changes: [Change<'_>; 6] = [
        &|entry| entry[257..265].copy_from_slice(b"ustar  \0"),
        &|entry| entry[100..107].copy_from_slice(b"0000777"),
        &|entry| entry[..9].copy_from_slice(b"../../etc"),
        &|entry| entry[..64].make_ascii_uppercase(),
        &|entry| entry[345..349].copy_from_slice(b"/etc"),
        &|entry| entry[124..136].copy_from_slice(b"0000000007 \0"),
    ];
    for (number, change) in changes.iter().enumerate() {
        assert_eq!(refused_entry(&with_sum(change)), Corruption::TarHeader { offset: 0 }, "change {number}");
    }
    let digest = Digest::of(b"other");
    let mut renamed = good.clone();
    renamed[..TAR_BLOCK_BYTES].copy_from_slice(&tar_header(&digest, content.len() as u64));
    let expected = Corruption::MemberDigest { offset: 0, have: Digest::of(content), expected: digest };
    assert_eq!(refused_entry(&renamed), expected);
    // A size of another block count, and a size beyond the largest member.
    for size in [0, 600, MAX_MEMBER_BYTES as u64 + 1, 0o77_777_777_777] {
        let mut resized = good.clone();
        resized[..TAR_BLOCK_BYTES].copy_from_slice(&tar_header(&Digest::of(content), size));
        assert_eq!(refused_entry(&resized), Corruption::TarHeader { offset: 0 }, "size {size}");
    }
    let mut dirty = good.clone();
    *dirty.last_mut().unwrap() = 1;
    assert_eq!(refused_entry(&dirty), Corruption::TarPadding { offset: 0 });
    // Two members in one frame; a member and the end.
    for second in [&good[..], &[0; TAR_END_BYTES]] {
        assert_eq!(refused_entry(&[&good[..], second].concat()), Corruption::TarHeader { offset: 0 });
    }
}

#[test]
fn the_end_and_the_padding_are_exactly_one_each() {
    let member = frame(&entry(b"one"));
    let end = frame(&[0; TAR_END_BYTES]);
    let whole = [&member[..], &end].concat();
    assert!(walk_up_to(&padded(whole.clone()), NO_LIMIT).is_ok());

    assert_eq!(refused(&padded(end.clone())), Corruption::NoMembers);
    assert_eq!(refused(&padded(member.clone())), Corruption::TarEndMissing { offset: member.len() as u64 });
    assert_eq!(refused(&member), Corruption::TarEndMissing { offset: member.len() as u64 });
    assert_eq!(refused(&[]), Corruption::TarEndMissing { offset: 0 });
    let offset = whole.len() as u64;
    let after_end = |bytes: &[u8]| refused(&[&whole[..], bytes].concat());
    assert_eq!(after_end(&[]), Corruption::PaddingMissing { offset });
    assert_eq!(after_end(&padding(whole.len())[..7]), Corruption::PaddingMissing { offset });
    assert_eq!(after_end(&member), Corruption::PaddingMissing { offset }, "a member after the end");
    assert_eq!(after_end(&end), Corruption::PaddingMissing { offset }, "a second end");

    let zeros = padding_zeros(offset).unwrap() as usize;
    for magic in [0x184D_2A51u32, 0x184D_2A5F] {
        assert_eq!(
            after_end(&padding_with(magic.to_le_bytes(), zeros)),
            Corruption::PaddingMissing { offset }
        );
    }
    for other in [0, zeros + 1, zeros + 4096] {
        assert!(
            matches!(after_end(&padding_with(PADDING_MAGIC, other)), Corruption::PaddingSize { .. }),
            "{other}"
        );
    }
    let right = padding_with(PADDING_MAGIC, zeros);
    let loose = [&right[..], b"x"].concat();
    assert_eq!(after_end(&loose), Corruption::TrailingBytes { have: 1 });
    let twice = [&right[..], &padding_with(PADDING_MAGIC, 0)].concat();
    assert_eq!(after_end(&twice), Corruption::TrailingBytes { have: 8 });
    assert_eq!(after_end(&right[..right.len() - 1]), Corruption::PaddingMissing { offset });
    let mut dirty = right.clone();
    *dirty.last_mut().unwrap() = 1;
    let last = offset + right.len() as u64 - 1;
    assert_eq!(after_end(&dirty), Corruption::PaddingNotZero { offset: last });
    // Padding before or between members, and an end that holds something.
    let early = [&padding_with(PADDING_MAGIC, 3)[..], &whole].concat();
    assert_eq!(refused(&padded(early)), Corruption::TarEndMissing { offset: 0 });
    let between = [&member[..], &padding_with(PADDING_MAGIC, 3), &whole].concat();
    assert_eq!(refused(&padded(between)), Corruption::TarEndMissing { offset: member.len() as u64 });
    for size in [512, 1536, 2048] {
        let plaintext = padded([&member[..], &frame(&vec![0; size])].concat());
        assert_eq!(
            refused(&plaintext),
            Corruption::TarHeader { offset: member.len() as u64 },
            "{size} zeros"
        );
    }
}

#[test]
fn no_flip_or_cut_of_a_plaintext_yields_other_contents() {
    let contents: [&[u8]; 3] = [b"one", &[7; 700], b"three, three"];
    let frames: Vec<_> = contents.iter().map(|content| frame(&entry(content))).collect();
    let plaintext = bundle(&frames);
    let (mut refused, mut equal) = (0, 0);
    for position in 0..plaintext.len() {
        for mask in [0x01, 0x04, 0x80, 0xFF] {
            let mut changed = plaintext.clone();
            changed[position] ^= mask;
            match walk_up_to(&changed, NO_LIMIT) {
                Err(SealError::Corrupt(_)) => refused += 1,
                Err(other) => panic!("byte {position}: {other}"),
                Ok(members) => {
                    assert!(members.iter().map(|(_, content)| &content[..]).eq(contents), "byte {position}");
                    equal += 1;
                }
            }
        }
        assert!(walk_up_to(&plaintext[..position], NO_LIMIT).is_err(), "cut to {position} bytes");
    }
    println!("{refused} flips refused, {equal} without effect on the contents");
    assert!(equal * 20 < refused, "{equal} of {refused} flips had no effect");
}

#[test]
fn a_member_alone_must_be_the_expected_one() {
    let one = frame(&entry(b"one"));
    let expected = MemberRef { digest: Digest::of(b"one"), size: 3, offset: 77, length: one.len() as u64 };
    let read = |frame: &[u8], expected: &MemberRef| {
        Opener::new().unwrap().read_member(frame, expected).map(<[u8]>::to_vec).map_err(|error| match error {
            SealError::Corrupt(corruption) => corruption,
            other => panic!("{other}"),
        })
    };
    assert_eq!(read(&one, &expected).unwrap(), b"one");
    let two = frame(&entry(b"two"));
    assert_eq!(two.len(), one.len());
    assert!(matches!(read(&two, &expected), Err(Corruption::MemberMismatch { .. })));
    for size in [2, 4, 513] {
        let lying = MemberRef { size, ..expected };
        assert!(matches!(read(&one, &lying), Err(Corruption::MemberMismatch { .. })), "{size}");
    }
    let length = |length| Corruption::Frame { offset: 77, defect: FrameDefect::Length(length) };
    let shorter = MemberRef { length: expected.length - 1, ..expected };
    assert_eq!(read(&one, &shorter), Err(length(expected.length)));
    let longer = [&one[..], &padding_with(PADDING_MAGIC, 0)].concat();
    let with_padding = MemberRef { length: longer.len() as u64, ..expected };
    assert_eq!(read(&longer, &with_padding), Err(length(expected.length)));
    // A large member under a small size costs no memory.
    let large = frame(&entry(&vec![0; MAX_MEMBER_BYTES]));
    let small = MemberRef { length: large.len() as u64, ..expected };
    let defect = FrameDefect::ContentSize(MAX_ENTRY_BYTES as u64);
    assert_eq!(read(&large, &small), Err(Corruption::Frame { offset: 77, defect }));
    // A size that no member can have is answered, not computed with.
    let absurd = MemberRef { size: u64::MAX, ..expected };
    assert!(matches!(read(&one, &absurd), Err(Corruption::MemberMismatch { .. })));
}

#[test]
fn bodies_are_one_frame_and_padding() {
    let json = br#"{"v":1,"kind":"snapshot"}"#;
    let read = |plaintext: &[u8], max| {
        Opener::new().unwrap().read_body(plaintext, max).map(|json| json.to_vec()).map_err(
            |error| match error {
                SealError::Corrupt(corruption) => corruption,
                other => panic!("{other}"),
            },
        )
    };
    let good = padded(frame(json));
    assert_eq!(read(&good, json.len() as u64).unwrap(), json);
    let defect = FrameDefect::ContentSize(json.len() as u64);
    assert_eq!(read(&good, json.len() as u64 - 1), Err(Corruption::Frame { offset: 0, defect }));
    let two = padded([frame(json), frame(json)].concat());
    assert!(matches!(read(&two, 1000), Err(Corruption::PaddingMissing { .. })));
    assert!(matches!(read(&frame(json), 1000), Err(Corruption::PaddingMissing { .. })));
    assert!(matches!(read(&[&good[..], b"{}"].concat(), 1000), Err(Corruption::TrailingBytes { have: 2 })));
    assert!(matches!(read(json, 1000), Err(Corruption::Frame { defect: FrameDefect::Magic, .. })));
    assert!(matches!(read(&[], 1000), Err(Corruption::Frame { defect: FrameDefect::Magic, .. })));
    // A bundle is no body, a body is no bundle.
    assert!(matches!(read(&bundle(&[frame(&entry(json))]), 10_000), Err(Corruption::PaddingMissing { .. })));
    assert_eq!(refused_frame(&good), FrameDefect::NotTar(json.len() as u64));
    // A large document is not in one segment: its window stays small.
    let (identities, recipients) = identity();
    let large: Vec<u8> = (0..12_000_000u32).map(|i| b"0123456789abcdef"[(i % 97 % 16) as usize]).collect();
    let object = sealer().seal_body(&recipients, &large).unwrap();
    let plaintext = open(&object, &identities).unwrap();
    assert!(read(&plaintext, large.len() as u64).unwrap() == large);
    for position in 0..good.len() {
        let mut changed = good.clone();
        changed[position] ^= 0x41;
        assert!(read(&changed, 1000).is_err(), "byte {position}");
        assert!(read(&good[..position], 1000).is_err(), "cut to {position} bytes");
    }
}
