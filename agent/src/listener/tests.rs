use lifeboat_schema::VaultId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

fn config(folder: &Path) -> lifeboat_config::Config {
    let text = format!(
        "vault = \"{}\"\nwriter = \"h-x\"\nhost = \"hv01\"\npolicy = {{ seq = 1, id = \"{}\" }}\n\n[store]\nurl = \"memory://\"\n\n[[source]]\nkind = \"directory\"\nname = \"vms\"\nroots = [\"vms\"]\n",
        VaultId::of(b"x"),
        Digest::of(b"x"),
    );
    let path = folder.join("agent.toml");
    std::fs::write(&path, text).unwrap();
    lifeboat_config::Config::read(&path).unwrap()
}

async fn serving(folder: &Path, change: impl FnOnce(&mut MetricsConfig)) -> (SocketAddr, Arc<Metrics>) {
    let config = config(folder);
    let mut own = MetricsConfig { listen: "127.0.0.1:0".to_owned(), ..MetricsConfig::default() };
    change(&mut own);
    let listener = Listener::bind(&own, own.address().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let metrics = Arc::new(Metrics::new(&config));
    tokio::spawn(listener.serve(Arc::clone(&metrics), Arc::new(|| Time::from_unix_seconds(1000))));
    (address, metrics)
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn status(address: SocketAddr, line: &str, header: &str) -> u16 {
    let answer = ask(address, &format!("{line} HTTP/1.1\r\nHost: x\r\n{header}\r\n")).await;
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_paths_are_answered_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (address, metrics) = serving(folder.path(), |_| {}).await;
    let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.contains(OPEN_METRICS) && answer.ends_with("# EOF\n"), "{answer}");
    assert!(
        answer.contains("lifeboat_failures_total{job=\"snapshot\",cause=\"store-denied\"} 0"),
        "{answer}"
    );
    assert_eq!(status(address, "GET /healthz", "").await, 200);
    // Nothing is committed yet.
    assert_eq!(status(address, "GET /readyz", "").await, 503);
    assert_eq!(status(address, "POST /metrics", "").await, 405);
    assert_eq!(status(address, "GET /", "").await, 404);
    assert_eq!(status(address, "GET /metrics/../agent.toml", "").await, 404);
    assert_eq!(status(address, "GET /metrics", &format!("X: {}\r\n", "y".repeat(20_000))).await, 431);
    metrics.show_alive(Time::from_unix_seconds(900));
    assert_eq!(status(address, "GET /healthz", "").await, 200);
    metrics.show_alive(Time::from_unix_seconds(600));
    assert_eq!(status(address, "GET /healthz", "").await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let (address, _) = serving(folder.path(), |own| own.token_file = Some(token)).await;
    for (header, expected) in [
        ("", 401),
        ("Authorization: Bearer 0123456789abcde\r\n", 401),
        ("Authorization: Basic 0123456789abcdef\r\n", 401),
        ("Authorization: Bearer 0123456789abcdef\r\n", 200),
        ("Authorization: bearer  0123456789abcdef\r\n", 200),
    ] {
        assert_eq!(status(address, "GET /metrics", header).await, expected, "{header}");
    }
    assert_eq!(status(address, "GET /healthz", "").await, 200);
    std::fs::write(folder.path().join("short"), "short\n").unwrap();
    let own = MetricsConfig { token_file: Some(folder.path().join("short")), ..MetricsConfig::default() };
    let refused = Listener::bind(&own, "127.0.0.1:0".parse().unwrap()).await.err().unwrap();
    assert!(refused.to_string().contains("token_file"), "{refused}");
}

/// A certificate for `localhost`, made by `openssl`; nothing where there is no such program.
fn certificate(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join("tls.pem"), folder.join("tls.key"));
    // As `openssl req` would have it on its own, the certificate would be an issuer's, which no server may show.
    let config = folder.join("openssl.cnf");
    let text = "[req]\ndistinguished_name = dn\nx509_extensions = v3\n[dn]\n[v3]\nsubjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n";
    std::fs::write(&config, text).unwrap();
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-config"])
        .arg(&config)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    made.is_ok_and(|output| output.status.success()).then_some((certificate, key))
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_too() {
    let folder = tempfile::tempdir().unwrap();
    let Some((certificate, key)) = certificate(folder.path()) else {
        println!("skipped: no openssl to make a certificate");
        return;
    };
    let pem = std::fs::read(&certificate).unwrap();
    let (address, _) = serving(folder.path(), |own| {
        own.tls_certificate = Some(certificate);
        own.tls_key = Some(key);
    })
    .await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).unwrap())
        .resolve("localhost", address)
        .build()
        .unwrap();
    let answer = client.get(format!("https://localhost:{}/metrics", address.port())).send().await.unwrap();
    assert!(answer.status().is_success());
    assert!(answer.text().await.unwrap().ends_with("# EOF\n"));
    // Without TLS nothing is told.
    let plain = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!plain.contains("lifeboat_"), "{plain}");
}
