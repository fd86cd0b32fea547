//! Which host versions run a VM, by its configuration version.
//!
//! Public documentation names the newest configuration version of each host, and says that hosts from Windows Server
//! 2022 on dropped versions below 8.0. A configuration can be upgraded and never downgraded.

/// A version of Windows as a host of VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostVersion {
    /// Its name.
    pub name: &'static str,
    /// Oldest configuration version that it runs.
    pub oldest: (u8, u8),
    /// Newest configuration version that it runs.
    pub newest: (u8, u8),
}

/// The hosts that are known, oldest first.
pub const HOST_VERSIONS: [HostVersion; 6] = [
    HostVersion { name: "Windows Server 2016", oldest: (5, 0), newest: (8, 0) },
    HostVersion { name: "Windows Server 2019", oldest: (5, 0), newest: (9, 0) },
    HostVersion { name: "Windows Server 2022", oldest: (8, 0), newest: (10, 0) },
    HostVersion { name: "Windows 11 22H2", oldest: (8, 0), newest: (11, 0) },
    HostVersion { name: "Windows Server 2025", oldest: (8, 0), newest: (12, 0) },
    HostVersion { name: "Windows 11 24H2", oldest: (8, 0), newest: (12, 0) },
];

/// The hosts that run a configuration version such as `10.0`; none of them for a version that is newer than all, or is no
/// version.
pub fn hosts_that_run(configuration_version: &str) -> Vec<&'static str> {
    let Some((major, minor)) = configuration_version.split_once('.') else { return Vec::new() };
    let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { return Vec::new() };
    let version: (u8, u8) = (major, minor);
    let runs = |host: &&HostVersion| host.oldest <= version && version <= host.newest;
    HOST_VERSIONS.iter().filter(runs).map(|host| host.name).collect()
}

#[cfg(test)]
mod tests {
    use super::hosts_that_run;

    #[test]
    fn a_newer_host_runs_older_versions_down_to_eight() {
        assert_eq!(hosts_that_run("12.0"), ["Windows Server 2025", "Windows 11 24H2"]);
        assert_eq!(
            hosts_that_run("9.3"),
            ["Windows Server 2022", "Windows 11 22H2", "Windows Server 2025", "Windows 11 24H2"]
        );
        assert_eq!(hosts_that_run("8.0").len(), 6);
        assert_eq!(hosts_that_run("7.1"), ["Windows Server 2016", "Windows Server 2019"]);
        for none in ["13.0", "4.0", "", "10", "254.0", "x.y", "999.0"] {
            assert!(hosts_that_run(none).is_empty(), "{none}");
        }
    }
}
