//! A real directory: slapd of OpenLDAP with the attributes of AD DS, over TLS from the start and by StartTLS.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use lifeboat_escrow::{DirectoryError, LdapDirectory, Secret};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::samples::{id_bytes, secret, volume};

const SLAPD: &str = "/usr/sbin/slapd";
const SLAPADD: &str = "/usr/sbin/slapadd";
const PASSWORD: &str = "directory secret";
const COMPUTERS: u32 = 2000;

/// Attributes and class of AD DS by their published numbers.
const SCHEMA: &str = "
attributetype ( 1.2.840.113556.1.4.1964 NAME 'msFVE-RecoveryPassword' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.1965 NAME 'msFVE-RecoveryGuid' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.1998 NAME 'msFVE-VolumeGuid' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.1999 NAME 'msFVE-KeyPackage' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.3.30 NAME 'computer' SUP top STRUCTURAL MUST cn )
objectclass ( 1.2.840.113556.1.5.253 NAME 'msFVE-RecoveryInformation' SUP top STRUCTURAL MUST ( cn $ msFVE-RecoveryGuid ) MAY ( msFVE-RecoveryPassword $ msFVE-VolumeGuid $ msFVE-KeyPackage ) )
";

struct Slapd {
    folder: TempDir,
    child: Child,
    plain: u16,
    tls: u16,
}

impl Drop for Slapd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(program: &str, folder: &Path, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).current_dir(folder).output().expect(program);
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// Makes an authority, and with it a certificate for localhost.
fn certificates(folder: &Path, name: &str) {
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let of = |ending: &str| format!("{name}.{ending}");
    let (ca_key, ca, key, request, certificate) =
        (of("ca.key"), of("ca.pem"), of("key"), of("csr"), of("pem"));
    let subject = format!("/CN=authority {name}");
    run(
        "openssl",
        folder,
        &[&["req", "-x509", "-days", "2", "-subj", &subject, "-keyout", &ca_key, "-out", &ca], &ec[..]]
            .concat(),
    );
    run(
        "openssl",
        folder,
        &[&["req", "-subj", "/CN=localhost", "-keyout", &key, "-out", &request], &ec[..]].concat(),
    );
    std::fs::write(folder.join("san"), "subjectAltName=DNS:localhost\n").expect("a file");
    run(
        "openssl",
        folder,
        &[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "san",
            "-out",
            &certificate,
        ],
    );
}

fn entry(number: u32) -> String {
    let one = secret(number);
    let encode = |id: &str| base64::engine::general_purpose::STANDARD.encode(id_bytes(id));
    let (computer, id) = (format!("SVM{number:04}"), one.id.to_uppercase());
    format!(
        "dn: CN={computer},CN=Computers,dc=example,dc=test\nobjectClass: computer\ncn: {computer}\n\n\
         dn: CN=2025-11-20T16:59:12-00:00{{{id}}},CN={computer},CN=Computers,dc=example,dc=test\n\
         objectClass: msFVE-RecoveryInformation\ncn: 2025-11-20T16:59:12-00:00{{{id}}}\n\
         msFVE-RecoveryPassword: {}\nmsFVE-RecoveryGuid:: {}\nmsFVE-VolumeGuid:: {}\n",
        one.password,
        encode(&one.id),
        encode(&volume(number))
    )
}

/// Starts a directory with computers; nothing where no slapd is installed.
#[allow(clippy::print_stdout, reason = "who reads the answer learns that nothing was tried")]
fn start() -> Option<Slapd> {
    if !Path::new(SLAPD).exists() || Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: slapd or openssl is not installed");
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    certificates(folder.path(), "right");
    certificates(folder.path(), "wrong");
    std::fs::create_dir(at("db")).expect("a folder");
    std::fs::write(at("msfve.schema"), SCHEMA).expect("a file");
    let path = |name: &str| at(name).display().to_string();
    let config = format!(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude {}\n\
         modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {}\n\
         TLSCACertificateFile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n\
         database mdb\nmaxsize 268435456\ndirectory {}\nsuffix \"dc=example,dc=test\"\n\
         rootdn \"cn=admin,dc=example,dc=test\"\nrootpw \"{PASSWORD}\"\nindex objectClass eq\n",
        path("msfve.schema"),
        path("pid"),
        path("right.ca.pem"),
        path("right.pem"),
        path("right.key"),
        path("db")
    );
    std::fs::write(at("slapd.conf"), config).expect("a file");
    let mut data =
        "dn: dc=example,dc=test\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n\n\
                    dn: cn=Computers,dc=example,dc=test\nobjectClass: applicationProcess\ncn: Computers\n\n"
            .to_owned();
    for number in 0..COMPUTERS {
        let seconds = number % 3600;
        data += &entry(number);
        data += &format!(
            "createTimestamp: 20251120{:02}{:02}{:02}Z\n\n",
            16 + number / 3600,
            seconds / 60,
            seconds % 60
        );
    }
    std::fs::write(at("data.ldif"), data).expect("a file");
    run(SLAPADD, folder.path(), &["-q", "-f", "slapd.conf", "-l", "data.ldif"]);
    let (plain, tls) = (free_port(), free_port());
    let addresses = format!("ldap://127.0.0.1:{plain} ldaps://127.0.0.1:{tls}");
    let child = Command::new(SLAPD)
        .args(["-d", "0", "-f", "slapd.conf", "-h", &addresses])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("slapd starts");
    let slapd = Slapd { folder, child, plain, tls };
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", slapd.tls)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "slapd does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(slapd)
}

impl Slapd {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn directory(&self) -> LdapDirectory {
        LdapDirectory {
            url: format!("ldaps://localhost:{}", self.tls),
            start_tls: false,
            base: "dc=example,dc=test".to_owned(),
            user: "cn=admin,dc=example,dc=test".to_owned(),
            password: Zeroizing::new(PASSWORD.to_owned()),
            ca_pem: Some(std::fs::read(self.path("right.ca.pem")).expect("the authority")),
        }
    }
}

#[tokio::test]
async fn a_directory_of_two_thousand_computers() {
    let Some(slapd) = start() else { return };
    let began = Instant::now();
    let answer = slapd.directory().ask(None).await.unwrap();
    println!("{COMPUTERS} recovery objects over LDAPS in {:?}", began.elapsed());
    assert_eq!((answer.import.found.len(), answer.import.problems.len()), (COMPUTERS as usize, 0));
    for found in &answer.import.found {
        let computer = found.hints.computer.as_deref().expect("a computer");
        let number: u32 = computer.trim_start_matches("SVM").parse().expect("its number");
        let Secret::RecoveryPassword(password) = &found.secret else { panic!("another kind") };
        assert_eq!(password.expose().as_str(), secret(number).password);
        assert_eq!(found.protector.map(|id| id.to_string()), Some(secret(number).id));
        assert_eq!(found.hints.volume.map(|id| id.to_string()), Some(volume(number)));
        assert!(found.time.is_some());
    }

    // Only what is as new as the newest, then that and what came since.
    let cursor = answer.cursor.expect("a cursor");
    let again = slapd.directory().ask(Some(&cursor)).await.unwrap();
    assert_eq!(again.import.found.len(), 1, "{cursor}");
    std::fs::write(slapd.path("new.ldif"), entry(COMPUTERS + 1)).expect("a file");
    let uri = format!("ldap://127.0.0.1:{}", slapd.plain);
    run(
        "ldapadd",
        slapd.folder.path(),
        &["-x", "-H", &uri, "-D", "cn=admin,dc=example,dc=test", "-w", PASSWORD, "-f", "new.ldif"],
    );
    let newer = slapd.directory().ask(Some(&cursor)).await.unwrap();
    assert_eq!(newer.import.found.len(), 2);
    assert_ne!(newer.cursor.as_deref(), Some(cursor.as_str()));

    // By StartTLS as well.
    let by_start_tls = LdapDirectory {
        url: format!("ldap://localhost:{}", slapd.plain),
        start_tls: true,
        ..slapd.directory()
    };
    assert_eq!(by_start_tls.ask(None).await.unwrap().import.found.len(), COMPUTERS as usize + 1);
}

#[tokio::test]
async fn refusals_of_a_directory_are_told_apart() {
    let Some(slapd) = start() else { return };
    let error =
        |directory: LdapDirectory| async move { directory.ask(None).await.err().expect("it is refused") };

    let wrong =
        error(LdapDirectory { password: Zeroizing::new("hunter2".to_owned()), ..slapd.directory() }).await;
    assert!(matches!(wrong, DirectoryError::Refused { .. }), "{wrong}");
    assert!(!format!("{wrong} {wrong:?}").contains("hunter2"));

    let other = std::fs::read(slapd.path("wrong.ca.pem")).expect("the other authority");
    for start_tls in [false, true] {
        let url = if start_tls { format!("ldap://localhost:{}", slapd.plain) } else { slapd.directory().url };
        let untrusted = LdapDirectory { ca_pem: Some(other.clone()), url, start_tls, ..slapd.directory() };
        let untrusted = error(untrusted).await;
        assert!(matches!(untrusted, DirectoryError::Untrusted { .. }), "{untrusted}");
        assert!(untrusted.to_string().contains("ca_file"), "{untrusted}");
    }
    // The right authority, another name.
    let named =
        error(LdapDirectory { url: format!("ldaps://127.0.0.1:{}", slapd.tls), ..slapd.directory() }).await;
    assert!(matches!(named, DirectoryError::Untrusted { .. }), "{named}");

    let plain =
        error(LdapDirectory { url: format!("ldap://localhost:{}", slapd.plain), ..slapd.directory() }).await;
    assert!(matches!(plain, DirectoryError::NotProtected { .. }), "{plain}");
    let base = error(LdapDirectory { base: "dc=other,dc=test".to_owned(), ..slapd.directory() }).await;
    assert!(matches!(base, DirectoryError::NoBase { .. } | DirectoryError::Failed { .. }), "{base}");
    let roots = error(LdapDirectory { ca_pem: Some(b"no certificate".to_vec()), ..slapd.directory() }).await;
    assert!(matches!(roots, DirectoryError::BadRoots { .. }), "{roots}");
    let nobody =
        error(LdapDirectory { url: format!("ldaps://localhost:{}", free_port()), ..slapd.directory() }).await;
    assert!(matches!(nobody, DirectoryError::Failed { .. }), "{nobody}");
}
