//! Entry point for the fuzz target: any bytes as a disk image, looked at in every way that needs no key.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_vhdx::ReadAt as _;

use crate::capture::FveCapture;
use crate::files::ImageFiles;
use crate::inspect::inspect;
use crate::layout::DiskLayout;
use crate::open::{ParentSearch, open_disk};

/// One file, which is its own neighbour.
struct OneFile(Arc<Vec<u8>>);

impl ImageFiles for OneFile {
    type File = Arc<Vec<u8>>;

    fn open(&self, _: &Path) -> io::Result<Self::File> {
        Ok(Arc::clone(&self.0))
    }

    fn open_parent(&self, path: &Path) -> io::Result<Self::File> {
        self.open(path)
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec!["image.vhdx".into(), "image.vhd".into(), "other.avhdx".into()])
    }
}

/// Opens bytes as a disk image and looks at everything.
pub fn image(bytes: &[u8]) {
    let files = OneFile(Arc::new(bytes.to_vec()));
    let Ok(disk) = open_disk(&files, Path::new("image.vhdx"), &ParentSearch::default()) else { return };
    let _ = disk.facts();
    let size = disk.size_bytes();
    let _ = disk.extents(0..size.min(1 << 30)).map(|extents| extents.len());
    let Ok(layout) = DiskLayout::read(&disk) else { return };
    let _ = inspect(&disk, &layout);
    for volume in &layout.volumes {
        let _ = FveCapture::read(&volume.reader(&disk)).map(|capture| capture.good_region().is_some());
    }
}
