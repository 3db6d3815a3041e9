use proptest::prelude::*;

use super::*;

#[test]
fn an_element_round_trips() {
    let mut out = Vec::new();
    write(&mut out, tag::OCTET_STRING, &[7; 300]);
    assert_eq!(out[..4], [0x04, 0x82, 0x01, 0x2C]);
    assert_eq!(only(&out, tag::OCTET_STRING), Ok(&[7_u8; 300][..]));
}

#[test]
fn non_minimal_and_indefinite_lengths_are_refused() {
    for bytes in [&[0x04, 0x81, 0x01, 0x00][..], &[0x30, 0x80, 0, 0], &[0x04, 0x82, 0x00, 0x80], &[0x1F, 0x1F, 0x00]] {
        assert_eq!(Reader::new(bytes).any(), Err(DerError::NotDer), "{bytes:02x?}");
    }
}

#[test]
fn trailing_bytes_and_foreign_tags_are_refused() {
    assert_eq!(only(&[0x02, 0x01, 0x05, 0x00], tag::INTEGER), Err(DerError::Trailing));
    assert_eq!(only(&[0x02, 0x01, 0x05], tag::OCTET_STRING), Err(DerError::UnexpectedTag { expected: 4, found: 2 }));
}

#[test]
fn times_round_trip_and_malformed_ones_are_refused() {
    assert_eq!(kerberos_time(b"19700101000000Z"), Ok(0));
    assert_eq!(kerberos_time(b"20380119031408Z"), Ok(2_147_483_648));
    assert_eq!(&format_kerberos_time(951_782_400), b"20000229000000Z");
    for bad in [&b"20380119031408"[..], b"2038011903140Z", b"20381319031408Z", b"20380119031408+", b"2038x119031408Z"] {
        assert_eq!(kerberos_time(bad), Err(DerError::Value));
    }
}

#[test]
fn integers_are_minimal_and_bounded() {
    assert_eq!(integer(&[0x00, 0x7F]), Err(DerError::NotDer));
    assert_eq!(integer(&[0xFF, 0x80]), Err(DerError::NotDer));
    assert_eq!(integer(&[0x80]), Ok(-128));
    assert_eq!(integer(&[1; 9]), Err(DerError::Value));
    assert_eq!(unsigned32(&[0x00, 0xFF, 0xFF, 0xFF, 0xFF]), Ok(u32::MAX));
    assert_eq!(unsigned32(&[0xFF]), Ok(u32::MAX));
}

proptest! {
    #[test]
    fn any_integer_round_trips(value: i64) {
        let mut out = Vec::new();
        write_integer(&mut out, value);
        prop_assert_eq!(integer(only(&out, tag::INTEGER).unwrap()), Ok(value));
    }

    #[test]
    fn any_length_is_written_as_it_is_read(length in 0_usize..70_000) {
        let mut out = Vec::new();
        write(&mut out, tag::OCTET_STRING, &vec![0; length]);
        prop_assert_eq!(out.len(), header_length(length) + length);
        prop_assert_eq!(only(&out, tag::OCTET_STRING).map(<[u8]>::len), Ok(length));
    }

    #[test]
    fn any_second_round_trips(seconds in 0_i64..253_402_300_800) {
        prop_assert_eq!(kerberos_time(&format_kerberos_time(seconds)), Ok(seconds));
    }

    #[test]
    fn the_reader_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut reader = Reader::new(&bytes);
        while reader.any().is_ok() {}
    }
}
