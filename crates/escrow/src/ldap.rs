//! AD DS and other directories over LDAP: every recovery object, or those that are new since the last run.
//!
//! TLS always, from the start or by StartTLS: a simple bind sends the password. The server filters and pages. Where a
//! directory counts its changes (`uSNChanged`, of AD DS), the count is the cursor, else the newest time of creation.

use std::sync::Arc;
use std::time::Duration;

use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, ResultEntry, Scope, SearchEntry};
use lifeboat_schema::EscrowSource;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::directory::RecoveryObject;
use crate::found::{Import, Place};

/// Recovery objects that one answer holds; directories limit it to 1,000.
const PAGE_ENTRIES: i32 = 500;
/// Time for one operation, and for connecting.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Result code of a wrong name or password.
const INVALID_CREDENTIALS: u32 = 49;
/// Result code of a base that is not there.
const NO_SUCH_OBJECT: u32 = 32;
/// Attributes that are asked for.
const ATTRIBUTES: [&str; 7] = [
    "msFVE-RecoveryPassword",
    "msFVE-RecoveryGuid",
    "msFVE-VolumeGuid",
    "msFVE-KeyPackage",
    "objectClass",
    "whenCreated",
    "createTimestamp",
];

/// A directory and how to ask it.
pub struct LdapDirectory {
    /// `ldaps://host[:port]`, or `ldap://host[:port]` with `start_tls`.
    pub url: String,
    /// Whether TLS is begun on a plain connection.
    pub start_tls: bool,
    /// Where the search begins, such as `DC=example,DC=test`.
    pub base: String,
    /// Name for the simple bind: a distinguished name, or `user@domain` for AD DS.
    pub user: String,
    /// Its password.
    pub password: Zeroizing<String>,
    /// Certificates (PEM) that the directory's own must come from; none for those of the system.
    pub ca_pem: Option<Vec<u8>>,
}

/// Why a directory gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The connection would not be protected.
    #[error("{url} would send the password in the clear: use ldaps://, or ldap:// with start_tls = true")]
    NotProtected {
        /// The address.
        url: String,
    },
    /// The certificates to trust cannot be read.
    #[error("the certificates to trust for {url} cannot be used: {why}")]
    BadRoots {
        /// The address.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The server's certificate is not trusted.
    #[error(
        "the certificate of {url} is not trusted: {why}. Nothing was sent. Give the certificate of the authority that issued it with ca_file, and the name that stands in it"
    )]
    Untrusted {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The name or password is wrong.
    #[error("{url} refuses the name or the password of {user}: {why}")]
    Refused {
        /// The address.
        url: String,
        /// The name.
        user: String,
        /// The directory's words.
        why: String,
    },
    /// The base is not in the directory.
    #[error("{url} has no entry {base}; give the directory's own name, such as DC=example,DC=test, as base")]
    NoBase {
        /// The address.
        url: String,
        /// The base.
        base: String,
    },
    /// The connection or an operation failed.
    #[error("{url} failed: {source}")]
    Failed {
        /// The address.
        url: String,
        /// What happened.
        #[source]
        source: Box<LdapError>,
    },
    /// An answer cannot be parsed.
    #[error("{url} answered something that is no LDAP entry")]
    Malformed {
        /// The address.
        url: String,
    },
}

/// What a directory gave.
pub struct DirectoryAnswer {
    /// Secrets and problems.
    pub import: Import,
    /// Where the next run goes on.
    pub cursor: Option<String>,
}

/// How far a directory was read.
#[derive(Debug, PartialEq, Eq)]
enum Cursor {
    /// Number of the last change on this server.
    Usn { server: String, last: u64 },
    /// The newest time of creation, as LDAP writes it.
    Created(String),
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("usn", rest) => {
                let (last, server) = rest.split_once(':')?;
                Some(Self::Usn { server: server.to_owned(), last: last.parse().ok()? })
            }
            // It goes into a filter.
            ("created", time) if is_time(time) => Some(Self::Created(time.to_owned())),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Usn { server, last } => format!("usn:{last}:{server}"),
            Self::Created(time) => format!("created:{time}"),
        }
    }
}

/// Whether text is a generalized time.
fn is_time(text: &str) -> bool {
    (15..=24).contains(&text.len())
        && text.ends_with('Z')
        && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'Z'))
}

/// The directory's change counter: who counts, and how far it is.
struct Counter {
    server: String,
    highest: u64,
}

impl LdapDirectory {
    /// Asks for every recovery object, or those that are new since `cursor`.
    ///
    /// # Errors
    /// [`DirectoryError`]; nothing was found then.
    pub async fn ask(&self, cursor: Option<&str>) -> Result<DirectoryAnswer, DirectoryError> {
        let mut ldap = self.connect().await?;
        let bound = ldap.with_timeout(TIMEOUT).simple_bind(&self.user, &self.password).await;
        let result = bound.map_err(|error| self.failed(error))?;
        if result.rc != 0 {
            return Err(match result.rc {
                INVALID_CREDENTIALS => DirectoryError::Refused {
                    url: self.url.clone(),
                    user: self.user.clone(),
                    why: if result.text.is_empty() { "invalid credentials".to_owned() } else { result.text },
                },
                _ => self.failed(LdapError::LdapResult { result }),
            });
        }
        // The counter first: what changes while the search runs is found once more next time.
        let counter = self.counter(&mut ldap).await?;
        let mut import = Import::new(EscrowSource::Ldap);
        let newest = self.search(&mut ldap, &filter(cursor, counter.as_ref()), &mut import).await?;
        // The server may be gone by now; everything was read.
        let _ = ldap.unbind().await;
        let before = cursor.and_then(Cursor::parse);
        let next = match (counter, newest, before) {
            (Some(counter), _, _) => Some(Cursor::Usn { server: counter.server, last: counter.highest }),
            (None, Some(newest), _) => Some(Cursor::Created(newest)),
            (None, None, before) => before,
        };
        Ok(DirectoryAnswer { import, cursor: next.map(|cursor| cursor.text()) })
    }

    fn failed(&self, error: LdapError) -> DirectoryError {
        if let LdapError::Io { source } = &error
            && let Some(tls) = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            return DirectoryError::Untrusted { url: self.url.clone(), why: tls.to_string() };
        }
        DirectoryError::Failed { url: self.url.clone(), source: Box::new(error) }
    }

    async fn connect(&self) -> Result<Ldap, DirectoryError> {
        let is_tls = self.url.to_ascii_lowercase().starts_with("ldaps://");
        if !is_tls && !self.start_tls {
            return Err(DirectoryError::NotProtected { url: self.url.clone() });
        }
        let settings = LdapConnSettings::new()
            .set_conn_timeout(TIMEOUT)
            .set_starttls(self.start_tls && !is_tls)
            .set_config(Arc::new(self.tls()?));
        let (connection, ldap) =
            LdapConnAsync::with_settings(settings, &self.url).await.map_err(|error| self.failed(error))?;
        ldap3::drive!(connection);
        Ok(ldap)
    }

    fn tls(&self) -> Result<rustls::ClientConfig, DirectoryError> {
        let bad = |why: String| DirectoryError::BadRoots { url: self.url.clone(), why };
        let mut roots = rustls::RootCertStore::empty();
        match &self.ca_pem {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| bad(format!("{error:?}")))?;
                    roots.add(certificate).map_err(|error| bad(error.to_string()))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(bad("there is none".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(error.to_string()))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }

    /// Asks the server itself whether it counts its changes.
    async fn counter(&self, ldap: &mut Ldap) -> Result<Option<Counter>, DirectoryError> {
        let wanted = vec!["highestCommittedUSN", "dsServiceName"];
        let found = ldap.with_timeout(TIMEOUT).search("", Scope::Base, "(objectClass=*)", wanted).await;
        // A directory that hides its root has no counter for us.
        let Ok((entries, _)) = found.and_then(ldap3::SearchResult::success) else { return Ok(None) };
        let Some(root) = entries.into_iter().next() else { return Ok(None) };
        let root = self.entry(root)?;
        let first = |name: &str| {
            let values = root.attrs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?.1;
            values.first().cloned()
        };
        let highest = first("highestCommittedUSN").and_then(|text| text.parse().ok());
        let (Some(highest), Some(server)) = (highest, first("dsServiceName")) else { return Ok(None) };
        // A server that was restored counts from anew under another invocation id.
        let invocation = ldap
            .with_timeout(TIMEOUT)
            .search(&server, Scope::Base, "(objectClass=*)", vec!["invocationId"])
            .await
            .and_then(ldap3::SearchResult::success);
        let id = match invocation.ok().and_then(|(entries, _)| entries.into_iter().next()) {
            Some(entry) => {
                let entry = self.entry(entry)?;
                let binary =
                    entry.bin_attrs.into_values().next().and_then(|values| values.into_iter().next());
                binary.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
            }
            None => String::new(),
        };
        Ok(Some(Counter { server: format!("{id} {server}"), highest }))
    }

    /// Reads every entry into the import; gives the newest time of creation.
    async fn search(
        &self,
        ldap: &mut Ldap,
        filter: &str,
        import: &mut Import,
    ) -> Result<Option<String>, DirectoryError> {
        let adapters: Vec<Box<dyn Adapter<'_, &str, Vec<&str>>>> =
            vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE_ENTRIES))];
        let mut stream = ldap
            .with_timeout(TIMEOUT)
            .streaming_search_with(adapters, self.base.as_str(), Scope::Subtree, filter, ATTRIBUTES.to_vec())
            .await
            .map_err(|error| self.failed(error))?;
        let mut newest: Option<String> = None;
        while let Some(entry) = stream.next().await.map_err(|error| self.failed(error))? {
            let mut entry = self.entry(entry)?;
            let created = entry.attrs.iter().find(|(name, _)| {
                name.eq_ignore_ascii_case("createTimestamp") || name.eq_ignore_ascii_case("whenCreated")
            });
            if let Some(time) = created.and_then(|(_, values)| values.first()).filter(|time| is_time(time)) {
                newest = newest.max(Some(time.clone()));
            }
            take(&entry, import);
            entry.attrs.values_mut().flatten().for_each(|value| value.zeroize());
            entry.bin_attrs.values_mut().flatten().for_each(|value| value.zeroize());
        }
        let result = stream.finish().await;
        match result.rc {
            0 => Ok(newest),
            NO_SUCH_OBJECT => Err(DirectoryError::NoBase { url: self.url.clone(), base: self.base.clone() }),
            _ => Err(self.failed(LdapError::LdapResult { result })),
        }
    }

    /// Takes an answer apart. The parser of `ldap3` panics where bytes are no entry: that ends here as an error.
    fn entry(&self, entry: ResultEntry) -> Result<SearchEntry, DirectoryError> {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| SearchEntry::construct(entry)))
            .map_err(|_| DirectoryError::Malformed { url: self.url.clone() })
    }
}

fn take(entry: &SearchEntry, import: &mut Import) {
    let place = Place::Entry(entry.dn.clone());
    let mut object = RecoveryObject::default();
    object.attribute("dn", entry.dn.as_bytes(), &place, import);
    // In a fixed order, whatever order the map has.
    let mut attributes: Vec<(&str, &[u8])> = entry
        .attrs
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_bytes())))
        .chain(
            entry
                .bin_attrs
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_slice()))),
        )
        .collect();
    attributes.sort_unstable();
    for (name, value) in attributes {
        let name = if name.eq_ignore_ascii_case("createTimestamp") { "whenCreated" } else { name };
        object.attribute(name, value, &place, import);
    }
    object.finish(&place, import);
}

fn filter(cursor: Option<&str>, counter: Option<&Counter>) -> String {
    const ALL: &str = "(objectClass=msFVE-RecoveryInformation)";
    match (cursor.and_then(Cursor::parse), counter) {
        // Another server, or the same one restored, counts otherwise: everything once more.
        (Some(Cursor::Usn { server, last }), Some(counter))
            if server == counter.server && last <= counter.highest =>
        {
            format!("(&{ALL}(uSNChanged>={}))", last.saturating_add(1))
        }
        (Some(Cursor::Created(time)), None) => format!("(&{ALL}(createTimestamp>={time}))"),
        _ => ALL.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_narrows_only_where_it_belongs() {
        let counter = |server: &str, highest| Counter { server: server.to_owned(), highest };
        let all = "(objectClass=msFVE-RecoveryInformation)";
        let usn = Cursor::Usn { server: "ab CN=DC1:x".to_owned(), last: 41 }.text();
        assert_eq!(
            filter(Some(&usn), Some(&counter("ab CN=DC1:x", 50))),
            format!("(&{all}(uSNChanged>=42))")
        );
        for other in [counter("cd CN=DC1:x", 50), counter("ab CN=DC1:x", 40)] {
            assert_eq!(filter(Some(&usn), Some(&other)), all);
        }
        assert_eq!(filter(Some(&usn), None), all);
        let created = "created:20251120165912Z";
        assert_eq!(filter(Some(created), None), format!("(&{all}(createTimestamp>=20251120165912Z))"));
        for bad in ["created:2025)(x=*", "created:", "usn:x:y", "other"] {
            assert_eq!(filter(Some(bad), None), all, "{bad}");
        }
    }
}
