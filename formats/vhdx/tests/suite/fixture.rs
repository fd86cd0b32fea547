use lifeboat_vhdx::{
    Guid, NewDiskIds, NewDiskKind, ParentLocator, ReadAt, SparseImage, VhdxChain, VhdxError, VhdxOptions,
    VhdxReader, VhdxWriter,
};

pub(crate) const MIB: u64 = 1 << 20;

/// Id that differs for each number.
pub(crate) fn guid(number: u32) -> Guid {
    let mut bytes = [0x5a; 16];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    Guid::from_bytes(bytes)
}

/// Ids of the disk at `level` of a chain; 0 is the oldest.
pub(crate) fn ids(level: u32) -> NewDiskIds {
    NewDiskIds {
        virtual_disk_id: guid(1),
        file_write_guid: guid(100 + level),
        data_write_guid: guid(200 + level),
    }
}

/// Options of a dynamic disk with 1 MiB blocks.
pub(crate) fn dynamic(virtual_size_bytes: u64) -> VhdxOptions {
    let mut options = VhdxOptions::new(NewDiskKind::Dynamic, virtual_size_bytes, ids(0));
    options.block_bytes = 1 << 20;
    options
}

/// Options of a differencing disk at `level`, made from the disk one level below.
pub(crate) fn differencing(virtual_size_bytes: u64, level: u32) -> VhdxOptions {
    let locator = ParentLocator::new(ids(level - 1).data_write_guid)
        .with_linkage2(Guid::ZERO)
        .with_relative_path(&format!(".\\level{}.vhdx", level - 1))
        .with_absolute_path(&format!("C:\\disks\\level{}.vhdx", level - 1));
    let mut options = VhdxOptions::new(NewDiskKind::Differencing(locator), virtual_size_bytes, ids(level));
    options.block_bytes = 1 << 20;
    options
}

pub(crate) fn create(options: VhdxOptions) -> VhdxWriter<SparseImage> {
    VhdxWriter::create(SparseImage::new(), options).unwrap()
}

pub(crate) fn finish(writer: VhdxWriter<SparseImage>) -> SparseImage {
    writer.finish().unwrap().0
}

/// Dynamic disk of four 1 MiB blocks, of which the first and the last hold data.
pub(crate) fn small_disk() -> Vec<u8> {
    let mut writer = create(dynamic(4 * MIB));
    writer.write_at(512, &[1; 3000]).unwrap();
    writer.write_at(3 * MIB + 4096, &[2; 70_000]).unwrap();
    finish(writer).to_bytes()
}

/// Opens files as a chain, the youngest first.
pub(crate) fn open<R: ReadAt>(files: impl IntoIterator<Item = R>) -> Result<VhdxChain<R>, VhdxError> {
    VhdxChain::new(files.into_iter().map(VhdxReader::open).collect::<Result<_, _>>()?)
}

/// Reads the whole disk.
pub(crate) fn read_all<R: ReadAt>(chain: &VhdxChain<R>) -> Result<Vec<u8>, VhdxError> {
    let mut bytes = vec![0xee; usize::try_from(chain.virtual_size_bytes()).unwrap()];
    chain.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Opens a file without parents and reads the whole disk.
pub(crate) fn content<R: ReadAt>(file: R) -> Result<Vec<u8>, VhdxError> {
    read_all(&open([file])?)
}

/// Puts the right CRC-32C into a structure of `length` bytes at `offset`.
pub(crate) fn reseal(file: &mut [u8], offset: usize, length: usize) {
    let bytes = &mut file[offset..offset + length];
    bytes[4..8].fill(0);
    let crc = crc32c::crc32c(bytes);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a file of the shared test data, or says that it is not there.
pub(crate) fn test_data(name: &str) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let folder = std::env::var_os("LIFEBOAT_TEST_DATA").map_or_else(
        || std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        std::path::PathBuf::from,
    );
    let Ok(file) = std::fs::File::open(folder.join("hyperv").join(name)) else {
        println!("skipped: test data not found");
        return None;
    };
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
