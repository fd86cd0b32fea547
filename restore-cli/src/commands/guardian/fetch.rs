//! `lifeboat guardian fetch`.

use std::path::PathBuf;
use std::time::Duration;

use lifeboat_guardian::inspect;
use lifeboat_hgs::{FetchOptions, HgsError, fetch};
use lifeboat_schema::{Digest, Exit, Severity};

use super::super::{Context, now, write_private};
use super::look;
use crate::commands::is_there;
use crate::error::CliError;
use crate::output;

/// Fetches the guardian metadata of a Host Guardian Service.
///
/// An HGS speaks http, and the document vouches for itself: who answers in its place can make one that verifies. Compare
/// the thumbprint of the signing certificate with Get-HgsKeyProtectionCertificate on the HGS before access is granted to it,
/// or give it with --signing-certificate. Needs no vault.
#[derive(clap::Args)]
pub(crate) struct Fetch {
    /// Address of the HGS, such as `http://hgs.example.com`, or of its metadata.xml.
    #[arg(value_name = "URL")]
    url: String,
    /// New file for the metadata; without it they are only shown.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// SHA-256 thumbprint that the signing certificate must have.
    #[arg(long, value_name = "HEX", value_parser = thumbprint)]
    signing_certificate: Option<Digest>,
    /// Longest time for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout_seconds: u64,
}

/// A thumbprint as tools show it: of either case, with spaces or colons between its digits.
fn thumbprint(text: &str) -> Result<Digest, String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ' ' | ':' | '-')).collect();
    digits
        .to_lowercase()
        .parse()
        .map_err(|_| "it is no SHA-256 thumbprint, which has 64 hex digits".to_owned())
}

pub(super) async fn run(context: &Context, arguments: &Fetch) -> Result<Exit, CliError> {
    if let Some(out) = arguments.out.as_ref().filter(|out| out.symlink_metadata().is_ok()) {
        return Err(is_there(out));
    }
    let options = FetchOptions {
        timeout: Duration::from_secs(arguments.timeout_seconds),
        signing_certificate: arguments.signing_certificate,
    };
    let fetched = fetch(&arguments.url, &options).await.map_err(|error| {
        let exit = match error {
            HgsError::BadUrl { .. } => Exit::Usage,
            HgsError::Altered { .. } | HgsError::OtherCertificate { .. } => Exit::Damage,
            _ => Exit::Failed,
        };
        CliError::new(exit, format!("{error}. Nothing was written"))
    })?;
    let mut report = inspect(&fetched.url, &fetched.bytes, None, now());
    let is_damaged = report.findings.iter().any(|finding| finding.severity == Severity::Damage);
    if let Some(out) = arguments.out.as_ref().filter(|_| !is_damaged) {
        write_private(out, &fetched.bytes)?;
        report.file = out.display().to_string();
    }
    if context.json {
        output::json(&report);
    } else {
        look::print(&report, false);
        if arguments.signing_certificate.is_none() {
            output::line(
                "Whose these are, nothing here proves: compare the signing certificate with Get-HgsKeyProtectionCertificate on the HGS.",
            );
        }
        if let Some(out) = arguments.out.as_ref().filter(|_| !is_damaged) {
            output::line(format!("Written: {}", output::plain(&out.display().to_string())));
        }
    }
    Ok(Exit::of(&report.findings))
}
