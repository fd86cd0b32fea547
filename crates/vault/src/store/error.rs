//! What can go wrong with a store, by meaning, and how the errors of its many layers are read.
//!
//! Each message says what happened, why, and what to do next. The layers below are read but not kept: a
//! server's answer may repeat a session token or the signed request, so of an answer only its status, its
//! error code and a bounded part of its message get into a text.

use std::io;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};
use zeroize::Zeroizing;

/// Longest text taken from a server or an operating system.
const MAX_CAUSE_CHARS: usize = 300;

/// Says why an operation on a store did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL, the options, the environment or a profile file cannot be used as they are.
    #[error("{what}. {next}")]
    Configuration {
        /// What is wrong, without a full stop.
        what: String,
        /// What to do, as a sentence.
        next: String,
    },
    /// Nothing stands under this name.
    #[error("{path} is not in {store}. If it should be, run `lifeboat check` on the vault.")]
    NotFound {
        /// Name of the object, or of the place that was looked into.
        path: String,
        /// The store.
        store: String,
    },
    /// The store knows who is asking, or refuses to find out, and says no.
    #[error("{store} did not allow to {action} {path}: {cause}. {next}")]
    Denied {
        /// What was tried.
        action: Action,
        /// Name of the object.
        path: String,
        /// The store.
        store: String,
        /// The refusal.
        cause: String,
        /// What to do, as a sentence.
        next: String,
    },
    /// The store did not answer, or answered that it cannot now. Trying again later may help.
    #[error(
        "{store} could not be reached to {action} {path}: {cause}. \
         Check the network, the endpoint and the service, then try again."
    )]
    Unreachable {
        /// What was tried.
        action: Action,
        /// Name of the object.
        path: String,
        /// The store.
        store: String,
        /// The last failure.
        cause: String,
    },
    /// Another object stands under a name that is given only once.
    #[error(
        "{path} in {store} already holds something else: {detail}. Nothing was overwritten. \
         Run `lifeboat check`: the object was damaged or replaced, or another writer uses the same name."
    )]
    Conflict {
        /// Name of the object.
        path: String,
        /// The store.
        store: String,
        /// What differs.
        detail: String,
    },
    /// The store has no room, or the quota is used up.
    #[error(
        "{store} is full: {path} could not be written: {cause}. Free space or raise the quota, then run again."
    )]
    Full {
        /// Name of the object.
        path: String,
        /// The store.
        store: String,
        /// The refusal.
        cause: String,
    },
    /// An object is larger than the reader allows; nothing of it was kept.
    #[error(
        "{path} in {store} has {size_bytes} bytes, more than the {max_bytes} that it may have. \
         It was not read. Run `lifeboat check`."
    )]
    TooLarge {
        /// Name of the object.
        path: String,
        /// The store.
        store: String,
        /// What the store says or has sent so far.
        size_bytes: u64,
        /// The reader's limit.
        max_bytes: u64,
    },
    /// Fewer (or other) bytes came than were asked for.
    #[error(
        "{path} in {store} gave {found_bytes} bytes where {expected_bytes} were asked for. Run `lifeboat check`."
    )]
    Short {
        /// Name of the object.
        path: String,
        /// The store.
        store: String,
        /// Bytes asked for.
        expected_bytes: u64,
        /// Bytes that came.
        found_bytes: u64,
    },
    /// A listing does not end within the limit.
    #[error(
        "the listing of {path} in {store} has more than {max} names. Give this vault a prefix of its own."
    )]
    TooMany {
        /// Prefix that was listed.
        path: String,
        /// The store.
        store: String,
        /// The limit.
        max: usize,
    },
    /// The store cannot do what a vault needs.
    #[error("{store} cannot {action} {path}: {cause}. Use another store or file system.")]
    Unsupported {
        /// What was tried.
        action: Action,
        /// Name of the object.
        path: String,
        /// The store.
        store: String,
        /// What is missing.
        cause: String,
    },
    /// Anything else; the cause is all that is known.
    #[error(
        "{store} failed to {action} {path}: {cause}. If this repeats, test the store with its own tools."
    )]
    Other {
        /// What was tried.
        action: Action,
        /// Name of the object.
        path: String,
        /// The store.
        store: String,
        /// What the store said.
        cause: String,
    },
}

/// What was tried, as a verb for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Opening the store.
    Open,
    /// Writing a new object.
    Create,
    /// Reading an object or a part of it.
    Read,
    /// Asking for an object's size.
    LookUp,
    /// Listing names.
    List,
    /// Finding out what can be done to an object.
    Probe,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::LookUp => "look up",
            Self::List => "list",
            Self::Probe => "probe",
        })
    }
}

impl StoreError {
    pub(super) fn configuration(what: impl Into<String>, next: String) -> Self {
        Self::Configuration { what: what.into(), next }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether the store has no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Whether access was refused.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }
}

/// Reads errors of one store: knows its name for messages, and the secrets that must not get into them.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) store: String,
    pub(super) secrets: Vec<Zeroizing<String>>,
}

/// What an error of a put says about the object's existence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PutFailure {
    /// The store says that the object is there; it may be mistaken (a 409 of a race looks the same).
    SaysExists,
    /// The request or its answer was lost half-way, and no layer below repeats a put.
    Lost,
    /// The store says that it failed; it may have written the object nevertheless.
    Passing,
    /// The store refused.
    Refused,
}

impl Reader {
    pub(super) fn put_failure(&self, error: &object_store::Error) -> PutFailure {
        use object_store::Error as E;
        if matches!(error, E::AlreadyExists { .. } | E::Precondition { .. }) {
            return PutFailure::SaysExists;
        }
        if let Some(kind) = http_kind(error)
            && matches!(kind, HttpErrorKind::Timeout | HttpErrorKind::Interrupted | HttpErrorKind::Unknown)
        {
            return PutFailure::Lost;
        }
        match self.read(Action::Create, "", error) {
            StoreError::Unreachable { .. } => PutFailure::Passing,
            _ => PutFailure::Refused,
        }
    }

    /// For a name that the store calls taken although nothing is found under it.
    pub(super) fn says_exists(&self, path: &str) -> StoreError {
        let cause = "it says that the name is taken, but shows no object of that name".to_owned();
        let (action, path, store) = (Action::Create, path.to_owned(), self.store.clone());
        StoreError::Unreachable { action, path, store, cause }
    }

    pub(super) fn timed_out(&self, action: Action, path: &str, limit: Duration) -> StoreError {
        let cause = format!("no success within {} s", limit.as_secs());
        StoreError::Unreachable { action, path: path.to_owned(), store: self.store.clone(), cause }
    }

    /// For a question to the service itself that no answer came to.
    pub(super) fn unreachable(&self, action: Action, path: &str, cause: &str) -> StoreError {
        let (path, store, cause) = (path.to_owned(), self.store.clone(), self.clean(cause));
        StoreError::Unreachable { action, path, store, cause }
    }

    /// Turns an error of the layers below into ours.
    pub(super) fn read(&self, action: Action, path: &str, error: &object_store::Error) -> StoreError {
        use object_store::Error as E;
        let (path, store) = (path.to_owned(), self.store.clone());
        let text = error.to_string();
        let status = http_status(&text);
        let code = element(&text, "Code").unwrap_or_default();
        let cause = self.cause(error, &text, status);
        let denied = |next: &str| StoreError::Denied {
            action,
            path: path.clone(),
            store: store.clone(),
            cause: cause.clone(),
            next: next.to_owned(),
        };

        // A server's own words say more than the status that carries them.
        match code {
            "NoSuchBucket" | "ContainerNotFound" => {
                return StoreError::configuration(
                    format!("the bucket of {store} does not exist"),
                    "Create it first, or correct the store's URL, region and endpoint.".to_owned(),
                );
            }
            "RequestTimeTooSkewed" => return denied("Set this machine's clock: requests carry their time."),
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "InvalidClientTokenId" => {
                return denied("Replace the credentials (environment or profile) with valid ones.");
            }
            "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
                return StoreError::configuration(
                    format!("{store} is in another region than the one that was asked: {cause}"),
                    "Set the store's region (or AWS_REGION) to the bucket's.".to_owned(),
                );
            }
            "QuotaExceeded"
            | "ServiceQuotaExceeded"
            | "InsufficientStorage"
            | "XMinioStorageFull"
            | "StorageQuotaExceeded" => return StoreError::Full { path, store, cause },
            _ => {}
        }
        if text.contains("redirect without LOCATION") || matches!(status, Some(301 | 307 | 308)) {
            return StoreError::configuration(
                format!("{store} is not in the region or at the endpoint that was asked"),
                "Set the store's region (or AWS_REGION) to the bucket's.".to_owned(),
            );
        }
        if text.contains("169.254.169.254") || text.contains("169.254.170.2") {
            return denied(
                "No credentials were found in the environment or in profile files, and this machine's \
                 metadata service gave none. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
            );
        }
        match error {
            E::NotFound { .. } => return StoreError::NotFound { path, store },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                return denied(
                    "Check the credentials, and what the store's policy grants them; some services answer \
                     like this for a missing object if listing is not granted.",
                );
            }
            E::NotImplemented { .. } | E::NotSupported { .. } => {
                return StoreError::Unsupported { action, path, store, cause };
            }
            _ => {}
        }
        match status {
            Some(507) => return StoreError::Full { path, store, cause },
            Some(401 | 403) => return denied("Check the credentials and the store's policy."),
            Some(404) => return StoreError::NotFound { path, store },
            Some(501) => return StoreError::Unsupported { action, path, store, cause },
            Some(408 | 409 | 429 | 500..) => {
                return StoreError::Unreachable { action, path, store, cause };
            }
            _ => {}
        }
        if let Some(kind) = http_kind(error) {
            if cause.contains("certificate") {
                return StoreError::configuration(
                    format!("the certificate of {store} is not trusted: {cause}"),
                    "Give the issuer's certificate as the store's ca_certificate (or in AWS_CA_BUNDLE)."
                        .to_owned(),
                );
            }
            if kind != HttpErrorKind::Decode {
                return StoreError::Unreachable { action, path, store, cause };
            }
        }
        if let Some(kind) = io_error(error).map(io::Error::kind) {
            use io::ErrorKind as K;
            match kind {
                K::StorageFull | K::QuotaExceeded => return StoreError::Full { path, store, cause },
                K::PermissionDenied => {
                    return denied("Check the owner and the permissions of the store's folder.");
                }
                K::ReadOnlyFilesystem => {
                    return denied("The file system is mounted read-only: remount it, or use another store.");
                }
                K::NotFound | K::NotADirectory => return StoreError::NotFound { path, store },
                K::Unsupported => return StoreError::Unsupported { action, path, store, cause },
                K::TimedOut
                | K::ConnectionRefused
                | K::ConnectionReset
                | K::ConnectionAborted
                | K::HostUnreachable
                | K::NetworkUnreachable
                | K::NetworkDown
                | K::StaleNetworkFileHandle => {
                    return StoreError::Unreachable { action, path, store, cause };
                }
                _ => {}
            }
        }
        StoreError::Other { action, path, store, cause }
    }

    /// The shortest honest reason: the operating system's word, the server's status and code, or the text.
    fn cause(&self, error: &object_store::Error, text: &str, status: Option<u16>) -> String {
        let raw = if let Some(status) = status {
            let code = element(text, "Code").unwrap_or_default();
            let message = element(text, "Message").unwrap_or_default();
            match (code, message) {
                ("", _) => format!("HTTP status {status}"),
                (code, "") => format!("HTTP status {status}, {code}"),
                (code, message) => {
                    format!("HTTP status {status}, {code}: {}", message.trim_end_matches('.'))
                }
            }
        } else if text.contains("Server returned error response") {
            format!(
                "the server answered with the error {}",
                element(text, "Code").unwrap_or("it does not name")
            )
        } else if let Some(io) = io_error(error) {
            innermost(io)
        } else if let Some(http) = find::<HttpError>(error) {
            innermost(http)
        } else {
            innermost(error)
        };
        self.clean(&raw)
    }

    /// Bounds a foreign text, keeps it on one line, and takes known secrets out of it.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if !secret.is_empty() {
                text = text.replace(secret.as_str(), "(secret)");
            }
        }
        let mut line: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_CAUSE_CHARS)
            .collect::<String>()
            .trim()
            .to_owned();
        while line.ends_with('.') {
            line.pop();
        }
        if line.is_empty() { "no reason given".to_owned() } else { line }
    }
}

fn find<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn io_error(error: &object_store::Error) -> Option<&io::Error> {
    find::<io::Error>(error)
}

fn http_kind(error: &object_store::Error) -> Option<HttpErrorKind> {
    find::<HttpError>(error).map(HttpError::kind)
}

/// Text of the last error of the chain: the outer ones only say where it happened.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Status in the text of `object_store`'s request errors, which are not public types.
fn http_status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// Content of the first XML element of this name, without children; empty where it holds any.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once("</")?;
    (!content.contains('<') && content.len() <= 1024).then_some(content.trim())
}

#[cfg(test)]
mod tests;
