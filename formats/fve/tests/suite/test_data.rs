use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Finds the folder of BitLocker images, or says that the test is skipped.
pub(crate) fn bitlocker_folder() -> Option<PathBuf> {
    let shared = std::env::var_os("LIFEBOAT_TEST_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let folder = shared.join("bitlocker");
    if folder.join("images.toml").is_file() {
        return Some(folder);
    }
    println!("skipped: test data not found");
    None
}

/// Reads a file of the folder: `name.bin.gz`, or `archive.tar.xz:member`.
pub(crate) fn load(folder: &Path, file: &str) -> Option<Vec<u8>> {
    match file.split_once(':') {
        Some((archive, member)) => {
            let unpacked = unpack(&folder.join(archive))?;
            Some(std::fs::read(unpacked.join(member)).expect("the archive holds the member"))
        }
        None => {
            let packed = std::fs::File::open(folder.join(file)).expect("the file is listed");
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes)
                .expect("valid gzip");
            Some(bytes)
        }
    }
}

/// Unpacks an archive of sparse images once per test run.
fn unpack(archive: &Path) -> Option<&'static Path> {
    static UNPACKED: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    UNPACKED
        .get_or_init(|| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let status = Command::new("tar").arg("xJSf").arg(archive).arg("-C").arg(folder.path()).status();
            match status {
                Ok(status) if status.success() => Some(folder),
                _ => {
                    println!("skipped: `tar` with xz is not available");
                    None
                }
            }
        })
        .as_ref()
        .map(tempfile::TempDir::path)
}

/// Encodes bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
