//! Asks a Host Guardian Service (HGS) for the public metadata of its guardian: [MS-KPS] GetMetaData.
//!
//! Below `lifeboat guardian fetch` and the agent's source for it. One GET, bounded in time, size and redirects; the answer
//! must be guardian metadata whose signatures do not contradict it.
//!
//! **What it proves.** An HGS speaks http by default, and the document is signed by the very certificate that it brings:
//! whoever answers in place of the HGS can make one that is right in itself. Signatures show that the pair belongs
//! together, not whose it is. That is known only from elsewhere: `Get-HgsKeyProtectionCertificate` on the HGS, whose thumbprint
//! [`FetchOptions::signing_certificate`] takes.
//!
//! Deliberately sends nothing but the GET (no credentials, no cookies, through no proxy), and never attests or asks for a key.

#![forbid(unsafe_code)]

use std::time::Duration;

use lifeboat_key_protector::{AlgorithmRegistry, Check, GuardianMetadata};
use lifeboat_schema::Digest;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};
use url::Url;

/// Where an HGS has its metadata ([MS-KPS] 3.1.5.2, as Windows asks).
pub const METADATA_PATH: &str = "/KeyProtection/service/metadata/2014-07/metadata.xml";
/// Largest answer that is read: real metadata have some 10 KiB.
pub const MAX_METADATA_BYTES: usize = 1 << 20;
/// Redirects that are followed: from http to https, or from one name to another.
const MAX_REDIRECTS: usize = 3;
/// Time for the connection, of all that there is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to ask.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Time for everything.
    pub timeout: Duration,
    /// SHA-256 thumbprint that the primary signing certificate must have.
    pub signing_certificate: Option<Digest>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), signing_certificate: None }
    }
}

/// Guardian metadata as an HGS gave them.
#[derive(Debug)]
pub struct Fetched {
    /// The address that was asked.
    pub url: String,
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// The same, read.
    pub metadata: GuardianMetadata,
}

/// Why an HGS gave no metadata that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HgsError {
    /// The address is none.
    #[error(
        "{url:?} cannot be asked: {why}. Give the address of the HGS, such as http://hgs.example.com, or of its metadata.xml"
    )]
    BadUrl {
        /// The address.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// There was no answer.
    #[error(
        "{url} does not answer: {why}. Look at the address, the name service and the firewall; the HGS answers on port 80 or 443"
    )]
    NoAnswer {
        /// The address.
        url: String,
        /// What happened.
        why: String,
    },
    /// The answer is a refusal.
    #[error("{url} answers {status}. Metadata of an HGS lie at {METADATA_PATH}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The answer is too long.
    #[error(
        "{url} answers with more than {MAX_METADATA_BYTES} bytes; guardian metadata have some 10 KiB. Is it an HGS?"
    )]
    TooLarge {
        /// The address.
        url: String,
    },
    /// The answer is something else.
    #[error("{url} answers with no guardian metadata: {source}. Is it an HGS?")]
    NotMetadata {
        /// The address.
        url: String,
        /// What is wrong.
        #[source]
        source: lifeboat_key_protector::Error,
    },
    /// The document contradicts itself.
    #[error(
        "{url} answers with guardian metadata whose signature of the {certificate} certificate is wrong: they were altered. Nothing is kept of them; ask whoever runs the HGS"
    )]
    Altered {
        /// The address.
        url: String,
        /// The certificate.
        certificate: &'static str,
    },
    /// It is another guardian than was expected.
    #[error(
        "{url} shows the signing certificate {found}, and {expected} is expected: another machine answers, or the HGS has a new primary certificate. Compare with Get-HgsKeyProtectionCertificate there before the new one is expected"
    )]
    OtherCertificate {
        /// The address.
        url: String,
        /// What it shows.
        found: Digest,
        /// What it should show.
        expected: Digest,
    },
}

/// The address of an HGS's metadata: `text` itself, or with the usual path where it names a server alone.
///
/// # Errors
/// [`HgsError::BadUrl`].
pub fn metadata_url(text: &str) -> Result<Url, HgsError> {
    let bad = |why| HgsError::BadUrl { url: text.to_owned(), why };
    let mut url = Url::parse(text).map_err(|_| bad("it is no address"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad("it does not begin with http:// or https:// and a name"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it holds a user name, and metadata are public"));
    }
    if matches!(url.path(), "" | "/") {
        url.set_path(METADATA_PATH);
    }
    Ok(url)
}

/// Asks an HGS for the metadata of its guardian, and checks what it answers.
///
/// # Errors
/// [`HgsError`].
pub async fn fetch(address: &str, options: &FetchOptions) -> Result<Fetched, HgsError> {
    let url = metadata_url(address)?;
    let text = url.to_string();
    // Set by whoever comes first in a process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .timeout(options.timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::custom(redirect))
        .no_proxy()
        .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| no_answer(&text, &error))?;
    let response = client.get(url).send().await.map_err(|error| no_answer(&text, &error))?;
    if response.status() != StatusCode::OK {
        return Err(HgsError::Status { url: text, status: response.status() });
    }
    let bytes = body(&text, response).await?;
    judge(text, bytes, options.signing_certificate)
}

/// Does what [`fetch`] does, on a thread that may block.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_blocking(address: &str, options: &FetchOptions) -> Result<Fetched, HgsError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| HgsError::NoAnswer { url: address.to_owned(), why: error.to_string() })?;
    runtime.block_on(fetch(address, options))
}

/// Reads what is said to be guardian metadata.
fn judge(url: String, bytes: Vec<u8>, expected: Option<Digest>) -> Result<Fetched, HgsError> {
    let metadata = match GuardianMetadata::parse(&bytes) {
        Ok(metadata) => metadata,
        Err(source) => return Err(HgsError::NotMetadata { url, source }),
    };
    let found = metadata.verify(&AlgorithmRegistry::builtin());
    // Unknown algorithms are no contradiction; whoever shows the metadata says that they were not checked.
    for (certificate, check) in
        [("signing", found.signing_certificate), ("encryption", found.encryption_certificate)]
    {
        if check == Check::Invalid {
            return Err(HgsError::Altered { url, certificate });
        }
    }
    let found = Digest::from_bytes(metadata.signing_certificate().sha256().0);
    match expected {
        Some(expected) if expected != found => Err(HgsError::OtherCertificate { url, found, expected }),
        _ => Ok(Fetched { url, bytes, metadata }),
    }
}

/// Follows a few redirects, and none that leaves https.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_https = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("it redirects without end")
    } else if was_https && attempt.url().scheme() != "https" {
        attempt.error("it redirects to where no https protects the answer")
    } else {
        attempt.follow()
    }
}

/// Reads an answer up to its limit.
async fn body(url: &str, mut response: Response) -> Result<Vec<u8>, HgsError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(url, &error))? {
        if bytes.len() + chunk.len() > MAX_METADATA_BYTES {
            return Err(HgsError::TooLarge { url: url.to_owned() });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn no_answer(url: &str, error: &reqwest::Error) -> HgsError {
    // The innermost cause tells most; the outer ones repeat the address.
    let mut why = if error.is_timeout() { "not in time".to_owned() } else { String::new() };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.filter(|_| !error.is_timeout()) {
        why = inner.to_string();
        cause = inner.source();
    }
    if why.is_empty() {
        why = "the connection failed".to_owned();
    }
    HgsError::NoAnswer { url: url.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_alone_gets_the_usual_path() {
        for text in ["http://hgs.example.com", "http://hgs.example.com/", "https://hgs.example.com:8443"] {
            assert!(metadata_url(text).unwrap().as_str().ends_with(METADATA_PATH), "{text}");
        }
        assert_eq!(metadata_url("http://hgs/other.xml").unwrap().as_str(), "http://hgs/other.xml");
        for text in ["hgs.example.com", "ftp://hgs", "file:///etc/passwd", "http://me:secret@hgs", "http://"]
        {
            assert!(matches!(metadata_url(text), Err(HgsError::BadUrl { .. })), "{text}");
        }
    }
}
