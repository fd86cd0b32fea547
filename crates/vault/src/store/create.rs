//! Writing an object once: what to believe when a store says that the name is taken, or says nothing.
//!
//! A create is a single put that must not replace anything. Its answer can be wrong in three ways: a 409 of
//! a race says "exists" although nothing does; a retried 5xx finds the object that the first attempt wrote;
//! a lost answer leaves open whether the object was written. Names are content-derived (objects) or signed
//! (records), so looking at what stands there settles all three. Nothing here relies on the store to enforce
//! the condition.

use bytes::Bytes;
use object_store::{PutMode, PutOptions, PutPayload};

use super::error::{Action, PutFailure, StoreError};
use super::{Store, StorePath};

/// What a create found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// This call wrote the object.
    Written,
    /// The same object stands there already, from an earlier attempt or another writer.
    AlreadyThere,
}

/// Whether a store refuses to replace an object when asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConditionalCreate {
    /// Of several creators of one name exactly one won, and a later one was refused.
    Enforced,
    /// A later creator was refused, but several at once were not: this many believed that they had won.
    Races {
        /// Creators that were told they had written.
        winners: usize,
    },
    /// A later creator replaced the object, and nobody was told.
    Ignored,
}

/// How to see whether what stands there is what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    /// By size: the name is the digest of the bytes, and reading checks it.
    Size,
    /// Byte by byte.
    Bytes,
}

enum Standing {
    Same,
    Other(String),
    Nothing,
}

/// Creators that the probe sets upon one name.
const PROBE_CREATORS: usize = 8;

impl Store {
    /// Writes an object whose name is its digest; one of the same size under that name counts as written.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if an object of another size stands there, or that of the failed write.
    pub async fn create_object(&self, path: &StorePath, bytes: Bytes) -> Result<Created, StoreError> {
        self.create(path, bytes, Compare::Size).await
    }

    /// Writes a record; only the very same bytes under that name count as written.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if other bytes stand there, or that of the failed write.
    pub async fn create_record(&self, path: &StorePath, bytes: Bytes) -> Result<Created, StoreError> {
        self.create(path, bytes, Compare::Bytes).await
    }

    async fn create(&self, path: &StorePath, bytes: Bytes, compare: Compare) -> Result<Created, StoreError> {
        let _permit = self.permit().await;
        self.within_total_timeout(Action::Create, path.as_str(), self.create_repeatedly(path, bytes, compare))
            .await
    }

    /// Repeats only what no layer below repeats: a refusal that nothing backs, and a put whose answer is lost.
    async fn create_repeatedly(
        &self,
        path: &StorePath,
        bytes: Bytes,
        compare: Compare,
    ) -> Result<Created, StoreError> {
        let errors = &self.inner.errors;
        let mut wait = self.inner.options.initial_backoff();
        let mut retries_left = self.inner.options.retry.max_retries;
        loop {
            let error = match self.put_new(path, bytes.clone()).await {
                Ok(()) => return Ok(Created::Written),
                Err(error) => error,
            };
            let failure = errors.put_failure(&error);
            let error = match failure {
                PutFailure::SaysExists => errors.says_exists(path.as_str()),
                _ => errors.read(Action::Create, path.as_str(), &error),
            };
            if failure == PutFailure::Refused {
                return Err(error);
            }
            match self.standing(path, &bytes, compare).await {
                Ok(Standing::Same) => return Ok(Created::AlreadyThere),
                Ok(Standing::Other(detail)) => {
                    let (path, store) = (path.to_string(), self.describe());
                    return Err(StoreError::Conflict { path, store, detail });
                }
                Ok(Standing::Nothing) if failure == PutFailure::Passing || retries_left == 0 => {
                    return Err(error);
                }
                Ok(Standing::Nothing) => {}
                // "Exists" plus a failed look says more about the look; otherwise the write is the news.
                Err(look) if failure == PutFailure::SaysExists => return Err(look),
                Err(_) => return Err(error),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(self.inner.options.max_backoff());
            retries_left -= 1;
        }
    }

    async fn put_new(&self, path: &StorePath, bytes: Bytes) -> object_store::Result<()> {
        let options = PutOptions::from(PutMode::Create);
        self.inner.objects.put_opts(&self.full(path), PutPayload::from(bytes), options).await.map(drop)
    }

    async fn standing(
        &self,
        path: &StorePath,
        bytes: &Bytes,
        compare: Compare,
    ) -> Result<Standing, StoreError> {
        let wanted = bytes.len() as u64;
        let Some(found) = self.head_now(path).await? else { return Ok(Standing::Nothing) };
        if found != wanted {
            return Ok(Standing::Other(format!("it has {found} bytes, the new one {wanted}")));
        }
        if compare == Compare::Size {
            return Ok(Standing::Same);
        }
        match self.read_now(path, wanted).await {
            Ok(found) if found == *bytes => Ok(Standing::Same),
            Ok(_) => Ok(Standing::Other(format!("its {wanted} bytes differ"))),
            Err(StoreError::NotFound { .. }) => Ok(Standing::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Finds out whether the store enforces creates, by several creators of the unused name `path` at once
    /// and one more after them. Leaves one small object behind.
    pub async fn probe_conditional_create(&self, path: &StorePath) -> Result<ConditionalCreate, StoreError> {
        self.within_total_timeout(Action::Create, path.as_str(), self.probe(path)).await
    }

    async fn probe(&self, path: &StorePath) -> Result<ConditionalCreate, StoreError> {
        let body = |n: usize| Bytes::from(format!("Lifeboat asks whether this can be overwritten: {n}\n"));
        let attempts = (0..PROBE_CREATORS).map(|n| self.put_new(path, body(n)));
        let mut winners = 0;
        for result in futures::future::join_all(attempts).await {
            winners += usize::from(self.won(path, result)?);
        }
        let late = self.put_new(path, body(PROBE_CREATORS)).await;
        if self.won(path, late)? {
            return Ok(ConditionalCreate::Ignored);
        }
        // A refusal must be backed by an object, or the store refuses for another reason.
        if self.head_now(path).await?.is_none() {
            let (path, store) = (path.to_string(), self.describe());
            return Err(StoreError::NotFound { path, store });
        }
        Ok(if winners > 1 { ConditionalCreate::Races { winners } } else { ConditionalCreate::Enforced })
    }

    fn won(&self, path: &StorePath, result: object_store::Result<()>) -> Result<bool, StoreError> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if self.inner.errors.put_failure(&error) == PutFailure::SaysExists => Ok(false),
            Err(error) => Err(self.inner.errors.read(Action::Create, path.as_str(), &error)),
        }
    }
}
