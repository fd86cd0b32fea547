//! Settings of a store: how often, how long, where and under which certificate.
//!
//! The shape a configuration file gives them; every key may be absent. What stands here wins over the
//! environment, the environment wins over profile files. No credential has a place here.

use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::StoreError;

/// Longest time limit that can be set, in seconds: one day; more is a mistyped number.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// Settings of a store. Unknown keys are refused.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Requests under way at once, 1 to 1024.
    pub concurrency: NonZeroU16,
    /// What happens after a request that failed for a passing reason.
    pub retry: RetryOptions,
    /// Seconds until a connection must stand.
    pub connect_timeout_seconds: u64,
    /// Seconds until one request, with its whole body, must be answered.
    pub request_timeout_seconds: u64,
    /// Region of an `s3://` bucket; else `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile, `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// URL of the service; needed for S3-compatible servers other than Amazon's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Where an `s3://` bucket's name goes: into the host name or into the path.
    pub addressing: Addressing,
    /// Profile in the AWS files whose credentials are used even if the environment holds others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Storage account of an `az://` container; else `AZURE_STORAGE_ACCOUNT_NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Allows a service without TLS on a host other than this one.
    pub allow_http: bool,
    /// PEM file of certificates that are trusted besides the system's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
    /// Proxy for all requests; else `HTTPS_PROXY`, `ALL_PROXY` with the exceptions of `NO_PROXY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    /// How a `file://` store gives a finished file its name.
    pub file_create: FileCreate,
}

/// What happens after a request that failed for a passing reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RetryOptions {
    /// Attempts after the first; 0 turns retries off.
    pub max_retries: u16,
    /// Milliseconds before the first retry; later ones wait longer, at random.
    pub initial_backoff_milliseconds: u64,
    /// Longest wait between two attempts in seconds.
    pub max_backoff_seconds: u64,
    /// Seconds after which an operation has failed, whatever it was waiting for.
    pub total_timeout_seconds: u64,
}

/// Where the bucket's name goes in requests to an S3 service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Addressing {
    /// The profile's `addressing_style`; else the host name at Amazon, the path at every other endpoint.
    #[default]
    Auto,
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    VirtualHosted,
}

/// How a `file://` store gives a finished file its name without ever replacing another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FileCreate {
    /// A rename that refuses to replace; a hard link where the file system has no such rename.
    #[default]
    Auto,
    /// Only by rename: for file systems without hard links.
    Rename,
    /// Only by hard link: for file systems whose rename may replace.
    HardLink,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            concurrency: const { NonZeroU16::new(16).expect("16 is not zero") },
            retry: RetryOptions::default(),
            connect_timeout_seconds: 10,
            request_timeout_seconds: 90,
            region: None,
            endpoint: None,
            addressing: Addressing::Auto,
            profile: None,
            account: None,
            allow_http: false,
            ca_certificate: None,
            proxy_url: None,
            file_create: FileCreate::Auto,
        }
    }
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            max_retries: 8,
            initial_backoff_milliseconds: 100,
            max_backoff_seconds: 15,
            total_timeout_seconds: 240,
        }
    }
}

impl StoreOptions {
    /// Refuses numbers that cannot be meant.
    pub fn check(&self) -> Result<(), StoreError> {
        let bad = |key: &str, rule: &str| {
            Err(StoreError::configuration(format!("the store's {key} is out of range"), rule.to_owned()))
        };
        if self.concurrency.get() > 1024 {
            return bad("concurrency", "Give a number from 1 to 1024.");
        }
        for (key, seconds) in [
            ("connect_timeout_seconds", self.connect_timeout_seconds),
            ("request_timeout_seconds", self.request_timeout_seconds),
            ("retry.total_timeout_seconds", self.retry.total_timeout_seconds),
            ("retry.max_backoff_seconds", self.retry.max_backoff_seconds),
        ] {
            if seconds == 0 || seconds > MAX_SECONDS {
                return bad(key, "Give a number of seconds from 1 to 86400.");
            }
        }
        if self.retry.initial_backoff_milliseconds == 0
            || self.retry.initial_backoff_milliseconds > self.retry.max_backoff_seconds * 1000
        {
            return bad(
                "retry.initial_backoff_milliseconds",
                "Give at least 1, and no more than max_backoff_seconds.",
            );
        }
        Ok(())
    }

    pub(super) fn total_timeout(&self) -> Duration {
        Duration::from_secs(self.retry.total_timeout_seconds)
    }

    pub(super) fn initial_backoff(&self) -> Duration {
        Duration::from_millis(self.retry.initial_backoff_milliseconds)
    }

    pub(super) fn max_backoff(&self) -> Duration {
        Duration::from_secs(self.retry.max_backoff_seconds)
    }
}

/// A proxy's URL may hold a password, so its presence is all that shows.
impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("concurrency", &self.concurrency)
            .field("retry", &self.retry)
            .field("connect_timeout_seconds", &self.connect_timeout_seconds)
            .field("request_timeout_seconds", &self.request_timeout_seconds)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("addressing", &self.addressing)
            .field("profile", &self.profile)
            .field("account", &self.account)
            .field("allow_http", &self.allow_http)
            .field("ca_certificate", &self.ca_certificate)
            .field("proxy_url", &self.proxy_url.as_ref().map(|_| "set"))
            .field("file_create", &self.file_create)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_may_be_absent_and_none_may_be_unknown() {
        let read = |text: &str| toml::from_str::<StoreOptions>(text);
        assert_eq!(read("").unwrap(), StoreOptions::default());
        let some =
            read("concurrency = 4\naddressing = 'virtual-hosted'\n[retry]\nmax_retries = 0\n").unwrap();
        assert_eq!((some.concurrency.get(), some.addressing), (4, Addressing::VirtualHosted));
        assert_eq!(some.retry, RetryOptions { max_retries: 0, ..RetryOptions::default() });
        for text in [
            "concurency = 4",
            "[retry]\nretries = 1",
            "addressing = 'dns'",
            "concurrency = 0",
            "secret_key = 'x'",
        ] {
            assert!(read(text).is_err(), "{text} was accepted");
        }
        let written = toml::to_string(&some).unwrap();
        assert_eq!(read(&written).unwrap(), some);
    }

    #[test]
    fn numbers_that_cannot_be_meant_are_refused() {
        let read = |text: &str| toml::from_str::<StoreOptions>(text).unwrap().check();
        for text in ["", "concurrency = 1024", "connect_timeout_seconds = 86400"] {
            assert_eq!(read(text), Ok(()), "{text}");
        }
        for text in [
            "concurrency = 1025",
            "connect_timeout_seconds = 0",
            "request_timeout_seconds = 86401",
            "[retry]\ntotal_timeout_seconds = 0",
            "[retry]\nmax_backoff_seconds = 0",
            "[retry]\ninitial_backoff_milliseconds = 0",
            "[retry]\nmax_backoff_seconds = 1\ninitial_backoff_milliseconds = 1001",
        ] {
            let error = read(text).expect_err(text);
            assert!(matches!(error, StoreError::Configuration { .. }), "{error:?}");
        }
    }

    #[test]
    fn debug_does_not_show_a_proxys_password() {
        let options = StoreOptions {
            proxy_url: Some("http://u:hunter2@proxy:1".to_owned()),
            ..StoreOptions::default()
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
