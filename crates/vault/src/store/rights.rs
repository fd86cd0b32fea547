//! What the credentials at hand can do to an object that is there, found out on one that was made for it.
//!
//! The one place that replaces and deletes anything, and only the object that [`Store::probe_rights`] has just written
//! under a name that its caller drew at random. What a vault's protection is worth against its own writers is known only
//! by trying: policies, locks and versions look right on paper in many wrong ways.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::Method;
use object_store::{PutMode, PutOptions, PutPayload};

use super::error::{Action, StoreError};
use super::{Store, StorePath};

/// How something that credentials should not be able to do went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attempt {
    /// It was done.
    Done,
    /// The store refused.
    Refused {
        /// Its words.
        cause: String,
    },
    /// It could not be tried here.
    NotTried,
}

impl Attempt {
    /// Tells whether it was done.
    pub fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Tells whether the store refused.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// What these credentials can do to an object that they wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rights {
    /// Writing other bytes under its name.
    pub replace: Attempt,
    /// Deleting it by its name.
    pub delete: Attempt,
    /// Whether the store keeps what is replaced or deleted by name as an older version.
    pub keeps_versions: bool,
    /// Deleting that version for good, also by passing over a governance lock.
    pub delete_version: Attempt,
    /// The lock on that version as the store told it, such as `COMPLIANCE until 2027-01-01T00:00:00Z`.
    pub retention: Option<String>,
}

impl Rights {
    /// Tells whether what was written stays, whatever these credentials do.
    pub fn protected(&self) -> bool {
        let changed = self.replace.is_done() || self.delete.is_done();
        match self.keeps_versions {
            true => !changed || self.delete_version.is_refused(),
            false => self.replace.is_refused() && self.delete.is_refused(),
        }
    }
}

/// Whether a bucket locks what is written into it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockState {
    /// These credentials may not ask, or the answer says nothing.
    Unknown(String),
    /// It does not.
    Off,
    /// It can; with a default retention every object is locked when it is written.
    On {
        /// Such as `COMPLIANCE, 30 days`.
        default_retention: Option<String>,
    },
}

/// What an S3 service says of its clock and of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketFacts {
    /// The `Date` header of an answer.
    pub date: Option<String>,
    /// Whether older versions are kept; nothing where these credentials may not ask.
    pub versioning: Option<bool>,
    /// Whether objects are locked.
    pub lock: LockState,
}

const BEFORE: &[u8] = b"Lifeboat asks whether this can be replaced or deleted. It belongs to no snapshot.\n";
const AFTER: &[u8] = b"This was replaced by Lifeboat, to find out whether that can be done.\n";

impl Store {
    /// Writes an object under the unused name `path`, then tries to replace it, to delete it, and to delete the version
    /// that is left. Where that is refused it stays behind.
    ///
    /// # Errors
    /// [`StoreError`] where the object could not be written, or the store was not reached.
    pub async fn probe_rights(&self, path: &StorePath) -> Result<Rights, StoreError> {
        let _permit = self.permit().await;
        self.within_total_timeout(Action::Create, path.as_str(), self.rights(path)).await
    }

    async fn rights(&self, path: &StorePath) -> Result<Rights, StoreError> {
        let version = match self.put(path, PutMode::Create, BEFORE).await {
            Ok(version) => version,
            Err(error) => return Err(self.inner.errors.read(Action::Create, path.as_str(), &error)),
        };
        let (replace, newer) = self.try_replace(path).await?;
        let retention = match &version {
            Some(version) => self.retention(path, version).await,
            None => None,
        };
        let delete = self.try_delete(path).await?;
        // Without versioning some services give every object the version "null".
        let version = version.filter(|version| version != "null" && newer.as_ref() != Some(version));
        let delete_version = match &version {
            Some(version) => self.try_delete_version(path, version).await?,
            None => Attempt::NotTried,
        };
        Ok(Rights { replace, delete, keeps_versions: version.is_some(), delete_version, retention })
    }

    async fn put(
        &self,
        path: &StorePath,
        mode: PutMode,
        body: &'static [u8],
    ) -> object_store::Result<Option<String>> {
        let payload = PutPayload::from(Bytes::from_static(body));
        let put = self.inner.objects.put_opts(&self.full(path), payload, PutOptions::from(mode)).await?;
        Ok(put.version)
    }

    /// Tries to put other bytes there; gives the version that they have.
    async fn try_replace(&self, path: &StorePath) -> Result<(Attempt, Option<String>), StoreError> {
        if let Some(folder) = &self.inner.folder {
            // Our own folders refuse to; what another program of this account could do is what counts.
            let file = folder.join(path.as_str());
            let written = tokio::task::spawn_blocking(move || std::fs::write(file, AFTER)).await;
            let refused = |cause: String| (Attempt::Refused { cause }, None);
            return Ok(match written {
                Ok(Ok(())) => (Attempt::Done, None),
                Ok(Err(error)) => refused(error.to_string()),
                Err(error) => refused(error.to_string()),
            });
        }
        match self.put(path, PutMode::Overwrite, AFTER).await {
            Ok(version) => {
                let standing = self.read_now(path, 4096).await;
                Ok(match standing {
                    Ok(bytes) if bytes == BEFORE => {
                        let cause = "the store said yes, and kept what was there".to_owned();
                        (Attempt::Refused { cause }, version)
                    }
                    _ => (Attempt::Done, version),
                })
            }
            Err(error) => Ok((self.refusal(path, &error)?, None)),
        }
    }

    async fn try_delete(&self, path: &StorePath) -> Result<Attempt, StoreError> {
        if let Some(api) = &self.inner.s3 {
            let full = self.full(path);
            return self.delete_by(api.ask(Method::DELETE, full.as_ref(), "", None).await, path);
        }
        let one = stream::once(std::future::ready(Ok(self.full(path)))).boxed();
        match self.inner.objects.delete_stream(one).next().await {
            None | Some(Ok(_)) => Ok(Attempt::Done),
            Some(Err(error)) => self.refusal(path, &error),
        }
    }

    async fn try_delete_version(&self, path: &StorePath, version: &str) -> Result<Attempt, StoreError> {
        let Some(api) = &self.inner.s3 else { return Ok(Attempt::NotTried) };
        let (full, query) = (self.full(path), version_query(version));
        let plain = self.delete_by(api.ask(Method::DELETE, full.as_ref(), &query, None).await, path)?;
        if plain.is_done() {
            return Ok(plain);
        }
        let pass_over = Some(("x-amz-bypass-governance-retention", "true"));
        let bypassed =
            self.delete_by(api.ask(Method::DELETE, full.as_ref(), &query, pass_over).await, path)?;
        Ok(if bypassed.is_done() { bypassed } else { plain })
    }

    fn delete_by(
        &self,
        answer: Result<super::s3_api::Answer, String>,
        path: &StorePath,
    ) -> Result<Attempt, StoreError> {
        match answer {
            Ok(answer) if answer.is_success() => Ok(Attempt::Done),
            Ok(answer) if answer.status >= 500 || answer.status == 429 => {
                Err(self.inner.errors.unreachable(Action::Probe, path.as_str(), &answer.cause()))
            }
            Ok(answer) => Ok(Attempt::Refused { cause: answer.cause() }),
            Err(cause) => Err(self.inner.errors.unreachable(Action::Probe, path.as_str(), &cause)),
        }
    }

    fn refusal(&self, path: &StorePath, error: &object_store::Error) -> Result<Attempt, StoreError> {
        if matches!(
            error,
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }
        ) {
            return Ok(Attempt::Refused { cause: "the store says that the name is taken".to_owned() });
        }
        match self.inner.errors.read(Action::Probe, path.as_str(), error) {
            StoreError::Denied { cause, .. }
            | StoreError::Unsupported { cause, .. }
            | StoreError::Other { cause, .. } => Ok(Attempt::Refused { cause }),
            error => Err(error),
        }
    }

    async fn retention(&self, path: &StorePath, version: &str) -> Option<String> {
        let api = self.inner.s3.as_ref()?;
        let query = format!("retention&{}", version_query(version));
        let answer = api.ask(Method::GET, self.full(path).as_ref(), &query, None).await.ok()?;
        let (mode, until) = (answer.element("Mode")?, answer.element("RetainUntilDate")?);
        Some(self.inner.errors.clean(&format!("{mode} until {until}")))
    }

    /// Asks an S3 service for its clock and about the bucket; nothing for other stores.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] where no answer came at all.
    pub async fn bucket_facts(&self) -> Result<Option<BucketFacts>, StoreError> {
        let Some(api) = &self.inner.s3 else { return Ok(None) };
        let _permit = self.permit().await;
        let ask = async |query| {
            let answer = api.ask(Method::GET, "", query, None).await;
            answer.map_err(|cause| self.inner.errors.unreachable(Action::LookUp, "its bucket", &cause))
        };
        let versions = ask("versioning").await?;
        let versioning = versions
            .is_success()
            .then(|| versions.element("Status").is_some_and(|status| status == "Enabled"));
        let lock = ask("object-lock").await?;
        let lock = match lock.status {
            200 if lock.element("ObjectLockEnabled") == Some("Enabled") => {
                let span = |name: &str| lock.element(name).map(|n| format!("{n} {}", name.to_lowercase()));
                let mode = lock.element("Mode").map(|mode| {
                    let span = span("Days").or_else(|| span("Years")).unwrap_or_default();
                    self.inner.errors.clean(&format!("{mode}, {span}"))
                });
                LockState::On { default_retention: mode }
            }
            200 | 404 => LockState::Off,
            _ => LockState::Unknown(lock.cause()),
        };
        Ok(Some(BucketFacts { date: versions.date, versioning, lock }))
    }
}

fn version_query(version: &str) -> String {
    let value: String = url::form_urlencoded::byte_serialize(version.as_bytes()).collect();
    format!("versionId={value}")
}
