use lifeboat_fve::fixtures::{
    ConversionOptions, CopyDamage, Damage, EowDamage, EowOptions, FormattedVolume, ProtectorOptions,
    VolumeOptions, WrittenSecret, ntfs_plaintext,
};
use lifeboat_fve::{
    AttemptFailure, Authentication, CopyStatus, Corruption, Credential, DecryptedVolume, EncryptionMethod,
    Error, ExternalKey, FileTime, Guid, Key256, KeyPackage, Metadata, OpenedVolume, Password, ProtectionType,
    ReadAt, ReadBackFailure, ReadBackSecret, RecoveryPassword, Volume, VolumeFormat, VolumeKey, VolumeState,
    Witness, find_metadata, prove_boot_sectors,
};

const MIB: usize = 1 << 20;

const METHODS: [EncryptionMethod; 6] = [
    EncryptionMethod::AES_CBC_128_ELEPHANT,
    EncryptionMethod::AES_CBC_256_ELEPHANT,
    EncryptionMethod::AES_CBC_128,
    EncryptionMethod::AES_CBC_256,
    EncryptionMethod::AES_XTS_128,
    EncryptionMethod::AES_XTS_256,
];

/// Options whose only BitLocker protector costs no stretch.
fn quick() -> VolumeOptions {
    VolumeOptions { protectors: vec![ProtectorOptions::ClearKey], ..VolumeOptions::default() }
}

fn plaintext(options: &VolumeOptions) -> Vec<u8> {
    ntfs_plaintext(MIB, options.sector_size, options.seed)
}

fn format(options: &VolumeOptions) -> FormattedVolume {
    options.format(plaintext(options))
}

fn credential(secret: &WrittenSecret) -> Credential {
    match secret {
        WrittenSecret::RecoveryPassword(text) => {
            Credential::RecoveryPassword(RecoveryPassword::parse(text).unwrap())
        }
        WrittenSecret::Password(text) => Credential::Password(Password::new(text.clone())),
        WrittenSecret::Bek(bytes) => Credential::ExternalKey(ExternalKey::parse(bytes).unwrap()),
        WrittenSecret::ClearKey => Credential::ClearKey,
        WrittenSecret::None => panic!("nothing opens this protector"),
    }
}

fn read_all<R: ReadAt>(plain: &DecryptedVolume<R>) -> Vec<u8> {
    let mut bytes = vec![0; plain.size_bytes() as usize];
    plain.read(0, &mut bytes).unwrap();
    bytes
}

/// Reads the plain volume with the first secret and compares every byte.
fn check_decrypts(options: &VolumeOptions) {
    let volume = format(options);
    let disk = Volume::open(&volume.image).unwrap_or_else(|error| panic!("{options:?}: {error}"));
    let key = match options.conversion {
        ConversionOptions::Decrypted => None,
        _ => disk.unlock(&credential(volume.secret(0))).unwrap().volume_key,
    };
    let plain = disk.decrypt(disk.metadata(), key.as_ref()).unwrap();
    assert!(read_all(&plain) == volume.expected(plaintext(options)), "{options:?}");
    // Ragged reads agree with the whole.
    let whole = read_all(&plain);
    for (offset, length) in [(0, 1), (1, 511), (8191, 2), (0x1_fe01, 0x2000), (0x2_fff0, 5000), (MIB - 3, 3)]
    {
        let mut part = vec![0; length];
        plain.read(offset as u64, &mut part).unwrap();
        assert_eq!(part, whole[offset..offset + length]);
    }
}

#[test]
fn every_cipher_sector_size_and_layout_decrypts() {
    for method in METHODS {
        for sector_size in [512, 4096] {
            let eow = EowOptions { chunk_bytes: 0x4000, encrypted_of_256: 128 };
            for (format, conversion) in [
                (VolumeFormat::Standard, ConversionOptions::Finished),
                (VolumeFormat::ToGo, ConversionOptions::Finished),
                (VolumeFormat::Standard, ConversionOptions::Paused { boundary: 0x8_1000 }),
                (VolumeFormat::Standard, ConversionOptions::Dirty { boundary: 0x8_1000, length: 0x3000 }),
                (VolumeFormat::Standard, ConversionOptions::Decrypted),
                (VolumeFormat::EncryptOnWrite, ConversionOptions::EncryptOnWrite(eow)),
                (VolumeFormat::EncryptOnWrite, ConversionOptions::Decrypted),
                (VolumeFormat::Vista, ConversionOptions::Finished),
            ] {
                check_decrypts(&VolumeOptions { method, sector_size, format, conversion, ..quick() });
            }
        }
    }
    let togo = VolumeOptions { format: VolumeFormat::ToGo, virtualized_bytes: 0x1_8000, ..quick() };
    check_decrypts(&togo);
}

#[test]
fn every_protector_is_proved_or_named() {
    let protectors = vec![
        ProtectorOptions::Tpm(ProtectionType::TPM_PIN),
        ProtectorOptions::recovery_password(),
        ProtectorOptions::Password("pä££word €\u{1f511}".into()),
        ProtectorOptions::RecoveryPassword { backup_info: true, pbkdf2: false },
        ProtectorOptions::ExternalKey,
        ProtectorOptions::PublicKey,
        ProtectorOptions::Unknown(0x4000),
        ProtectorOptions::ClearKey,
    ];
    for windows_7_datums in [false, true] {
        let options = VolumeOptions {
            protectors: protectors.clone(),
            windows_7_datums,
            datum_flags: 0x0105,
            unknown_datums: true,
            ..VolumeOptions::default()
        };
        let volume = format(&options);
        let disk = Volume::open(&volume.image).unwrap();
        let metadata = disk.metadata();
        assert_eq!(disk.state(), VolumeState::Suspended);
        assert_eq!(metadata.description.as_deref(), Some("FIXTURE C: 01/01/2020"));
        assert_eq!(metadata.datums().iter().filter(|datum| datum.body() == [1, 2, 3, 4]).count(), 2);
        let build = metadata.virtualization.unwrap().windows_build;
        assert_eq!(build, (!windows_7_datums).then_some(19041));
        let names: Vec<_> = metadata.protectors().iter().map(|found| found.protection.to_string()).collect();
        let expected = [
            "tpm-pin",
            "recovery-password",
            "password",
            "recovery-password",
            "external-key",
            "public-key",
            "unknown (0x4000)",
            "clear-key",
        ];
        assert_eq!(names, expected);
        assert_eq!(metadata.protectors()[0].tpm.unwrap().pcr_bitmap, 0x880);
        assert_eq!(metadata.protectors()[3].backup.unwrap().flags, 0x0002_0008);
        assert!(metadata.protectors()[5].certificate_thumbprint.is_some());
        for index in [1, 2, 3, 4, 7] {
            let opened = disk.unlock(&credential(volume.secret(index))).unwrap();
            assert_eq!(opened.unlocked.protector, volume.secrets[index].0);
            assert_eq!(opened.authentication, Authentication::Authenticated);
            assert_eq!(opened.volume_key.unwrap().expose(), volume.volume_key.expose());
        }
        check_read_back(&volume, metadata);
    }
}

fn check_read_back(volume: &FormattedVolume, metadata: &Metadata) {
    let entries = metadata.read_back(&volume.vmk);
    assert_eq!(entries.len(), volume.secrets.len());
    for (entry, (id, secret)) in entries.iter().zip(&volume.secrets) {
        assert_eq!(entry.protector.id, *id);
        match (&entry.outcome, secret) {
            (Ok(ReadBackSecret::RecoveryPassword(password)), WrittenSecret::RecoveryPassword(text)) => {
                assert_eq!(password.expose().as_str(), text);
                assert_eq!(metadata.confirm(&volume.vmk, password), [*id]);
            }
            (Ok(ReadBackSecret::ExternalKey(key)), WrittenSecret::Bek(bytes)) => {
                assert_eq!(key.encode().as_slice(), bytes.as_slice());
            }
            (Ok(ReadBackSecret::StretchedPassword(_)), WrittenSecret::Password(_)) => {}
            (Ok(ReadBackSecret::IntermediateKey(_)), WrittenSecret::None) => {
                assert_eq!(entry.protector.protection, ProtectionType::PUBLIC_KEY);
            }
            (Err(ReadBackFailure::NotKept), WrittenSecret::None | WrittenSecret::ClearKey) => {}
            _ => panic!("{id}: unexpected read-back"),
        }
    }
    let stranger = RecoveryPassword::from_recovery_key(&[9; 16]);
    assert_eq!(metadata.confirm(&volume.vmk, &stranger), []);
    let other = lifeboat_fve::Vmk::new(Key256::new([3; 32]));
    assert_eq!(metadata.authenticate(&other), Authentication::NotOpened);
    for entry in metadata.read_back(&other) {
        assert!(matches!(entry.outcome, Err(ReadBackFailure::NotOpened | ReadBackFailure::NotKept)));
    }
}

#[test]
fn a_wrong_credential_names_each_protector_it_was_tried_on() {
    let protectors = vec![
        ProtectorOptions::recovery_password(),
        ProtectorOptions::RecoveryPassword { backup_info: false, pbkdf2: true },
        ProtectorOptions::Tpm(ProtectionType::TPM_STARTUP_KEY),
        ProtectorOptions::ExternalKey,
    ];
    let volume = format(&VolumeOptions { protectors, ..VolumeOptions::default() });
    let disk = Volume::open(&volume.image).unwrap();
    let wrong = Credential::RecoveryPassword(RecoveryPassword::from_recovery_key(&[9; 16]));
    let Err(Error::NotOpened { attempts, .. }) = disk.unlock(&wrong) else { panic!("must not open") };
    assert_eq!(attempts.len(), 2);
    assert_eq!((attempts[0].protector, attempts[0].failure), (volume.secrets[0].0, AttemptFailure::WrongKey));
    assert_eq!(attempts[1].failure, AttemptFailure::UnsupportedKdf { flags: 0x40 });
    // The PBKDF2 protector is not called a wrong password even with its own.
    let Err(Error::NotOpened { attempts, .. }) = disk.unlock(&credential(volume.secret(1))) else {
        panic!("FIPS")
    };
    assert_eq!(attempts[1].failure, AttemptFailure::UnsupportedKdf { flags: 0x40 });
    // Escrow names the protector: it is tried first.
    let order = disk.metadata().attempts(&wrong, Some(volume.secrets[1].0)).unwrap();
    assert_eq!(order[0].protector(), volume.secrets[1].0);
    // No protector of the kind.
    let password = Credential::Password(Password::new("x".into()));
    let Err(Error::NoMatchingProtector { present, wanted }) = disk.unlock(&password) else {
        panic!("no password")
    };
    assert_eq!((present.len(), wanted), (4, "password"));
    assert!(matches!(disk.unlock(&Credential::ClearKey), Err(Error::NoMatchingProtector { .. })));
    // A BEK of another volume, and one whose protector needs the TPM too.
    let bek = |id: Guid| {
        let (created, saved) = (FileTime(1), FileTime(2));
        Credential::ExternalKey(ExternalKey {
            id,
            created,
            saved,
            volume_id: None,
            key: Key256::new([1; 32]),
        })
    };
    assert!(matches!(disk.unlock(&bek(Guid([7; 16]))), Err(Error::NotOpened { .. })));
    let tpm = disk.unlock(&bek(volume.secrets[2].0)).err().unwrap();
    assert!(
        matches!(tpm, Error::WrongCredentialKind { protection: ProtectionType::TPM_STARTUP_KEY, .. }),
        "{tpm}"
    );
}

#[test]
fn attempts_run_on_several_threads() {
    let protectors = vec![ProtectorOptions::recovery_password(); 3];
    let volume = format(&VolumeOptions { protectors, ..VolumeOptions::default() });
    let disk = Volume::open(&volume.image).unwrap();
    let credential = credential(volume.secret(2));
    let attempts = disk.metadata().attempts(&credential, None).unwrap();
    let opened: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = attempts.iter().map(|attempt| scope.spawn(|| attempt.run().is_ok())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(opened, [false, false, true]);
}

#[test]
fn both_bek_sizes_are_read_and_written() {
    let volume = format(&VolumeOptions { protectors: vec![ProtectorOptions::ExternalKey], ..quick() });
    let WrittenSecret::Bek(bytes) = volume.secret(0) else { panic!("a BEK") };
    assert_eq!(bytes.len(), 156);
    let mut key = ExternalKey::parse(bytes).unwrap();
    assert_eq!(key.volume_id, None);
    assert_eq!(key.file_name().len(), 40);
    key.volume_id = Some(Guid([5; 16]));
    let longer = key.encode();
    assert_eq!(longer.len(), 180);
    let again = ExternalKey::parse(&longer).unwrap();
    assert_eq!(again.volume_id, Some(Guid([5; 16])));
    assert!(again.key.same_as(&key.key));
    for length in 0..longer.len() {
        assert!(ExternalKey::parse(&longer[..length]).is_err());
    }
}

#[test]
fn one_good_copy_of_three_is_enough() {
    let zeroed = |index| Damage::Copy(index, CopyDamage::Zeroed);
    for good in 0..3 {
        let damage = (0..3).filter(|&index| index != good).map(zeroed).collect();
        let options = VolumeOptions { damage, ..quick() };
        check_decrypts(&options);
        let volume = format(&options);
        let disk = Volume::open(&volume.image).unwrap();
        assert_eq!((disk.good_copies(), disk.copies().len()), (1, 3));
        assert_eq!(disk.copies()[good].status, CopyStatus::Good);
        let bad = disk.copies().iter().filter(|copy| matches!(copy.status, CopyStatus::Corrupt(_))).count();
        assert_eq!(bad, 2);
    }
    let damage =
        vec![zeroed(0), Damage::Copy(1, CopyDamage::FlippedByte(100)), Damage::Copy(2, CopyDamage::Shifted)];
    let error = Volume::open(format(&VolumeOptions { damage, ..quick() }).image).err().unwrap();
    let text = error.to_string();
    assert!(
        text.starts_with("none of the 3 metadata copies of this volume can be used: at byte 131072: "),
        "{text}"
    );
    assert!(matches!(error, Error::NoUsableMetadata { copies } if copies.len() == 3));
}

#[test]
fn a_damaged_first_vista_copy_leads_to_the_others() {
    let vista = |damage| VolumeOptions { format: VolumeFormat::Vista, damage, ..quick() };
    // Sector 0 names one copy. Its table may still be readable, and what lies there proves itself.
    check_decrypts(&vista(vec![Damage::Copy(0, CopyDamage::FlippedByte(200))]));
    // Nothing left of it: the others are found by looking.
    let volume = format(&vista(vec![Damage::Copy(0, CopyDamage::Zeroed)]));
    assert!(matches!(Volume::open(&volume.image), Err(Error::NoUsableMetadata { .. })));
    let places: Vec<u64> = find_metadata(0, &volume.image).collect();
    let disk = Volume::open_at(&volume.image, &places).unwrap();
    assert_eq!((disk.good_copies(), disk.copies().len()), (2, 3));
}

#[test]
fn altered_metadata_with_a_right_checksum_is_found_out() {
    let volume = format(&quick());
    let mut image = volume.image.clone();
    // Move the relocated block in the first copy and mend its checksum, as an attacker would.
    let at = volume.metadata_offsets[0] as usize;
    image[at + 56] ^= 0x40;
    let information = usize::from(u16::from_le_bytes([image[at + 8], image[at + 9]])) << 4;
    let crc = crc32fast::hash(&image[at..at + information]);
    image[at + information + 4..at + information + 8].copy_from_slice(&crc.to_le_bytes());
    let disk = Volume::open(&image).unwrap();
    assert_eq!(disk.distinct_metadata().len(), 2);
    assert_eq!(disk.copies()[1].status, CopyStatus::Differs);
    let opened = disk.unlock(&Credential::ClearKey).unwrap();
    assert_eq!(opened.authentication, Authentication::Authenticated);
    assert_eq!(opened.metadata.virtualized_block, volume.virtualized_block);
    assert_eq!(disk.metadata().authenticate(&opened.unlocked.vmk), Authentication::Altered);
    // All three altered alike: opened, and said to be altered.
    let mut all = volume.image.clone();
    for offset in volume.metadata_offsets {
        all[offset as usize..offset as usize + 0x1_0000].copy_from_slice(&image[at..at + 0x1_0000]);
    }
    let disk = Volume::open(&all).unwrap();
    assert_eq!(disk.unlock(&Credential::ClearKey).unwrap().authentication, Authentication::Altered);
    // A validation under another key.
    let other = format(&VolumeOptions { wrong_validation_hash: true, ..quick() });
    let disk = Volume::open(&other.image).unwrap();
    assert_eq!(disk.unlock(&Credential::ClearKey).unwrap().authentication, Authentication::NotOpened);
}

#[test]
fn unknown_and_hardware_encryption_are_named() {
    let unknown = EncryptionMethod(0x8009);
    let volume = format(&VolumeOptions { method: unknown, ..quick() });
    let disk = Volume::open(&volume.image).unwrap();
    let OpenedVolume { volume_key, .. } = disk.unlock(&Credential::ClearKey).unwrap();
    let error = disk.decrypt(disk.metadata(), volume_key.as_ref()).err().unwrap();
    assert_eq!(error.to_string(), "the encryption method unknown (0x8009) is not supported");
    let volume = format(&VolumeOptions { method: EncryptionMethod::NONE, ..quick() });
    let disk = Volume::open(&volume.image).unwrap();
    assert!(disk.metadata().is_hardware_encrypted());
    assert!(matches!(disk.unlock(&Credential::ClearKey), Err(Error::HardwareEncrypted)));
}

#[test]
fn torn_conversion_blocks_are_survived_or_refused() {
    let eow = EowOptions { chunk_bytes: 0x2000, encrypted_of_256: 100 };
    let base = VolumeOptions {
        format: VolumeFormat::EncryptOnWrite,
        conversion: ConversionOptions::EncryptOnWrite(eow),
        ..quick()
    };
    let with = |damage: Vec<EowDamage>| VolumeOptions {
        damage: damage.into_iter().map(Damage::Eow).collect(),
        ..base.clone()
    };
    for region in 0..4 {
        check_decrypts(&with(vec![EowDamage::OlderRecord(region)]));
        let volume = format(&with(vec![EowDamage::BothRecords(region)]));
        let disk = Volume::open(&volume.image).unwrap();
        assert_eq!(disk.state(), VolumeState::Converting);
        let error = disk.map(disk.metadata()).err().unwrap();
        assert!(
            matches!(error, Error::Corrupt(Corruption::NoEowRecord { region: found }) if found as u64 == region)
        );
    }
    check_decrypts(&with(vec![EowDamage::Information(0)]));
    check_decrypts(&with(vec![EowDamage::Information(1)]));
    let volume = format(&with(vec![EowDamage::Information(0), EowDamage::Information(1)]));
    let disk = Volume::open(&volume.image).unwrap();
    assert!(matches!(disk.map(disk.metadata()), Err(Error::Corrupt(Corruption::NoEowInformation))));
}

#[test]
fn a_key_is_proved_on_data() {
    let methods = METHODS.map(|method| VolumeOptions { method, ..quick() });
    for options in methods {
        let volume = format(&options);
        let disk = Volume::open(&volume.image).unwrap();
        let plain = disk.decrypt(disk.metadata(), Some(&volume.volume_key)).unwrap();
        assert_eq!(plain.prove().unwrap().witness, Witness::BootSector(lifeboat_fve::FileSystem::Ntfs));
        let at = volume.virtualized_block as usize;
        let proof =
            prove_boot_sectors(plain.cipher().unwrap(), at as u64, &volume.image[at..at + 8192]).unwrap();
        assert_eq!(proof.offset, 0);
        let wrong = vec![7; volume.volume_key.expose().len()];
        let wrong = VolumeKey::new(options.method, wrong);
        let plain = disk.decrypt(disk.metadata(), Some(&wrong)).unwrap();
        assert!(matches!(plain.prove(), Err(Error::NotProvenOnData { examined }) if examined > 1000));
        let error =
            prove_boot_sectors(plain.cipher().unwrap(), at as u64, &volume.image[at..at + 8192]).unwrap_err();
        assert!(matches!(error, Error::NotProvenOnData { examined: 16 }));
    }
}

#[test]
fn a_plain_boot_sector_does_not_prove_a_key() {
    // Encrypted below the boundary only: the relocated sectors are plain, the MFT record is not.
    let conversion = ConversionOptions::Paused { boundary: 0x2_8000 };
    let mut options = VolumeOptions { conversion, ..quick() };
    let wrong = VolumeKey::new(EncryptionMethod::AES_XTS_128, vec![1; 32]);
    let prove = |options: &VolumeOptions, key: Option<&VolumeKey>| {
        let volume = format(options);
        let disk = Volume::open(&volume.image).unwrap();
        disk.decrypt(disk.metadata(), Some(key.unwrap_or(&volume.volume_key))).unwrap().prove()
    };
    assert_eq!(prove(&options, None).unwrap().witness, Witness::ZeroSector);
    assert!(matches!(prove(&options, Some(&wrong)), Err(Error::NotProvenOnData { .. })));
    // Vista keeps its boot sector plain always; the MFT record lies in the encrypted part.
    options =
        VolumeOptions { format: VolumeFormat::Vista, conversion: ConversionOptions::Finished, ..quick() };
    assert_eq!(prove(&options, None).unwrap().witness, Witness::MftRecord);
    assert!(matches!(prove(&options, Some(&wrong)), Err(Error::NotProvenOnData { .. })));
}

/// One volume key through suspend, rotation of the recovery password and resume: every old credential still opens
/// the disk with the metadata of its time.
#[test]
fn old_keys_open_todays_disk_with_the_metadata_of_their_time() {
    let first = format(&VolumeOptions::default());
    let suspended = first.next_generation(
        vec![ProtectorOptions::recovery_password(), ProtectorOptions::ClearKey],
        1,
        false,
    );
    let rotated = first.next_generation(
        vec![ProtectorOptions::recovery_password(), ProtectorOptions::ClearKey],
        2,
        false,
    );
    let resumed = first.next_generation(vec![ProtectorOptions::recovery_password()], 3, true);
    let today = Volume::open(&resumed.image).unwrap();
    for (generation, vmk_is_current) in
        [(&first, false), (&suspended, false), (&rotated, false), (&resumed, true)]
    {
        let old = credential(generation.secret(0));
        assert_eq!(today.unlock(&old).is_ok(), vmk_is_current);
        let captured = Metadata::parse(&generation.metadata_region).unwrap();
        let shifted = today.unlock_with_generation(&captured, &old).unwrap();
        assert_eq!(shifted.volume_key.expose(), first.volume_key.expose());
        assert_eq!(shifted.captured_authentication, Authentication::Authenticated);
        assert_eq!(shifted.vmk_is_current, vmk_is_current);
        let plain = today.decrypt(today.metadata(), Some(&shifted.volume_key)).unwrap();
        assert!(read_all(&plain) == first.expected(plaintext(&VolumeOptions::default())));
    }
    // The clear key of a suspended generation opens the disk of today: why captured metadata is a secret.
    let captured = Metadata::parse(&suspended.metadata_region).unwrap();
    assert!(today.unlock_with_generation(&captured, &Credential::ClearKey).is_ok());
    // The same key with the metadata of another volume is refused, though it opens that metadata.
    let stranger = format(&VolumeOptions { seed: 99, ..quick() });
    let captured = Metadata::parse(&stranger.metadata_region).unwrap();
    let refused = today.unlock_with_generation(&captured, &Credential::ClearKey).err().unwrap();
    assert!(matches!(refused, Error::NotProvenOnData { .. }), "{refused}");
}

#[test]
fn captured_metadata_replaces_destroyed_copies() {
    let whole = format(&quick());
    let boot_sector = whole.image[..512].to_vec();
    let damage = [0, 1, 2].map(|index| Damage::Copy(index, CopyDamage::Zeroed));
    let damage = damage.into_iter().chain([Damage::BootSector]).collect();
    let broken = format(&VolumeOptions { damage, ..quick() });
    assert!(matches!(Volume::open(&broken.image), Err(Error::NotBitLocker)));
    let captured = Metadata::parse(&whole.metadata_region).unwrap();
    let disk = Volume::open_with(&broken.image, &boot_sector, vec![captured]).unwrap();
    let opened = disk.unlock(&Credential::ClearKey).unwrap();
    let plain = disk.decrypt(disk.metadata(), opened.volume_key.as_ref()).unwrap();
    assert!(read_all(&plain) == whole.expected(plaintext(&quick())));
    // With sector 0 lost and the copies alive, their places are found by looking.
    let found: Vec<u64> = find_metadata(0, &whole.image).collect();
    assert_eq!(found, whole.metadata_offsets);
    assert_eq!(find_metadata(0x1000, &whole.image[0x2_0000..]).next(), Some(0x1000));
}

#[test]
fn a_key_package_and_its_recovery_password_give_the_volume_key() {
    let volume = format(&VolumeOptions::default());
    let metadata = Metadata::parse(&volume.metadata_region).unwrap();
    let dataset = &metadata.information()[64..];
    for package in [dataset, metadata.information()] {
        let package = KeyPackage::parse(package).unwrap();
        assert_eq!(package.volume_id, metadata.volume_id);
        let (unlocked, key) = package.unlock(&credential(volume.secret(0))).unwrap();
        assert_eq!(unlocked.protector, volume.secrets[0].0);
        assert_eq!(key.expose(), volume.volume_key.expose());
    }
    let package = KeyPackage::parse(dataset).unwrap();
    let wrong = Credential::RecoveryPassword(RecoveryPassword::from_recovery_key(&[1; 16]));
    assert!(matches!(package.unlock(&wrong), Err(Error::NotOpened { .. })));
    for length in 0..dataset.len() - 16 {
        assert!(KeyPackage::parse(&dataset[..length]).is_err());
    }
}

#[test]
fn a_volume_cut_short_reads_as_far_as_it_goes() {
    let options = quick();
    let volume = format(&options);
    let expected = volume.expected(plaintext(&options));
    // Behind the relocated block: everything that is there can be read.
    let cut = &volume.image[..0x7_0200 + 100];
    let disk = Volume::open(cut).unwrap();
    assert_eq!(disk.good_copies(), 2);
    assert!(matches!(disk.copies()[2].status, CopyStatus::Corrupt(Corruption::BehindEnd { .. })));
    let key = disk.unlock(&Credential::ClearKey).unwrap().volume_key.unwrap();
    let plain = disk.decrypt(disk.metadata(), Some(&key)).unwrap();
    assert_eq!(plain.size_bytes(), 0x7_0200);
    assert!(read_all(&plain) == expected[..0x7_0200]);
    assert!(matches!(plain.read(0x7_0200, &mut [0; 512]), Err(Error::Missing { .. })));
    // Within the relocated block: what is missing is said, the rest is there.
    let cut = &volume.image[..0x3_0400];
    let disk = Volume::open(cut).unwrap();
    let plain = disk.decrypt(disk.metadata(), Some(&key)).unwrap();
    let missing = plain.missing();
    assert_eq!((missing.len(), missing[0].clone()), (1, 0x400..0x2000));
    assert!(matches!(plain.read(0, &mut [0; 0x2000]), Err(Error::Missing { physical_offset: 0x3_0000, .. })));
    let mut front = [0; 0x400];
    plain.read(0, &mut front).unwrap();
    assert_eq!(front, expected[..0x400]);
}

#[test]
fn suspended_metadata_opens_with_its_clear_key() {
    let volume = format(&VolumeOptions { protectors: vec![ProtectorOptions::ExternalKey], ..quick() });
    let disk = Volume::open(&volume.image).unwrap();
    let id = Guid([0x11; 16]);
    let copy = disk
        .metadata()
        .suspended(&volume.vmk, &Key256::new([0x77; 32]), id, FileTime(132_300_000_000_000_000))
        .unwrap();
    assert_eq!(copy.offsets, volume.metadata_offsets);
    let mut image = volume.image.clone();
    for offset in copy.offsets {
        image[offset as usize..offset as usize + copy.region.len()].copy_from_slice(&copy.region);
    }
    let suspended = Volume::open(&image).unwrap();
    assert_eq!((suspended.good_copies(), suspended.state()), (3, VolumeState::Suspended));
    let opened = suspended.unlock(&Credential::ClearKey).unwrap();
    assert_eq!(opened.unlocked.protector, id);
    assert_eq!(opened.authentication, Authentication::Authenticated);
    let before = disk.metadata();
    let after = suspended.metadata();
    assert_eq!(after.next_nonce, before.next_nonce + 2);
    assert_eq!(after.protectors().len(), before.protectors().len() + 1);
    for (old, new) in before.datums().iter().zip(after.datums()) {
        assert_eq!((old.role, old.flags, old.body()), (new.role, new.flags, new.body()));
    }
    assert!(suspended.unlock(&credential(volume.secret(0))).is_ok());
    let plain = suspended.decrypt(after, opened.volume_key.as_ref()).unwrap();
    assert!(read_all(&plain) == volume.expected(plaintext(&quick())));
}
