//! `s3://` against a server that answers by script: what real services do only on bad days.
//!
//! This holds the ground under the reading of `object_store`'s errors, whose types are not public.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lifeboat_vault::store::{Addressing, Created, Store, StoreError, StoreOptions};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{path, skipped};

const BODY: &[u8] = b"some sealed bytes";
const SECRET: &str = "hunter2-secret-access-key";
const TOKEN: &str = "hunter2-session-token";

/// What the server does with one request.
#[derive(Clone)]
enum Step {
    /// Answers with status, headers (each with its line end) and body.
    Answer(&'static str, String, Vec<u8>),
    /// Announces a longer body than it sends, then hangs up.
    CutShort,
    /// Hangs up without an answer.
    HangUp,
    /// Never answers.
    Silence,
}

fn status(line: &'static str) -> Step {
    Step::Answer(line, String::new(), Vec::new())
}

fn error(line: &'static str, code: &str) -> Step {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Words of the server.</Message>\
         <CanonicalRequest>x-amz-security-token:{TOKEN}</CanonicalRequest></Error>"
    );
    Step::Answer(line, "Content-Type: application/xml\r\n".to_owned(), body.into_bytes())
}

fn object(body: &[u8]) -> Step {
    let headers = "Last-Modified: Tue, 01 Jan 2030 00:00:00 GMT\r\nETag: \"e\"\r\n".to_owned();
    Step::Answer("200 OK", headers, body.to_vec())
}

/// A server that takes its answers from a script, and keeps the heads of the requests.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(script: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(script.into_iter().collect::<std::collections::VecDeque<_>>()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&seen)));
            }
        });
        Self { address, requests }
    }

    fn store(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        let mut options = StoreOptions::default();
        options.endpoint = Some(self.address.clone());
        options.retry.initial_backoff_milliseconds = 1;
        options.retry.max_retries = 2;
        change(&mut options);
        let environment = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some("AKEXAMPLE".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some(SECRET.to_owned()),
            "AWS_SESSION_TOKEN" => Some(TOKEN.to_owned()),
            _ => None,
        };
        Store::open("s3://bucket/pre/fix", &options, &environment).expect("open")
    }

    /// Request lines so far.
    fn lines(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("not poisoned");
        requests.iter().filter_map(|head| head.lines().next()).map(str::to_owned).collect()
    }

    fn heads(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

async fn serve(
    stream: TcpStream,
    script: Arc<Mutex<std::collections::VecDeque<Step>>>,
    seen: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
            .map_or(0, |length| length.parse().expect("a number"));
        stream.read_exact(&mut vec![0; length]).await.ok()?;
        let is_head = head.starts_with("HEAD ");
        seen.lock().expect("not poisoned").push(head);
        let step = script.lock().expect("not poisoned").pop_front();
        let answer = match step.unwrap_or(Step::HangUp) {
            Step::Answer(line, headers, body) => {
                let mut answer =
                    format!("HTTP/1.1 {line}\r\n{headers}Content-Length: {}\r\n\r\n", body.len())
                        .into_bytes();
                answer.extend_from_slice(if is_head { &[] } else { &body });
                answer
            }
            Step::CutShort => {
                let head = "HTTP/1.1 200 OK\r\nLast-Modified: Tue, 01 Jan 2030 00:00:00 GMT\r\n\
                            ETag: \"e\"\r\nContent-Length: 17\r\n\r\nsome";
                stream.write_all(head.as_bytes()).await.ok()?;
                return None;
            }
            Step::HangUp => return None,
            Step::Silence => {
                tokio::time::sleep(Duration::from_secs(600)).await;
                return None;
            }
        };
        stream.write_all(&answer).await.ok()?;
    }
}

async fn create(server: &Server) -> Result<Created, StoreError> {
    server.store(|_| ()).create_object(&path("o"), Bytes::from_static(BODY)).await
}

#[tokio::test]
async fn a_create_asks_for_no_overwriting_in_one_put() {
    let server = Server::start([status("200 OK")]).await;
    let _ = create(&server).await;
    let head = server.heads().remove(0);
    assert!(head.starts_with("PUT /bucket/pre/fix/o HTTP/1.1\r\n"), "{head}");
    let lower = head.to_ascii_lowercase();
    assert!(lower.contains("\r\nif-none-match: *\r\n"), "{head}");
    assert!(lower.contains("\r\nx-amz-content-sha256: ") && !lower.contains("unsigned-payload"), "{head}");
    assert!(!head.contains(SECRET), "{head}");
}

#[tokio::test]
async fn an_error_after_success_ends_as_success() {
    let etag = || Step::Answer("200 OK", "ETag: \"e\"\r\n".to_owned(), Vec::new());
    // Retried below, refused as existing, found to be ours.
    let server = Server::start([
        error("503 Slow Down", "SlowDown"),
        error("412 Precondition Failed", "PreconditionFailed"),
        object(BODY),
    ])
    .await;
    assert_eq!(create(&server).await.expect("ours"), Created::AlreadyThere);
    // All retries used up, and the object is there nevertheless.
    let mut script = vec![error("500 Internal Server Error", "InternalError"); 3];
    script.push(object(BODY));
    let server = Server::start(script).await;
    assert_eq!(create(&server).await.expect("ours"), Created::AlreadyThere);
    // A 409 without an object: S3 asks for a repetition, nobody below does it.
    let server =
        Server::start([error("409 Conflict", "ConditionalRequestConflict"), status("404 Not Found"), etag()])
            .await;
    assert_eq!(create(&server).await.expect("repeated"), Created::Written);
    assert_eq!(server.lines().len(), 3);
    // Another's object.
    let server = Server::start([
        error("412 Precondition Failed", "PreconditionFailed"),
        object(b"something else, longer"),
    ])
    .await;
    let result = create(&server).await;
    assert!(matches!(result, Err(StoreError::Conflict { .. })), "{result:?}");
}

#[tokio::test]
async fn a_lost_answer_is_followed_by_a_look_and_a_repetition() {
    let etag = Step::Answer("200 OK", "ETag: \"e\"\r\n".to_owned(), Vec::new());
    let server = Server::start([Step::Silence, status("404 Not Found"), etag]).await;
    let store = server.store(|options| options.request_timeout_seconds = 1);
    let created = store.create_object(&path("o"), Bytes::from_static(BODY)).await;
    assert_eq!(created.expect("repeated"), Created::Written);
    let methods: Vec<_> = server.lines().iter().map(|line| line[..4].to_owned()).collect();
    assert_eq!(methods, ["PUT ", "HEAD", "PUT "]);

    let server = Server::start([Step::Silence, object(BODY)]).await;
    let store = server.store(|options| options.request_timeout_seconds = 1);
    let created = store.create_object(&path("o"), Bytes::from_static(BODY)).await;
    assert_eq!(created.expect("it was written"), Created::AlreadyThere);
}

#[tokio::test]
async fn refusals_are_told_apart_and_quoted_without_secrets() {
    for (step, variant) in [
        (error("403 Forbidden", "SignatureDoesNotMatch"), "Denied"),
        (error("403 Forbidden", "RequestTimeTooSkewed"), "Denied"),
        (error("404 Not Found", "NoSuchBucket"), "Configuration"),
        (error("400 Bad Request", "AuthorizationHeaderMalformed"), "Configuration"),
        (error("301 Moved Permanently", "PermanentRedirect"), "Configuration"),
        (error("403 Forbidden", "QuotaExceeded"), "Full"),
        (error("400 Bad Request", "InvalidRequest"), "Other"),
    ] {
        let server = Server::start([step]).await;
        let found = create(&server).await.expect_err("refused");
        let text = found.to_string();
        assert!(format!("{found:?}").starts_with(variant), "{variant}: {found:?}");
        assert!(!text.contains("hunter2") && !format!("{found:?}").contains("hunter2"), "{text}");
        assert_eq!(server.lines().len(), 1, "{text}: repeated");
    }
    for body in [&b"not xml at all"[..], b"<Error><Code>", b"<Error><Code></Code></Error>", b""] {
        let answer = Step::Answer("400 Bad Request", String::new(), body.to_vec());
        let server = Server::start([answer]).await;
        let text = create(&server).await.expect_err("refused").to_string();
        assert!(text.contains("HTTP status 400"), "{text}");
    }
}

#[tokio::test]
async fn bodies_that_end_early_or_never_are_errors() {
    let read = async |script: Vec<Step>| {
        let server = Server::start(script).await;
        let store = server.store(|options| options.request_timeout_seconds = 1);
        store.read(&path("o"), 1000).await
    };
    let error = read(vec![Step::CutShort; 9]).await.expect_err("cut short");
    assert!(matches!(error, StoreError::Unreachable { .. } | StoreError::Other { .. }), "{error:?}");
    let error = read(vec![Step::Silence; 9]).await.expect_err("silent");
    assert!(error.is_transient(), "{error:?}");
    // A server that ignores the range and sends all.
    let server = Server::start([object(BODY), object(BODY)]).await;
    let result = server.store(|_| ()).read_range(&path("o"), 2..5).await;
    assert!(result.is_err(), "{result:?}");
    // Nobody listens.
    let server = Server { address: "http://127.0.0.1:1".to_owned(), requests: Arc::default() };
    let error = server.store(|_| ()).read(&path("o"), 10).await.expect_err("nobody there");
    assert!(error.is_transient() && error.to_string().contains("efused"), "{error}");
}

#[tokio::test]
async fn listings_are_bounded_in_their_parts_and_pages_follow() {
    let page = |keys: &str, next: &str| {
        let body = format!(
            "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name>{keys}\
             <IsTruncated>{}</IsTruncated>{next}</ListBucketResult>",
            !next.is_empty()
        );
        Step::Answer("200 OK", String::new(), body.into_bytes())
    };
    let key = |name: &str| {
        format!(
            "<Contents><Key>{name}</Key><LastModified>2030-01-01T00:00:00.000Z</LastModified>\
             <ETag>e</ETag><Size>3</Size></Contents>"
        )
    };
    let first = key("pre/fix/l/b") + &key("pre/fix/l/Strange");
    let server = Server::start([
        page(&first, "<NextContinuationToken>t1</NextContinuationToken>"),
        page(&key("pre/fix/l/a"), ""),
    ])
    .await;
    let listing = server.store(|_| ()).list("l", Some("l/0")).await.expect("two pages");
    let names: Vec<_> = listing.objects.iter().map(|listed| listed.path.as_str()).collect();
    assert_eq!((names, listing.foreign), (vec!["l/a", "l/b"], vec!["l/Strange".to_owned()]));
    let lines = server.lines();
    assert!(
        lines[0].contains("prefix=pre%2Ffix%2Fl%2F") && lines[0].contains("start-after=pre%2Ffix%2Fl%2F0")
    );
    assert!(lines[1].contains("continuation-token=t1"), "{lines:?}");
    for garbage in ["", "<ListBucketResult>", "no xml", "<ListBucketResult><Contents><Size>-1</Size>"] {
        let server = Server::start([Step::Answer("200 OK", String::new(), garbage.into())]).await;
        let result = server.store(|_| ()).list("l", None).await;
        assert!(result.is_err(), "{garbage:?}: {result:?}");
    }
}

#[tokio::test]
async fn the_bucket_goes_where_it_is_told_to_go() {
    for (addressing, line, host) in [
        (Addressing::Auto, "HEAD /bucket/pre/fix/o ", "127.0.0.1"),
        (Addressing::Path, "HEAD /bucket/pre/fix/o ", "127.0.0.1"),
        (Addressing::VirtualHosted, "HEAD /pre/fix/o ", "bucket.localhost"),
    ] {
        let mut server = Server::start([object(BODY)]).await;
        if addressing == Addressing::VirtualHosted {
            server.address = server.address.replace("127.0.0.1", "localhost");
        }
        let store = server.store(|options| options.addressing = addressing);
        // A name below `localhost` is not known everywhere.
        if addressing == Addressing::VirtualHosted
            && tokio::net::lookup_host("bucket.localhost:80").await.is_err()
        {
            skipped("bucket.localhost is not known here");
            continue;
        }
        assert_eq!(store.head(&path("o")).await.expect("head"), Some(BODY.len() as u64));
        let head = server.heads().remove(0);
        assert!(
            head.starts_with(line) && head.to_ascii_lowercase().contains(&format!("host: {host}:")),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_proxy_is_used_and_its_password_stays_out_of_errors() {
    let proxy = Server::start([status("502 Bad Gateway"), object(BODY)]).await;
    let with_password = proxy.address.replace("http://", "http://user:hunter2@");
    let server = Server { address: "http://s3.invalid".to_owned(), requests: Arc::default() };
    let store = server.store(|options| {
        options.proxy_url = Some(with_password.clone());
        options.allow_http = true;
        options.retry.max_retries = 0;
    });
    let error = store.read(&path("o"), 100).await.expect_err("the proxy fails");
    assert!(error.is_transient() && !error.to_string().contains("hunter2"), "{error}");
    assert_eq!(store.read(&path("o"), 100).await.expect("through the proxy"), BODY);
    let lines = proxy.lines();
    assert!(lines[0].starts_with("GET http://s3.invalid/bucket/pre/fix/o "), "{lines:?}");
}

#[test]
fn configurations_that_cannot_work_are_refused_when_opened() {
    let keys = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("x".to_owned()),
        _ => None,
    };
    let none = |_: &str| None;
    let half = |name: &str| (name == "AWS_ACCESS_KEY_ID").then(|| "x".to_owned());
    type Case<'a> = (&'a str, &'a dyn Fn(&str) -> Option<String>, fn(&mut StoreOptions), &'a str);
    let refused: [Case<'_>; 10] = [
        ("s3://bucket", &keys, |o| o.endpoint = Some("http://s3.example".into()), "without TLS"),
        ("s3://bucket", &keys, |o| o.endpoint = Some("s3.example".into()), "not a URL"),
        ("s3://bucket", &keys, |o| o.endpoint = Some("ftp://s3.example".into()), "neither"),
        ("s3://bucket", &keys, |o| o.endpoint = Some("https://u:p@s3.example".into()), "credentials"),
        ("s3://bucket", &none, |o| o.endpoint = Some("https://s3.example".into()), "no credentials"),
        ("s3://bucket", &half, |o| o.endpoint = Some("https://s3.example".into()), "without a secret"),
        ("s3://bucket", &keys, |o| o.ca_certificate = Some("/nonexistent.pem".into()), "/nonexistent.pem"),
        ("s3://bucket", &keys, |o| o.ca_certificate = Some("/dev/null".into()), "there is none in it"),
        ("s3://bucket", &keys, |o| o.profile = Some("x".into()), "neither of the AWS files"),
        ("az://container", &none, |_| (), "cannot be used as configured"),
    ];
    for (url, environment, change, expected) in refused {
        let mut options = StoreOptions::default();
        change(&mut options);
        match Store::open(url, &options, &environment) {
            Ok(_) => panic!("{expected}: accepted"),
            Err(error) => assert!(error.to_string().contains(expected), "{expected}: {error}"),
        }
    }
    let no_metadata = |name: &str| (name == "AWS_EC2_METADATA_DISABLED").then(|| "true".to_owned());
    assert!(Store::open("s3://bucket", &StoreOptions::default(), &no_metadata).is_err());
    assert!(Store::open("s3://bucket", &StoreOptions::default(), &none).is_ok(), "the machine's own role");
}

#[test]
fn the_other_clouds_open_with_their_usual_variables() {
    let environment = |name: &str| match name {
        "AZURE_STORAGE_ACCOUNT_NAME" => Some("account".to_owned()),
        "AZURE_STORAGE_ACCOUNT_KEY" => Some("a2V5a2V5".to_owned()),
        "GOOGLE_BEARER_TOKEN" => Some("token".to_owned()),
        _ => None,
    };
    for url in ["az://container/prefix", "gs://bucket/prefix"] {
        let store = Store::open(url, &StoreOptions::default(), &environment).expect(url);
        assert_eq!(store.describe(), url);
    }
}
