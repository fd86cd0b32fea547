//! Entra ID through Microsoft Graph: the list of keys, then each key that is not sealed yet.
//!
//! Reading a key is audited there, so no key is read twice. Throttling (429, 503 with `Retry-After`) is waited out, an
//! expired token is replaced. A page that points to another host is refused: it would get the token.

use std::collections::HashSet;
use std::time::Duration;

use lifeboat_fve::Guid;
use lifeboat_schema::EscrowSource;
use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::Trouble;
use crate::found::{Import, Place};
use crate::{Input, import};

/// Largest answer that is read: a page of the list has some hundred KiB.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Pages of a list that are followed.
const MAX_PAGES: usize = 100_000;
/// How often one request is tried.
const MAX_TRIES: u32 = 8;
/// Longest wait that the service may ask for at once.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Scope of a token for everything that the application may do.
const SCOPE: &str = "https://graph.microsoft.com/.default";

/// Keys in a row that may fail before no more are asked for.
const MAX_FAILURES_IN_A_ROW: usize = 3;

/// A tenant and how to ask it.
pub struct EntraTenant {
    /// Id or name of the tenant.
    pub tenant: String,
    /// Id of the registered application; it needs `BitlockerKey.Read.All`.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Zeroizing<String>,
    /// Where tokens come from, such as `https://login.microsoftonline.com`.
    pub login_url: String,
    /// Where Graph is, such as `https://graph.microsoft.com/v1.0`.
    pub graph_url: String,
}

/// Why Entra ID gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntraError {
    /// An address is none, or not protected.
    #[error("{url} cannot be used: an address that begins with https:// is needed")]
    BadUrl {
        /// The address.
        url: String,
    },
    /// The application, its secret or the tenant is refused.
    #[error(
        "{url} gives no token: {why}. Compare tenant, client_id and the client's secret, and whether the secret has expired"
    )]
    NoToken {
        /// The address.
        url: String,
        /// The service's own code.
        why: String,
    },
    /// The application may not read keys.
    #[error(
        "{url} refuses: {why}. The application needs the permission BitlockerKey.Read.All, with an admin's consent"
    )]
    Refused {
        /// The address.
        url: String,
        /// The status.
        why: StatusCode,
    },
    /// A request failed for good.
    #[error("{url} failed: {why}")]
    Failed {
        /// The address.
        url: String,
        /// What happened.
        why: String,
    },
    /// A page of the list points elsewhere.
    #[error(
        "{url} points to another host for its next page, which would get the token; nothing more was asked"
    )]
    OtherHost {
        /// The address.
        url: String,
    },
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Deserialize)]
struct Page {
    value: Vec<Listed>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Fault {
    error: serde_json::Value,
}

/// An open session.
struct Session<'a> {
    tenant: &'a EntraTenant,
    client: Client,
    token: Zeroizing<String>,
}

impl EntraTenant {
    /// Asks for every key whose id `is_known` does not know.
    ///
    /// # Errors
    /// [`EntraError`] where nothing was given. One key that is not given loses no other: it is a problem of the import.
    pub async fn ask(&self, is_known: &(dyn Fn(Guid) -> bool + Sync)) -> Result<Import, EntraError> {
        for url in [&self.login_url, &self.graph_url] {
            check_url(url)?;
        }
        // Set by whoever comes first in a process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| failed(&self.graph_url, &error))?;
        let mut session = Session { tenant: self, client, token: Zeroizing::default() };
        session.log_in().await?;
        let mut import = Import::new(EscrowSource::Entra);
        let ids = session.list(&mut import).await?;
        let mut failures = 0;
        let mut wanted = ids.into_iter().filter(|id| !is_known(*id));
        while let Some(id) = wanted.next() {
            let Err(error) = session.key(id, &mut import).await else {
                failures = 0;
                continue;
            };
            failures += 1;
            let is_nothing_given = import.found.is_empty();
            if is_nothing_given && (failures == MAX_FAILURES_IN_A_ROW || wanted.size_hint().1 == Some(0)) {
                return Err(error);
            }
            let what = Trouble::NotGiven { id: id.to_string(), why: error.to_string() };
            import.problem(Place::Entry(id.to_string()), what);
            if failures == MAX_FAILURES_IN_A_ROW {
                let left = wanted.count();
                if left > 0 {
                    import.problem(Place::Whole, Trouble::NotAsked(left));
                }
                break;
            }
        }
        Ok(import)
    }
}

/// Only https, or a double of the service on this machine.
fn check_url(url: &str) -> Result<Url, EntraError> {
    let bad = || EntraError::BadUrl { url: url.to_owned() };
    let parsed = Url::parse(url).map_err(|_| bad())?;
    let is_here = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if parsed.scheme() == "https" || (parsed.scheme() == "http" && is_here) { Ok(parsed) } else { Err(bad()) }
}

fn failed(url: &str, error: &reqwest::Error) -> EntraError {
    // The cause tells more than the outer error, which repeats the address.
    let mut why = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        why = inner.to_string();
        cause = inner.source();
    }
    if why.is_empty() {
        why = if error.is_timeout() { "no answer in time".to_owned() } else { "no answer".to_owned() };
    }
    EntraError::Failed { url: url.to_owned(), why }
}

/// Reads an answer up to its limit.
async fn body(url: &str, mut response: Response) -> Result<Zeroizing<Vec<u8>>, EntraError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, &error))? {
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            let why = format!("its answer has more than {MAX_ANSWER_BYTES} bytes");
            return Err(EntraError::Failed { url: url.to_owned(), why });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

impl Session<'_> {
    /// Gets a token, in place of the one before.
    async fn log_in(&mut self) -> Result<(), EntraError> {
        let url = format!(
            "{}/{}/oauth2/v2.0/token",
            self.tenant.login_url.trim_end_matches('/'),
            self.tenant.tenant
        );
        let form = Zeroizing::new(
            url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "client_credentials")
                .append_pair("client_id", &self.tenant.client_id)
                .append_pair("client_secret", &self.tenant.client_secret)
                .append_pair("scope", SCOPE)
                .finish(),
        );
        let mut tries = 0;
        loop {
            tries += 1;
            let request = self
                .client
                .post(&url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.to_string());
            let response = request.send().await.map_err(|error| failed(&url, &error))?;
            let status = response.status();
            if let Some(wait) = wait_for(&response, tries) {
                tokio::time::sleep(wait).await;
                continue;
            }
            let bytes = body(&url, response).await?;
            if !status.is_success() {
                // The code alone: the description may repeat what was sent.
                let fault: Fault = serde_json::from_slice(&bytes).unwrap_or_default();
                let code = fault
                    .error
                    .as_str()
                    .map_or_else(|| status.to_string(), |code| code.chars().take(80).collect());
                return Err(EntraError::NoToken { url, why: code });
            }
            let token: Token = serde_json::from_slice(&bytes).map_err(|_| EntraError::NoToken {
                url,
                why: "its answer holds no access_token".to_owned(),
            })?;
            self.token = Zeroizing::new(token.access_token);
            return Ok(());
        }
    }

    /// Asks once, with patience: throttling is waited out, an expired token replaced. `None` where there is nothing.
    async fn get(&mut self, url: &Url) -> Result<Option<Zeroizing<Vec<u8>>>, EntraError> {
        let text = url.to_string();
        let (mut tries, mut has_logged_in) = (0, false);
        loop {
            tries += 1;
            let bearer = Zeroizing::new(format!("Bearer {}", self.token.as_str()));
            let request = self.client.get(url.clone()).header(AUTHORIZATION, bearer.as_str());
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) if tries < MAX_TRIES && (error.is_timeout() || error.is_connect()) => {
                    tokio::time::sleep(backoff(tries)).await;
                    continue;
                }
                Err(error) => return Err(failed(&text, &error)),
            };
            let status = response.status();
            match status {
                StatusCode::UNAUTHORIZED if !has_logged_in => {
                    has_logged_in = true;
                    self.log_in().await?;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(EntraError::Refused { url: text, why: status });
                }
                StatusCode::NOT_FOUND => return Ok(None),
                _ if status.is_success() => return body(&text, response).await.map(Some),
                _ => match wait_for(&response, tries) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(EntraError::Failed { url: text, why: status.to_string() }),
                },
            }
        }
    }

    fn keys_url(&self) -> Result<Url, EntraError> {
        check_url(&format!(
            "{}/informationProtection/bitlocker/recoveryKeys",
            self.tenant.graph_url.trim_end_matches('/')
        ))
    }

    /// The ids of all keys, page by page.
    async fn list(&mut self, import: &mut Import) -> Result<Vec<Guid>, EntraError> {
        let first = self.keys_url()?;
        let origin = first.origin();
        let mut next = Some(first);
        let (mut seen, mut ids) = (HashSet::new(), Vec::new());
        let mut known = HashSet::new();
        while let Some(url) = next.take() {
            let text = url.to_string();
            if !seen.insert(text.clone()) || seen.len() > MAX_PAGES {
                return Err(EntraError::Failed { url: text, why: "its pages have no end".to_owned() });
            }
            let missing = || EntraError::Failed { url: text.clone(), why: StatusCode::NOT_FOUND.to_string() };
            let bytes = self.get(&url).await?.ok_or_else(missing)?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|_| EntraError::Failed {
                url: text.clone(),
                why: "its answer is no list of keys".to_owned(),
            })?;
            for listed in page.value {
                match listed.id.parse::<Guid>() {
                    Ok(id) if known.insert(id) => ids.push(id),
                    Ok(_) => {}
                    Err(_) => import.problem(Place::Path(text.clone()), Trouble::DamagedId),
                }
            }
            if let Some(link) = page.next {
                let link = check_url(&link)?;
                if link.origin() != origin {
                    return Err(EntraError::OtherHost { url: text });
                }
                next = Some(link);
            }
        }
        Ok(ids)
    }

    /// Fetches one key into the import.
    async fn key(&mut self, id: Guid, import: &mut Import) -> Result<(), EntraError> {
        let mut url = self.keys_url()?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(&id.to_string());
        }
        url.set_query(Some("$select=key"));
        let place = Place::Entry(id.to_string());
        let Some(bytes) = self.get(&url).await? else {
            // Deleted since it was listed.
            import.problem(place, Trouble::NoPassword(id.to_string()));
            return Ok(());
        };
        let answer = import_of(&bytes);
        let is_right = answer.found.len() == 1 && answer.found.iter().all(|one| one.protector == Some(id));
        for problem in answer.problems {
            import.problem(place.clone(), problem.what);
        }
        if !is_right {
            // The answer to another question is taken for no answer.
            import.problem(place, Trouble::NoPassword(id.to_string()));
            return Ok(());
        }
        import.found.extend(answer.found.into_iter().map(|mut one| {
            one.place = place.clone();
            one
        }));
        Ok(())
    }
}

fn import_of(bytes: &[u8]) -> Import {
    import(&Input { name: "key.json", bytes, modified: None })
}

/// How long to wait before the next try; nothing when it is of no use.
fn wait_for(response: &Response, tries: u32) -> Option<Duration> {
    let is_passing = matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::BAD_GATEWAY
    );
    if !is_passing || tries >= MAX_TRIES {
        return None;
    }
    let asked =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Some(asked.map_or_else(|| backoff(tries), Duration::from_secs).min(MAX_WAIT))
}

/// Doubles with each try, from a quarter of a second.
fn backoff(tries: u32) -> Duration {
    Duration::from_millis(250 << tries.min(MAX_TRIES).saturating_sub(1))
}
