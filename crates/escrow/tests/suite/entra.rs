//! Microsoft Graph, by a double on this machine.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use lifeboat_escrow::{EntraError, EntraTenant, Secret, Trouble};
use lifeboat_schema::EscrowSource;
use zeroize::Zeroizing;

use crate::samples::{Expected, secret, volume};

const CLIENT_SECRET: &str = "client~secret+of/the=double";
const PAGE: usize = 7;

/// What the double does, and what it saw.
#[derive(Default)]
struct Service {
    keys: Vec<Expected>,
    /// Requests that one token is good for.
    token_life: usize,
    /// Every n-th request is throttled once.
    throttle_every: usize,
    /// Answer for one id in place of its key.
    odd: BTreeMap<String, (u16, String)>,
    /// Address that the first page names as the next.
    next_elsewhere: Option<String>,
    forbidden: bool,
    tokens: usize,
    left: usize,
    requests: usize,
    throttled: usize,
    fetched: HashMap<String, usize>,
}

struct Double {
    url: String,
    service: Arc<Mutex<Service>>,
}

impl Double {
    fn start(service: Service) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://127.0.0.1:{}", listener.local_addr().expect("an address").port());
        let service = Arc::new(Mutex::new(service));
        let (shared, own_url) = (Arc::clone(&service), url.clone());
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is no fault of the double.
                let _ = answer(stream, &own_url, &mut shared.lock().expect("no panic"));
            }
        });
        Self { url, service }
    }

    fn tenant(&self) -> EntraTenant {
        EntraTenant {
            tenant: "contoso.example".to_owned(),
            client_id: "6c1f".to_owned(),
            client_secret: Zeroizing::new(CLIENT_SECRET.to_owned()),
            login_url: self.url.clone(),
            graph_url: format!("{}/v1.0", self.url),
        }
    }
}

fn answer(mut stream: TcpStream, url: &str, service: &mut Service) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut length, mut bearer) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => bearer = value.trim_start_matches("Bearer ").to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, headers, text) = service.respond(&path, &bearer, &String::from_utf8_lossy(&body), url);
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{text}",
        text.len()
    )
}

impl Service {
    fn respond(&mut self, path: &str, bearer: &str, body: &str, url: &str) -> (u16, String, String) {
        let ok = |text: String| (200, String::new(), text);
        if path == "/contoso.example/oauth2/v2.0/token" {
            let is_right = body.contains("client_secret=client%7Esecret%2Bof%2Fthe%3Ddouble")
                && body.contains("grant_type=client_credentials");
            if !is_right {
                return (
                    401,
                    String::new(),
                    r#"{"error": "invalid_client", "error_description": "x"}"#.to_owned(),
                );
            }
            self.tokens += 1;
            self.left = self.token_life;
            return ok(format!(
                r#"{{"token_type": "Bearer", "expires_in": 3599, "access_token": "token-{}"}}"#,
                self.tokens
            ));
        }
        self.requests += 1;
        if self.forbidden {
            return (403, String::new(), r#"{"error": {"code": "Forbidden"}}"#.to_owned());
        }
        if bearer != format!("token-{}", self.tokens) || self.left == 0 {
            return (401, String::new(), r#"{"error": {"code": "InvalidAuthenticationToken"}}"#.to_owned());
        }
        self.left -= 1;
        if self.throttle_every > 0 && self.requests.is_multiple_of(self.throttle_every) {
            self.throttled += 1;
            return (429, "retry-after: 0\r\n".to_owned(), String::new());
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let Some(rest) = path.strip_prefix("/v1.0/informationProtection/bitlocker/recoveryKeys") else {
            return (404, String::new(), String::new());
        };
        if rest.is_empty() {
            let from: usize =
                query.strip_prefix("$skiptoken=").and_then(|text| text.parse().ok()).unwrap_or(0);
            let listed: Vec<String> = self.keys.iter().skip(from).take(PAGE).map(|key| {
                format!(r#"{{"id": "{}", "createdDateTime": "2020-06-15T13:45:30.0000000Z", "volumeType": 1, "deviceId": "{}"}}"#, key.id, volume(1))
            }).collect();
            let next = match &self.next_elsewhere {
                Some(other) => format!(r#", "@odata.nextLink": "{other}""#),
                None if from + PAGE < self.keys.len() => {
                    format!(r#", "@odata.nextLink": "{url}{path}?$skiptoken={}""#, from + PAGE)
                }
                None => String::new(),
            };
            return ok(format!(r#"{{"@odata.context": "x", "value": [{}]{next}}}"#, listed.join(", ")));
        }
        let id = rest.trim_start_matches('/');
        assert_eq!(query, "$select=key");
        *self.fetched.entry(id.to_owned()).or_default() += 1;
        if let Some((status, text)) = self.odd.get(id) {
            return (*status, String::new(), text.clone());
        }
        let key = self.keys.iter().find(|key| key.id == id).expect("a listed key");
        ok(format!(
            r#"{{"id": "{id}", "createdDateTime": "2020-06-15T13:45:30.0000000Z", "volumeType": 1, "deviceId": "{}", "key": "{}"}}"#,
            volume(1),
            key.password
        ))
    }
}

fn some(count: u32) -> Vec<Expected> {
    (0..count).map(secret).collect()
}

fn service(keys: u32) -> Service {
    Service { keys: some(keys), token_life: 1000, ..Service::default() }
}

#[tokio::test]
async fn pages_throttling_and_expiring_tokens() {
    let double = Double::start(Service { token_life: 9, throttle_every: 5, ..service(40) });
    let import = double.tenant().ask(&|_| false).await.unwrap();
    assert_eq!((import.source, import.problems.len()), (EscrowSource::Entra, 0));
    let found: Vec<Expected> = import
        .found
        .iter()
        .map(|one| {
            let Secret::RecoveryPassword(password) = &one.secret else { panic!("another kind") };
            Expected {
                id: one.protector.map(|id| id.to_string()).unwrap_or_default(),
                password: password.expose().to_string(),
            }
        })
        .collect();
    assert_eq!(found, some(40));
    assert_eq!(import.found[0].hints.computer, Some(volume(1)));
    let service = double.service.lock().unwrap();
    assert!(service.tokens > 4, "{} tokens", service.tokens);
    assert!(service.throttled > 3, "{} times throttled", service.throttled);
    assert!(service.fetched.values().all(|count| *count == 1), "each reading is audited: once is enough");
}

#[tokio::test]
async fn what_is_sealed_is_not_read_again() {
    let double = Double::start(service(10));
    let known: Vec<String> = some(8).into_iter().map(|one| one.id).collect();
    let import = double.tenant().ask(&|id| known.contains(&id.to_string())).await.unwrap();
    assert_eq!(import.found.len(), 2);
    assert_eq!(double.service.lock().unwrap().fetched.len(), 2);
}

#[tokio::test]
async fn odd_answers_cost_their_own_key_alone() {
    let id = |number: u32| secret(number).id;
    let key =
        |id: &str, password: &str| (200, format!(r#"{{"value": {{"id": "{id}", "key": "{password}"}}}}"#));
    let odd = BTreeMap::from([
        (id(0), (404, String::new())),
        // The key of another, and one that is mistyped.
        (id(1), key(&id(5), &secret(5).password)),
        (id(2), key(&id(2), &secret(2).password[1..])),
        (id(3), key(&id(3), &secret(3).password)),
        (id(4), (200, "no json".to_owned())),
    ]);
    let double = Double::start(Service { odd, ..service(7) });
    let import = double.tenant().ask(&|_| false).await.unwrap();
    let ids: Vec<String> = import.found.iter().filter_map(|one| Some(one.protector?.to_string())).collect();
    assert_eq!(ids, [id(3), id(5), id(6)]);
    for number in [0, 1, 2, 4] {
        let missing = Trouble::NoPassword(id(number));
        assert!(
            import.problems.iter().any(|problem| problem.what == missing),
            "{number}: {:?}",
            import.problems
        );
    }
}

#[tokio::test]
async fn a_key_that_is_not_given_loses_no_other() {
    let id = |number: u32| secret(number).id;
    let refuses = |number| (id(number), (403, String::new()));
    let double = Double::start(Service { odd: BTreeMap::from([refuses(2)]), ..service(5) });
    let import = double.tenant().ask(&|_| false).await.unwrap();
    assert_eq!(import.found.len(), 4);
    let [problem] = import.problems.as_slice() else { panic!("{:?}", import.problems) };
    assert!(matches!(&problem.what, Trouble::NotGiven { id: told, .. } if *told == id(2)), "{problem}");
    assert!(import.has_losses());
    // Several in a row: no more are asked for, and what was given stays.
    let odd = BTreeMap::from([refuses(2), refuses(3), refuses(4)]);
    let double = Double::start(Service { odd, ..service(9) });
    let import = double.tenant().ask(&|_| false).await.unwrap();
    assert_eq!(import.found.len(), 2);
    assert!(
        import.problems.iter().any(|problem| problem.what == Trouble::NotAsked(4)),
        "{:?}",
        import.problems
    );
    // None at all is an error that says what to do.
    let double = Double::start(Service { odd: (0..9).map(refuses).collect(), ..service(9) });
    let error = double.tenant().ask(&|_| false).await.unwrap_err();
    assert!(error.to_string().contains("BitlockerKey.Read.All"), "{error}");
}

#[tokio::test]
async fn refusals_say_what_to_do_and_tell_no_secret() {
    let double = Double::start(service(1));
    let wrong = EntraTenant { client_secret: Zeroizing::new("wrong".to_owned()), ..double.tenant() };
    let error = wrong.ask(&|_| false).await.unwrap_err();
    assert!(
        matches!(error, EntraError::NoToken { .. }) && error.to_string().contains("invalid_client"),
        "{error}"
    );
    assert!(!error.to_string().contains("wrong"), "{error}");

    double.service.lock().unwrap().forbidden = true;
    let error = double.tenant().ask(&|_| false).await.unwrap_err();
    assert!(error.to_string().contains("BitlockerKey.Read.All"), "{error}");

    let elsewhere = Service { next_elsewhere: Some("http://localhost:1/v1.0/next".to_owned()), ..service(1) };
    let error = Double::start(elsewhere).tenant().ask(&|_| false).await.unwrap_err();
    assert!(matches!(error, EntraError::OtherHost { .. }), "{error}");

    let plain = EntraTenant { graph_url: "http://graph.example".to_owned(), ..double.tenant() };
    assert!(matches!(plain.ask(&|_| false).await.unwrap_err(), EntraError::BadUrl { .. }));
    let error = double.tenant().ask(&|_| false).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(CLIENT_SECRET), "{error:?}");
    assert!(!format!("{error:?}").contains("token-"), "{error:?}");
}
