//! qemu-img and dissect.hypervisor on the same disks. These tests say so when one is not there; CI installs both.
//!
//! What they cannot read, or read otherwise, has a test of its own (`what_*_does_not_read_is_known`).

use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_vhdx::{BlockMark, PendingLog, SparseImage, VhdxWriter};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::fixture::{
    MIB, content, create, differencing, dynamic, finish, guid, open, read_all, sha256, test_data,
};

/// Writes a sparse file.
fn save(image: &SparseImage, path: &Path) {
    use std::io::{Seek as _, SeekFrom, Write as _};
    let mut file = std::fs::File::create(path).unwrap();
    for (offset, bytes) in image.extents() {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(&bytes).unwrap();
    }
    file.set_len(lifeboat_vhdx::ReadAt::size_bytes(image)).unwrap();
}

fn qemu_img() -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join("qemu-img"))
        .find(|program| program.is_file());
    if found.is_none() {
        println!("skipped: qemu-img is not on the PATH (Debian: qemu-utils)");
    }
    found
}

fn run(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Writes random data with holes; `unit` is the granularity in bytes.
fn scribble(writer: &mut VhdxWriter<SparseImage>, random: &mut StdRng, unit: u64, size: u64) {
    for _ in 0..random.gen_range(0..10) {
        let start = random.gen_range(0..size) / unit * unit;
        let length = (random.gen_range(1..300_000) / unit * unit).max(unit).min(size - start);
        let mut bytes = vec![0; length as usize];
        random.fill(bytes.as_mut_slice());
        writer.write_at(start, &bytes).unwrap();
    }
}

/// Marks some blocks; those in use stay as they are.
fn mark(writer: &mut VhdxWriter<SparseImage>, random: &mut StdRng) {
    let marks = [BlockMark::Zero, BlockMark::Undefined, BlockMark::Unmapped];
    for _ in 0..random.gen_range(0..3) {
        let block = random.gen_range(0..writer.geometry().block_count());
        let _ = writer.mark_block(block, marks[random.gen_range(0..3)]);
    }
}

/// Makes a dynamic disk that differs for each number.
fn dynamic_image(number: u64, sector_bytes: u32) -> SparseImage {
    let mut random = StdRng::seed_from_u64(number);
    let unit = u64::from(sector_bytes);
    let size = random.gen_range(1..=12 * MIB / unit) * unit;
    let mut options = dynamic(size);
    options.block_bytes = 1 << random.gen_range(20..=25);
    options.logical_sector_bytes = sector_bytes;
    options.physical_sector_bytes = if random.gen_bool(0.5) { 4096 } else { 512 };
    if random.gen_bool(0.1) {
        options.kind = lifeboat_vhdx::NewDiskKind::Fixed;
    }
    let mut writer = create(options);
    scribble(&mut writer, &mut random, 1, size);
    mark(&mut writer, &mut random);
    scribble(&mut writer, &mut random, 1, size);
    finish(writer)
}

#[test]
fn qemu_converts_200_images_as_we_read_them() {
    let Some(qemu) = qemu_img() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (image_path, raw_path) = (folder.path().join("disk.vhdx"), folder.path().join("disk.raw"));
    let (image_name, raw_name) = (image_path.to_str().unwrap(), raw_path.to_str().unwrap());
    for number in 0..200 {
        // qemu does not read 4096-byte logical sectors; those are compared with dissect.
        let image = dynamic_image(number, 512);
        save(&image, &image_path);
        if number % 4 == 0 {
            run(&qemu, &["check", "-q", image_name]).unwrap();
        }
        run(&qemu, &["convert", "-f", "vhdx", "-O", "raw", image_name, raw_name]).unwrap();
        let raw = std::fs::read(&raw_path).unwrap();
        assert!(read_all(&open([image]).unwrap()).unwrap() == raw, "image {number} differs");
    }
}

#[test]
fn qemu_replays_our_dirty_logs_as_we_do() {
    let Some(qemu) = qemu_img() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (image_path, raw_path) = (folder.path().join("disk.vhdx"), folder.path().join("disk.raw"));
    let (image_name, raw_name) = (image_path.to_str().unwrap(), raw_path.to_str().unwrap());
    for (start, pages_per_entry) in [(0, 1), (8192, 2), ((1 << 20) - 4096, 1)] {
        let mut options = dynamic(1100 * MIB);
        let log_guid = guid(7);
        options.pending_log =
            Some(PendingLog { log_guid, first_sequence_number: 40, start, pages_per_entry });
        let mut writer = create(options);
        for block in [0, 3, 600, 1099] {
            writer.write_at(block * MIB + 77, &[block as u8 + 1; 5000]).unwrap();
        }
        let image = finish(writer);
        save(&image, &image_path);
        run(&qemu, &["check", "-q", "-r", "all", image_name]).unwrap();
        run(&qemu, &["convert", "-f", "vhdx", "-O", "raw", image_name, raw_name]).unwrap();
        let raw = std::fs::File::open(&raw_path).unwrap();
        let chain = open([image]).unwrap();
        for block in [0, 1, 3, 599, 600, 1099] {
            use std::os::unix::fs::FileExt as _;
            let [mut ours, mut theirs] = [vec![0; MIB as usize], vec![1; MIB as usize]];
            chain.read_at(block * MIB, &mut ours).unwrap();
            raw.read_exact_at(&mut theirs, block * MIB).unwrap();
            assert!(ours == theirs, "block {block} differs with the log at {start}");
        }
    }
}

#[test]
fn qemu_replays_torn_logs_as_we_do() {
    let Some(qemu) = qemu_img() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (image_path, raw_path) = (folder.path().join("disk.vhdx"), folder.path().join("disk.raw"));
    let (image_name, raw_name) = (image_path.to_str().unwrap(), raw_path.to_str().unwrap());
    let mut disk = crate::log::interrupted();
    let groups = crate::log::updates(&disk);
    let ends = disk.put_sequence(0, 77, &groups);
    let (whole, total) = (disk.file.clone(), *ends.last().unwrap());
    // Without any complete entry we refuse the file; qemu takes it for a clean one.
    disk.put(0, &vec![0xa5; total]);
    assert!(open([&disk.file]).is_err());
    for torn in (ends[0]..=total).step_by(512) {
        disk.file.copy_from_slice(&whole);
        disk.put(torn, &vec![0xa5; total - torn]);
        std::fs::write(&image_path, &disk.file).unwrap();
        run(&qemu, &["check", "-q", "-r", "all", image_name]).unwrap();
        run(&qemu, &["convert", "-f", "vhdx", "-O", "raw", image_name, raw_name]).unwrap();
        let raw = std::fs::read(&raw_path).unwrap();
        assert!(read_all(&open([&disk.file]).unwrap()).unwrap() == raw, "torn at {torn}");
    }
}

/// Runs the script over files; the digests come in their order.
fn dissect(files: &[impl AsRef<std::ffi::OsStr>]) -> Option<Vec<String>> {
    let Some(python) = std::env::var_os("LIFEBOAT_DISSECT_PYTHON") else {
        println!("skipped: LIFEBOAT_DISSECT_PYTHON names no Python that has dissect.hypervisor");
        return None;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles/vhdx_dissect.py");
    let output = Command::new(python).arg(script).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn dissect_reads_200_images_as_we_do() {
    let folder = tempfile::tempdir().unwrap();
    let (mut files, mut expected) = (Vec::new(), Vec::new());
    for number in 0..200 {
        let sector_bytes = if number % 2 == 0 { 512 } else { 4096 };
        let image = dynamic_image(1000 + number, sector_bytes);
        let path = folder.path().join(format!("disk{number}.vhdx"));
        save(&image, &path);
        files.push(path);
        expected.push(sha256(&read_all(&open([image]).unwrap()).unwrap()));
    }
    let Some(found) = dissect(&files) else { return };
    assert_eq!(found, expected);
}

#[test]
fn dissect_reads_our_three_level_chains_as_we_do() {
    let root = tempfile::tempdir().unwrap();
    let (mut files, mut expected) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let mut random = StdRng::seed_from_u64(5000 + number);
        let sector_bytes: u32 = if number % 2 == 0 { 512 } else { 4096 };
        // dissect miscounts runs that do not begin at a whole byte of the bitmap of the parent: eight sectors.
        let unit = u64::from(sector_bytes) * 8;
        let size = random.gen_range(8..=6 * MIB / unit) * unit;
        let folder = root.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        let mut chain = Vec::new();
        for level in 0..3 {
            let mut options = if level == 0 { dynamic(size) } else { differencing(size, level) };
            options.logical_sector_bytes = sector_bytes;
            options.block_bytes = 1 << random.gen_range(20..=21);
            let mut writer = create(options);
            scribble(&mut writer, &mut random, unit, size);
            mark(&mut writer, &mut random);
            let image = finish(writer);
            save(&image, &folder.join(format!("level{level}.vhdx")));
            chain.insert(0, image);
        }
        files.push(folder.join("level2.vhdx"));
        expected.push(sha256(&read_all(&open(chain).unwrap()).unwrap()));
    }
    let Some(found) = dissect(&files) else { return };
    assert_eq!(found, expected);
}

/// A folder with one file of the test data.
fn unpacked(name: &str) -> Option<(tempfile::TempDir, PathBuf, Vec<u8>)> {
    let bytes = test_data(&format!("{name}.gz"))?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, &bytes).unwrap();
    Some((folder, path, bytes))
}

#[test]
fn qemu_reads_the_real_files_as_we_do() {
    let Some(qemu) = qemu_img() else { return };
    for (name, is_dirty) in [("dissect-dynamic.vhdx", false), ("synth-qemu-dirtylog.vhdx", true)] {
        let Some((folder, path, bytes)) = unpacked(name) else { return };
        let (image, raw) = (path.to_str().unwrap(), folder.path().join("raw"));
        if is_dirty {
            // It reads no disk whose log waits; it replays into the file first, which is a copy here.
            run(&qemu, &["check", "-q", "-r", "all", image]).unwrap();
        }
        run(&qemu, &["convert", "-f", "vhdx", "-O", "raw", image, raw.to_str().unwrap()]).unwrap();
        assert!(content(&bytes).unwrap() == std::fs::read(raw).unwrap(), "{name}");
    }
}

#[test]
fn dissect_reads_the_real_files_as_we_do() {
    let Some((_folder, path, bytes)) = unpacked("dissect-dynamic.vhdx") else { return };
    let Some(found) = dissect(&[path]) else { return };
    assert_eq!(found, [sha256(&content(&bytes).unwrap())]);
}

/// The AVHDX of Hyper-V came without its parent: one of ours stands in, with the linkage that the child names.
#[test]
fn dissect_reads_the_real_differencing_disk_as_we_do() {
    let Some((folder, path, bytes)) = unpacked("dissect-differencing.avhdx") else { return };
    let reader = lifeboat_vhdx::VhdxReader::open(bytes.clone()).unwrap();
    let link = reader.parent().unwrap();
    let mut options = dynamic(reader.identity().virtual_size_bytes);
    options.ids.data_write_guid = link.linkage();
    options.ids.virtual_disk_id = reader.identity().virtual_disk_id;
    let mut writer = create(options);
    let mut random = StdRng::seed_from_u64(8);
    // Data of the parent in and between the sectors of the child's partial blocks.
    let block_bytes = u64::from(reader.identity().block_bytes);
    let partial: Vec<u64> = [0, 256, 923, 1018].iter().map(|block| block * block_bytes).collect();
    for start in &partial {
        let mut bytes = vec![0; block_bytes as usize];
        random.fill(bytes.as_mut_slice());
        writer.write_at(*start, &bytes).unwrap();
    }
    let parent = finish(writer);
    let name = link.relative_path().unwrap().trim_start_matches(".\\").to_owned();
    save(&parent, &folder.path().join(name));
    let runs: Vec<String> =
        partial.iter().map(|start| format!("{}+{}", start / 512, block_bytes / 512)).collect();
    let Some(found) = dissect(&[format!("{}@{}", path.display(), runs.join(","))]) else { return };
    let parent = lifeboat_vhdx::VhdxReader::open(parent.to_bytes()).unwrap();
    let chain = lifeboat_vhdx::VhdxChain::new(vec![reader, parent]).unwrap();
    let mut ours = Vec::new();
    for start in partial {
        let mut block = vec![0; block_bytes as usize];
        chain.read_at(start, &mut block).unwrap();
        ours.extend(block);
    }
    assert_eq!(found, [sha256(&ours)]);
}

#[test]
fn we_read_what_qemu_writes() {
    let Some(qemu) = qemu_img() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (image, raw) = (folder.path().join("disk.vhdx"), folder.path().join("disk.raw"));
    let (image_name, raw_name) = (image.to_str().unwrap(), raw.to_str().unwrap());
    for number in 0..12u64 {
        let mut random = StdRng::seed_from_u64(9000 + number);
        let mut bytes = vec![0; (random.gen_range(1..=40) * MIB / 4) as usize];
        for _ in 0..random.gen_range(0..6) {
            let start = random.gen_range(0..bytes.len());
            let end = bytes.len().min(start + random.gen_range(1..500_000));
            random.fill(&mut bytes[start..end]);
        }
        std::fs::write(&raw, &bytes).unwrap();
        let kind = if number % 3 == 0 { "fixed" } else { "dynamic" };
        let options = format!("subformat={kind},block_size={}M", 1 << random.gen_range(0..6));
        let arguments = ["convert", "-f", "raw", "-O", "vhdx", "-o", &options, raw_name, image_name];
        run(&qemu, &arguments).unwrap();
        assert!(content(std::fs::read(&image).unwrap()).unwrap() == bytes, "image {number} with {options}");
    }
}

/// A disk of our writer whose BAT waits in the log, with its content.
fn pending() -> (SparseImage, Vec<u8>) {
    let mut options = dynamic(4 * MIB);
    options.pending_log =
        Some(PendingLog { log_guid: guid(7), first_sequence_number: 40, start: 0, pages_per_entry: 1 });
    let mut writer = create(options);
    writer.write_at(MIB, &[7; 9000]).unwrap();
    let image = finish(writer);
    let bytes = content(image.to_bytes()).unwrap();
    assert!(bytes[MIB as usize..][..9000].iter().all(|byte| *byte == 7));
    (image, bytes)
}

#[test]
fn what_qemu_does_not_read_is_known() {
    let Some(qemu) = qemu_img() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, raw) = (folder.path().join("disk.vhdx"), folder.path().join("disk.raw"));
    let convert = |image: &SparseImage| {
        save(image, &path);
        let (image, raw) = (path.to_str().unwrap(), raw.to_str().unwrap());
        run(&qemu, &["convert", "-f", "vhdx", "-O", "raw", image, raw])
    };
    let large_sectors = dynamic_image(1, 4096);
    assert!(open([&large_sectors]).is_ok());
    let refusal = convert(&large_sectors).unwrap_err();
    assert!(refusal.contains("not supported"), "4096-byte logical sectors: {refusal}");
    let refusal = convert(&finish(create(differencing(MIB, 1)))).unwrap_err();
    assert!(refusal.contains("not supported"), "differencing: {refusal}");
    let refusal = convert(&pending().0).unwrap_err();
    assert!(refusal.contains("log that needs to be replayed"), "dirty: {refusal}");
}

#[test]
fn what_dissect_does_not_read_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let (dirty, content) = pending();
    let mut options = dynamic(4 * MIB);
    options.items.push(lifeboat_vhdx::CarriedItem {
        id: guid(9),
        flags: lifeboat_vhdx::MetadataFlags(1),
        bytes: vec![1; 40],
    });
    let mut writer = create(options);
    writer.write_at(MIB, &[7; 9000]).unwrap();
    let paths = [folder.path().join("dirty.vhdx"), folder.path().join("item.vhdx")];
    save(&dirty, &paths[0]);
    save(&finish(writer), &paths[1]);
    let Some(found) = dissect(&paths) else { return };
    // It does not look at the log: what waits there is missing, without a word.
    assert_ne!(found[0], sha256(&content));
    assert_eq!(found[0], sha256(&vec![0; content.len()]));
    assert!(found[1].contains("Error"), "a metadata item that it does not know: {}", found[1]);
}
