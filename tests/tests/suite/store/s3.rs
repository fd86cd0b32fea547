//! `s3://` against a real server, when the environment names one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lifeboat_tests::store_conformance;
use lifeboat_vault::store::{Store, StoreError, StoreOptions};

use super::{ENFORCED, path, skipped};

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// URL of an unused prefix on the server of the environment.
pub(crate) fn unused_prefix() -> Option<String> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if variable("AWS_ENDPOINT_URL").is_none() || variable("AWS_ACCESS_KEY_ID").is_none() {
        skipped("no S3 endpoint in the environment");
        return None;
    }
    let bucket = variable("LIFEBOAT_TEST_S3_BUCKET").unwrap_or_else(|| "lifeboat".to_owned());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Some(format!("s3://{bucket}/test-{now}-{}-{number}", std::process::id()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_service_passes() {
    let Some(url) = unused_prefix() else { return };
    let store = Store::open(&url, &StoreOptions::default(), &variable).expect("open");
    assert_eq!(store.describe(), url);
    store_conformance::run(&store, ENFORCED).await;
    // The same by the profile in a file instead of the environment.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = |name: &str| variable(name).unwrap_or_default();
    let credentials = format!(
        "[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n\n[vault]\n\
         aws_access_key_id = {}\naws_secret_access_key = {} # its key\n",
        text("AWS_ACCESS_KEY_ID"),
        text("AWS_SECRET_ACCESS_KEY")
    );
    let config = format!(
        "[profile vault]\nregion = us-east-1\nservices = ours\ns3 =\n    addressing_style = path\n\
         [services ours]\ns3 =\n  endpoint_url = {}\n",
        text("AWS_ENDPOINT_URL")
    );
    std::fs::write(folder.path().join("credentials"), credentials).expect("write");
    std::fs::write(folder.path().join("config"), config).expect("write");
    let folder = folder.path().display().to_string();
    let by_file = |name: &str| match name {
        "AWS_SHARED_CREDENTIALS_FILE" => Some(format!("{folder}/credentials")),
        "AWS_CONFIG_FILE" => Some(format!("{folder}/config")),
        "AWS_PROFILE" => Some("vault".to_owned()),
        "AWS_ALLOW_HTTP" => Some("true".to_owned()),
        "AWS_CA_BUNDLE" => variable(name),
        _ => None,
    };
    let same = Store::open(&url, &StoreOptions::default(), &by_file).expect("open by profile");
    assert_eq!(same.read(&path("vault.json"), 100).await.expect("read"), Bytes::from_static(b"{}"));
    let default = |name: &str| if name == "AWS_PROFILE" { None } else { by_file(name) };
    let mut options = StoreOptions::default();
    options.endpoint = variable("AWS_ENDPOINT_URL");
    let wrong = Store::open(&url, &options, &default).expect("open with the default profile");
    assert!(wrong.read(&path("vault.json"), 100).await.expect_err("wrong keys").is_denied());
}

#[tokio::test]
async fn refusals_of_a_real_service_are_understood() {
    let Some(url) = unused_prefix() else { return };
    let mut options = StoreOptions::default();
    options.retry.max_retries = 1;
    let secret = "a-wrong-secret-access-key-0123456789";
    let wrong_secret =
        |name: &str| if name == "AWS_SECRET_ACCESS_KEY" { Some(secret.to_owned()) } else { variable(name) };
    let store = Store::open(&url, &options, &wrong_secret).expect("open");
    for error in [
        store.create_object(&path("o"), Bytes::from_static(b"x")).await.err(),
        store.read(&path("o"), 1).await.err(),
        store.head(&path("o")).await.err(),
        store.list("", None).await.err(),
    ] {
        let error = error.expect("a wrong secret");
        assert!(error.is_denied(), "{error}");
        assert!(!error.to_string().contains(secret), "{error}");
    }
    let store = Store::open("s3://lifeboat-no-such-bucket/x", &options, &variable).expect("open");
    for error in [
        store.create_object(&path("o"), Bytes::from_static(b"x")).await.err(),
        store.list("", None).await.err(),
    ] {
        let error = error.expect("no such bucket");
        assert!(matches!(error, StoreError::Configuration { .. }), "{error:?}");
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}
