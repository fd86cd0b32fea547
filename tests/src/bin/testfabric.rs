//! Writes and ages synthetic fabrics, for the demo and for benchmarks.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lifeboat_tests::fleet_vault::write_fleet_vault;
use lifeboat_tests::testfabric::{
    AgeOptions, Difference, DiskFiles, Fabric, FabricLayout, FabricOptions, LoneVolumeOptions, Sizes,
    VolumeCipher, write_lone_volume,
};

/// Writes synthetic Hyper-V hosts in the real file formats, with an answer sheet.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes a new fabric: DIR/answers.json, DIR/host-1, ...
    Generate {
        /// Number of VMs
        #[arg(long)]
        vms: u32,
        /// The same seed makes the same bytes
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Folder that is empty or does not exist
        #[arg(long)]
        out: PathBuf,
        /// Whether virtual disks have files
        #[arg(long, value_enum, default_value = "none")]
        disks: DiskFiles,
        /// How the files lie
        #[arg(long, value_enum, default_value = "live")]
        layout: FabricLayout,
        /// Number of hosts
        #[arg(long, default_value_t = 1)]
        hosts: u32,
        /// Size of the guest state, half of which is zero
        #[arg(long, default_value_t = Sizes::default().guest_state_bytes)]
        state_bytes: u32,
        /// Size of the vTPM state
        #[arg(long, default_value_t = Sizes::default().vtpm_state_bytes)]
        vtpm_bytes: u32,
        /// Random bytes in the configuration
        #[arg(long, default_value_t = Sizes::default().configuration_random_bytes)]
        configuration_bytes: u32,
        /// Seed of the keys of owners and guardians
        #[arg(long, default_value_t = 0)]
        guardian_seed: u64,
    },
    /// Lets a round pass over a fabric; prints as JSON what happened
    Age {
        /// Folder of the fabric
        #[arg(long)]
        dir: PathBuf,
        /// Number of the round
        #[arg(long)]
        round: u32,
        /// Share of VMs that run for a while, in percent
        #[arg(long, default_value_t = 0.0)]
        percent: f64,
        /// VMs whose VM key protector is rolled
        #[arg(long, default_value_t = 0)]
        roll: u32,
        /// VMs that move to the next host
        #[arg(long = "move", default_value_t = 0)]
        move_between_hosts: u32,
        /// VMs that are deleted
        #[arg(long, default_value_t = 0)]
        delete: u32,
        /// VMs that are added
        #[arg(long, default_value_t = 0)]
        add: u32,
        /// Files that are torn
        #[arg(long, default_value_t = 0)]
        tear: u32,
    },
    /// Writes one BitLocker volume, encrypted from end to end; prints as JSON what opens it
    Volume {
        /// Cipher
        #[arg(long, value_enum, default_value = "aes-xts-128")]
        cipher: VolumeCipher,
        /// Size in MiB; twice as much is taken in memory
        #[arg(long, default_value_t = 1024)]
        mib: u64,
        /// Write a dynamic VHDX of so many GiB that begins with the volume and is otherwise empty
        #[arg(long)]
        disk_gib: Option<u64>,
        /// Keys and content follow from it
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// File that does not exist
        #[arg(long)]
        out: PathBuf,
    },
    /// Writes a vault of VMs without files, and a kit with the audit identity, for the benchmark of audits
    Vault {
        /// Number of VMs, each with two BitLocker volumes
        #[arg(long)]
        vms: u32,
        /// Number of hosts, at most 100
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        hosts: u32,
        /// Folder that does not exist
        #[arg(long)]
        out: PathBuf,
    },
    /// Compares a fabric with its answer sheet
    Verify {
        /// Folder of the fabric
        #[arg(long)]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            // Nobody is left to tell when this fails.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    let mut out = io::stdout().lock();
    match command {
        Command::Generate {
            vms,
            seed,
            out: dir,
            disks,
            layout,
            hosts,
            state_bytes,
            vtpm_bytes,
            configuration_bytes,
            guardian_seed,
        } => {
            let options = FabricOptions {
                guardian_seed,
                hosts,
                layout,
                disks,
                sizes: Sizes {
                    configuration_random_bytes: configuration_bytes,
                    vtpm_state_bytes: vtpm_bytes,
                    guest_state_bytes: state_bytes,
                },
                ..FabricOptions::new(vms, seed)
            };
            let fabric = Fabric::generate(dir, &options)?;
            let answers = fabric.answers();
            let files: usize = answers.vms.iter().map(|vm| vm.files.len()).sum();
            let kib = answers.total_bytes() / 1024;
            writeln!(out, "{vms} VMs, {files} files, {kib} KiB in {}", fabric.dir().display())?;
        }
        Command::Age { dir, round, percent, roll, move_between_hosts, delete, add, tear } => {
            let options =
                AgeOptions { round, change_percent: percent, roll, move_between_hosts, delete, add, tear };
            let report = Fabric::open(dir)?.age(&options)?;
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        }
        Command::Volume { cipher, mib, disk_gib, seed, out: file } => {
            let options =
                LoneVolumeOptions { cipher, mebibytes: mib, disk_gibibytes: disk_gib, seed, out: file };
            serde_json::to_writer_pretty(&mut out, &write_lone_volume(&options)?)?;
            writeln!(out)?;
        }
        Command::Vault { vms, hosts, out: dir } => {
            std::fs::create_dir(&dir)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(write_fleet_vault(&dir, vms, hosts));
            writeln!(out, "{vms} VMs of {hosts} hosts in {}", dir.display())?;
        }
        Command::Verify { dir } => {
            let fabric = Fabric::open(dir)?;
            let differences = fabric.compare()?;
            for difference in &differences {
                match difference {
                    Difference::Missing(place) => writeln!(out, "missing  {place}")?,
                    Difference::Changed(place) => writeln!(out, "changed  {place}")?,
                    Difference::Unknown(place) => writeln!(out, "unknown  {place}")?,
                }
            }
            if !differences.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            writeln!(out, "{} VMs are as the answer sheet says", fabric.answers().vms.len())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
