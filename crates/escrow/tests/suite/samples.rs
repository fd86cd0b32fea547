//! Files as Windows, its directories and scripts write them: shapes as documented, words our own.

use lifeboat_fve::{ExternalKey, FileTime, Guid, Key256, RecoveryPassword};

/// One secret that a sample holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Id in lower case.
    pub(crate) id: String,
    /// 48 digits.
    pub(crate) password: String,
}

/// The secret with a number: digits and id are made from it.
pub(crate) fn secret(number: u32) -> Expected {
    let mut key = [0; 16];
    let mut id = [0; 16];
    let mut state = u64::from(number) + 0x9e37_79b9;
    for place in 0..16 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        key[place] = (state >> 33) as u8;
        id[place] = (state >> 41) as u8;
    }
    let password = RecoveryPassword::from_recovery_key(&key).expose().to_string();
    Expected { id: Guid(id).to_string(), password }
}

/// Id of a volume.
pub(crate) fn volume(number: u32) -> String {
    secret(number + 500_000).id
}

/// The words of a language.
pub(crate) struct Words {
    title: &'static str,
    identifier: &'static str,
    key: &'static str,
    sentence: &'static str,
    numerical: &'static str,
    password: &'static str,
    volume: &'static str,
    protectors: &'static str,
}

pub(crate) const ENGLISH: Words = Words {
    title: "BitLocker Drive Encryption recovery key ",
    identifier: "Identifier:",
    key: "Recovery Key:",
    sentence: "Check that the beginning below is what the screen shows. See https://go.microsoft.com/fwlink/?LinkID=260589.",
    numerical: "Numerical Password:",
    password: "Password:",
    volume: "Volume",
    protectors: "All Key Protectors",
};

pub(crate) const GERMAN: Words = Words {
    title: "BitLocker-Laufwerkverschlüsselung: Wiederherstellungsschlüssel",
    identifier: "Bezeichner:",
    key: "Wiederherstellungsschlüssel:",
    sentence: "Prüfen Sie, ob der Anfang mit der Anzeige übereinstimmt. Weitere Auskünfte: https://go.microsoft.com/fwlink/?LinkID=260589",
    numerical: "Numerisches Kennwort:",
    password: "Kennwort:",
    volume: "Volume",
    protectors: "Alle Schlüsselschutzvorrichtungen",
};

pub(crate) const FRENCH: Words = Words {
    title: "Clé de récupération du chiffrement de lecteur BitLocker",
    identifier: "Identificateur :",
    key: "Clé de récupération :",
    sentence: "Vérifiez que le début correspond à ce qui est affiché à l'écran.",
    numerical: "Mot de passe numérique :",
    password: "Mot de passe :",
    volume: "Volume",
    protectors: "Tous les protecteurs de clés",
};

/// The file that Windows saves.
pub(crate) fn saved(words: &Words, one: &Expected) -> String {
    let Words { title, identifier, key, sentence, .. } = words;
    let (id, password) = (one.id.to_uppercase(), &one.password);
    format!(
        "{title}\r\n\r\n{sentence}\r\n\r\n{identifier}\r\n\r\n\t{id}\r\n\r\n{sentence}\r\n\r\n{key}\r\n\r\n\t{password}\r\n\r\n{sentence}\r\n"
    )
}

/// What `manage-bde -protectors -get` prints for volumes, each with a TPM, an external key and its passwords.
pub(crate) fn manage_bde(words: &Words, volumes: &[(&str, Vec<Expected>)]) -> String {
    let Words { numerical, password, volume: word, protectors, .. } = words;
    let mut text = String::from("BitLocker: 10.0.26100\r\n\r\n");
    for (number, (drive, secrets)) in volumes.iter().enumerate() {
        let other = secret(900 + number as u32).id.to_uppercase();
        text += &format!(
            "{word} {drive} [OS]\r\n{protectors}\r\n\r\n    TPM:\r\n      ID: {{{other}}}\r\n      PCR:\r\n        7, 11\r\n\r\n"
        );
        for one in secrets {
            let id = one.id.to_uppercase();
            text += &format!(
                "    {numerical}\r\n      ID: {{{id}}}\r\n      {password}\r\n        {}\r\n      Backup type:\r\n        AD backup\r\n\r\n",
                one.password
            );
        }
        let key = secret(950 + number as u32).id.to_uppercase();
        text += &format!(
            "    External Key:\r\n      ID: {{{key}}}\r\n      External Key File Name:\r\n        {key}.BEK\r\n\r\n"
        );
    }
    text
}

/// JSON of `Get-BitLockerVolume`.
pub(crate) fn powershell(secrets: &[Expected]) -> String {
    let volumes: Vec<String> = secrets
        .iter()
        .zip(0..)
        .map(|(one, number)| {
            let (id, password) = (one.id.to_uppercase(), &one.password);
            let tpm = secret(700 + number).id;
            format!(
                r#"{{
    "ComputerName": "SVM{number:02}", "MountPoint": "C:", "EncryptionMethod": 6, "VolumeStatus": 1,
    "KeyProtector": [
      {{"KeyProtectorId": "{{{tpm}}}", "AutoUnlockProtector": null, "KeyProtectorType": 1, "KeyFileName": "", "RecoveryPassword": "", "Thumbprint": ""}},
      {{"KeyProtectorId": "{{{id}}}", "AutoUnlockProtector": null, "KeyProtectorType": 3, "KeyFileName": "", "RecoveryPassword": "{password}", "Thumbprint": ""}}
    ]
  }}"#
            )
        })
        .collect();
    if let [one] = volumes.as_slice() { one.clone() } else { format!("[{}]", volumes.join(",\r\n")) }
}

/// JSON of Microsoft Graph: each key as it is fetched, one of them in a wrapper.
pub(crate) fn entra(secrets: &[Expected]) -> String {
    let keys: Vec<String> = secrets
        .iter()
        .map(|one| {
            format!(
                r#"{{"id": "{}", "createdDateTime": "2020-06-15T13:45:30.0000000Z", "volumeType": 1, "deviceId": "{}", "key": "{}"}}"#,
                one.id, volume(1), one.password
            )
        })
        .collect();
    format!(r#"{{"@odata.context": "x", "value": [{}]}}"#, keys.join(", "))
}

/// The bytes of an id as directories keep it.
pub(crate) fn id_bytes(id: &str) -> [u8; 16] {
    id.parse::<Guid>().expect("an id of a sample").0
}

fn directory_name(one: &Expected, number: usize) -> String {
    format!(
        "CN=2025-11-20T16:59:12-00:00{{{}}},CN=SVM{number:02},OU=Server,DC=example,DC=test",
        one.id.to_uppercase()
    )
}

/// JSON of `Get-ADObject`.
pub(crate) fn ad_json(secrets: &[Expected]) -> String {
    let objects: Vec<String> = secrets
        .iter()
        .enumerate()
        .map(|(number, one)| {
            format!(
                r#"{{"DistinguishedName": "{}", "ObjectGUID": "{}", "msFVE-RecoveryGuid": {:?}, "msFVE-RecoveryPassword": "{}"}}"#,
                directory_name(one, number), volume(9), id_bytes(&one.id), one.password
            )
        })
        .collect();
    format!("[{}]", objects.join(","))
}

/// LDIF, folded after `column` characters.
pub(crate) fn ldif(secrets: &[Expected], column: usize, end: &str) -> String {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut text = format!("version: 1{end}{end}# recovery objects{end}");
    for (number, one) in secrets.iter().enumerate() {
        let lines = [
            format!("dn: {}", directory_name(one, number)),
            "objectClass: top".to_owned(),
            "objectClass: msFVE-RecoveryInformation".to_owned(),
            format!("msFVE-RecoveryPassword: {}", one.password),
            format!("msFVE-RecoveryGuid:: {}", encode(&id_bytes(&one.id))),
            format!("msFVE-VolumeGuid:: {}", encode(&id_bytes(&volume(number as u32)))),
            "whenCreated: 20251120165912.0Z".to_owned(),
        ];
        for line in lines {
            let (first, rest) = line.split_at(column.min(line.len()));
            text += &format!("{first}{end}");
            for part in rest.as_bytes().chunks(column - 1) {
                text += &format!(" {}{end}", std::str::from_utf8(part).expect("samples of LDIF are ASCII"));
            }
        }
        text += end;
    }
    text
}

/// An export of MBAM.
pub(crate) fn mbam(secrets: &[Expected], delimiter: &str, quote: &str) -> String {
    let row = |fields: &[String]| {
        fields.iter().map(|field| format!("{quote}{field}{quote}")).collect::<Vec<_>>().join(delimiter)
            + "\r\n"
    };
    let header = ["Name", "VolumeId", "RecoveryKeyId", "LastUpdateTime", "RecoveryKey", "Disclosed"];
    let mut text = row(&header.map(str::to_owned));
    for (number, one) in secrets.iter().enumerate() {
        text += &row(&[
            format!("SVM{number:02}"),
            format!("{{{}}}", volume(number as u32).to_uppercase()),
            one.id.clone(),
            "2025-11-20 16:59:12.000".to_owned(),
            one.password.clone(),
            (number % 2).to_string(),
        ]);
    }
    text
}

/// An export of `csvde`.
pub(crate) fn csvde(secrets: &[Expected]) -> String {
    let mut text = "DN,objectClass,msFVE-RecoveryPassword,msFVE-RecoveryGuid,msFVE-VolumeGuid\r\n".to_owned();
    let hexadecimal = |id: &str| id_bytes(id).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (number, one) in secrets.iter().enumerate() {
        text += &format!(
            "\"{}\",msFVE-RecoveryInformation,{},X'{}',X'{}'\r\n",
            directory_name(one, number),
            one.password,
            hexadecimal(&one.id),
            hexadecimal(&volume(number as u32))
        );
    }
    text
}

/// A list of one's own.
pub(crate) fn list(secrets: &[Expected], delimiter: &str) -> String {
    secrets.iter().map(|one| format!("{{{}}}{delimiter}{}\n", one.id, one.password)).collect()
}

/// A `.BEK` file.
pub(crate) fn bek(number: u32) -> Vec<u8> {
    let key = ExternalKey {
        id: Guid(id_bytes(&secret(number).id)),
        created: FileTime(132_000_000_000_000_000),
        saved: FileTime(132_000_000_000_000_000),
        volume_id: Some(Guid(id_bytes(&volume(number)))),
        key: Key256::new([number as u8; 32]),
    };
    key.encode().to_vec()
}

/// Text in an encoding: code page 850 or 1252 where it has those characters.
pub(crate) fn encoded(text: &str, encoding: &str) -> Vec<u8> {
    let paged = |pairs: &[(char, u8)]| -> Vec<u8> {
        let place = |c: char| pairs.iter().find(|(one, _)| *one == c).map_or(b'?', |(_, byte)| *byte);
        text.chars().map(|c| if c.is_ascii() { c as u8 } else { place(c) }).collect()
    };
    let wide = |unit: fn(u16) -> [u8; 2], mark: bool| -> Vec<u8> {
        let mark = if mark { Some(0xfeff) } else { None };
        mark.into_iter().chain(text.encode_utf16()).flat_map(unit).collect()
    };
    match encoding {
        "utf-8" => text.as_bytes().to_vec(),
        "utf-8 marked" => [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(),
        "utf-16le" => wide(u16::to_le_bytes, false),
        "utf-16le marked" => wide(u16::to_le_bytes, true),
        "utf-16be" => wide(u16::to_be_bytes, false),
        "utf-16be marked" => wide(u16::to_be_bytes, true),
        "cp850" => paged(&[
            ('ä', 0x84),
            ('ö', 0x94),
            ('ü', 0x81),
            ('ß', 0xe1),
            ('é', 0x82),
            ('è', 0x8a),
            ('à', 0x85),
            ('É', 0x90),
        ]),
        "cp1252" => paged(&[
            ('ä', 0xe4),
            ('ö', 0xf6),
            ('ü', 0xfc),
            ('ß', 0xdf),
            ('é', 0xe9),
            ('è', 0xe8),
            ('à', 0xe0),
            ('É', 0xc9),
        ]),
        other => panic!("no such encoding: {other}"),
    }
}

pub(crate) const ENCODINGS: [&str; 8] = [
    "utf-8",
    "utf-8 marked",
    "utf-16le",
    "utf-16le marked",
    "utf-16be",
    "utf-16be marked",
    "cp850",
    "cp1252",
];
