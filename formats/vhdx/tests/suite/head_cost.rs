use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_vhdx::{PortError, ReadAt, SparseImage, VhdxChain, VhdxReader};

use crate::fixture::{create, differencing, dynamic, finish};

/// Port that counts the bytes read through it.
struct Counting {
    image: SparseImage,
    read_bytes: AtomicU64,
}

impl ReadAt for &Counting {
    fn size_bytes(&self) -> u64 {
        self.image.size_bytes()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        self.read_bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.image.read_exact_at(offset, buffer)
    }
}

/// Bytes that may be read for the head of a disk, payload included.
const MAX_HEAD_BYTES: u64 = 4 << 20;

/// Opens the chain, reads one MiB at its start and end and maps the first GiB: what a snapshot needs.
fn check(images: Vec<SparseImage>) {
    let ports: Vec<Counting> =
        images.into_iter().map(|image| Counting { image, read_bytes: AtomicU64::new(0) }).collect();
    let start = std::time::Instant::now();
    let readers = ports.iter().map(|port| VhdxReader::open(port).unwrap()).collect();
    let chain = VhdxChain::new(readers).unwrap();
    let mut head = vec![0; 1 << 20];
    chain.read_at(0, &mut head).unwrap();
    assert_eq!(head[512], 1);
    chain.read_at(chain.virtual_size_bytes() - (1 << 20), &mut head).unwrap();
    assert_eq!(head[(1 << 20) - 512], 2);
    assert!(chain.resolve(0..1 << 30).unwrap().map(Result::unwrap).count() >= 2);
    let read: u64 = ports.iter().map(|port| port.read_bytes.load(Ordering::Relaxed)).sum();
    println!("{read} bytes read in {:?}", start.elapsed());
    assert!(read < MAX_HEAD_BYTES, "{read} bytes read");
}

#[test]
fn the_head_of_a_2_tb_sparse_disk_costs_under_4_mib() {
    for block_bytes in [1 << 20, 2 << 20, 32 << 20, 256 << 20] {
        let mut options = dynamic(2 << 40);
        options.block_bytes = block_bytes;
        let mut writer = create(options);
        for gib in (0..2048).step_by(64) {
            writer.write_at(gib << 30, &[3; 512]).unwrap();
        }
        writer.write_at(512, &[1; 512]).unwrap();
        writer.write_at((2 << 40) - 512, &[2; 512]).unwrap();
        check(vec![finish(writer)]);
    }
}

#[test]
fn so_does_that_of_a_differencing_chain() {
    let mut parent = create(dynamic(2 << 40));
    parent.write_at((2 << 40) - 512, &[2; 512]).unwrap();
    let mut child = create(differencing(2 << 40, 1));
    child.write_at(512, &[1; 512]).unwrap();
    child.write_at(1 << 40, &[1; 512]).unwrap();
    check(vec![finish(child), finish(parent)]);
}
