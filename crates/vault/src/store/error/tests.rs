use object_store::Error as Below;

use super::*;

fn reader() -> Reader {
    Reader { store: "s3://bucket".to_owned(), secrets: vec![Zeroizing::new("hunter2".to_owned())] }
}

fn answer(status: u16, code: &str, message: &str) -> Below {
    let text = format!(
        "Error performing PUT http://host/bucket/o in 1.2s, after 3 retries - Server returned non-2xx status \
         code: {status} Reason: <?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message>\
         <CanonicalRequest>x-amz-security-token:hunter2 and-more</CanonicalRequest></Error>"
    );
    Below::Generic { store: "S3", source: text.into() }
}

fn local(kind: io::ErrorKind) -> Below {
    Below::Generic { store: "file", source: io::Error::from(kind).into() }
}

fn http(kind: HttpErrorKind, text: &'static str) -> Below {
    Below::Generic { store: "S3", source: HttpError::new(kind, io::Error::other(text)).into() }
}

/// Name of the variant, and the text.
fn read(error: &Below) -> (String, String) {
    let error = reader().read(Action::Create, "o", error);
    let name = format!("{error:?}");
    (name.split([' ', '{']).next().unwrap().to_owned(), error.to_string())
}

#[test]
fn answers_of_servers_are_read_by_code_then_by_status() {
    for (status, code, variant) in [
        (404, "NoSuchBucket", "Configuration"),
        (404, "NoSuchKey", "NotFound"),
        (403, "AccessDenied", "Denied"),
        (403, "RequestTimeTooSkewed", "Denied"),
        (403, "SignatureDoesNotMatch", "Denied"),
        (400, "ExpiredToken", "Denied"),
        (403, "QuotaExceeded", "Full"),
        (507, "XMinioStorageFull", "Full"),
        (507, "Other", "Full"),
        (400, "AuthorizationHeaderMalformed", "Configuration"),
        (301, "PermanentRedirect", "Configuration"),
        (307, "TemporaryRedirect", "Configuration"),
        (409, "OperationAborted", "Unreachable"),
        (429, "TooManyRequests", "Unreachable"),
        (500, "InternalError", "Unreachable"),
        (501, "NotImplemented", "Unsupported"),
        (503, "SlowDown", "Unreachable"),
        (400, "InvalidRequest", "Other"),
    ] {
        let (found, text) = read(&answer(status, code, "Words of the server."));
        assert_eq!(found, variant, "{status} {code}: {text}");
        assert!(text.contains("s3://bucket") || text.contains("bucket of"), "{text}");
        assert!(text.ends_with('.') && !text.contains(".."), "{text}");
    }
}

#[test]
fn errors_of_the_system_are_read_by_kind() {
    use io::ErrorKind as K;
    for (kind, variant) in [
        (K::StorageFull, "Full"),
        (K::QuotaExceeded, "Full"),
        (K::PermissionDenied, "Denied"),
        (K::ReadOnlyFilesystem, "Denied"),
        (K::NotFound, "NotFound"),
        (K::NotADirectory, "NotFound"),
        (K::Unsupported, "Unsupported"),
        (K::StaleNetworkFileHandle, "Unreachable"),
        (K::InvalidData, "Other"),
    ] {
        assert_eq!(read(&local(kind)).0, variant, "{kind:?}");
    }
    for (kind, text, variant) in [
        (HttpErrorKind::Connect, "Connection refused", "Unreachable"),
        (HttpErrorKind::Connect, "invalid peer certificate: UnknownIssuer", "Configuration"),
        (HttpErrorKind::Timeout, "timed out", "Unreachable"),
        (HttpErrorKind::Decode, "bad chunk", "Other"),
    ] {
        assert_eq!(read(&http(kind, text)).0, variant, "{text}");
    }
}

#[test]
fn no_secret_and_no_flood_gets_into_a_text() {
    for error in [
        answer(403, "SignatureDoesNotMatch", "no match"),
        answer(400, "Odd", &format!("echo of hunter2 {}", "x".repeat(900))),
        answer(400, "Odd", &"y".repeat(100_000)),
        answer(400, "Odd", "line\none\u{1b}[31m two"),
        Below::Generic { store: "S3", source: format!("hunter2 {}", "z".repeat(10_000)).into() },
        http(HttpErrorKind::Unknown, "proxy http://u:hunter2@proxy failed"),
    ] {
        let (_, text) = read(&error);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.len() < 700, "{} bytes", text.len());
    }
}

#[test]
fn a_machine_without_credentials_hears_where_they_were_sought() {
    let text = "Error performing PUT http://169.254.169.254/latest/api/token in 1s - HTTP error";
    let (variant, text) = read(&Below::Generic { store: "S3", source: text.into() });
    assert_eq!(variant, "Denied");
    assert!(text.contains("AWS_PROFILE"), "{text}");
}

#[test]
fn failures_of_a_put_are_told_apart() {
    let exists = Below::AlreadyExists { path: "o".into(), source: "x".into() };
    let precondition = Below::Precondition { path: "o".into(), source: "x".into() };
    for (error, expected) in [
        (exists, PutFailure::SaysExists),
        (precondition, PutFailure::SaysExists),
        (http(HttpErrorKind::Timeout, "x"), PutFailure::Lost),
        (http(HttpErrorKind::Interrupted, "x"), PutFailure::Lost),
        (http(HttpErrorKind::Connect, "x"), PutFailure::Passing),
        (answer(503, "SlowDown", "x"), PutFailure::Passing),
        (answer(403, "AccessDenied", "x"), PutFailure::Refused),
        (local(io::ErrorKind::StorageFull), PutFailure::Refused),
    ] {
        assert_eq!(reader().put_failure(&error), expected, "{error}");
    }
}
