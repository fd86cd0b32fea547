use std::sync::{Arc, Mutex};

use lifeboat_config::{DigestInterval, MailConfig, MailTls, WebhookConfig};
use lifeboat_schema::Exit;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::outcome::{FailureCause, RunFailure};

fn notifier(folder: &Path, digest: DigestInterval) -> Notifier {
    let config = NotifyConfig { digest, ..NotifyConfig::default() };
    let path = folder.join("notify.json");
    Notifier {
        config,
        vault: "lb1".to_owned(),
        writer: "h-1".to_owned(),
        host: "hv\n01".to_owned(),
        told: read(&path),
        path,
    }
}

fn failed(at: i64, cause: FailureCause) -> RunOutcome {
    let error = "the store\u{1b}[2J said no".to_owned();
    outcome(at, Err(RunFailure { cause, exit: Exit::Failed, error }))
}

fn outcome(at: i64, result: Result<lifeboat_schema::RunReport, RunFailure>) -> RunOutcome {
    let at = Time::from_unix_seconds(at);
    RunOutcome { job: "snapshot", started: at, finished: at, result }
}

fn committed(at: i64) -> RunOutcome {
    let report = serde_json::json!({
        "vault": lifeboat_schema::VaultId::of(b"x"), "writer": "h-1", "seq": 1,
        "record": lifeboat_schema::Digest::of(b"x"), "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:00:00Z", "found": 3, "captured": 2, "unchanged": 1, "carried": [], "failed": [],
        "stored_objects": 1, "stored_bytes": 10, "live_objects": 1, "findings": []
    });
    outcome(at, Ok(serde_json::from_value(report).unwrap()))
}

#[test]
fn trouble_is_told_once_then_at_intervals_and_its_end_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut notifier = notifier(folder.path(), DigestInterval::Never);
    let kinds = |notifier: &mut Notifier, outcome: RunOutcome| -> Vec<MessageKind> {
        notifier.run_ended(&outcome).into_iter().map(|one| one.kind).collect()
    };
    assert_eq!(kinds(&mut notifier, committed(0)), []);
    let down = FailureCause::StoreUnreachable;
    assert_eq!(kinds(&mut notifier, failed(3600, down)), [MessageKind::Trouble]);
    assert_eq!(kinds(&mut notifier, failed(7200, down)), []);
    // Other trouble, a day, a clock that was set back.
    assert_eq!(kinds(&mut notifier, failed(7300, FailureCause::StoreDenied)), [MessageKind::Trouble]);
    assert_eq!(
        kinds(&mut notifier, failed(7300 + 86_400, FailureCause::StoreDenied)),
        [MessageKind::Trouble]
    );
    assert_eq!(kinds(&mut notifier, failed(7300, FailureCause::StoreDenied)), [MessageKind::Trouble]);
    assert_eq!(kinds(&mut notifier, failed(7301, FailureCause::StoreDenied)), []);
    // A restart remembers.
    let mut notifier = super::tests::notifier(folder.path(), DigestInterval::Never);
    assert_eq!(kinds(&mut notifier, failed(7302, FailureCause::StoreDenied)), []);
    let over = notifier.run_ended(&committed(9000));
    assert_eq!(over.len(), 1);
    assert_eq!(over[0].kind, MessageKind::Recovered);
    assert!(over[0].lines[0].contains("1970-01-01T01:00:00Z"), "since the first of it: {over:?}");
    assert_eq!(kinds(&mut notifier, committed(9001)), []);
}

#[test]
fn a_digest_sums_up_and_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut notifier = notifier(folder.path(), DigestInterval::Daily);
    let mut digests = Vec::new();
    for hour in 0..=48 {
        let outcome =
            if hour == 5 { failed(hour * 3600, FailureCause::Other) } else { committed(hour * 3600) };
        digests
            .extend(notifier.run_ended(&outcome).into_iter().filter(|one| one.kind == MessageKind::Digest));
    }
    assert_eq!(digests.len(), 2);
    assert!(digests[0].lines[0].contains("25 runs, 1 of them failed"), "{digests:?}");
    assert!(digests[1].lines[0].contains("24 runs, 0 of them failed"), "{digests:?}");
}

#[test]
fn a_message_is_lines_whatever_a_name_holds() {
    let folder = tempfile::tempdir().unwrap();
    let mut notifier = notifier(folder.path(), DigestInterval::Never);
    let message = notifier.run_ended(&failed(0, FailureCause::Other)).remove(0);
    assert!(!message.subject.contains('\n') && !message.text().contains('\u{1b}'), "{message:?}");
    let long = notifier.message(
        MessageKind::Digest,
        Time::from_unix_seconds(0),
        "x".repeat(5000),
        vec!["y".to_owned(); 50],
    );
    assert_eq!((long.subject.chars().count(), long.lines.len()), (501, 21));
}

fn secret_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}

fn message() -> Message {
    let folder = tempfile::tempdir().unwrap();
    notifier(folder.path(), DigestInterval::Never).run_ended(&failed(0, FailureCause::StoreDenied)).remove(0)
}

/// Takes one request after the other, answers with these, and keeps what came.
async fn receiver(answers: Vec<&'static str>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook/of-secret-path", listener.local_addr().unwrap());
    let got = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&got);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let read = stream.read(&mut buffer).await.unwrap();
                text.extend_from_slice(&buffer[..read]);
                let shown = String::from_utf8_lossy(&text).into_owned();
                if let Some((head, body)) = shown.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| {
                        line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned)
                    });
                    if body.len() >= length.and_then(|n| n.parse().ok()).unwrap_or(0) {
                        break;
                    }
                }
                assert!(read > 0);
            }
            kept.lock().unwrap().push(String::from_utf8(text).unwrap());
            stream
                .write_all(
                    format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
                )
                .await
                .unwrap();
        }
    });
    (url, got)
}

#[tokio::test]
async fn a_webhook_is_signed_repeated_and_tells_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (url, got) = receiver(vec!["500 Oops", "204 No Content"]).await;
    let hook = WebhookConfig {
        name: "chat".to_owned(),
        url,
        secret_file: secret_file(folder.path(), "secret", "a-secret-of-our-own\n"),
        ca_certificate: None,
    };
    let config = NotifyConfig { webhooks: vec![hook.clone()], ..NotifyConfig::default() };
    let sender = Sender::new(&config).with_pause(std::time::Duration::from_millis(1));
    assert!(sender.send(&message(), 1_700_000_000).await.is_empty());
    let got = got.lock().unwrap().clone();
    assert_eq!(got.len(), 2, "the first was answered with 500");
    let (head, body) = got[1].split_once("\r\n\r\n").unwrap();
    let expected = signature(b"a-secret-of-our-own", 1_700_000_000, body.as_bytes());
    assert!(head.to_lowercase().contains(&format!("x-lifeboat-signature: sha256={expected}")), "{head}");
    assert!(!got[1].contains("a-secret-of-our-own"));
    assert_eq!(serde_json::from_str::<Message>(body).unwrap(), message());
    // As a receiver may compute it: printf '1.{}' | openssl dgst -sha256 -hmac key
    assert_eq!(
        signature(b"key", 1, b"{}"),
        "1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224"
    );
    // A service that is gone is named; its URL, which may be a secret, is not.
    let errors = sender.send(&message(), 0).await;
    let text = errors[0].to_string();
    assert!(text.contains("chat") && !text.contains("secret"), "{text}");
    // A secret that others can read is refused before anything is sent.
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&hook.secret_file, mode).unwrap();
        let errors = sender.send(&message(), 0).await;
        assert!(errors[0].to_string().contains("chmod 600"), "{errors:?}");
    }
}

#[tokio::test]
async fn mail_says_whom_what_and_when() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut said = Vec::new();
        let mut in_data = false;
        write.write_all(b"220 here\r\n").await.unwrap();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match (in_data, line.split(' ').next().unwrap_or_default()) {
                (true, ".") => {
                    in_data = false;
                    "250 taken\r\n"
                }
                (true, _) => "",
                (false, "DATA") => {
                    in_data = true;
                    "354 go on\r\n"
                }
                (false, "QUIT") => "221 bye\r\n",
                _ => "250 yes\r\n",
            };
            write.write_all(answer.as_bytes()).await.unwrap();
            let quit = line == "QUIT";
            said.push(line);
            if quit {
                break;
            }
        }
        said.join("\n")
    });
    let mail = MailConfig {
        name: "admins".to_owned(),
        server: "127.0.0.1".to_owned(),
        port: Some(port),
        tls: MailTls::None,
        user: None,
        password_file: None,
        from: "lifeboat@example.test".to_owned(),
        to: vec!["admin@example.test".to_owned(), "night@example.test".to_owned()],
    };
    let config = NotifyConfig { mails: vec![mail], ..NotifyConfig::default() };
    let errors = Sender::new(&config).send(&message(), 0).await;
    assert!(errors.is_empty(), "{errors:?}");
    let said = tokio::time::timeout(std::time::Duration::from_secs(10), server).await.unwrap().unwrap();
    for expected in [
        "RCPT TO:<night@example.test>",
        "Subject: [lifeboat] hv 01: snapshot fails (store-denied)",
        "said no",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
}
