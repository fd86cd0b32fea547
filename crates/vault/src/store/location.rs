//! Parses the URL of a store.
//!
//! A URL names a place and nothing else: credentials, ports of a bucket, queries and escapes are refused, and
//! no refused URL is repeated in full where it could hold a password.

use std::fmt;
use std::path::PathBuf;

use super::error::StoreError;

/// Longest prefix in bytes: with the longest object name it stays below S3's key limit of 1,024.
const MAX_PREFIX_BYTES: usize = 400;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A folder of this machine.
    File(PathBuf),
    /// A bucket of an S3-compatible service.
    S3(Bucket),
    /// A container of Azure Blob Storage.
    Azure(Bucket),
    /// A bucket of Google Cloud Storage.
    Google(Bucket),
    /// This process's memory.
    Memory,
}

/// A bucket (or container) and the prefix below which the vault lies, without slashes at its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) prefix: String,
}

const FORMS: &str = "Give one of file:///folder, s3://bucket/prefix, az://container/prefix, \
                     gs://bucket/prefix.";

fn refuse(what: impl Into<String>, next: &str) -> StoreError {
    StoreError::configuration(what, next.to_owned())
}

impl Location {
    /// Parses `url`.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(refuse("the store's URL has no scheme", FORMS));
        };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "file" => Ok(Self::File(folder(rest)?)),
            "s3" => Ok(Self::S3(bucket("s3", rest, is_s3_bucket)?)),
            "az" => Ok(Self::Azure(bucket("az", rest, is_container)?)),
            "gs" => Ok(Self::Google(bucket("gs", rest, is_s3_bucket)?)),
            "memory" if rest.is_empty() || rest == "/" => Ok(Self::Memory),
            "memory" => Err(refuse("a memory:// store has no name", "Give memory:// alone.")),
            "http" | "https" => Err(refuse(
                format!("a store's URL cannot begin with {scheme}://"),
                "For an S3-compatible server give s3://bucket/prefix, and its address as the store's endpoint \
                 (or in AWS_ENDPOINT_URL).",
            )),
            _ => Err(refuse("the store's URL has an unknown scheme", FORMS)),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(folder) => match url::Url::from_directory_path(folder) {
                Ok(url) => f.write_str(url.as_str().trim_end_matches('/')),
                Err(()) => write!(f, "file://{}", folder.display()),
            },
            Self::S3(bucket) => write!(f, "s3://{bucket}"),
            Self::Azure(bucket) => write!(f, "az://{bucket}"),
            Self::Google(bucket) => write!(f, "gs://{bucket}"),
            Self::Memory => f.write_str("memory://"),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

fn folder(rest: &str) -> Result<PathBuf, StoreError> {
    const FORM: &str =
        "Give three slashes and an absolute path, as in file:///srv/vault or file:///C:/vault.";
    if rest.contains(['?', '#']) {
        return Err(refuse(
            "a file:// URL has no query and no fragment",
            "Write '?' as %3F and '#' as %23 if the folder's name holds them.",
        ));
    }
    let url = url::Url::parse(&format!("file://{rest}"))
        .map_err(|_| refuse("the file:// URL cannot be parsed", FORM))?;
    if !cfg!(windows) && url.host().is_some() {
        return Err(refuse("the file:// URL names another host, or a path that is not absolute", FORM));
    }
    let path = url.to_file_path().map_err(|()| refuse("the file:// URL names no absolute path", FORM))?;
    if path.parent().is_none() {
        return Err(refuse("the file:// URL names the root of a file system", "Name a folder below it."));
    }
    Ok(path)
}

fn bucket(scheme: &str, rest: &str, is_name: fn(&str) -> bool) -> Result<Bucket, StoreError> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if name.contains('@') {
        return Err(refuse(
            format!("a {scheme}:// URL must not hold credentials"),
            "Give them in the environment or in the service's credentials file, and replace them: what stood \
             on a command line may have been recorded.",
        ));
    }
    if rest.contains(['?', '#', '%', '\\']) {
        return Err(refuse(
            format!("a {scheme}:// URL has no query, no fragment and no escapes"),
            "Give the bucket and a plain prefix; settings belong into the store's options.",
        ));
    }
    if !is_name(name) {
        return Err(refuse(
            format!("{:?} cannot be the name of a bucket", name.chars().take(80).collect::<String>()),
            FORMS,
        ));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    check_prefix(prefix)?;
    Ok(Bucket { name: name.to_owned(), prefix: prefix.to_owned() })
}

/// Checks a prefix inside a bucket: what people call folders, without the signs that some service escapes.
pub(super) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    const RULE: &str = "Use segments of letters, digits and . _ - = between single slashes.";
    if prefix.is_empty() {
        return Ok(());
    }
    if prefix.len() > MAX_PREFIX_BYTES {
        return Err(refuse("the store's prefix is longer than 400 characters", "Choose a shorter one."));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'=');
    for segment in prefix.split('/') {
        if segment.is_empty() || segment == "." || segment == ".." || !segment.bytes().all(allowed) {
            let shown: String = prefix.chars().take(80).collect();
            return Err(refuse(format!("{shown:?} cannot be the prefix of a store"), RULE));
        }
    }
    Ok(())
}

/// Wider than Amazon's rule of today: older buckets and other servers allow capitals and underscores.
fn is_s3_bucket(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (3..=255).contains(&name.len())
        && name.bytes().all(allowed)
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && !name.contains("..")
}

fn is_container(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (3..=63).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_url_is_understood_and_shown_again() {
        for (url, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("S3://My_Bucket.x/a/b/", "s3://My_Bucket.x/a/b"),
            ("az://container/p", "az://container/p"),
            ("gs://bucket/p=1", "gs://bucket/p=1"),
            ("memory://", "memory://"),
            ("memory:///", "memory://"),
        ] {
            assert_eq!(Location::parse(url).unwrap().to_string(), shown);
        }
        #[cfg(unix)]
        for (url, shown) in [
            ("file:///srv/vault", "file:///srv/vault"),
            ("file:///srv/vault/", "file:///srv/vault"),
            ("file://localhost/srv/vault", "file:///srv/vault"),
            ("file:///srv/my vault", "file:///srv/my%20vault"),
            ("file:///srv/a%23b", "file:///srv/a%23b"),
        ] {
            assert_eq!(Location::parse(url).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn odd_urls_are_refused_and_never_repeat_a_password() {
        for url in [
            "",
            "vault",
            "/srv/vault",
            "C:\\vault",
            "file:",
            "file://",
            "file:///",
            "file://./vault",
            "file://server/share",
            "file:///srv?x",
            "s3:/bucket",
            "s3://",
            "s3:///prefix",
            "s3://b",
            "s3://bucket:9000/p",
            "s3://bucket//p",
            "s3://bucket/p//q",
            "s3://bucket/../p",
            "s3://bucket/p?x=1",
            "s3://bucket/p#x",
            "s3://bucket/%2e%2e",
            "s3://bucket/a b",
            "s3://bu..cket",
            "s3://key:hunter2@bucket/p",
            "az://Container",
            "az://c_x_y",
            "gs://[::1]/p",
            "memory://x",
            "https://key:hunter2@host/bucket",
            "http://host",
            "hunter2://x",
            "ftp://host/x",
        ] {
            let error = Location::parse(url).expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.ends_with('.'), "{url}: no advice in {error}");
        }
        let long = format!("s3://bucket/{}", "a/".repeat(300));
        assert!(Location::parse(&long).is_err());
    }
}
