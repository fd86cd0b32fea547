//! Builds the stores that are reached over HTTP: S3-compatible, Azure Blob Storage, Google Cloud Storage.
//!
//! Options win over the environment, the environment over profile files. Only the variables named here are
//! looked at. Retries, timeouts and signing are `object_store`'s; there is no second retry layer above it.

use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use zeroize::Zeroizing;

use super::Environment;
use super::aws_profile::{self, Profile};
use super::error::{Action, Reader, StoreError};
use super::location::{Bucket, Location};
use super::options::{Addressing, StoreOptions};
use super::s3_api::S3Api;

/// Largest file of certificates in bytes; a system's whole bundle has about 250 KiB.
const MAX_CERTIFICATE_BYTES: u64 = 4 << 20;

type Secrets = Vec<Zeroizing<String>>;

/// Variables of the environment that say how credentials are fetched, under their `object_store` keys.
const S3_PROVIDERS: [(&str, AmazonS3ConfigKey); 10] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
    ("AWS_METADATA_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
    ("AWS_IMDSV1_FALLBACK", AmazonS3ConfigKey::ImdsV1Fallback),
    ("AWS_REQUEST_PAYER", AmazonS3ConfigKey::RequestPayer),
];

/// Variables of the environment for Azure; the second value says whether the variable is a secret.
const AZURE_VARIABLES: [(&str, bool); 19] = [
    ("AZURE_STORAGE_ACCOUNT_NAME", false),
    ("AZURE_STORAGE_ACCOUNT_KEY", true),
    ("AZURE_STORAGE_ACCESS_KEY", true),
    ("AZURE_STORAGE_SAS_TOKEN", true),
    ("AZURE_STORAGE_SAS_KEY", true),
    ("AZURE_STORAGE_TOKEN", true),
    ("AZURE_STORAGE_CLIENT_ID", false),
    ("AZURE_STORAGE_CLIENT_SECRET", true),
    ("AZURE_STORAGE_TENANT_ID", false),
    ("AZURE_CLIENT_ID", false),
    ("AZURE_CLIENT_SECRET", true),
    ("AZURE_TENANT_ID", false),
    ("AZURE_AUTHORITY_HOST", false),
    ("AZURE_FEDERATED_TOKEN_FILE", false),
    ("AZURE_MSI_ENDPOINT", false),
    ("AZURE_OBJECT_ID", false),
    ("AZURE_MSI_RESOURCE_ID", false),
    ("AZURE_USE_AZURE_CLI", false),
    ("AZURE_STORAGE_USE_EMULATOR", false),
];

/// Variables of the environment for Google; the second value says whether the variable is a secret.
const GOOGLE_VARIABLES: [(&str, bool); 5] = [
    ("GOOGLE_APPLICATION_CREDENTIALS", false),
    ("GOOGLE_SERVICE_ACCOUNT", false),
    ("GOOGLE_SERVICE_ACCOUNT_PATH", false),
    ("GOOGLE_SERVICE_ACCOUNT_KEY", true),
    ("GOOGLE_BEARER_TOKEN", true),
];

/// Builds the store of an `s3://` URL.
pub(super) fn s3(
    bucket: &Bucket,
    options: &StoreOptions,
    environment: Environment<'_>,
    secrets: &mut Secrets,
) -> Result<(Arc<dyn ObjectStore>, S3Api), StoreError> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let provider = S3_PROVIDERS.iter().take(7).any(|(name, _)| {
        // A role alone asks for nothing; its token does.
        *name != "AWS_ROLE_ARN" && *name != "AWS_ENDPOINT_URL_STS" && set(name).is_some()
    });
    // A profile that the options name wins over keys in the environment.
    let environment_keys = options.profile.is_none()
        && (set("AWS_ACCESS_KEY_ID").is_some() || set("AWS_SECRET_ACCESS_KEY").is_some());
    let use_provider = options.profile.is_none() && provider;
    let mut profile =
        aws_profile::read(options.profile.as_deref(), environment, !environment_keys && !use_provider)?;
    if environment_keys {
        let take = |name| set(name).map(Zeroizing::new);
        profile.access_key_id = take("AWS_ACCESS_KEY_ID");
        profile.secret_access_key = take("AWS_SECRET_ACCESS_KEY");
        profile.session_token = take("AWS_SESSION_TOKEN");
    } else if use_provider {
        profile = Profile { access_key_id: None, secret_access_key: None, web_identity: None, ..profile };
    }

    let region = options.region.clone().or_else(|| set("AWS_REGION")).or_else(|| set("AWS_DEFAULT_REGION"));
    let region = region.or_else(|| profile.region.clone()).unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = options.endpoint.clone().or_else(|| set("AWS_ENDPOINT_URL_S3"));
    let endpoint = endpoint.or_else(|| set("AWS_ENDPOINT_URL")).or_else(|| profile.endpoint_url.clone());

    let mut builder =
        AmazonS3Builder::new().with_bucket_name(&bucket.name).with_region(&region).with_retry(retry(options));
    match (&profile.access_key_id, &profile.secret_access_key) {
        (Some(id), Some(key)) => {
            builder = builder.with_access_key_id(id.as_str()).with_secret_access_key(key.as_str());
            secrets.push(key.clone());
            if let Some(token) = &profile.session_token {
                builder = builder.with_token(token.as_str());
                secrets.push(token.clone());
            }
        }
        (None, None) => {
            if let Some(identity) = &profile.web_identity {
                builder = builder
                    .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, &identity.token_file)
                    .with_config(AmazonS3ConfigKey::RoleArn, &identity.role_arn);
                if let Some(name) = &identity.session_name {
                    builder = builder.with_config(AmazonS3ConfigKey::RoleSessionName, name);
                }
            } else if !use_provider && (endpoint.is_some() || disabled(set("AWS_EC2_METADATA_DISABLED"))) {
                // Only Amazon's own machines are asked for credentials of the machine.
                return Err(StoreError::configuration(
                    format!("no credentials for {} were found", Location::S3(bucket.clone())),
                    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of the AWS files with \
                     AWS_PROFILE."
                        .to_owned(),
                ));
            }
        }
        _ => {
            return Err(StoreError::configuration(
                "an access key id without a secret access key (or the reverse) was found",
                "Set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or both keys of the profile."
                    .to_owned(),
            ));
        }
    }
    for (name, key) in S3_PROVIDERS {
        if let Some(value) = set(name).filter(|_| options.profile.is_none()) {
            builder = builder.with_config(key, value);
        }
    }

    let style = match (options.addressing, profile.addressing_style.as_deref()) {
        (Addressing::Auto, Some("path")) => Addressing::Path,
        (Addressing::Auto, Some("virtual")) => Addressing::VirtualHosted,
        // A certificate for `*.host` does not cover a bucket with a dot.
        (Addressing::Auto, _) if endpoint.is_some() || bucket.name.contains('.') => Addressing::Path,
        (Addressing::Auto, _) => Addressing::VirtualHosted,
        (chosen, _) => chosen,
    };
    let virtual_hosted = style == Addressing::VirtualHosted;
    builder = builder.with_virtual_hosted_style_request(virtual_hosted);
    let mut plain_http = false;
    let amazon = format!("s3.{region}.amazonaws.com");
    let mut bucket_url = match virtual_hosted {
        true => format!("https://{}.{amazon}", bucket.name),
        false => format!("https://{amazon}/{}", bucket.name),
    };
    if let Some(endpoint) = &endpoint {
        let (checked, http) = check_endpoint(endpoint, options, disabled(set("AWS_ALLOW_HTTP")))?;
        plain_http = http;
        // `object_store` takes the endpoint of a virtual host as it is.
        let endpoint = match (virtual_hosted, checked.split_once("://")) {
            (true, Some((scheme, host))) => format!("{scheme}://{}.{host}", bucket.name),
            _ => checked,
        };
        bucket_url = if virtual_hosted { endpoint.clone() } else { format!("{endpoint}/{}", bucket.name) };
        builder = builder.with_endpoint(endpoint);
    }
    let bundle = options.ca_certificate.clone();
    let bundle = bundle.or_else(|| set("AWS_CA_BUNDLE").map(Into::into));
    let bundle = bundle.or_else(|| profile.ca_bundle.clone().map(Into::into));
    let client = client(options, environment, bundle.as_deref(), plain_http, secrets)?;
    let refused = |error| unusable(&Location::S3(bucket.clone()), secrets, &error);
    let store = builder.with_client_options(client.clone()).build().map_err(refused)?;
    let timeout = Duration::from_secs(options.request_timeout_seconds);
    let api = S3Api::new(&client, Arc::clone(store.credentials()), region, bucket_url, timeout);
    Ok((Arc::new(store), api.map_err(refused)?))
}

/// Builds the store of an `az://` URL.
pub(super) fn azure(
    bucket: &Bucket,
    options: &StoreOptions,
    environment: Environment<'_>,
    secrets: &mut Secrets,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder =
        MicrosoftAzureBuilder::new().with_container_name(&bucket.name).with_retry(retry(options));
    for (name, secret) in AZURE_VARIABLES {
        let Some(value) = environment(name).filter(|value| !value.is_empty()) else { continue };
        let key: AzureConfigKey = name.to_ascii_lowercase().parse().expect("the table holds known keys");
        if secret {
            secrets.push(Zeroizing::new(value.clone()));
        }
        builder = builder.with_config(key, value);
    }
    if let Some(account) = &options.account {
        builder = builder.with_account(account);
    }
    let endpoint = options.endpoint.clone().or_else(|| environment("AZURE_STORAGE_ENDPOINT"));
    let mut plain_http = false;
    if let Some(endpoint) = endpoint.filter(|value| !value.is_empty()) {
        let (endpoint, http) = check_endpoint(&endpoint, options, false)?;
        plain_http = http;
        builder = builder.with_endpoint(endpoint);
    }
    let client = client(options, environment, options.ca_certificate.as_deref(), plain_http, secrets)?;
    let store = builder.with_client_options(client).build();
    Ok(Arc::new(store.map_err(|error| unusable(&Location::Azure(bucket.clone()), secrets, &error))?))
}

/// Builds the store of a `gs://` URL.
pub(super) fn google(
    bucket: &Bucket,
    options: &StoreOptions,
    environment: Environment<'_>,
    secrets: &mut Secrets,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder =
        GoogleCloudStorageBuilder::new().with_bucket_name(&bucket.name).with_retry(retry(options));
    for (name, secret) in GOOGLE_VARIABLES {
        let Some(value) = environment(name).filter(|value| !value.is_empty()) else { continue };
        let key: GoogleConfigKey = name.to_ascii_lowercase().parse().expect("the table holds known keys");
        if secret {
            secrets.push(Zeroizing::new(value.clone()));
        }
        builder = builder.with_config(key, value);
    }
    let mut plain_http = false;
    if let Some(endpoint) = &options.endpoint {
        let (endpoint, http) = check_endpoint(endpoint, options, false)?;
        plain_http = http;
        builder = builder.with_config(GoogleConfigKey::BaseUrl, endpoint);
    }
    let client = client(options, environment, options.ca_certificate.as_deref(), plain_http, secrets)?;
    let store = builder.with_client_options(client).build();
    Ok(Arc::new(store.map_err(|error| unusable(&Location::Google(bucket.clone()), secrets, &error))?))
}

fn unusable(location: &Location, secrets: &Secrets, error: &object_store::Error) -> StoreError {
    let reader = Reader { store: location.to_string(), secrets: secrets.clone() };
    match reader.read(Action::Open, "its service", error) {
        StoreError::Other { store, cause, .. } => StoreError::configuration(
            format!("{store} cannot be used as configured: {cause}"),
            "Correct the store's options, the environment or the profile.".to_owned(),
        ),
        error => error,
    }
}

fn disabled(value: Option<String>) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

fn retry(options: &StoreOptions) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: options.initial_backoff(),
            max_backoff: options.max_backoff(),
            base: 2.0,
        },
        max_retries: usize::from(options.retry.max_retries),
        // The rest of the total is for the last attempt, so that its own error is what the caller sees.
        retry_timeout: options.total_timeout() / 4 * 3,
    }
}

/// Checks the URL of a service and says whether it is without TLS, which only this machine's own may be
/// unless that is asked for.
fn check_endpoint(
    endpoint: &str,
    options: &StoreOptions,
    allowed_by_environment: bool,
) -> Result<(String, bool), StoreError> {
    let refuse = |what: &str, next: &str| Err(StoreError::configuration(what, next.to_owned()));
    const FORM: &str = "Give it as https://host or https://host:port.";
    let Ok(url) = url::Url::parse(endpoint) else {
        return refuse("the store's endpoint is not a URL", FORM);
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse(
            "the store's endpoint holds credentials",
            "Give credentials in the environment or in the service's credentials file.",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("the store's endpoint has a query or a fragment", FORM);
    }
    let plain_http = match (url.scheme(), url.host()) {
        ("https", Some(_)) => false,
        ("http", Some(host)) => {
            let own = match host {
                url::Host::Domain(name) => name == "localhost",
                url::Host::Ipv4(address) => address.is_loopback(),
                url::Host::Ipv6(address) => address.is_loopback(),
            };
            if !own && !options.allow_http && !allowed_by_environment {
                return refuse(
                    "the store's endpoint is without TLS",
                    "Give an https:// endpoint, or set the store's allow_http (AWS_ALLOW_HTTP=true) if the \
                     network in between is yours: objects are sealed, but names, sizes and a session token \
                     can be read.",
                );
            }
            true
        }
        _ => return refuse("the store's endpoint is neither https:// nor http://", FORM),
    };
    Ok((url.as_str().trim_end_matches('/').to_owned(), plain_http))
}

fn client(
    options: &StoreOptions,
    environment: Environment<'_>,
    ca_certificate: Option<&Path>,
    plain_http: bool,
    secrets: &mut Secrets,
) -> Result<ClientOptions, StoreError> {
    use_ring();
    let mut client = ClientOptions::new()
        .with_allow_http(plain_http)
        .with_connect_timeout(Duration::from_secs(options.connect_timeout_seconds))
        .with_timeout(Duration::from_secs(options.request_timeout_seconds))
        .with_user_agent(object_store::HeaderValue::from_static("lifeboat"));
    if let Some(path) = ca_certificate {
        for certificate in certificates(path)? {
            client = client.with_root_certificate(certificate);
        }
    }
    let set = |names: [&str; 4]| names.iter().find_map(|name| environment(name).filter(|v| !v.is_empty()));
    let from_environment = || set(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
    // These two are about https; for a service without TLS the HTTP layer looks at HTTP_PROXY itself.
    let inherited = if plain_http { None } else { from_environment() };
    if let Some(proxy) = options.proxy_url.clone().or(inherited) {
        let Ok(url) = url::Url::parse(&proxy) else {
            return Err(StoreError::configuration(
                "the proxy's URL cannot be parsed",
                "Give it as http://host:port, in the store's proxy_url or in HTTPS_PROXY.".to_owned(),
            ));
        };
        secrets.extend(url.password().map(|password| Zeroizing::new(password.to_owned())));
        client = client.with_proxy_url(proxy);
        if let Some(excluded) = set(["NO_PROXY", "no_proxy", "", ""]) {
            client = client.with_proxy_excludes(excluded);
        }
    }
    Ok(client)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, StoreError> {
    let unusable = |why: &str| {
        StoreError::configuration(
            format!("the certificates in {} cannot be used: {why}", path.display()),
            "Give a PEM file with the certificate of the service's issuer.".to_owned(),
        )
    };
    let size = path.metadata().map_err(|error| unusable(&error.to_string()))?.len();
    if size > MAX_CERTIFICATE_BYTES {
        return Err(unusable("the file is larger than 4 MiB"));
    }
    let pem = std::fs::read(path).map_err(|error| unusable(&error.to_string()))?;
    let certificates =
        Certificate::from_pem_bundle(&pem).map_err(|_| unusable("it is not well-formed PEM"))?;
    if certificates.is_empty() {
        return Err(unusable("there is none in it"));
    }
    Ok(certificates)
}

/// TLS needs one provider of cryptography for the whole process: ring, unless somebody chose before us.
fn use_ring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
