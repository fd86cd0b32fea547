//! How the agent is watched: metrics, the log, and whom it tells of trouble.
//!
//! Keys, defaults and ranges. Secrets are files that are named here, never values.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `/metrics`, `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address and port; empty: nothing is served. Beyond this machine TLS and a token are needed.
    pub listen: String,
    /// PEM file with the certificate, and those between it and its issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// File whose first line is the bearer token that `/metrics` asks for; at least 16 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9464".to_owned(), tls_certificate: None, tls_key: None, token_file: None }
    }
}

impl MetricsConfig {
    /// The address to listen on; nothing where nothing is served, or the text is none.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }
}

/// Form of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text on a terminal, text with levels for journald under systemd, JSON elsewhere.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object on each line.
    Json,
    /// Text with a level in front that journald understands.
    Journald,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Its form.
    pub format: LogFormat,
    /// What is written, as in `info` or `warn,lifeboat_agent=debug`; the variable `LIFEBOAT_LOG` wins.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// How often a digest is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DigestInterval {
    /// Never.
    #[default]
    Never,
    /// Once a day.
    Daily,
    /// Once a week.
    Weekly,
}

impl DigestInterval {
    /// Seconds between two digests; nothing for never.
    pub const fn seconds(self) -> Option<i64> {
        match self {
            Self::Never => None,
            Self::Daily => Some(24 * 3600),
            Self::Weekly => Some(7 * 24 * 3600),
        }
    }
}

/// Whom the agent tells of trouble, and that it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// How often a digest is sent.
    pub digest: DigestInterval,
    /// While trouble lasts it is told again after so many hours (1 to 720).
    pub repeat_hours: u32,
    /// Services that get a signed request.
    #[serde(rename = "webhook", skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<WebhookConfig>,
    /// People who get mail.
    #[serde(rename = "mail", skip_serializing_if = "Vec::is_empty")]
    pub mails: Vec<MailConfig>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self { digest: DigestInterval::Never, repeat_hours: 24, webhooks: Vec::new(), mails: Vec::new() }
    }
}

/// A service that gets a signed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Name for messages.
    pub name: String,
    /// `https://...`; without TLS only on this machine.
    pub url: String,
    /// File whose first line is the key of the signature (HMAC-SHA-256); at least 16 characters.
    pub secret_file: PathBuf,
    /// PEM file of issuers that are trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MailTls {
    /// TLS is begun on a plain connection, and required.
    #[default]
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// None: for a server on this machine only, without a password.
    None,
}

/// People who get mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// Name for messages.
    pub name: String,
    /// The mail server.
    pub server: String,
    /// Its port [default: 587, 465 or 25, by `tls`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: MailTls,
    /// Name to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File whose first line is the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whom it comes from.
    pub from: String,
    /// Whom it goes to.
    pub to: Vec<String>,
}

/// Makes the paths of these sections relative to the configuration's folder.
pub(crate) fn resolve(folder: &Path, metrics: &mut MetricsConfig, notify: &mut NotifyConfig) {
    for path in [&mut metrics.tls_certificate, &mut metrics.tls_key, &mut metrics.token_file] {
        *path = path.take().map(|path| folder.join(path));
    }
    for hook in &mut notify.webhooks {
        hook.secret_file = folder.join(&hook.secret_file);
        hook.ca_certificate = hook.ca_certificate.take().map(|path| folder.join(path));
    }
    for mail in &mut notify.mails {
        mail.password_file = mail.password_file.take().map(|path| folder.join(path));
    }
}

/// The first value that is out of its range: its key, and why.
pub(crate) fn out_of_range(
    metrics: &MetricsConfig,
    notify: &NotifyConfig,
) -> Option<(&'static str, &'static str)> {
    let address = metrics.address();
    let beyond = address.is_some_and(|address| !address.ip().is_loopback());
    let tls = metrics.tls_certificate.is_some() && metrics.tls_key.is_some();
    let local = |url: &str| {
        ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|own| {
            url.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        })
    };
    let own_server = |server: &str| matches!(server, "localhost" | "127.0.0.1" | "::1");
    let rules = [
        (
            metrics.listen.is_empty() || address.is_some(),
            "metrics.listen",
            "must be an address with a port, such as 127.0.0.1:9464, or empty",
        ),
        (
            metrics.tls_certificate.is_some() == metrics.tls_key.is_some(),
            "metrics.tls_key",
            "and tls_certificate go together",
        ),
        (
            !beyond || (tls && metrics.token_file.is_some()),
            "metrics.listen",
            "is an address that others reach: give tls_certificate, tls_key and token_file, or listen on 127.0.0.1",
        ),
        ((1..=720).contains(&notify.repeat_hours), "notify.repeat_hours", "must be 1 to 720"),
        (
            notify.webhooks.iter().all(|hook| hook.url.starts_with("https://") || local(&hook.url)),
            "notify.webhook.url",
            "must begin with https:// (http:// only on this machine)",
        ),
        (
            notify
                .webhooks
                .iter()
                .all(|hook| !hook.url.split('/').nth(2).is_some_and(|host| host.contains('@'))),
            "notify.webhook.url",
            "holds credentials; the signature tells who sent it",
        ),
        (notify.mails.iter().all(|mail| !mail.to.is_empty()), "notify.mail.to", "is empty; name someone"),
        (
            notify.mails.iter().all(|mail| mail.user.is_some() == mail.password_file.is_some()),
            "notify.mail.password_file",
            "and user go together",
        ),
        (
            notify
                .mails
                .iter()
                .all(|mail| mail.tls != MailTls::None || (own_server(&mail.server) && mail.user.is_none())),
            "notify.mail.tls",
            "can be none only for a server on this machine, without a password",
        ),
    ];
    rules.into_iter().find(|(holds, ..)| !holds).map(|(_, key, why)| (key, why))
}
