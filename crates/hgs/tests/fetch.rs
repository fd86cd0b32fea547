//! A double of an HGS on this machine: what it may answer, and what is made of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lifeboat_hgs::{
    FetchOptions, Fetched, HgsError, MAX_METADATA_BYTES, METADATA_PATH, fetch, fetch_blocking,
};
use lifeboat_key_protector::rand_core::SeedableRng as _;
use lifeboat_key_protector::{AlgorithmRegistry, AlgorithmSuite, GuardianKeys, Validity};
use lifeboat_schema::Digest;
use rand_chacha_0_10::ChaCha20Rng;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// Metadata of an invented guardian, and the thumbprint of its signing certificate.
fn metadata() -> (Vec<u8>, Digest) {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let validity = Validity { not_before_unix_seconds: 1_600_000_000, not_after_unix_seconds: 1_900_000_000 };
    let keys = GuardianKeys::generate("Fabric", "HGS01", validity, &mut rng).unwrap();
    let (suite, registry) = (AlgorithmSuite::synthetic(), AlgorithmRegistry::builtin());
    let bytes = keys.encode_metadata(&suite, &registry, &mut rng).unwrap();
    (bytes, Digest::from_bytes(keys.signing_certificate().sha256().0))
}

/// Serves answers by path until the test ends, and gives the address.
async fn serve(answers: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut lines = BufReader::new(&mut stream).lines();
            let first = lines.next_line().await.unwrap().unwrap_or_default();
            while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = answers.iter().find(|(of, _)| *of == path).map(|(_, bytes)| bytes.clone());
            let answer = answer.unwrap_or_else(|| status("404 Not Found", "", b""));
            if answer.is_empty() {
                // Never answers.
                std::mem::forget(stream);
                continue;
            }
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

fn status(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {line}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn ok(body: &[u8]) -> Vec<u8> {
    status("200 OK", "Content-Type: text/xml\r\n", body)
}

async fn ask(address: &str, signing_certificate: Option<Digest>) -> Result<Fetched, HgsError> {
    let timeout = Duration::from_secs(if signing_certificate.is_some() { 20 } else { 5 });
    fetch(address, &FetchOptions { timeout, signing_certificate }).await
}

#[tokio::test]
async fn a_service_is_asked_at_its_usual_path() {
    let (bytes, thumbprint) = metadata();
    let address = serve(vec![(METADATA_PATH, ok(&bytes))]).await;
    let fetched = ask(&address, None).await.unwrap();
    assert_eq!((fetched.bytes, fetched.url), (bytes, format!("{address}{METADATA_PATH}")));
    assert_eq!(fetched.metadata.guardian_name().guardian, "Fabric");
    assert!(ask(&address, Some(thumbprint)).await.is_ok());
    let other = ask(&address, Some(Digest::of(b"another"))).await.unwrap_err();
    assert!(matches!(other, HgsError::OtherCertificate { found, .. } if found == thumbprint), "{other}");
}

#[tokio::test]
async fn a_thread_may_ask_too() {
    let (bytes, _) = metadata();
    let address = serve(vec![(METADATA_PATH, ok(&bytes))]).await;
    let asked = tokio::task::spawn_blocking(move || fetch_blocking(&address, &FetchOptions::default()));
    assert_eq!(asked.await.unwrap().unwrap().bytes, bytes);
}

#[tokio::test]
async fn altered_or_other_answers_are_refused() {
    let (bytes, _) = metadata();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The encryption certificate in place of the signing one: both parse, and no signature fits.
    let between =
        |from: &str, to: &str| text.split_once(from).unwrap().1.split_once(to).unwrap().0.to_owned();
    let signing = between("<SigningCertificate>", "</SigningCertificate>");
    let encryption = between("<EncryptionCertificate>", "</EncryptionCertificate>");
    let altered = text.replace(&signing, &encryption);
    let address = serve(vec![
        ("/altered", ok(altered.as_bytes())),
        ("/page", ok(b"<html>It works!</html>")),
        ("/cut", ok(&bytes[..bytes.len() / 2])),
        ("/error", status("500 Internal Server Error", "", &bytes)),
        ("/large", ok(&vec![b' '; MAX_METADATA_BYTES + 1])),
    ])
    .await;
    let of = async |path: &str| ask(&format!("{address}{path}"), None).await.unwrap_err();
    assert!(matches!(of("/altered").await, HgsError::Altered { .. }));
    assert!(matches!(of("/page").await, HgsError::NotMetadata { .. }));
    assert!(matches!(of("/cut").await, HgsError::NotMetadata { .. }));
    assert!(matches!(of("/error").await, HgsError::Status { status, .. } if status == 500));
    assert!(matches!(of("/nothing").await, HgsError::Status { status, .. } if status == 404));
    assert!(matches!(of("/large").await, HgsError::TooLarge { .. }));
}

#[tokio::test]
async fn redirects_and_waiting_end() {
    let (bytes, _) = metadata();
    let to = |place: &str| status("302 Found", &format!("Location: {place}\r\n"), b"");
    let address = serve(vec![
        ("/moved", to(METADATA_PATH)),
        (METADATA_PATH, ok(&bytes)),
        ("/round", to("/round?")),
        ("/round?", to("/round")),
        ("/away", to("file:///etc/hostname")),
        ("/silent", Vec::new()),
    ])
    .await;
    assert_eq!(ask(&format!("{address}/moved"), None).await.unwrap().bytes, bytes);
    for path in ["/round", "/silent"] {
        let error = ask(&format!("{address}{path}"), None).await.unwrap_err();
        assert!(matches!(error, HgsError::NoAnswer { .. }), "{path}: {error}");
    }
    // What is no web address is not followed.
    let error = ask(&format!("{address}/away"), None).await.unwrap_err();
    assert!(matches!(error, HgsError::Status { status, .. } if status == 302), "{error}");
    let error = ask("http://127.0.0.1:1", None).await.unwrap_err();
    assert!(matches!(error, HgsError::NoAnswer { .. }), "{error}");
}
