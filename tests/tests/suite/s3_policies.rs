//! The bucket policies and locks of `examples/s3` in force on a real S3 service.
//!
//! Needs, beside the endpoint and the bucket owner's keys of the environment, two further users of the service in
//! `LIFEBOAT_TEST_S3_USERS`: `name:access key id:secret access key`, with a comma between the two.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use lifeboat_schema::{CheckOutcome, Digest, StoreProtection, Time};
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_vault::store::{Attempt, Store, StoreError, StoreOptions};
use lifeboat_vault::vault::{Vault, object_path};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpConnector as _, HttpRequest, ReqwestConnector};

use crate::doctor::{assert_left_in_order, config_of, examined, outcome};
use crate::store::s3::{unused_prefix, variable};

struct User {
    name: String,
    key_id: String,
    secret: String,
}

fn users() -> Option<[User; 2]> {
    let text = variable("LIFEBOAT_TEST_S3_USERS");
    let Some(text) = text.filter(|_| variable("AWS_ENDPOINT_URL").is_some()) else {
        crate::told("skipped: LIFEBOAT_TEST_S3_USERS names no users of an S3 service");
        return None;
    };
    let parse = |one: &str| {
        let mut parts = one.split(':').map(str::to_owned);
        let mut next = || parts.next().expect("name:key:secret");
        User { name: next(), key_id: next(), secret: next() }
    };
    let all: Vec<User> = text.split(',').map(parse).collect();
    all.try_into().ok()
}

impl User {
    /// A store with this user's credentials and nothing else of the environment's.
    fn store(&self, url: &str) -> Store {
        let environment = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some(self.key_id.clone()),
            "AWS_SECRET_ACCESS_KEY" => Some(self.secret.clone()),
            "AWS_ENDPOINT_URL" | "AWS_REGION" | "AWS_ALLOW_HTTP" | "AWS_CA_BUNDLE" => variable(name),
            _ => None,
        };
        Store::open(url, &StoreOptions::default(), &environment).expect("a store")
    }
}

/// One request of the bucket's owner.
async fn as_owner(
    method: &str,
    target: &str,
    headers: &[(&'static str, &str)],
    body: impl Into<Bytes>,
) -> (u16, String) {
    let credential = AwsCredential {
        key_id: variable("AWS_ACCESS_KEY_ID").expect("a key"),
        secret_key: variable("AWS_SECRET_ACCESS_KEY").expect("a key"),
        token: None,
    };
    let endpoint = variable("AWS_ENDPOINT_URL").expect("an endpoint");
    let mut request = HttpRequest::new(body.into().into());
    *request.method_mut() = method.parse().expect("a method");
    *request.uri_mut() = format!("{endpoint}/{target}").parse().expect("a URL");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a header"));
    }
    AwsAuthorizer::new(&credential, "s3", "us-east-1").try_authorize(&mut request, None).expect("signed");
    let client =
        ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true)).expect("a client");
    let response = client.execute(request).await.expect("an answer");
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let mut chunks = response.into_body().bytes_stream();
    while let Some(chunk) = futures::StreamExt::next(&mut chunks).await {
        body.extend_from_slice(&chunk.expect("a body"));
    }
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A new bucket of the owner; with a lock if so asked.
async fn new_bucket(lock: bool) -> String {
    let url = unused_prefix().expect("an S3 service");
    // Brings the provider of cryptography that `as_owner` needs too.
    Store::open(&url, &StoreOptions::default(), &variable).expect("a store");
    let (_, name) = url.rsplit_once('/').expect("a prefix");
    let name = format!("lb-{name}");
    let headers: &[(&'static str, &str)] =
        if lock { &[("x-amz-bucket-object-lock-enabled", "true")] } else { &[] };
    let (status, body) = as_owner("PUT", &name, headers, "").await;
    assert_eq!(status, 200, "{body}");
    name
}

fn example(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/s3").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Puts the policies of hosts together: statements of all of them.
fn policy_of(bucket: &str, prefix: &str, hosts: &[(&User, &str)]) -> String {
    let mut statements = Vec::new();
    for (user, writer) in hosts {
        let principal = format!("arn:aws:iam:::user/{}", user.name);
        let text = example("bucket-policy-host.json")
            .replace("PRINCIPAL", &principal)
            .replace("BUCKET", bucket)
            .replace("PREFIX", prefix)
            .replace("WRITER", writer);
        let mut policy: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let of_host = policy["Statement"].as_array_mut().expect("statements");
        statements.append(of_host);
    }
    // On Ceph an object belongs to the user who wrote it, and the bucket's owner reads it by the policy for readers.
    let owner = variable("LIFEBOAT_TEST_S3_OWNER").unwrap_or_else(|| "lifeboat".to_owned());
    let text = example("bucket-policy-reader.json")
        .replace("PRINCIPAL", &format!("arn:aws:iam:::user/{owner}"))
        .replace("BUCKET", bucket)
        .replace("PREFIX", prefix);
    let mut policy: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    statements.append(policy["Statement"].as_array_mut().expect("statements"));
    serde_json::json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

async fn set(bucket: &str, what: &str, body: &str) {
    let (status, answer) = as_owner("PUT", &format!("{bucket}?{what}"), &[], body.to_owned()).await;
    assert!((200..300).contains(&status), "{what}: {status} {answer}");
}

const VERSIONED: &str = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
const LOCKED: &str = "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";

/// A vault of the owner's in which two hosts may write, each with its own credentials.
async fn two_confined_hosts(
    bucket: &str,
    users: &[User; 2],
    seed: u64,
) -> (Stage, BTreeMap<usize, Vault>, String) {
    let url = format!("s3://{bucket}/vault");
    let store = Store::open(&url, &StoreOptions::default(), &variable).expect("a store");
    let mut options = tiny_fabric(4, seed);
    options.hosts = 2;
    let mut stage = Stage::set(store, &url, &options).await;
    for name in stage.fabric.answers().hosts.clone() {
        stage.enroll(&name).await.expect("a host is let in");
    }
    let named: Vec<(&User, String)> =
        users.iter().zip(&stage.hosts).map(|(user, host)| (user, host.id.to_string())).collect();
    let named: Vec<(&User, &str)> = named.iter().map(|(user, id)| (*user, id.as_str())).collect();
    set(bucket, "policy", &policy_of(bucket, "vault", &named)).await;
    let vaults = users.iter().enumerate().map(|(n, user)| (n, stage.vault_in(user.store(&url)))).collect();
    (stage, vaults, url)
}

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Time::from_unix_seconds(i64::try_from(since.as_secs()).expect("a time"))
}

fn is_denied<T: std::fmt::Debug>(result: Result<T, StoreError>, what: &str) {
    assert!(matches!(result, Err(StoreError::Denied { .. })), "{what}: {result:?}");
}

/// What one host's credentials cannot do to the other's prefix, nor outside of its own.
async fn assert_confined(stage: &Stage, vaults: &BTreeMap<usize, Vault>) {
    let (own, other) = (&vaults[&0].store, &stage.hosts[1].id);
    let ledger = stage.vault.ledgers(&Default::default()).await.expect("ledgers");
    let record = ledger.writers[other].newest().expect("a record");
    let object = object_path(other, &record.signed.record.objects[0].name);
    is_denied(own.read(&object, 1 << 20).await, "another's object");
    is_denied(own.head(&object).await, "its size");
    is_denied(own.list(&format!("objects/{other}"), None).await, "another's names");
    let new = object_path(other, &Digest::of(b"new"));
    is_denied(own.create_object(&new, Bytes::from_static(b"x")).await, "writing as another");
    is_denied(
        own.create_object(
            &object_path(&lifeboat_schema::WriterId::admin(), &Digest::of(b"x")),
            Bytes::from_static(b"x"),
        )
        .await,
        "writing as admin",
    );
    // The ledger of another is read, and not written.
    let theirs = own.list(&format!("ledger/{other}"), None).await.expect("ledgers are listed");
    assert!(own.read(&theirs.objects[0].path, 1 << 20).await.is_ok());
    let forged = lifeboat_vault::store::StorePath::parse(&format!("ledger/{other}/x")).expect("a name");
    is_denied(own.create_record(&forged, Bytes::from_static(b"x")).await, "another's ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_policy_for_hosts_an_agent_works_and_can_destroy_nothing() {
    let Some(users) = users() else { return };
    let bucket = new_bucket(false).await;
    set(&bucket, "versioning", VERSIONED).await;
    let (mut stage, vaults, _) = two_confined_hosts(&bucket, &users, 75).await;
    for round in 1..=3 {
        if round == 2 {
            let aging = lifeboat_tests::testfabric::AgeOptions::change(1, 50.0);
            stage.fabric.age(&aging).expect("changes");
        }
        for (host, vault) in &vaults {
            let report = stage.run_on(vault, *host, |_| {}).await.expect("a run");
            assert!(report.failed.is_empty() && report.findings.is_empty());
        }
    }
    assert_confined(&stage, &vaults).await;
    let report = examined(&config_of(&stage, 0), vaults[&0].store.clone(), now()).await;
    assert_eq!(report.protection, StoreProtection::Versioned, "{report:#?}");
    for check in ["clock", "versioning", "policy", "listing", "protection", "other-writers"] {
        assert_eq!(outcome(&report, check), CheckOutcome::Works, "{check}: {report:#?}");
    }
    // Ceph 16 does not look at If-None-Match in a bucket with versions; there they are what protects.
    assert!(
        matches!(outcome(&report, "conditional-writes"), CheckOutcome::Works | CheckOutcome::Note),
        "{report:#?}"
    );
    assert_left_in_order(&stage).await;
    // The owner's own credentials are another matter, and the doctor says so.
    let report = examined(&config_of(&stage, 0), stage.vault.store.clone(), now()).await;
    assert_eq!(report.protection, StoreProtection::Unprotected, "{report:#?}");
    assert_eq!(outcome(&report, "other-writers"), CheckOutcome::Finding);
    // A clock that is wrong is told, not judged.
    let late = Time::from_unix_seconds(now().unix_seconds() - 3600);
    let report = examined(&config_of(&stage, 0), vaults[&0].store.clone(), late).await;
    assert_eq!(outcome(&report, "clock"), CheckOutcome::Finding);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_compliance_lock_deletion_is_refused_even_to_the_owner() {
    let Some(users) = users() else { return };
    let bucket = new_bucket(true).await;
    set(&bucket, "object-lock", LOCKED).await;
    let (stage, vaults, url) = two_confined_hosts(&bucket, &users, 76).await;
    for (host, vault) in &vaults {
        for _ in 0..2 {
            stage.run_on(vault, *host, |_| {}).await.expect("a run");
        }
    }
    assert_confined(&stage, &vaults).await;
    let report = examined(&config_of(&stage, 0), vaults[&0].store.clone(), now()).await;
    // The policy lets nobody of the hosts delete; what they replace stays as a locked version.
    assert_eq!(report.protection, StoreProtection::Locked, "{report:#?}");
    assert_eq!(outcome(&report, "object-lock"), CheckOutcome::Works, "{report:#?}");
    // Without any policy in the way, the owner may mark objects as deleted, and not destroy a version.
    let owner = Store::open(&url, &StoreOptions::default(), &variable).expect("a store");
    let path = object_path(&stage.hosts[0].id, &Digest::of(b"the owner's probe"));
    let rights = owner.probe_rights(&path).await.expect("a probe");
    assert!(rights.keeps_versions && rights.protected(), "{rights:?}");
    assert!(matches!(rights.delete_version, Attempt::Refused { .. }), "{rights:?}");
    assert!(
        rights.retention.as_deref().is_some_and(|lock| lock.starts_with("COMPLIANCE until ")),
        "{rights:?}"
    );
    assert_left_in_order(&stage).await;
}

#[test]
fn the_examples_are_policies_and_name_nothing_real() {
    for name in ["bucket-policy-host.json", "bucket-policy-maintainer.json", "bucket-policy-reader.json"] {
        let policy: serde_json::Value = serde_json::from_str(&example(name)).expect(name);
        let statements = policy["Statement"].as_array().expect("statements");
        assert!(!statements.is_empty());
        for statement in statements {
            assert_eq!(statement["Principal"]["AWS"], "PRINCIPAL", "{name}");
            let text = statement["Resource"].to_string();
            assert!(text.contains("arn:aws:s3:::BUCKET"), "{name}: {text}");
        }
    }
    let _: serde_json::Value = serde_json::from_str(&example("statement-if-none-match.json")).expect("JSON");
}
