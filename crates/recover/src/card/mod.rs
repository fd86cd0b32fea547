//! The handover card: what to ask whom, when no secret is at hand.
//!
//! For the person who can read a directory, a tenant or a safe, and knows nothing of the case: full ids, exact queries,
//! and a form for the answer whose blocks can be checked one by one. It holds no secret.

mod html;

use std::fmt::Write as _;

use lifeboat_disk::ReadAt;
use lifeboat_fve::{Guid, ProtectionType};

use crate::source::LockedVolume;

/// One volume on a card.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CardVolume {
    disk: String,
    number: u32,
    volume_id: Guid,
    description: Option<String>,
    recovery: Vec<Guid>,
    external: Vec<Guid>,
    thumbprints: Vec<[u8; 20]>,
    has_password: bool,
    has_tpm: bool,
}

/// A card for the volumes that nothing opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverCard {
    volumes: Vec<CardVolume>,
}

impl HandoverCard {
    /// Makes the card for volumes.
    #[must_use]
    pub fn new<F: ReadAt>(volumes: &[&LockedVolume<'_, F>]) -> Self {
        let volumes = volumes
            .iter()
            .map(|locked| {
                let metadata = locked.fve().metadata();
                let of = |kind: ProtectionType| -> Vec<Guid> {
                    let found = metadata.protectors().iter().filter(|one| one.protection == kind);
                    found.map(|one| one.id).collect()
                };
                CardVolume {
                    disk: plain(&locked.source.path.display().to_string()),
                    number: locked.place.number,
                    volume_id: metadata.volume_id,
                    description: metadata.description.as_deref().map(plain),
                    recovery: of(ProtectionType::RECOVERY_PASSWORD),
                    external: of(ProtectionType::EXTERNAL_KEY),
                    thumbprints: metadata
                        .protectors()
                        .iter()
                        .filter_map(|one| one.certificate_thumbprint)
                        .collect(),
                    has_password: !of(ProtectionType::PASSWORD).is_empty(),
                    has_tpm: metadata.protectors().iter().any(|one| one.protection.needs_tpm()),
                }
            })
            .collect();
        Self { volumes }
    }

    /// Writes the card as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    /// Writes the card as one HTML page that needs nothing else and asks nobody.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "BITLOCKER RECOVERY: A SECRET IS NEEDED")?;
        writeln!(out)?;
        writeln!(
            out,
            "A virtual machine is lost and only its disk is left. One of the secrets below opens it. This card holds no\n\
             secret; the answer does: send it by a way that you would send a password, not by return mail."
        )?;
        for volume in &self.volumes {
            writeln!(out)?;
            writeln!(out, "Disk {}, volume {}", volume.disk, volume.number)?;
            if let Some(description) = &volume.description {
                writeln!(out, "  Windows called it:  {description}")?;
            }
            writeln!(out, "  BitLocker volume:   {}", volume.volume_id)?;
            for id in &volume.recovery {
                writeln!(out, "  RECOVERY PASSWORD:  {}", braced(*id))?;
            }
            for id in &volume.external {
                writeln!(out, "  RECOVERY KEY FILE:  {}.BEK", id.to_string().to_uppercase())?;
            }
            for thumbprint in &volume.thumbprints {
                writeln!(out, "  CERTIFICATE:        {}", crate::journal::hex(thumbprint))?;
            }
            for line in volume.remarks() {
                writeln!(out, "  {line}")?;
            }
        }
        for (title, lines) in self.queries() {
            writeln!(out)?;
            writeln!(out, "{title}")?;
            for line in lines {
                writeln!(out, "    {line}")?;
            }
        }
        writeln!(out)?;
        writeln!(out, "ANSWER (eight blocks of six digits)")?;
        for volume in &self.volumes {
            for id in &volume.recovery {
                writeln!(out)?;
                writeln!(out, "  {}", braced(*id))?;
                writeln!(out, "  ______ - ______ - ______ - ______ - ______ - ______ - ______ - ______")?;
            }
        }
        writeln!(out)?;
        writeln!(out, "{CHECK}")?;
        writeln!(out)?;
        writeln!(
            out,
            "Back at the disk: put the 48 digits in a file, then\n    lifeboat recover DISK --recovery-password-file FILE --verify-only"
        )
    }

    /// Where to look, with what to type.
    fn queries(&self) -> Vec<(&'static str, Vec<String>)> {
        let ids: Vec<Guid> = self.volumes.iter().flat_map(|volume| volume.recovery.iter().copied()).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let each = |line: &dyn Fn(Guid) -> String| ids.iter().map(|id| line(*id)).collect::<Vec<_>>();
        let mut directory = each(&|id| {
            format!(
                "Get-ADObject -LDAPFilter '(&(objectClass=msFVE-RecoveryInformation)(msFVE-RecoveryGuid={}))' -Properties msFVE-RecoveryPassword",
                ldap_bytes(id)
            )
        });
        directory
            .push("An object without a password means: no right to read it, not: no password.".to_owned());
        let by_ldap = each(&|id| {
            format!("ldapsearch -b 'DC=...' '(msFVE-RecoveryGuid={})' msFVE-RecoveryPassword", ldap_bytes(id))
        });
        let mut graph = each(&|id| {
            format!(
                "GET https://graph.microsoft.com/v1.0/informationProtection/bitlocker/recoveryKeys/{id}?$select=key"
            )
        });
        graph.extend(each(&|id| {
            format!(
                "Get-MgInformationProtectionBitlockerRecoveryKey -BitlockerRecoveryKeyId {id} -Property key"
            )
        }));
        graph.push("Needs BitlockerKey.Read.All; reading is audited.".to_owned());
        vec![
            ("1. Active Directory, PowerShell", directory),
            ("2. Active Directory, any LDAP client", by_ldap),
            ("3. Entra ID (Microsoft Graph)", graph),
            (
                "4. MBAM or Configuration Manager",
                each(&|id| {
                    format!(
                        "SELECT RecoveryKey FROM RecoveryAndHardwareCore_Keys WHERE RecoveryKeyId = '{id}'"
                    )
                }),
            ),
            (
                "5. Files and paper",
                each(&|id| {
                    let short = id.to_string().to_uppercase();
                    format!(
                        "search for {} (often only the first eight characters are printed: {})",
                        short,
                        &short[..8]
                    )
                }),
            ),
        ]
    }
}

/// How a person checks a block.
const CHECK: &str = "Check each block before sending: as a number it divides by 11 without rest and is below 720896. So a mistyped digit shows.";

impl CardVolume {
    fn remarks(&self) -> Vec<&'static str> {
        let mut remarks = Vec::new();
        if self.recovery.is_empty() {
            remarks.push("No recovery password belongs to this volume: no directory can have one.");
        }
        if self.has_password {
            remarks.push("People unlock it with a password: whoever used the machine may know it.");
        }
        if self.has_tpm {
            remarks.push(
                "It opens by itself in its VM: a backup or export of the VM with its vTPM state helps too.",
            );
        }
        remarks
    }
}

fn braced(id: Guid) -> String {
    format!("{{{}}}", id.to_string().to_uppercase())
}

/// The bytes of a GUID as an LDAP filter wants them.
fn ldap_bytes(id: Guid) -> String {
    id.0.iter().map(|byte| format!("\\{byte:02X}")).collect()
}

/// Text from elsewhere without control characters, and without what turns the reading order.
fn plain(text: &str) -> String {
    let acts = |one: char| {
        one.is_control()
            || matches!(one, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
    };
    text.chars().map(|one| if acts(one) { '\u{fffd}' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> HandoverCard {
        let id: Guid = "64311dea-4587-4029-924a-ba299647998e".parse().unwrap();
        HandoverCard {
            volumes: vec![CardVolume {
                disk: "web<01>.vhdx".to_owned(),
                number: 3,
                volume_id: id,
                description: Some("WEB01 & C: \"1/1/2020\"".to_owned()),
                recovery: vec![id],
                external: vec![id],
                thumbprints: vec![[0xab; 20]],
                has_password: true,
                has_tpm: true,
            }],
        }
    }

    #[test]
    fn the_queries_are_those_that_directories_take() {
        let text = card().text();
        for expected in [
            r"(msFVE-RecoveryGuid=\EA\1D\31\64\87\45\29\40\92\4A\BA\29\96\47\99\8E)",
            "recoveryKeys/64311dea-4587-4029-924a-ba299647998e?$select=key",
            "{64311DEA-4587-4029-924A-BA299647998E}",
            "64311DEA-4587-4029-924A-BA299647998E.BEK",
            "volume 3",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn text_from_a_disk_does_not_turn_what_stands_beside_it() {
        assert_eq!(plain("\u{202e}drow\nssap \u{2066}\u{61c}"), "\u{fffd}drow\u{fffd}ssap \u{fffd}\u{fffd}");
        assert_eq!(plain("Straße 1"), "Straße 1");
    }

    #[test]
    fn the_page_needs_nothing_else_and_text_stays_text() {
        let page = card().html();
        assert!(page.starts_with("<!doctype html>"));
        assert!(page.contains("web&lt;01&gt;.vhdx") && page.contains("WEB01 &amp; C: &quot;1/1/2020&quot;"));
        for tag in ["<link", "src=", "@import", "url("] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert_eq!(page.matches("class=\"block\"").count(), 8);
        assert!(page.contains(r"\EA\1D\31\64"));
    }
}
