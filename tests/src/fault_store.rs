//! A store that fails as told: stops like a killed process, lies, loses, delays and counts.
//!
//! [`FaultStore`] decorates any object store; clones share one script, so a test keeps a clone and hands
//! another to the code it tests. Which call is hit depends only on the order of calls and on the seed. It
//! sits above `object_store`'s own retries: what it returns is what a store returns after they gave up.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

/// Name of this store in `object_store`'s errors.
const STORE: &str = "fault";

/// Kind of a call to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A write.
    Put,
    /// A read with a body.
    Get,
    /// A question for the size.
    Head,
    /// A listing, whatever its pages.
    List,
    /// A deletion of one object.
    Delete,
}

/// Whether the store carried out the call that it reports as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It did nothing.
    Before,
    /// It did all of it; only the answer is lost.
    After,
}

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Status 503.
    Unavailable(When),
    /// No answer in time.
    TimedOut(When),
    /// Status 409, which `object_store` reports as an object that exists.
    Conflicting(When),
    /// Status 403.
    Denied,
    /// No space left on the device.
    Full,
    /// One bit of the body, chosen by the seed, is the other way round.
    BitFlipped,
    /// The body ends after this many bytes; the announced size stays.
    Truncated(usize),
    /// This many bytes follow behind the body; the announced size stays.
    Extended(usize),
    /// The call takes this much longer.
    Delayed(Duration),
}

/// Calls that a fault hits.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Kind of call.
    pub call: Call,
    /// What goes wrong.
    pub fault: Fault,
    /// Only calls whose object's name contains this.
    pub name_contains: String,
    /// Matching calls that pass before the first is hit.
    pub skip: u64,
    /// Matching calls that are hit after that.
    pub times: u64,
    /// Of a thousand calls that could be hit, how many are: drawn from the seed.
    pub per_mille: u64,
}

impl Rule {
    /// Hits every call of this kind.
    pub fn always(call: Call, fault: Fault) -> Self {
        Self { call, fault, name_contains: String::new(), skip: 0, times: u64::MAX, per_mille: 1000 }
    }

    /// Hits the next call of this kind only.
    pub fn once(call: Call, fault: Fault) -> Self {
        Self { times: 1, ..Self::always(call, fault) }
    }

    /// Limits the rule to objects whose name contains `part`.
    #[must_use]
    pub fn named(mut self, part: &str) -> Self {
        self.name_contains = part.to_owned();
        self
    }
}

/// How often the store was called, and how much went over the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes.
    pub puts: u64,
    /// Reads with a body.
    pub gets: u64,
    /// Questions for the size.
    pub heads: u64,
    /// Listings.
    pub lists: u64,
    /// Deletions.
    pub deletes: u64,
    /// Bytes of all bodies written.
    pub bytes_written: u64,
    /// Bytes of all bodies read, as announced.
    pub bytes_read: u64,
}

impl Counts {
    /// Calls that may change the store.
    pub fn mutating(&self) -> u64 {
        self.puts + self.deletes
    }
}

#[derive(Debug, Default)]
struct Script {
    counts: Counts,
    rules: Vec<Rule>,
    crash: Option<(u64, When)>,
    dead: bool,
    ignore_conditions: bool,
    hide_new_from_lists: bool,
    hide_new_from_reads: bool,
    unlisted: BTreeSet<Path>,
    unread: BTreeSet<Path>,
    random: u64,
}

/// What the script says about one call.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Pass,
    Hit(Fault),
    Die(When),
}

/// A store that fails as told. Clones share the script and the counts.
#[derive(Debug)]
pub struct FaultStore<T> {
    inner: Arc<T>,
    script: Arc<Mutex<Script>>,
}

impl<T> Clone for FaultStore<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), script: Arc::clone(&self.script) }
    }
}

impl<T: ObjectStore> FaultStore<T> {
    /// Decorates `inner`; without a script everything passes. `seed` decides all chances.
    pub fn new(inner: T, seed: u64) -> Self {
        let script = Script { random: seed, ..Script::default() };
        Self { inner: Arc::new(inner), script: Arc::new(Mutex::new(script)) }
    }

    /// Adds a rule; of several that match a call the first added hits it.
    pub fn inject(&self, rule: Rule) {
        self.script().rules.push(rule);
    }

    /// Lets the process die at the `nth` mutating call from now (1 is the next): this call fails, carried out
    /// or not, and so does every later call of any kind until [`FaultStore::revive`].
    pub fn crash_at(&self, nth: u64, when: When) {
        let mut script = self.script();
        script.crash = Some((script.counts.mutating() + nth, when));
    }

    /// Whether the process has died.
    pub fn is_dead(&self) -> bool {
        self.script().dead
    }

    /// Starts the process anew, with an empty script. Counts stay; what the store hides stays hidden.
    pub fn revive(&self) {
        let mut script = self.script();
        (script.dead, script.crash) = (false, None);
        script.rules.clear();
    }

    /// Lets conditional creates overwrite silently, as some servers do.
    pub fn ignore_conditions(&self, ignore: bool) {
        self.script().ignore_conditions = ignore;
    }

    /// Keeps objects that are written from now on out of listings; `false` shows all again.
    pub fn hide_new_from_lists(&self, hide: bool) {
        let mut script = self.script();
        script.hide_new_from_lists = hide;
        if !hide {
            script.unlisted.clear();
        }
    }

    /// Answers "not found" for objects that are written from now on; `false` shows all again.
    pub fn hide_new_from_reads(&self, hide: bool) {
        let mut script = self.script();
        script.hide_new_from_reads = hide;
        if !hide {
            script.unread.clear();
        }
    }

    /// Calls so far, failed ones included.
    pub fn counts(&self) -> Counts {
        self.script().counts
    }

    /// Sets all counts to zero.
    pub fn reset_counts(&self) {
        self.script().counts = Counts::default();
    }

    /// Deletes an object behind the back of the code under test.
    pub async fn remove(&self, path: &str) -> Result<()> {
        self.inner.delete(&Path::from(path)).await
    }

    /// Puts `bytes` in the place of an object (or where none was) behind the back of the code under test.
    pub async fn replace(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        self.put_over(&Path::from(path), PutPayload::from(bytes.into())).await.map(drop)
    }

    /// Bytes of an object as they really are.
    pub async fn peek(&self, path: &str) -> Result<Bytes> {
        self.inner.get(&Path::from(path)).await?.bytes().await
    }

    async fn put_over(&self, path: &Path, payload: PutPayload) -> Result<PutResult> {
        // Not by overwriting: a `file://` store cannot.
        match self.inner.delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.inner.put_opts(path, payload, PutOptions::from(PutMode::Create)).await
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the call and decides what becomes of it; a delay is slept here.
    async fn begin(&self, call: Call, path: &Path, bytes: u64) -> Verdict {
        let verdict = self.script().decide(call, path, bytes);
        if let Verdict::Hit(Fault::Delayed(pause)) = verdict {
            tokio::time::sleep(pause).await;
            return Verdict::Pass;
        }
        verdict
    }
}

impl Script {
    fn decide(&mut self, call: Call, path: &Path, bytes: u64) -> Verdict {
        match call {
            Call::Put => {
                self.counts.puts += 1;
                self.counts.bytes_written += bytes;
            }
            Call::Get => self.counts.gets += 1,
            Call::Head => self.counts.heads += 1,
            Call::List => self.counts.lists += 1,
            Call::Delete => self.counts.deletes += 1,
        }
        if self.dead {
            return Verdict::Die(When::Before);
        }
        if matches!(call, Call::Put | Call::Delete)
            && let Some((at, when)) = self.crash
            && self.counts.mutating() >= at
        {
            self.dead = true;
            return Verdict::Die(when);
        }
        for index in 0..self.rules.len() {
            let rule = &mut self.rules[index];
            if rule.call != call || !path.as_ref().contains(&rule.name_contains) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            let (per_mille, fault) = (rule.per_mille, rule.fault);
            if rule.times == 0 || self.draw() % 1000 >= per_mille {
                continue;
            }
            self.rules[index].times -= 1;
            return Verdict::Hit(fault);
        }
        Verdict::Pass
    }

    /// The next number of the seed's sequence (SplitMix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

fn dead() -> Error {
    generic("the process has died")
}

/// The error of a fault that fails a call, and whether the call is carried out nevertheless.
fn failure(fault: Fault, path: &Path) -> Option<(Error, When)> {
    let path = path.to_string();
    match fault {
        Fault::Unavailable(when) => {
            let answer = "Server returned non-2xx status code: 503 Service Unavailable: <Error>\
                          <Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            Some((generic(answer), when))
        }
        Fault::TimedOut(when) => {
            let source = io::Error::new(io::ErrorKind::TimedOut, "operation timed out");
            Some((generic(HttpError::new(HttpErrorKind::Timeout, source)), when))
        }
        Fault::Conflicting(when) => {
            let source = "Server returned non-2xx status code: 409 Conflict: <Error>\
                          <Code>ConditionalRequestConflict</Code><Message>Conflict</Message></Error>";
            Some((Error::AlreadyExists { path, source: source.into() }, when))
        }
        Fault::Denied => {
            let source = "Server returned non-2xx status code: 403 Forbidden: <Error>\
                          <Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
            Some((Error::PermissionDenied { path, source: source.into() }, When::Before))
        }
        Fault::Full => {
            let source = io::Error::new(io::ErrorKind::StorageFull, "No space left on device (os error 28)");
            Some((generic(source), When::Before))
        }
        Fault::BitFlipped | Fault::Truncated(_) | Fault::Extended(_) | Fault::Delayed(_) => None,
    }
}

impl<T> fmt::Display for FaultStore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fault store")
    }
}

#[async_trait::async_trait]
impl<T: ObjectStore> ObjectStore for FaultStore<T> {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let failed = match self.begin(Call::Put, path, payload.content_length() as u64).await {
            Verdict::Pass => None,
            Verdict::Die(when) => Some((dead(), when)),
            Verdict::Hit(fault) => failure(fault, path),
        };
        if let Some((error, When::Before)) = failed {
            return Err(error);
        }
        let ignore = self.script().ignore_conditions && options.mode == PutMode::Create;
        let result = match ignore {
            true => self.put_over(path, payload).await,
            false => self.inner.put_opts(path, payload, options).await,
        };
        if result.is_ok() {
            let mut script = self.script();
            if script.hide_new_from_lists {
                script.unlisted.insert(path.clone());
            }
            if script.hide_new_from_reads {
                script.unread.insert(path.clone());
            }
        }
        match failed {
            Some((error, _)) => Err(error),
            None => result,
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotSupported { source: "a vault never writes in parts".into() })
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let call = if options.head { Call::Head } else { Call::Get };
        let verdict = self.begin(call, path, 0).await;
        let fault = match verdict {
            Verdict::Pass => None,
            Verdict::Die(_) => return Err(dead()),
            Verdict::Hit(fault) => Some(fault),
        };
        if let Some((error, _)) = fault.and_then(|fault| failure(fault, path)) {
            return Err(error);
        }
        if self.script().unread.contains(path) {
            return Err(Error::NotFound { path: path.to_string(), source: "not visible yet".into() });
        }
        let result = self.inner.get_opts(path, options).await?;
        if call == Call::Head {
            return Ok(result);
        }
        let announced = result.range.end - result.range.start;
        self.script().counts.bytes_read += announced;
        let Some(fault) = fault else { return Ok(result) };
        let GetResult { meta, range, attributes, extensions, .. } = &result;
        let (meta, range, attributes) = (meta.clone(), range.clone(), attributes.clone());
        let extensions = extensions.clone();
        let mut bytes = result.bytes().await?.to_vec();
        match fault {
            Fault::BitFlipped if !bytes.is_empty() => {
                let bit = self.script().draw() % (bytes.len() as u64 * 8);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            Fault::Truncated(length) => bytes.truncate(length),
            Fault::Extended(by) => bytes.resize(bytes.len() + by, 0),
            _ => {}
        }
        let payload = GetResultPayload::Stream(stream::iter([Ok(Bytes::from(bytes))]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            parts.push(self.get_range(path, range.clone()).await?);
        }
        Ok(parts)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = paths.and_then(move |path| {
            let store = store.clone();
            async move {
                let failed = match store.begin(Call::Delete, &path, 0).await {
                    Verdict::Pass => None,
                    Verdict::Die(when) => Some((dead(), when)),
                    Verdict::Hit(fault) => failure(fault, &path),
                };
                if let Some((error, When::Before)) = failed {
                    return Err(error);
                }
                store.inner.delete(&path).await?;
                match failed {
                    Some((error, _)) => Err(error),
                    None => Ok(path),
                }
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        // Counted and failed like any listing, by asking for an empty one first.
        self.listing(prefix, stream::empty().boxed()).try_collect::<Vec<_>>().await?;
        let mut result = self.inner.list_with_delimiter(prefix).await?;
        let script = self.script();
        result.objects.retain(|meta| !script.unlisted.contains(&meta.location));
        Ok(result)
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotSupported { source: "a vault never copies inside a store".into() })
    }
}

impl<T: ObjectStore> FaultStore<T> {
    fn listing(
        &self,
        prefix: Option<&Path>,
        entries: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let checked = async move {
            let failed = match store.begin(Call::List, &prefix, 0).await {
                Verdict::Pass => None,
                Verdict::Die(_) => Some(dead()),
                Verdict::Hit(fault) => failure(fault, &prefix).map(|(error, _)| error),
            };
            match failed {
                Some(error) => stream::iter([Err(error)]).boxed(),
                None => entries
                    .try_filter(move |meta| {
                        futures::future::ready(!store.script().unlisted.contains(&meta.location))
                    })
                    .boxed(),
            }
        };
        checked.flatten_stream().boxed()
    }
}
