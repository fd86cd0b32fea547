use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lifeboat_engine::source::{HostSource as _, SourceError};
use lifeboat_schema::{PART_BYTES, Pairing};

use super::super::{DirectoryOptions, DirectorySource, Step};
use super::fixture::*;

/// A source that calls `change` at the first `times` occurrences of `step` at a file whose path ends like that.
fn disturbed(
    host: &Host,
    options: DirectoryOptions,
    step: Step,
    end: &'static str,
    times: usize,
    change: impl Fn() + Send + Sync + 'static,
) -> DirectorySource {
    let mut source = host.source_with(options);
    let left = AtomicUsize::new(times);
    source.hook = Some(Box::new(move |at, path| {
        let is_it = at == step && path.to_string_lossy().ends_with(end);
        if is_it && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            change();
        }
    }));
    source
}

fn web() -> (Host, PathBuf) {
    let host = Host::new();
    host.add_vm("web/", WEB, "web").add_checkpoint("web/", BEFORE_UPDATE, "before", WEB);
    let state = host.path(&format!("web/Virtual Machines/{WEB}.vmrs"));
    (host, state)
}

#[test]
fn every_file_arrives_byte_by_byte() {
    let (host, _) = web();
    let (record, sink) = host.capture();
    let record = record.unwrap();
    check_exact(&sink, &host.only());
    assert_eq!((sink.begun, sink.name.as_str()), (1, "web"));
    assert_eq!(record.pairing, Pairing::CapturedTogether);
}

#[test]
fn a_dirty_file_is_whole() {
    let (host, state) = web();
    fs::write(&state, encode_dirty(&vmrs(&key_protector(), &[5; 6000]), 3)).unwrap();
    let (record, sink) = host.capture();
    let record = record.unwrap();
    check_exact(&sink, &host.only());
    assert_eq!(record.vtpm.unwrap().size, 6000, "read through the log");
    assert_eq!(record.remarks.len(), 1, "{:?}", record.remarks);
    assert!(
        record.remarks[0]
            .starts_with(&format!("Virtual Machines/{WEB}.vmrs was not closed properly: 3 entries"))
    );
}

#[test]
fn damage_that_stays_is_named_after_three_equal_attempts() {
    let (host, state) = web();
    let whole = fs::read(&state).unwrap();
    let check = |bytes: &[u8], text: &str| {
        fs::write(&state, bytes).unwrap();
        let (error, sink) = host.capture();
        let error = error.unwrap_err();
        assert!(
            matches!(&error, SourceError::Damaged { place, what } if place.ends_with(".vmrs") && what.contains(text)),
            "{error}"
        );
        assert_eq!(sink.begun, 0, "nothing was handed over");
    };
    check(&whole[..whole.len() / 2], "");
    check(&[], "the file has 0");
    let mut flipped = whole.clone();
    flipped[0x2010] ^= 1;
    check(&flipped, "object table");
    // Too few attempts to tell.
    let source = host.source_with(DirectoryOptions { attempts: 2, ..quick() });
    let error = source.capture(&host.only(), &mut Sink::default()).unwrap_err();
    assert!(matches!(error, SourceError::Torn { attempts: 2, .. }), "{error}");
}

#[test]
fn every_truncation_of_a_state_is_noticed_or_harmless() {
    let (host, state) = web();
    let whole = fs::read(&state).unwrap();
    let source = host.source_with(DirectoryOptions { attempts: 1, ..quick() });
    let mut whole_copies = 0;
    for bytes in (0..whole.len()).step_by(997) {
        fs::write(&state, &whole[..bytes]).unwrap();
        let mut sink = Sink::default();
        if source.capture(&host.only(), &mut sink).is_ok() {
            // Only unused room at the end of the log was cut.
            assert_eq!(sink.file(".vmrs").bytes, whole[..bytes]);
            assert!(whole[bytes..].iter().all(|&byte| byte == 0), "{bytes}");
            whole_copies += 1;
        }
    }
    assert!(whole_copies < 6, "{whole_copies}");
}

#[test]
fn a_spared_header_copy_is_accepted_once_it_is_certain() {
    let (host, state) = web();
    let mut bytes = fs::read(&state).unwrap();
    bytes[0x1008] ^= 1;
    fs::write(&state, &bytes).unwrap();
    let (record, sink) = host.capture();
    let remarks = record.unwrap().remarks;
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(
        remarks[0].contains("lies damaged on disk") && remarks[0].contains("header copy 1"),
        "{remarks:?}"
    );
    check_exact(&sink, &host.only());
    let source = host.source_with(DirectoryOptions { attempts: 2, ..quick() });
    let error = source.capture(&host.only(), &mut Sink::default()).unwrap_err();
    assert!(matches!(error, SourceError::Torn { .. }), "{error}");
}

#[test]
fn another_format_version_is_kept_as_it_is() {
    let (host, state) = web();
    let mut bytes = fs::read(&state).unwrap();
    for copy in [0, 0x1000] {
        bytes[copy + 10..copy + 14].copy_from_slice(&0x0500_u32.to_le_bytes());
        bytes[copy + 4..copy + 8].fill(0);
        let sum = crc32fast::hash(&bytes[copy..copy + 46]);
        bytes[copy + 4..copy + 8].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&state, &bytes).unwrap();
    let (record, sink) = host.capture();
    let record = record.unwrap();
    check_exact(&sink, &host.only());
    assert!(
        record.remarks[0].contains("container format 5.0, which is not understood"),
        "{:?}",
        record.remarks
    );
    assert_eq!(record.pairing, Pairing::None);
}

#[test]
fn a_change_during_the_read_is_read_again() {
    for end in [".vmcx", ".vmrs", ".vmgs"] {
        let (host, _) = web();
        let vm = host.only();
        let path = vm.files.iter().find(|file| file.path.ends_with(end)).unwrap().location.clone();
        let bytes = fs::read(&path).unwrap();
        let source = disturbed(&host, quick(), Step::Held, end, 2, move || fs::write(&path, &bytes).unwrap());
        let mut sink = Sink::default();
        source.capture(&vm, &mut sink).unwrap();
        assert_eq!(sink.begun, 1, "{end}");
        check_exact(&sink, &host.only());
    }
}

#[test]
fn a_file_that_never_rests_is_torn() {
    let (host, state) = web();
    let rests = {
        let state = state.clone();
        move || {
            let mut file = OpenOptions::new().append(true).open(&state).unwrap();
            file.write_all(&[0]).unwrap();
        }
    };
    let options = DirectoryOptions { attempts: 4, ..quick() };
    let source = disturbed(&host, options, Step::Held, ".vmrs", usize::MAX, rests);
    let mut sink = Sink::default();
    let error = source.capture(&host.only(), &mut sink).unwrap_err();
    let SourceError::Torn { place, what, attempts: 4 } = &error else { panic!("{error}") };
    assert_eq!(*place, state.display().to_string());
    assert!(what.contains("and now has"), "{what}");
    assert_eq!(sink.begun, 0);
}

#[test]
fn a_replaced_file_is_read_again() {
    let (host, state) = web();
    let new = encode(&vmrs(&key_protector(), &[9; 9000]));
    let next = host.path("next");
    let size = fs::metadata(&state).unwrap().len();
    assert_eq!(new.len() as u64, size, "only its number tells");
    let path = state.clone();
    let bytes = new.clone();
    let source = disturbed(&host, quick(), Step::Opened, ".vmrs", 1, move || {
        fs::write(&next, &bytes).unwrap();
        fs::rename(&next, &path).unwrap();
    });
    let mut sink = Sink::default();
    source.capture(&host.only(), &mut sink).unwrap();
    assert!(sink.file(&format!("{WEB}.vmrs")).bytes == new);
}

#[test]
fn a_file_that_vanishes_is_torn() {
    let (host, state) = web();
    let vm = host.only();
    fs::remove_file(&state).unwrap();
    let error = host.source().capture(&vm, &mut Sink::default()).unwrap_err();
    assert!(matches!(&error, SourceError::Torn { what, .. } if what.contains("vanished")), "{error}");
    fs::create_dir(&state).unwrap();
    let error = host.source().capture(&vm, &mut Sink::default()).unwrap_err();
    assert!(matches!(&error, SourceError::Unreadable { place, .. } if place.ends_with(".vmrs")), "{error}");
}

#[cfg(unix)]
#[test]
fn what_became_a_link_or_a_pipe_is_not_read() {
    let (host, state) = web();
    let vm = host.only();
    fs::rename(&state, host.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(host.path("elsewhere"), &state).unwrap();
    let error = host.source().capture(&vm, &mut Sink::default()).unwrap_err();
    assert!(matches!(error, SourceError::Unreadable { .. }), "{error}");
    fs::remove_file(&state).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &state,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let error = host.source().capture(&vm, &mut Sink::default()).unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
}

#[test]
fn a_large_state_is_streamed_in_little_memory() {
    let (host, state) = web();
    let vtpm = vec![3; 9 << 20];
    let mut file = File::create(&state).unwrap();
    file.write_all(&encode(&vmrs(&key_protector(), &vtpm))).unwrap();
    // Sparse saved memory.
    file.set_len((70 << 20) + 5).unwrap();
    drop(file);
    let source = host.source();
    let mut sink = Sink::default();
    let record = source.capture(&host.only(), &mut sink).unwrap();
    check_exact(&sink, &host.only());
    assert_eq!(record.vtpm.unwrap().digest, lifeboat_schema::Digest::of(&vtpm));
    assert_eq!(record.pairing, Pairing::CapturedTogether);
    assert!(sink.owner_guardian.is_some());
    let buffers = source.buffers.lock().unwrap();
    let bytes: usize = buffers.iter().map(|buffers| buffers.held.capacity() + buffers.part.capacity()).sum();
    assert!(bytes as u64 <= 2 * PART_BYTES, "{bytes}");
}

#[test]
fn many_files_share_the_memory() {
    let host = Host::new();
    host.add_vm("web/", WEB, "web");
    for number in 0..5 {
        host.write(&format!("web/Virtual Machines/{WEB}.{number}"), &vec![number; PART_BYTES as usize]);
    }
    let source = host.source();
    let mut sink = Sink::default();
    source.capture(&host.only(), &mut sink).unwrap();
    check_exact(&sink, &host.only());
    let buffers = source.buffers.lock().unwrap();
    let bytes: usize = buffers.iter().map(|buffers| buffers.held.capacity() + buffers.part.capacity()).sum();
    assert!(bytes as u64 <= 5 * PART_BYTES, "{bytes}");
}

#[test]
fn a_large_file_that_changes_while_it_is_streamed_begins_the_vm_again() {
    let (host, _) = web();
    let guest = host.path(&format!("web/Virtual Machines/{WEB}.vmgs"));
    fs::write(&guest, vec![1; (PART_BYTES + 512) as usize]).unwrap();
    let change = move || {
        let mut file = OpenOptions::new().write(true).open(&guest).unwrap();
        file.seek(SeekFrom::Start(PART_BYTES)).unwrap();
        file.write_all(&[2; 100]).unwrap();
    };
    let source = disturbed(&host, quick(), Step::Streamed, ".vmgs", 1, change);
    let mut sink = Sink::default();
    source.capture(&host.only(), &mut sink).unwrap();
    assert_eq!(sink.begun, 2);
    check_exact(&sink, &host.only());
}

#[test]
fn a_full_sink_ends_the_capture() {
    let (host, _) = web();
    let mut sink = Sink::default();
    sink.fail_after_parts = Some(2);
    let error = host.source().capture(&host.only(), &mut sink).unwrap_err();
    assert!(matches!(error, SourceError::Sink(_)), "{error}");
    assert_eq!(sink.begun, 1);
}

#[test]
fn names_that_differ_in_case_only_contradict() {
    let (host, state) = web();
    let vm = host.only();
    let mut doubled = vm.clone();
    let mut other = vm.files[1].clone();
    other.path = other.path.to_lowercase();
    doubled.files.push(other);
    let error = host.source().capture(&doubled, &mut Sink::default()).unwrap_err();
    assert!(
        matches!(&error, SourceError::Contradiction { place, .. } if *place == state.display().to_string())
    );
}

/// A writer that rewrites the runtime state in two halves, again and again: file objects carry no checksum, so only the
/// attributes can tell. A mixture that lies still for longer than a tick of the clock is what the file is: on a busy machine
/// the writer may be put to sleep between its halves.
#[test]
fn a_busy_writer_never_gets_a_mixture_through() {
    let (host, state) = web();
    let versions: Vec<Vec<u8>> =
        (0..4_u8).map(|fill| encode(&vmrs(&[fill; 5000], &[fill; 60_000]))).collect();
    fs::write(&state, &versions[0]).unwrap();
    let vm = host.only();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, state, versions) = (stop.clone(), state.clone(), versions.clone());
        std::thread::spawn(move || {
            let (mut rounds, mut rests) = (0_usize, 0_usize);
            while !stop.load(Ordering::SeqCst) {
                let bytes = &versions[rounds % versions.len()];
                let mut file = OpenOptions::new().write(true).open(&state).unwrap();
                let half = bytes.len() / 2;
                file.write_all(&bytes[..half]).unwrap();
                let begun = Instant::now();
                if rounds.is_multiple_of(3) {
                    std::thread::sleep(Duration::from_micros(200));
                }
                file.write_all(&bytes[half..]).unwrap();
                rests += usize::from(begun.elapsed() >= Duration::from_millis(8));
                drop(file);
                // Now and then it rests long enough for a capture.
                std::thread::sleep(Duration::from_micros(if rounds % 20 == 19 { 40_000 } else { 300 }));
                rounds += 1;
            }
            (rounds, rests)
        })
    };
    let source = host.source_with(DirectoryOptions { attempts: 3, ..quick() });
    let (mut whole, mut torn, mut mixed) = (0, 0, 0);
    let begun = Instant::now();
    // On a busy machine the first whole copy may take a while.
    while begun.elapsed() < Duration::from_millis(if whole == 0 { 30_000 } else { 1500 }) {
        let mut sink = Sink::default();
        match source.capture(&vm, &mut sink) {
            Ok(record) => {
                let bytes = &sink.file(&format!("{WEB}.vmrs")).bytes;
                mixed += usize::from(!versions.contains(bytes));
                assert_eq!(record.pairing, Pairing::CapturedTogether);
                whole += 1;
            }
            Err(SourceError::Torn { .. }) => torn += 1,
            Err(error) => panic!("{error}"),
        }
    }
    stop.store(true, Ordering::SeqCst);
    let (rounds, rests) = writer.join().unwrap();
    println!(
        "{rounds} rewrites, {rests} of them with a rest, {whole} whole captures, {torn} torn, {mixed} mixed"
    );
    assert!(mixed == 0 || rests > 0, "a mixture got through that never rested");
    assert!(whole > 0 && rounds > 3);
}
