//! What a companion is made from, or leaves out, and which of it lies in the folder of its ingredients.
//!
//! Files are told by their names, as Windows and its documentation name them: that a file is held is known, that it is the
//! right one is not.

use lifeboat_schema::{CompanionKind, NeedEntry};

/// A thing that is needed: its name, how to have it, and the files that are taken for it.
struct Need {
    what: &'static str,
    how: &'static str,
    is_it: fn(&str) -> bool,
}

/// What shielding data are made from.
const OF_SHIELDING_DATA: [Need; 4] = [
    Need {
        what: "answer file (unattend)",
        how: "from who made the shielding data; it holds the administrator's password",
        is_it: |name| (name.contains("unattend") || name.contains("answer")) && name.ends_with(".xml"),
    },
    Need {
        what: "RDP certificate (PFX)",
        how: "export it from the owner's machine with its private key",
        is_it: |name| name.ends_with(".pfx") || name.ends_with(".p12"),
    },
    Need {
        what: "volume signature catalog of its template disk",
        how: "Save-VolumeSignatureCatalog, from the template disk",
        is_it: |name| name.ends_with(".vsc"),
    },
    Need {
        what: "guardian metadata of owner and fabrics",
        how: "Export-HgsGuardian, or the fabric's metadata.xml",
        is_it: |name| {
            (name.contains("guardian") || name.contains("metadata")) && name.ends_with(".xml")
                || name.ends_with(".cer")
        },
    },
];

/// What an export of HGS leaves out: key-protector.md section 4.1.
const OF_HGS: [Need; 5] = [
    Need {
        what: "private keys of certificates that HGS knows by thumbprint or keeps in an HSM",
        how: "from the CA or by the HSM's own procedure; Get-HgsKeyProtectionCertificate shows which",
        is_it: |name| (name.ends_with(".pfx") || name.ends_with(".p12")) && !is_tls(name),
    },
    Need {
        what: "TLS certificate",
        how: "export it with its private key (Get-WebBinding shows which)",
        is_it: |name| (name.ends_with(".pfx") || name.ends_with(".p12")) && is_tls(name),
    },
    Need {
        what: "AD host groups (admin-trusted attestation); the export holds their SIDs only",
        how: "a backup of that Active Directory",
        is_it: |name| name.contains("group"),
    },
    Need {
        what: "names of cluster, service and domain",
        how: "write them down: Get-HgsServer, Get-Cluster",
        is_it: |name| name.contains("name") || name.contains("cluster"),
    },
    Need {
        what: "JEA users and roles",
        how: "write them down: Get-PSSessionConfiguration on the HGS",
        is_it: |name| name.contains("jea"),
    },
];

fn is_tls(name: &str) -> bool {
    ["tls", "ssl", "https", "web"].iter().any(|word| name.contains(word))
}

/// What a companion of a kind needs, with the files that are there.
pub(super) fn of_kind(kind: CompanionKind, files: &[String]) -> Vec<NeedEntry> {
    let needs: &[Need] = match kind {
        CompanionKind::ShieldingData => &OF_SHIELDING_DATA,
        CompanionKind::HgsState => &OF_HGS,
        _ => &[],
    };
    let held = |need: &Need| {
        let is_it =
            |path: &&String| (need.is_it)(&path.rsplit('/').next().unwrap_or_default().to_lowercase());
        files.iter().filter(is_it).cloned().collect()
    };
    needs
        .iter()
        .map(|need| NeedEntry { what: need.what.to_owned(), how: need.how.to_owned(), held: held(need) })
        .collect()
}
