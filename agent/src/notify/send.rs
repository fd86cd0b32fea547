//! Sends messages: webhooks with a signature, mail over TLS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use lifeboat_config::{MailConfig, MailTls, NotifyConfig, WebhookConfig};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Message;

/// How often a message is tried.
const ATTEMPTS: u32 = 3;

/// One attempt may take so long.
const ATTEMPT_TIME: Duration = Duration::from_secs(20);

/// Why a message did not arrive. No variant holds a secret, nor an answer of the other side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// A file with a secret or certificate cannot be used.
    #[error("{path} cannot be used to notify {name}: {why}")]
    File {
        /// Name of the receiver.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An address or a URL cannot be used.
    #[error("{name} cannot be notified as configured: {why}")]
    Configuration {
        /// Name of the receiver.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The other side did not take it.
    #[error("{name} was not notified: {why}")]
    NotTaken {
        /// Name of the receiver.
        name: String,
        /// What happened.
        why: String,
    },
}

/// Sends to everyone that a configuration names.
pub struct Sender {
    config: NotifyConfig,
    pause: Duration,
}

impl Sender {
    /// A sender to these receivers.
    pub fn new(config: &NotifyConfig) -> Self {
        Self { config: config.clone(), pause: Duration::from_secs(5) }
    }

    /// The same, with another pause before the second attempt; later ones wait longer.
    #[must_use]
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Sends to each receiver, however the others fare. `timestamp` is now, in seconds since 1970.
    pub async fn send(&self, message: &Message, timestamp: i64) -> Vec<SendError> {
        let hooks = self.config.webhooks.iter().map(Receiver::Webhook);
        let mut errors = Vec::new();
        for receiver in hooks.chain(self.config.mails.iter().map(Receiver::Mail)) {
            errors.extend(self.repeat(receiver, message, timestamp).await.err());
        }
        errors
    }

    async fn repeat(&self, to: Receiver<'_>, message: &Message, timestamp: i64) -> Result<(), SendError> {
        let mut pause = self.pause;
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let attempt = match to {
                Receiver::Webhook(hook) => webhook(hook, message, timestamp).await,
                Receiver::Mail(to) => mail(to, message).await,
            };
            match attempt {
                Err(SendError::NotTaken { .. }) if left > 0 => {}
                ended => return ended,
            }
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
    }
}

/// Someone who is told.
#[derive(Clone, Copy)]
enum Receiver<'a> {
    Webhook(&'a WebhookConfig),
    Mail(&'a MailConfig),
}

/// What a receiver computes too: HMAC-SHA-256 over `timestamp.body`, in hexadecimal digits.
pub fn signature(secret: &[u8], timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn webhook(hook: &WebhookConfig, message: &Message, timestamp: i64) -> Result<(), SendError> {
    let file =
        |path: &Path, why: String| SendError::File { name: hook.name.clone(), path: path.to_owned(), why };
    let secret = secret(&hook.secret_file).map_err(|why| file(&hook.secret_file, why))?;
    let mut client = reqwest::Client::builder()
        .timeout(ATTEMPT_TIME)
        // A signed message goes where it was addressed.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("lifeboat-agent");
    if let Some(path) = &hook.ca_certificate {
        let pem = std::fs::read(path).map_err(|error| file(path, error.to_string()))?;
        let issuers =
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| file(path, error.to_string()))?;
        client = issuers.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
    }
    // An error says that there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wrong = |why: String| SendError::Configuration { name: hook.name.clone(), why };
    let client = client.build().map_err(|error| wrong(error.to_string()))?;
    let body = serde_json::to_vec(message).expect("plain values");
    let request = client
        .post(&hook.url)
        .header("Content-Type", "application/json")
        .header("X-Lifeboat-Timestamp", timestamp.to_string())
        .header("X-Lifeboat-Signature", format!("sha256={}", signature(secret.as_bytes(), timestamp, &body)))
        .body(body);
    let failed = |why: String| SendError::NotTaken { name: hook.name.clone(), why };
    // The URL of a webhook is often a secret by itself.
    let response = request.send().await.map_err(|error| failed(error.without_url().to_string()))?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(failed(format!("it answered with HTTP status {}", status.as_u16()))),
    }
}

async fn mail(to: &MailConfig, message: &Message) -> Result<(), SendError> {
    let wrong = |why: String| SendError::Configuration { name: to.name.clone(), why };
    let mut mail = lettre::Message::builder()
        .from(to.from.parse().map_err(|error| wrong(format!("from {}: {error}", to.from)))?)
        .subject(format!("[lifeboat] {}", message.subject))
        .header(ContentType::TEXT_PLAIN);
    for receiver in &to.to {
        mail = mail.to(receiver.parse().map_err(|error| wrong(format!("to {receiver}: {error}")))?);
    }
    let mail = mail.body(message.text()).map_err(|error| wrong(error.to_string()))?;
    let builder = match to.tls {
        MailTls::StartTls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(&to.server),
        MailTls::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(&to.server),
        MailTls::None => Ok(AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&to.server)),
    };
    let mut builder = builder.map_err(|error| wrong(error.to_string()))?.timeout(Some(ATTEMPT_TIME));
    if let Some(port) = to.port {
        builder = builder.port(port);
    }
    if let (Some(user), Some(path)) = (&to.user, &to.password_file) {
        let file = |why| SendError::File { name: to.name.clone(), path: path.clone(), why };
        let password = secret(path).map_err(file)?;
        builder = builder.credentials(Credentials::new(user.clone(), password.as_str().to_owned()));
    }
    let sent = builder.build::<Tokio1Executor>().send(mail).await;
    sent.map(drop).map_err(|error| SendError::NotTaken { name: to.name.clone(), why: error.to_string() })
}

/// The first line of a file that only its owner reads.
fn secret(path: &Path) -> Result<Zeroizing<String>, String> {
    #[cfg(unix)]
    {
        let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!("others can read it (mode {mode:03o}); run `chmod 600` on it"));
        }
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| error.to_string())?);
    match text.lines().next().map(str::trim) {
        None | Some("") => Err("its first line is empty".to_owned()),
        Some(line) => Ok(Zeroizing::new(line.to_owned())),
    }
}
