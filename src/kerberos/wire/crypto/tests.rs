//! Known answers: RFC 3961 appendix A.1, RFC 3962 appendix B, RFC 8009 appendix A, and messages of another implementation.

use proptest::prelude::*;

use super::*;

pub(crate) const ETYPES: [Etype; 5] =
    [Etype::Aes128Sha1, Etype::Aes256Sha1, Etype::Aes128Sha2, Etype::Aes256Sha2, Etype::Rc4Hmac];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn key(etype: Etype, bytes: &[u8]) -> Key {
    Key::new(etype, SecretBytes::new(bytes[..etype.key_length()].to_vec())).unwrap()
}

/// The key of the foreign messages: 10, 17, 1e, ... in hexadecimal.
fn foreign_key(etype: i32) -> Key {
    let bytes: Vec<u8> = (0..32_u8).map(|i| i.wrapping_mul(7).wrapping_add(0x10)).collect();
    key(Etype::from_number(etype).unwrap(), &bytes)
}

/// Made with MIT krb5 1.20.1 by `krb5_c_encrypt`: etype, usage, length of the plaintext, message.
const FOREIGN_MESSAGES: &[(i32, u32, usize, &str)] = &[
    (17, 11, 0, "98a028662b49c5fbdf05ce81e458f5766cd3c38cd1e787b0bc09715a"),
    (17, 11, 7, "436ed27d427cb11e157b57261e0097dcc9cc9334077c27c2dd47e7741dee170b3c7b80"),
    (17, 11, 8, "79219e491ea914a7e4da1b653db9b05ba07957324c70ae100591c137848486e56758171e"),
    (17, 11, 16, "fe1b60de2a21beaa3e3461d2537495a4b6aaffed0fe0d17073bb301ec47d53f389e2608939806c8cf3ce900f"),
    (17, 11, 19, "839aebc4ccd2920b39078538694b49af0acb98dd6f7caa8a409da4d3fc6be487086e21994f78889e329d7091738fd4"),
    (18, 3, 19, "464c7396da6c70399796719e011023191879f27a4bf0c5349c9a37e9df5b8575ad12797c1dc4bf55e7ea1a62b5742d"),
    (18, 11, 0, "ea45533662c34ae0dfd18b67418ababd497c54ae5ef408920369dd2a"),
    (18, 11, 7, "9316b5e461685da185d9a4442b0708d933ab11e4fc130b2f681c1b970991ea05cef123"),
    (18, 11, 8, "82e3c1be0550cc6027a69f88027a249440439354b799df84b1f6309cb052dac9908c0325"),
    (18, 11, 16, "4b4a0dec428c2d45ce6af1fe147ce38d431487928b3b7ba858a3a187101a4d5622774630b8f5c304f354edb5"),
    (18, 11, 19, "9ae523a830e355b4dddcc8602e310f96eb14f61937a5ac6f2e6fa752d8e64871934d36f25f92eeda73cb2bdc7ba450"),
    (18, 23, 19, "a3e7462619640e6e28b4dc838bebfaea3cac6c37edff3932a3aaf3ea8fdd3dacf0a10d0737b70c3ebbfad39427b572"),
    (19, 11, 0, "600474ff04fc7fcd9d4473badd3632e643bd68dad20b3631db8301e153708e75"),
    (19, 11, 7, "e822895daafc7fb93e272cc0f984d8f5dfb38e35f4cfe7a42cb2e503f01eb338d6b4c039898951"),
    (19, 11, 8, "f80819455cd24c9df0d5d9e23706a61d5c29fe120e81ede6289109d9b58d9511af6f61858b2261cc"),
    (19, 11, 16, "f39c364f14edf43e14acc7bd48ae8381fd939b7e5b23b04488d57069abd7ed1da867b314dbaf2e2ffd2188ae651953a7"),
    (19, 11, 19, "b892a638837f8bc8e1c7dc21bde7b4db6b92305f0d4b0861c7ac73b08e6d806bc6354faa466a5d0b70e864fecd4653c2552192"),
    (20, 11, 0, "a5553903bc326237ea60f4767f58bb3efe9afadeff0be57f1fc5d06dc44dd4f2a569764c655d7d58"),
    (20, 11, 7, "1b4b54ec391b0c454a12ad5bf8c9cca02c1a5880d411eefd817c7ace47cde9674b6c8f1ce40fd4dc6292fc096d2130"),
    (20, 11, 8, "9a4aeedd0528854b820d8ba72c37830908fa35f9ce325c0bbafd5e3dc6f18590c36ed8999cc41de19b0a071c33cb1b54"),
    (
        20,
        11,
        16,
        "54965a3ebe0e7845b7d1a7dc919fbd63494f0eaecc439dd01e81b27abf321263f1b591e33309c6b941df8abec81fe3912d041989337ab252",
    ),
    (
        20,
        11,
        19,
        "eee99264ebf4edeaa5dc20e3398f4b8800cfa008c239fa4f726f3c447f751ab79d0d78e54d39116152559607e220894db138542221804e17e6a315",
    ),
    (23, 3, 19, "353017d917170867305ac93fe43b6a5976634295de3f2d9e69a3d107351e12bc0691ae9763403a0ca09bff"),
    (23, 11, 0, "7f7595467dff69e3eaaa230d3b9d098ffe56a84073b0db50"),
    (23, 11, 7, "232f14a1ba3cc46f82d6b824a80c86dd274ba3ee37b1f3d135823abf778e25"),
    (23, 11, 8, "3f6f021f9341b7544bcd9a04670fbfb70c4b2d1dbd3afaaae95f3f84adfb36ec"),
    (23, 11, 16, "42b4d31fb926ce338d818e60380289fc5ac27373e15a07a495297ef546300378c44fb9f3b6ccd233"),
    (23, 11, 19, "3d880ff69f89a346db1c3349e17992bed383e192d3b49e9dc71ce09ce4b101adbe2594ff24d3e034912e3d"),
    (23, 23, 19, "dd5fa464e9307f9d9c2f2399e577a1ccf55a376c7eb7b4127c85471ee5696ce9f15a13edb4a92c2886c843"),
];

/// Made with MIT krb5 1.20.1 by `krb5_c_make_checksum`: etype, usage, checksum.
const FOREIGN_CHECKSUMS: &[(i32, u32, &str)] = &[
    (17, 11, "5476bf1b2f7bb377cfaf2954"),
    (17, 17, "45e25a306fd4a7b3035edf77"),
    (18, 11, "1c5b2532a7345dc1827fc536"),
    (18, 17, "b4810ea82ac70a9dfbc67a52"),
    (19, 11, "6cc90c41d54dfaacbcc1e812fa50fb39"),
    (19, 17, "d6a162fcc47817ece5e909a5fb21e99b"),
    (20, 11, "6e862c8b586cf8fc722da05a0351038c295d0cd2608306fc"),
    (20, 17, "930d702dbbff55f6c63df1020c2c287d8bbcb4edb8f7b722"),
    (23, 3, "8d62fe300aabd2a362d128747f9cfcbd"),
    (23, 9, "de698ee4cc24ab34e83b83b48635421e"),
    (23, 11, "3e2af674f67cec45ff11425a39272bb1"),
    (23, 17, "5fa9a244ca0b65b3baa9c39f077d1e03"),
    (23, 23, "565191fb337e925122bc97aff806386e"),
];

const FOX: &[u8] = b"The quick brown fox";

#[test]
fn messages_of_another_implementation_are_decrypted() {
    for &(etype, usage, length, message) in FOREIGN_MESSAGES {
        let (key, message) = (foreign_key(etype), hex(message));
        assert_eq!(key.decrypt(usage, &message).unwrap().expose(), &FOX[..length], "{etype} {usage} {length}");
    }
}

#[test]
fn checksums_of_another_implementation_are_verified_and_made_alike() {
    for &(etype, usage, expected) in FOREIGN_CHECKSUMS {
        let (key, expected) = (foreign_key(etype), hex(expected));
        assert_eq!(key.checksum(usage, FOX).unwrap(), expected, "{etype} {usage}");
        key.verify_checksum(usage, key.etype().checksum_type(), FOX, &expected).unwrap();
    }
}

/// RFC 3961 appendix A.1.
#[test]
fn n_fold_gives_the_published_values() {
    let vectors = [
        ("012345", "be072631276b1955"),
        ("password", "78a07b6caf85fa"),
        ("Rough Consensus, and Running Code", "bb6ed30870b7f0e0"),
        ("password", "59e4a8ca7c0385c3c37b3f6d2000247cb6e6bd5b3e"),
        ("MASSACHVSETTS INSTITVTE OF TECHNOLOGY", "db3b0d8f0b061e603282b308a50841229ad798fab9540c1b"),
        ("Q", "518a54a215a8452a518a54a215a8452a518a54a215"),
        ("ba", "fb25d531ae8974499f52fd92ea9857c4ba24cf297e"),
        ("kerberos", "6b65726265726f73"),
        ("kerberos", "6b65726265726f737b9b5b2b93132b93"),
        ("kerberos", "8372c236344e5f1550cd0747e15d62ca7a5a3bcea4"),
        ("kerberos", "6b65726265726f737b9b5b2b93132b935c9bdcdad95c9899c4cae4dee6d6cae4"),
    ];
    for (input, folded) in vectors {
        let folded = hex(folded);
        let mut out = vec![0xFF; folded.len()];
        derive::n_fold(input.as_bytes(), &mut out);
        assert_eq!(out, folded, "{input}");
    }
}

/// RFC 3962 appendix B.
#[test]
fn ciphertext_stealing_gives_the_published_values() {
    const INPUT: &[u8] = b"I would like the General Gau's Chicken, please, and wonton soup.";
    let vectors = [
        (17, "c6353568f2bf8cb4d8a580362da7ff7f97"),
        (31, "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5"),
        (32, "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584"),
        (47, "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5"),
        (48, "97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd839312523a78662d5be7fcbcc98ebf5a8"),
        (
            64,
            "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a84807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8",
        ),
    ];
    for (length, output) in vectors {
        let mut data = INPUT[..length].to_vec();
        cts::Encryptor::new(b"chicken teriyaki").unwrap().encrypt(&mut data).unwrap();
        assert_eq!(data, hex(output), "{length}");
        cts::Decryptor::new(b"chicken teriyaki").unwrap().decrypt(&mut data).unwrap();
        assert_eq!(data, INPUT[..length], "{length}");
    }
}

/// RFC 8009 appendix A, and for AES-SHA1 what MIT krb5 derives from a key of RFC 3962 appendix B.
#[test]
fn derived_keys_have_the_published_values() {
    let vectors = [
        (
            Etype::Aes128Sha1,
            "42263c6e89f4fc28b8df68ee09799f15",
            ["34280a382bc92769b2da2f9ef066854b", "5b14fc4e250e14ddf9dccf1af6674f53", "4ed31063621684f09ae8d89991af3e8f"],
        ),
        (
            Etype::Aes128Sha2,
            RFC_8009_KEY_128,
            ["b31a018a48f54776f403e9a396325dc3", "9b197dd1e8c5609d6e67c3e37c62c72e", "9fda0e56ab2d85e1569a688696c26a6c"],
        ),
        (
            Etype::Aes256Sha2,
            RFC_8009_KEY_256,
            [
                "ef5718be86cc84963d8bbb5031e9f5c4ba41f28faf69e73d",
                "56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49",
                "69b16514e3cd8e56b82010d5c73012b622c4d00ffc23ed1f",
            ],
        ),
    ];
    for (etype, base, derived) in vectors {
        let base = key(etype, &hex(base));
        let purposes = [derive::Purpose::Checksum, derive::Purpose::Encryption, derive::Purpose::Integrity];
        for (purpose, expected) in purposes.into_iter().zip(derived) {
            assert_eq!(derive::derive(&base, 2, purpose).unwrap().as_slice(), hex(expected), "{etype:?} {expected}");
        }
    }
}

const RFC_8009_KEY_128: &str = "3705d96080c17728a0e800eab6e0d23c";
const RFC_8009_KEY_256: &str = "6d404d37faf79f9df0d33568d320669800eb4836472ea8a026d16b7182460c52";

/// RFC 8009 appendix A: sample checksums and encryptions, usage 2.
#[test]
fn messages_and_checksums_of_rfc_8009_have_the_published_values() {
    let plaintext: Vec<u8> = (0..21).collect();
    let (short, long) = (key(Etype::Aes128Sha2, &hex(RFC_8009_KEY_128)), key(Etype::Aes256Sha2, &hex(RFC_8009_KEY_256)));
    assert_eq!(short.checksum(2, &plaintext).unwrap(), hex("d78367186643d67b411cba9139fc1dee"));
    assert_eq!(long.checksum(2, &plaintext).unwrap(), hex("45ee791567eefca37f4ac1e0222de80d43c3bfa06699672a"));
    let vectors = [
        (&short, 0, "7e5895eaf2672435bad817f545a37148", "ef85fb890bb8472f4dab20394dca781dad877eda39d50c870c0d5a0a8e48c718"),
        (
            &short,
            6,
            "7bca285e2fd4130fb55b1a5c83bc5b24",
            "84d7f30754ed987bab0bf3506beb09cfb55402cef7e6877ce99e247e52d16ed4421dfdf8976c",
        ),
        (
            &short,
            16,
            "56ab21713ff62c0a1457200f6fa9948f",
            "3517d640f50ddc8ad3628722b3569d2ae07493fa8263254080ea65c1008e8fc295fb4852e7d83e1e7c48c37eebe6b0d3",
        ),
        (
            &short,
            21,
            "a7a4e29a4728ce10664fb64e49ad3fac",
            "720f73b18d9859cd6ccb4346115cd336c70f58edc0c4437c5573544c31c813bce1e6d072c186b39a413c2f92ca9b8334a287ffcbfc",
        ),
        (
            &long,
            0,
            "f764e9fa15c276478b2c7d0c4e5f58e4",
            "41f53fa5bfe7026d91faf9be959195a058707273a96a40f0a01960621ac612748b9bbfbe7eb4ce3c",
        ),
        (
            &long,
            6,
            "b80d3251c1f6471494256ffe712d0b9a",
            "4ed7b37c2bcac8f74f23c1cf07e62bc7b75fb3f637b9f559c7f664f69eab7b6092237526ea0d1f61cb20d69d10f2",
        ),
        (
            &long,
            16,
            "53bf8a0d105265d4e276428624ce5e63",
            "bc47ffec7998eb91e8115cf8d19dac4bbbe2e163e87dd37f49beca92027764f68cf51f14d798c2273f35df574d1f932e40c4ff255b36a266",
        ),
        (
            &long,
            21,
            "763e65367e864f02f55153c7e3b58af1",
            "40013e2df58e8751957d2878bcd2d6fe101ccfd556cb1eae79db3c3ee86429f2b2a602ac86fef6ecb647d6295fae077a1feb517508d2c16b4192e01f62",
        ),
    ];
    for (key, length, confounder, message) in vectors {
        let (confounder, message) = (hex(confounder).try_into().unwrap(), hex(message));
        assert_eq!(key.encrypt_with(2, confounder, &plaintext[..length]).unwrap(), message);
        assert_eq!(key.decrypt(2, &message).unwrap().expose(), &plaintext[..length]);
    }
}

#[test]
fn a_key_of_another_length_is_refused() {
    for etype in ETYPES {
        for length in [0, 8, 15, 17, 24, 31, 33] {
            assert_eq!(Key::new(etype, SecretBytes::new(vec![0; length])).unwrap_err(), CryptoError::KeyLength);
        }
    }
}

#[test]
fn a_message_shorter_than_confounder_and_mac_is_refused() {
    for etype in ETYPES {
        let shortest = etype.sealed_length(0);
        for length in 0..shortest {
            assert_eq!(foreign_key(etype.number()).decrypt(11, &vec![0; length]).unwrap_err(), CryptoError::TooShort);
        }
        assert_eq!(foreign_key(etype.number()).decrypt(11, &vec![0; shortest]).unwrap_err(), CryptoError::Integrity);
    }
}

#[test]
fn a_checksum_of_another_type_length_or_usage_is_refused() {
    for etype in ETYPES {
        let key = foreign_key(etype.number());
        let good = key.checksum(17, FOX).unwrap();
        let verify = |usage, kind, checksum: &[u8]| key.verify_checksum(usage, kind, FOX, checksum);
        assert_eq!(verify(17, etype.checksum_type(), &good), Ok(()));
        assert_eq!(verify(16, etype.checksum_type(), &good), Err(CryptoError::Integrity));
        assert_eq!(verify(17, etype.checksum_type(), &good[..good.len() - 1]), Err(CryptoError::Integrity));
        assert_eq!(verify(17, etype.checksum_type(), &[]), Err(CryptoError::Integrity));
        for other in ETYPES.into_iter().filter(|other| *other != etype) {
            assert_eq!(verify(17, other.checksum_type(), &good), Err(CryptoError::ChecksumType));
        }
    }
}

#[test]
fn two_encryptions_of_the_same_text_differ() {
    for etype in ETYPES {
        let key = foreign_key(etype.number());
        assert_ne!(key.encrypt(11, FOX).unwrap(), key.encrypt(11, FOX).unwrap());
    }
}

proptest! {
    #[test]
    fn what_was_encrypted_is_decrypted_under_the_same_key_and_usage_only(
        bytes: [u8; 32], usage in 1_u32..2_000, plaintext in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for etype in ETYPES {
            let mine = key(etype, &bytes);
            let message = mine.encrypt(usage, &plaintext).unwrap();
            prop_assert_eq!(message.len(), etype.sealed_length(plaintext.len()));
            let decrypted = mine.decrypt(usage, &message).unwrap();
            prop_assert_eq!(decrypted.expose(), &plaintext[..]);
            prop_assert_eq!(mine.decrypt(usage + 2_000, &message).unwrap_err(), CryptoError::Integrity);
            let other = key(etype, &bytes.map(|byte| byte ^ 0x10));
            prop_assert_eq!(other.decrypt(usage, &message).unwrap_err(), CryptoError::Integrity);
        }
    }

    #[test]
    fn a_changed_bit_anywhere_is_an_integrity_failure(at: prop::sample::Index, bit in 0..8, plaintext in prop::collection::vec(any::<u8>(), 0..70)) {
        for etype in ETYPES {
            let key = foreign_key(etype.number());
            let mut message = key.encrypt(11, &plaintext).unwrap();
            let at = at.index(message.len());
            message[at] ^= 1_u8 << bit;
            prop_assert_eq!(key.decrypt(11, &message).unwrap_err(), CryptoError::Integrity);
        }
    }

    #[test]
    fn decrypting_arbitrary_bytes_never_succeeds(message in prop::collection::vec(any::<u8>(), 0..100)) {
        for etype in ETYPES {
            prop_assert!(foreign_key(etype.number()).decrypt(11, &message).is_err());
        }
    }
}

#[test]
fn an_encryption_type_is_found_by_its_name_and_an_unknown_number_stays_a_number() {
    for etype in ETYPES {
        assert_eq!(Etype::from_name(etype.name()), Some(etype));
        assert_eq!(Etype::name_of(etype.number()), etype.name());
    }
    assert_eq!((Etype::from_name("des-cbc-md5"), Etype::from_name("23"), Etype::name_of(3)), (None, None, "3".into()));
}
