use std::fs;

use lifeboat_engine::source::{HostSource as _, SourceError};
use lifeboat_schema::{GuestStateFormat, GuestStateItem, GuestStateVerdict, Pairing, VmRecord};
use lifeboat_vmcx::TreeBuilder;
use lifeboat_vmgs::FileId;
use lifeboat_vmgs::fixtures::{DocumentOptions, blank};

use super::super::DirectoryOptions;
use super::fixture::*;

const TPM: &[(FileId, &[u8])] = &[(FileId::TPM_NVRAM, &[0x77; 5000]), (FileId::ATTEST, &[1; 20])];

/// A VM with this guest state.
fn host(guest_state: &[u8]) -> Host {
    let host = Host::new();
    host.add_vm("web/", WEB, "web");
    host.write(&format!("web/Virtual Machines/{WEB}.vmgs"), guest_state);
    host
}

/// What is recorded of a VM with this guest state, whose files all arrive byte by byte.
fn record(guest_state: &[u8]) -> VmRecord {
    let host = host(guest_state);
    let (record, sink) = host.capture();
    check_exact(&sink, &host.only());
    record.unwrap()
}

fn is_damaged(guest_state: &[u8], text: &str) {
    let host = host(guest_state);
    let (error, sink) = host.capture();
    let error = error.unwrap_err();
    let SourceError::Damaged { place, what } = &error else { panic!("{error}") };
    assert!(place.ends_with(".vmgs") && what.contains(text), "{error}");
    assert_eq!(sink.begun, 0, "nothing was handed over");
    // Too few attempts to tell.
    let source = host.source_with(DirectoryOptions { attempts: 2, ..quick() });
    let error = source.capture(&host.only(), &mut Sink::default()).unwrap_err();
    assert!(matches!(error, SourceError::Torn { attempts: 2, .. }), "{error}");
}

fn has_remark(record: &VmRecord, text: &str) {
    let remarks = &record.remarks;
    assert!(remarks.iter().any(|remark| remark.contains(text)), "{text} is not in {remarks:#?}");
}

#[test]
fn a_whole_guest_state_is_described() {
    let host = Host::new();
    host.add_vm("web/", WEB, "web");
    let record = host.capture().0.unwrap();
    assert!(record.remarks.is_empty(), "{:?}", record.remarks);
    let state = record.guest_state.unwrap();
    assert_eq!(state.file, format!("Virtual Machines/{WEB}.vmgs"));
    assert_eq!((state.verdict, state.format), (GuestStateVerdict::Whole, Some(GuestStateFormat::Store)));
    assert!(!state.vtpm);
    assert_eq!(state.contents, [GuestStateItem { name: "BIOS_NVRAM".to_owned(), size: 3, encrypted: false }]);
}

#[test]
fn a_torn_guest_state_is_an_error() {
    let whole = guest_state(TPM).image();
    is_damaged(&whole[..whole.len() - 1], "footer");
    is_damaged(&whole[..4096], "footer");
    is_damaged(&[], "footer");
    // Both headers.
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    flipped[532] ^= 1;
    is_damaged(&flipped, "neither header copy is valid");
    // The block of the file table, where another generation lies.
    let table = u32::from_le_bytes(whole[512 + 24..512 + 28].try_into().unwrap()) as usize * 4096;
    let mut other = whole.clone();
    other[table..table + 4096].fill(0x41);
    is_damaged(&other, "file table");
}

#[test]
fn blank_headers_before_data_are_an_error() {
    let mut image = guest_state(TPM).image();
    image[..168].fill(0);
    image[512..680].fill(0);
    is_damaged(&image, "header");
}

#[test]
fn a_spared_header_is_accepted_once_it_is_certain() {
    let mut image = guest_state(TPM).image();
    image[16] ^= 1;
    let record = record(&image);
    let state = record.guest_state.as_ref().unwrap();
    assert_eq!((state.verdict, state.vtpm), (GuestStateVerdict::Damaged, true));
    has_remark(&record, "lies damaged on disk, and is kept as it is: header copy 0");
}

#[test]
fn empty_and_foreign_files_are_kept() {
    let found = record(&blank(1 << 20));
    assert!(found.remarks.is_empty(), "{:?}", found.remarks);
    assert_eq!(found.guest_state.unwrap().verdict, GuestStateVerdict::Empty);
    let found = record(b"web");
    assert_eq!(found.guest_state.as_ref().unwrap().verdict, GuestStateVerdict::NotUnderstood);
    has_remark(&found, "is not understood: it carries no signature of a guest state");
    // A store of another version.
    let mut image = guest_state(TPM).image();
    for copy in [0, 512] {
        image[copy + 8..copy + 12].copy_from_slice(&0x0002_0000_u32.to_le_bytes());
        image[copy + 12..copy + 16].fill(0);
        let sum = crc32fast::hash(&image[copy..copy + 168]);
        image[copy + 12..copy + 16].copy_from_slice(&sum.to_le_bytes());
    }
    has_remark(&record(&image), "is not understood: its format has version 2.0");
}

#[test]
fn damage_by_unproved_rules_is_kept_and_told() {
    let image = DocumentOptions { json: r#"{"Gadgets":{}}"#, ..DocumentOptions::default() }.encode();
    let found = record(&image);
    let state = found.guest_state.as_ref().unwrap();
    assert_eq!((state.verdict, state.format), (GuestStateVerdict::Damaged, Some(GuestStateFormat::Document)));
    has_remark(&found, "no object `Devices`");
    // That its end is missing needs no rule of the format.
    is_damaged(&image[..image.len() - 512], "footer");
    let json = r#"{"Devices":{"736e6aa9-a3f8-49c0-9550-a963214d259a":{"States":{"Nv":"AA"}}}}"#;
    let state = record(&DocumentOptions { json, ..DocumentOptions::default() }.encode()).guest_state.unwrap();
    assert_eq!((state.verdict, state.vtpm), (GuestStateVerdict::Whole, true));
    assert_eq!(state.contents[0].name, "736e6aa9-a3f8-49c0-9550-a963214d259a");
}

#[test]
fn an_encrypted_guest_state_says_whether_its_encryption_is_worth_something() {
    for (metadata_key, is_blank) in [([9; 32], false), ([0; 32], true)] {
        let mut writer = guest_state(&[]);
        writer.encrypt([7; 32], metadata_key).unwrap();
        writer.write(TPM).unwrap();
        let record = record(&writer.image());
        let state = record.guest_state.as_ref().unwrap();
        assert_eq!((state.verdict, state.vtpm), (GuestStateVerdict::Encrypted, true));
        assert!(state.contents.iter().all(|file| file.encrypted));
        let is_told = record.remarks.iter().any(|remark| remark.contains("encrypted in name only"));
        assert_eq!(is_told, is_blank, "{:?}", record.remarks);
    }
}

#[test]
fn it_is_told_where_vtpm_state_lies() {
    let elsewhere = TreeBuilder::new().set("/configuration/properties/version", 0x0A00);
    let check = |has_own: bool, guest_state: Option<&[u8]>, text: Option<&str>| {
        let host = Host::new();
        host.add_vm("web/", WEB, "web");
        let file = |extension: &str| host.path(&format!("web/Virtual Machines/{WEB}.{extension}"));
        if !has_own {
            fs::write(file("vmrs"), encode(&elsewhere)).unwrap();
        }
        match guest_state {
            Some(bytes) => fs::write(file("vmgs"), bytes).unwrap(),
            None => fs::remove_file(file("vmgs")).unwrap(),
        }
        let record = host.capture().0.unwrap();
        let wanted = if has_own { Pairing::CapturedTogether } else { Pairing::None };
        assert_eq!(record.pairing, wanted);
        match text {
            Some(text) => has_remark(&record, text),
            None => assert!(record.remarks.is_empty(), "{:?}", record.remarks),
        }
        record
    };
    let (with, without) = (guest_state(TPM).image(), guest_state(&[]).image());
    check(true, Some(&without), None);
    check(true, None, None);
    check(true, Some(&with), Some("holds vTPM state, too"));
    let record = check(false, Some(&with), Some("its vTPM state lies in its guest state"));
    has_remark(&record, "whether its guest state needs one is not known");
    let record = check(false, Some(&without), Some("holds vTPM state, nor does the guest state"));
    has_remark(&record, "restored like this it does not start");
    check(false, Some(b"web"), Some("it may lie in the guest state, which is not understood"));
    check(false, None, Some("it may lie in the guest state, and no file of one was found"));
}

#[test]
fn the_guest_state_of_a_checkpoint_is_not_the_vms() {
    let host = host(&guest_state(&[]).image());
    host.add_checkpoint("web/", BEFORE_UPDATE, "before", WEB);
    let checkpoint = format!("web/Snapshots/{BEFORE_UPDATE}.vmgs");
    host.write(&checkpoint, &guest_state(TPM).image());
    let (record, sink) = host.capture();
    check_exact(&sink, &host.only());
    let state = record.unwrap().guest_state.unwrap();
    assert_eq!((state.file, state.vtpm), (format!("Virtual Machines/{WEB}.vmgs"), false));
    // It is judged all the same.
    let path = host.path(&checkpoint);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 600]).unwrap();
    let error = host.capture().0.unwrap_err();
    assert!(matches!(&error, SourceError::Damaged { place, .. } if place.ends_with(".vmgs")), "{error}");
}
