//! Questions to an S3 service that `object_store` has no call for: versions, retention, the service's clock.
//!
//! Beside the store proper: same endpoint, credentials, certificates and proxy, one request each, no retries. Only `rights` and
//! `facts` ask; nothing that keeps or reads a vault depends on the answers.

use std::fmt;
use std::time::Duration;

use futures::TryStreamExt as _;
use http::{HeaderValue, Method};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector as _, HttpRequest, HttpRequestBody, ReqwestConnector};

/// Most bytes of an answer that are kept: what is asked for has a few hundred.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Requests to one bucket.
pub(super) struct S3Api {
    client: HttpClient,
    credentials: AwsCredentialProvider,
    region: String,
    /// URL of the bucket, without a slash at its end.
    bucket: String,
    timeout: Duration,
}

/// What the service answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Its `Date` header.
    pub(super) date: Option<String>,
    /// The beginning of its body.
    pub(super) body: String,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Status and error code.
    pub(super) fn cause(&self) -> String {
        match super::error::element(&self.body, "Code") {
            None | Some("") => format!("HTTP status {}", self.status),
            Some(code) => format!("HTTP status {}, {code}", self.status),
        }
    }

    /// Content of the first element of this name, where there is one.
    pub(super) fn element(&self, name: &str) -> Option<&str> {
        super::error::element(&self.body, name).filter(|text| !text.is_empty())
    }
}

impl S3Api {
    pub(super) fn new(
        options: &ClientOptions,
        credentials: AwsCredentialProvider,
        region: String,
        bucket: String,
        timeout: Duration,
    ) -> object_store::Result<Self> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(Self { client, credentials, region, bucket, timeout })
    }

    /// Asks about the bucket (`key` empty) or one of its keys. `query` is as it stands in a URL.
    ///
    /// # Errors
    /// A text, where no answer came.
    pub(super) async fn ask(
        &self,
        method: Method,
        key: &str,
        query: &str,
        header: Option<(&'static str, &'static str)>,
    ) -> Result<Answer, String> {
        let slash = if key.is_empty() { "" } else { "/" };
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{slash}{key}{mark}{query}", self.bucket);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().map_err(|_| "its URL cannot be parsed".to_owned())?;
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let answer = async {
            let credential = self.credentials.get_credential().await.map_err(|error| error.to_string())?;
            AwsAuthorizer::new(&credential, "s3", &self.region)
                .try_authorize(&mut request, None)
                .map_err(|error| error.to_string())?;
            let response = self.client.execute(request).await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let date =
                response.headers().get("date").and_then(|value| value.to_str().ok()).map(str::to_owned);
            let mut chunks = response.into_body().bytes_stream();
            let mut body = Vec::new();
            while let Some(chunk) = chunks.try_next().await.map_err(|error| error.to_string())? {
                let room = MAX_ANSWER_BYTES - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if body.len() == MAX_ANSWER_BYTES {
                    break;
                }
            }
            Ok(Answer { status, date, body: String::from_utf8_lossy(&body).into_owned() })
        };
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", self.timeout.as_secs())),
        }
    }
}

impl fmt::Debug for S3Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Api").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}
