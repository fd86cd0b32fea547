//! Keeps a vault's objects: a small set of operations over any of the stores that `object_store` knows.
//!
//! Sits below sealing and ledgers: it sees names and bytes and knows the meaning of neither. Objects are
//! written once and never replaced; reads are bounded before they are buffered; a store is trusted with
//! nothing, so sizes, names and bytes that come from it are for the layers above to check. It does not
//! delete (but for the probe of `rights`, its own object), does not cache, and reads no environment but the one it is given.

mod aws_profile;
mod cloud;
mod create;
mod error;
mod file;
mod location;
mod options;
mod path;
mod rights;
mod s3_api;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetResult, GetResultPayload, ObjectStore};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use self::create::{ConditionalCreate, Created};
pub use self::error::{Action, StoreError};
pub use self::options::{Addressing, FileCreate, RetryOptions, StoreOptions};
pub use self::path::{BadStorePath, MAX_PATH_BYTES, MAX_SEGMENT_BYTES, StorePath};
pub use self::rights::{Attempt, BucketFacts, LockState, Rights};

use self::location::Location;
use self::s3_api::S3Api;

/// Most names that [`Store::list`] collects: a vault of 5,000 hosts over decades stays below, and a store
/// that never stops answering does not fill the memory.
pub const MAX_LISTED: usize = 4_000_000;

/// Looks up one variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Handle to a store; clones are cheap and share connections and the limit of concurrent requests.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    objects: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    permits: Arc<Semaphore>,
    options: StoreOptions,
    errors: error::Reader,
    /// For questions that only S3 services answer.
    s3: Option<Arc<S3Api>>,
    /// The folder of a `file://` store.
    folder: Option<PathBuf>,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub path: StorePath,
    /// Its size in bytes, as the store says.
    pub size_bytes: u64,
}

/// One entry of a listing as it comes from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An object whose name could be one of ours.
    Object(Listed),
    /// A name, relative to the prefix, that no vault gives; cut to 200 characters.
    Foreign(String),
}

/// Everything below a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Objects, by name.
    pub objects: Vec<Listed>,
    /// Names that no vault gives, sorted.
    pub foreign: Vec<String>,
}

impl Store {
    /// Opens the store at `url`; asks it nothing yet.
    ///
    /// The folder of a `file://` URL must exist: a disk that is not mounted must not become a new vault.
    /// [`Store::create_root`] makes it.
    ///
    /// # Errors
    /// [`StoreError::Configuration`] if the URL, the options, the environment or a profile file is unusable.
    pub fn open(url: &str, options: &StoreOptions, environment: Environment<'_>) -> Result<Self, StoreError> {
        options.check()?;
        let location = Location::parse(url)?;
        let mut secrets = Vec::new();
        let store = location.to_string();
        let mut direct = (None, None);
        let (objects, prefix): (Arc<dyn ObjectStore>, &str) = match &location {
            Location::Memory => (Arc::new(InMemory::new()), ""),
            Location::File(folder) => {
                if !folder.is_dir() {
                    return Err(StoreError::configuration(
                        format!("the folder of {store} does not exist"),
                        "Check that its disk or share is mounted and the path is right; \
                         `lifeboat init` creates the folder of a new vault."
                            .to_owned(),
                    ));
                }
                let opened = file::FileStore::open(folder, options.file_create).map_err(|error| {
                    error::Reader { store: store.clone(), secrets: Vec::new() }.read(
                        Action::Open,
                        "its folder",
                        &error,
                    )
                })?;
                direct.1 = Some(folder.clone());
                (Arc::new(opened), "")
            }
            Location::S3(bucket) => {
                let (objects, api) = cloud::s3(bucket, options, environment, &mut secrets)?;
                direct.0 = Some(Arc::new(api));
                (objects, &bucket.prefix)
            }
            Location::Azure(bucket) => {
                (cloud::azure(bucket, options, environment, &mut secrets)?, &bucket.prefix)
            }
            Location::Google(bucket) => {
                (cloud::google(bucket, options, environment, &mut secrets)?, &bucket.prefix)
            }
        };
        Ok(Self::assemble(objects, prefix, options, error::Reader { store, secrets }, direct))
    }

    /// Creates the folder of a `file://` URL for its owner alone; does nothing for other stores.
    pub fn create_root(url: &str) -> Result<(), StoreError> {
        let location = Location::parse(url)?;
        let Location::File(folder) = &location else { return Ok(()) };
        file::create_root(folder).map_err(|source| {
            let error = object_store::Error::Generic { store: "file", source: source.into() };
            error::Reader { store: location.to_string(), secrets: Vec::new() }.read(
                Action::Create,
                "its folder",
                &error,
            )
        })
    }

    /// Wraps a store that exists already: for decorators and tests. `prefix` is as in a URL, without slashes
    /// at its ends.
    pub fn from_object_store(
        objects: Arc<dyn ObjectStore>,
        prefix: &str,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        options.check()?;
        location::check_prefix(prefix)?;
        let store = format!("{objects}");
        let errors = error::Reader { store, secrets: Vec::new() };
        Ok(Self::assemble(objects, prefix, options, errors, (None, None)))
    }

    fn assemble(
        objects: Arc<dyn ObjectStore>,
        prefix: &str,
        options: &StoreOptions,
        errors: error::Reader,
        (s3, folder): (Option<Arc<S3Api>>, Option<PathBuf>),
    ) -> Self {
        let permits = Arc::new(Semaphore::new(usize::from(options.concurrency.get())));
        let (prefix, options) = (ObjectPath::from(prefix), options.clone());
        Self { inner: Arc::new(Inner { objects, prefix, permits, options, errors, s3, folder }) }
    }

    /// The same store with `decorate` around what carries out its requests.
    #[must_use]
    pub fn decorated(&self, decorate: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        let inner = &self.inner;
        Self {
            inner: Arc::new(Inner {
                objects: decorate(Arc::clone(&inner.objects)),
                prefix: inner.prefix.clone(),
                permits: Arc::clone(&inner.permits),
                options: inner.options.clone(),
                errors: inner.errors.clone(),
                s3: inner.s3.clone(),
                folder: inner.folder.clone(),
            }),
        }
    }

    /// The store's URL for messages; it never holds credentials.
    pub fn describe(&self) -> String {
        self.inner.errors.store.clone()
    }

    /// How many requests run at once.
    pub fn concurrency(&self) -> usize {
        usize::from(self.inner.options.concurrency.get())
    }

    /// Reads a whole object of at most `max_bytes`; a larger one is refused before it is buffered.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::TooLarge`], [`StoreError::Short`], or that of the failed read.
    pub async fn read(&self, path: &StorePath, max_bytes: u64) -> Result<Bytes, StoreError> {
        let _permit = self.permit().await;
        self.within_total_timeout(Action::Read, path.as_str(), self.read_now(path, max_bytes)).await
    }

    /// Reads `range` of an object; anything but exactly these bytes is an error.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Short`] if the object ends earlier, or that of the failed read.
    pub async fn read_range(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let _permit = self.permit().await;
        self.within_total_timeout(Action::Read, path.as_str(), self.read_range_now(path, range)).await
    }

    /// Size of an object in bytes, or nothing where there is none.
    pub async fn head(&self, path: &StorePath) -> Result<Option<u64>, StoreError> {
        let _permit = self.permit().await;
        self.within_total_timeout(Action::LookUp, path.as_str(), self.head_now(path)).await
    }

    /// Lists everything below `prefix` (whole segments; empty for all) behind the name `start_after`.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] beyond [`MAX_LISTED`], or that of the failed listing.
    pub async fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let mut entries = self.list_stream(prefix, start_after)?;
        while let Some(entry) = entries.try_next().await? {
            if listing.objects.len() + listing.foreign.len() >= MAX_LISTED {
                let (path, store) = (prefix.to_owned(), self.describe());
                return Err(StoreError::TooMany { path, store, max: MAX_LISTED });
            }
            match entry {
                Entry::Object(listed) => listing.objects.push(listed),
                Entry::Foreign(name) => listing.foreign.push(name),
            }
        }
        listing.objects.sort_unstable();
        listing.foreign.sort_unstable();
        Ok(listing)
    }

    /// As [`Store::list`], but in pieces, in the store's own order and without end: for large listings.
    ///
    /// The total timeout holds for each page and not for the whole.
    pub fn list_stream(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Entry, StoreError>>, StoreError> {
        let checked = |text: &str| {
            StorePath::parse(text).map_err(|error| {
                StoreError::configuration(error.to_string(), "List a name that a vault gives.".to_owned())
            })
        };
        let below = match prefix {
            "" => self.inner.prefix.clone(),
            prefix => self.full(&checked(prefix)?),
        };
        let below_text = prefix.to_owned();
        let objects = &self.inner.objects;
        let raw = match start_after {
            None => objects.list(Some(&below)),
            Some(start) => objects.list_with_offset(Some(&below), &self.full(&checked(start)?)),
        };
        let store = self.clone();
        let entries = stream::try_unfold((raw, store, below_text), |(mut raw, store, below)| async move {
            let permit = store.permit().await;
            let next = store
                .within_total_timeout(Action::List, &below, async {
                    raw.try_next().await.map_err(|e| store.inner.errors.read(Action::List, &below, &e))
                })
                .await?;
            drop(permit);
            let Some(meta) = next else { return Ok(None) };
            let entry = store.entry(&meta.location, meta.size);
            Ok(Some((entry, (raw, store, below))))
        });
        Ok(entries.boxed())
    }

    fn entry(&self, location: &ObjectPath, size_bytes: u64) -> Entry {
        let relative = match self.inner.prefix.as_ref() {
            "" => Some(location.as_ref()),
            prefix => location.as_ref().strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')),
        };
        match relative.and_then(|name| StorePath::parse(name).ok()) {
            Some(path) => Entry::Object(Listed { path, size_bytes }),
            None => {
                Entry::Foreign(relative.unwrap_or(location.as_ref()).chars().take(200).collect::<String>())
            }
        }
    }

    fn full(&self, path: &StorePath) -> ObjectPath {
        // Both halves are checked and hold nothing that `object_store` would escape.
        ObjectPath::from_iter(self.inner.prefix.parts().chain(ObjectPath::from(path.as_str()).parts()))
    }

    async fn permit(&self) -> SemaphorePermit<'_> {
        self.inner.permits.acquire().await.expect("the semaphore is never closed")
    }

    async fn within_total_timeout<T>(
        &self,
        action: Action,
        path: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.inner.options.total_timeout();
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(self.inner.errors.timed_out(action, path, limit)),
        }
    }

    async fn head_now(&self, path: &StorePath) -> Result<Option<u64>, StoreError> {
        let options = GetOptions::new().with_head(true);
        match self.inner.objects.get_opts(&self.full(path), options).await {
            Ok(result) => Ok(Some(result.meta.size)),
            Err(error) => match self.inner.errors.read(Action::LookUp, path.as_str(), &error) {
                StoreError::NotFound { .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn read_now(&self, path: &StorePath, max_bytes: u64) -> Result<Bytes, StoreError> {
        let result = self.fetch(path, GetOptions::new()).await?;
        let size = result.meta.size;
        if size > max_bytes {
            return Err(self.too_large(path, size, max_bytes));
        }
        self.body(path, result, size).await
    }

    async fn read_range_now(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes, StoreError> {
        let expected = range.end - range.start;
        let short = |found_bytes| StoreError::Short {
            path: path.to_string(),
            store: self.describe(),
            expected_bytes: expected,
            found_bytes,
        };
        match self.fetch(path, GetOptions::new().with_range(Some(range.clone()))).await {
            Ok(result) if result.range == range => self.body(path, result, expected).await,
            Ok(result) => Err(short(result.range.end.saturating_sub(result.range.start).min(expected))),
            // Stores differ in how they refuse a range behind the end; the size tells.
            Err(error @ (StoreError::Other { .. } | StoreError::Unsupported { .. })) => {
                match self.head_now(path).await? {
                    Some(size) if size < range.end => {
                        Err(short(size.saturating_sub(range.start).min(expected)))
                    }
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn fetch(&self, path: &StorePath, options: GetOptions) -> Result<GetResult, StoreError> {
        let result = self.inner.objects.get_opts(&self.full(path), options).await;
        result.map_err(|error| self.inner.errors.read(Action::Read, path.as_str(), &error))
    }

    /// Collects exactly `expected` bytes; a store that sends more is stopped.
    async fn body(&self, path: &StorePath, result: GetResult, expected: u64) -> Result<Bytes, StoreError> {
        let failed = |error| self.inner.errors.read(Action::Read, path.as_str(), &error);
        let bytes = match result.payload {
            // Read in one go; the range bounds it.
            GetResultPayload::File(..) => result.bytes().await.map_err(failed)?,
            GetResultPayload::Stream(mut chunks) => {
                let (mut parts, mut sum) = (Vec::new(), 0);
                while let Some(chunk) = chunks.try_next().await.map_err(failed)? {
                    sum += chunk.len() as u64;
                    if sum > expected {
                        return Err(self.too_large(path, sum, expected));
                    }
                    parts.push(chunk);
                }
                // Most bodies come in one piece or few; joined once, the memory held is twice the body.
                if parts.len() == 1 { parts.swap_remove(0) } else { parts.concat().into() }
            }
        };
        if bytes.len() as u64 != expected {
            return Err(StoreError::Short {
                path: path.to_string(),
                store: self.describe(),
                expected_bytes: expected,
                found_bytes: bytes.len() as u64,
            });
        }
        Ok(bytes)
    }

    fn too_large(&self, path: &StorePath, size_bytes: u64, max_bytes: u64) -> StoreError {
        StoreError::TooLarge { path: path.to_string(), store: self.describe(), size_bytes, max_bytes }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("url", &self.inner.errors.store).finish_non_exhaustive()
    }
}
