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
fn messages_of_another_implementation_are_decrypted_and_made_alike() {
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
