//! Strict DER: a total reader over peers' bytes and a small writer (ITU-T X.690).
//!
//! The reader refuses indefinite and non-minimal lengths, high tag numbers and trailing bytes, never allocates and never
//! panics. Both Kerberos messages (RFC 4120 section 5) and certificate extensions are read with it.

use thiserror::Error;

/// Universal tags used here.
pub mod tag {
    /// BOOLEAN
    pub const BOOLEAN: u8 = 0x01;
    /// INTEGER
    pub const INTEGER: u8 = 0x02;
    /// BIT STRING
    pub const BIT_STRING: u8 = 0x03;
    /// OCTET STRING
    pub const OCTET_STRING: u8 = 0x04;
    /// OBJECT IDENTIFIER
    pub const OID: u8 = 0x06;
    /// ENUMERATED
    pub const ENUMERATED: u8 = 0x0A;
    /// UTF8String
    pub const UTF8_STRING: u8 = 0x0C;
    /// GeneralString (KerberosString)
    pub const GENERAL_STRING: u8 = 0x1B;
    /// GeneralizedTime (KerberosTime)
    pub const GENERALIZED_TIME: u8 = 0x18;
    /// SEQUENCE and SEQUENCE OF
    pub const SEQUENCE: u8 = 0x30;

    /// `[n]`, constructed (EXPLICIT tags and constructed IMPLICIT ones); n below 31.
    pub const fn context(n: u8) -> u8 {
        0xA0 | n
    }

    /// `[n]`, primitive (IMPLICIT tag over a primitive type); n below 31.
    pub const fn context_primitive(n: u8) -> u8 {
        0x80 | n
    }

    /// `[APPLICATION n]`, constructed; n below 31.
    pub const fn application(n: u8) -> u8 {
        0x60 | n
    }
}

/// Why bytes are not the DER that was expected.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DerError {
    /// Fewer bytes than the length says, or none where an element must stand.
    #[error("truncated")]
    Truncated,
    /// Another tag than the structure asks for.
    #[error("tag {found:#04x} where {expected:#04x} was expected")]
    UnexpectedTag {
        /// tag the structure asks for
        expected: u8,
        /// tag that was there
        found: u8,
    },
    /// Indefinite, over-long or non-minimal length, or a tag number above 30.
    #[error("not DER: bad tag or length octets")]
    NotDer,
    /// Bytes after the last element.
    #[error("trailing bytes")]
    Trailing,
    /// A value outside its type's range (integer too large, bad time, text that is not UTF-8).
    #[error("value out of range")]
    Value,
}

/// A cursor over DER elements.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element's tag.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever it is: tag and contents.
    pub fn any(&mut self) -> Result<(u8, &'a [u8]), DerError> {
        let (tag, _, contents) = self.element()?;
        Ok((tag, contents))
    }

    /// The next element as it stands, header included, with its tag.
    pub fn raw(&mut self) -> Result<(u8, &'a [u8]), DerError> {
        let (tag, whole, _) = self.element()?;
        Ok((tag, whole))
    }

    /// Contents of the next element, which must have this tag.
    pub fn read(&mut self, expected: u8) -> Result<&'a [u8], DerError> {
        match self.peek() {
            None => Err(DerError::Truncated),
            Some(found) if found != expected => Err(DerError::UnexpectedTag { expected, found }),
            Some(_) => Ok(self.any()?.1),
        }
    }

    /// A reader over the contents of the next element, which must have this tag.
    pub fn nested(&mut self, expected: u8) -> Result<Reader<'a>, DerError> {
        Ok(Reader::new(self.read(expected)?))
    }

    /// Contents of the next element if it has this tag.
    pub fn optional(&mut self, wanted: u8) -> Result<Option<&'a [u8]>, DerError> {
        if self.peek() == Some(wanted) { self.read(wanted).map(Some) } else { Ok(None) }
    }

    /// `[n] EXPLICIT type`: the inner element's contents.
    pub fn explicit(&mut self, n: u8, inner: u8) -> Result<&'a [u8], DerError> {
        only(self.read(tag::context(n))?, inner)
    }

    /// `[n] EXPLICIT type OPTIONAL`: the inner element's contents.
    pub fn explicit_optional(&mut self, n: u8, inner: u8) -> Result<Option<&'a [u8]>, DerError> {
        match self.optional(tag::context(n))? {
            None => Ok(None),
            Some(contents) => only(contents, inner).map(Some),
        }
    }

    /// Refuses trailing bytes.
    pub fn finish(self) -> Result<(), DerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }

    fn element(&mut self) -> Result<(u8, &'a [u8], &'a [u8]), DerError> {
        let all = self.rest;
        let (&tag, after_tag) = all.split_first().ok_or(DerError::Truncated)?;
        if tag & 0x1F == 0x1F {
            return Err(DerError::NotDer);
        }
        let (&first, after_first) = after_tag.split_first().ok_or(DerError::Truncated)?;
        let (length, body) = if first < 0x80 {
            (usize::from(first), after_first)
        } else {
            let count = usize::from(first & 0x7F);
            if count == 0 || count > 4 {
                return Err(DerError::NotDer);
            }
            let (octets, body) = after_first.split_at_checked(count).ok_or(DerError::Truncated)?;
            let length = octets.iter().fold(0_usize, |sum, &octet| (sum << 8) | usize::from(octet));
            if octets.first() == Some(&0) || length < 0x80 {
                return Err(DerError::NotDer);
            }
            (length, body)
        };
        let (contents, rest) = body.split_at_checked(length).ok_or(DerError::Truncated)?;
        let whole = all.get(..all.len() - rest.len()).ok_or(DerError::Truncated)?;
        self.rest = rest;
        Ok((tag, whole, contents))
    }
}

/// Contents of the one element that `bytes` must consist of.
pub fn only(bytes: &[u8], expected: u8) -> Result<&[u8], DerError> {
    let mut reader = Reader::new(bytes);
    let contents = reader.read(expected)?;
    reader.finish()?;
    Ok(contents)
}

/// Contents octets of an INTEGER or ENUMERATED, minimal and within `i64`.
pub fn integer(contents: &[u8]) -> Result<i64, DerError> {
    match contents {
        [] => return Err(DerError::Value),
        [0x00, second, ..] if second & 0x80 == 0 => return Err(DerError::NotDer),
        [0xFF, second, ..] if second & 0x80 != 0 => return Err(DerError::NotDer),
        _ if contents.len() > 8 => return Err(DerError::Value),
        _ => {}
    }
    let negative = contents.first().is_some_and(|first| first & 0x80 != 0);
    Ok(contents.iter().fold(if negative { -1 } else { 0 }, |value: i64, &octet| (value << 8) | i64::from(octet)))
}

/// Contents octets of an INTEGER that must fit `u32` (Kerberos UInt32, Microseconds).
/// Negative encodings of values with the top bit set, as older implementations send them, are accepted as their bit pattern.
pub fn unsigned32(contents: &[u8]) -> Result<u32, DerError> {
    let value = integer(contents)?;
    u32::try_from(value).or_else(|_| i32::try_from(value).map(i32::cast_unsigned)).map_err(|_| DerError::Value)
}

/// Contents octets of an INTEGER that must fit `i32` (Kerberos Int32).
pub fn signed32(contents: &[u8]) -> Result<i32, DerError> {
    i32::try_from(integer(contents)?).map_err(|_| DerError::Value)
}

/// Contents octets of a KerberosFlags BIT STRING of at least 32 bits: the first 32, bit 0 on top (RFC 4120 section 5.2.8).
pub fn flags32(contents: &[u8]) -> Result<u32, DerError> {
    match contents {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(DerError::Value),
    }
}

/// Contents octets of a KerberosTime `YYYYMMDDHHMMSSZ` as seconds since 1970 (RFC 4120 section 5.2.3).
pub fn kerberos_time(contents: &[u8]) -> Result<i64, DerError> {
    let digits: &[u8; 15] = contents.try_into().map_err(|_| DerError::Value)?;
    let [y1, y2, y3, y4, mo1, mo2, d1, d2, h1, h2, mi1, mi2, s1, s2, zulu] = *digits;
    let number = |octets: &[u8]| {
        octets.iter().try_fold(0_i64, |sum, octet| {
            octet.is_ascii_digit().then(|| sum * 10 + i64::from(octet - b'0')).ok_or(DerError::Value)
        })
    };
    let (year, month, day) = (number(&[y1, y2, y3, y4])?, number(&[mo1, mo2])?, number(&[d1, d2])?);
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[mi1, mi2])?, number(&[s1, s2])?);
    let in_range =
        zulu == b'Z' && (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !in_range {
        return Err(DerError::Value);
    }
    Ok(days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Seconds since 1970 as the 15 octets of a KerberosTime. Years 1970 to 9999; outside, the nearest bound.
pub fn format_kerberos_time(seconds: i64) -> [u8; 15] {
    let seconds = seconds.clamp(0, 253_402_300_799);
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let of_day = seconds % 86_400;
    let mut out = *b"00000000000000Z";
    let mut put = |range: std::ops::Range<usize>, mut value: i64| {
        for slot in out.get_mut(range).into_iter().flatten().rev() {
            *slot = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    };
    put(0..4, year);
    put(4..6, month);
    put(6..8, day);
    put(8..10, of_day / 3_600);
    put(10..12, of_day / 60 % 60);
    put(12..14, of_day % 60);
    out
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// Appends one element: tag, minimal length, contents.
pub fn write(out: &mut Vec<u8>, tag: u8, contents: &[u8]) {
    write_header(out, tag, contents.len());
    out.extend_from_slice(contents);
}

/// Appends a tag and a minimal length; the caller appends that many bytes of contents.
pub fn write_header(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    let octets = length.to_be_bytes();
    match length {
        0..0x80 => out.extend_from_slice(octets.last_chunk::<1>().unwrap_or(&[0])),
        0x80..0x100 => {
            out.push(0x81);
            out.extend_from_slice(octets.last_chunk::<1>().unwrap_or(&[0]));
        }
        0x100..0x1_0000 => {
            out.push(0x82);
            out.extend_from_slice(octets.last_chunk::<2>().unwrap_or(&[0; 2]));
        }
        0x1_0000..0x100_0000 => {
            out.push(0x83);
            out.extend_from_slice(octets.last_chunk::<3>().unwrap_or(&[0; 3]));
        }
        _ => {
            out.push(0x84);
            out.extend_from_slice(octets.last_chunk::<4>().unwrap_or(&[0; 4]));
        }
    }
}

/// Bytes that [`write_header`] appends for contents of this length.
pub const fn header_length(length: usize) -> usize {
    match length {
        0..0x80 => 2,
        0x80..0x100 => 3,
        0x100..0x1_0000 => 4,
        0x1_0000..0x100_0000 => 5,
        _ => 6,
    }
}

/// An INTEGER element.
pub fn write_integer(out: &mut Vec<u8>, value: i64) {
    let octets = value.to_be_bytes();
    let mut start = 0;
    while let [first, second, ..] = octets.get(start..).unwrap_or(&[])
        && (*first == 0 && second & 0x80 == 0 || *first == 0xFF && second & 0x80 != 0)
    {
        start += 1;
    }
    write(out, tag::INTEGER, octets.get(start..).unwrap_or(&octets));
}

#[cfg(test)]
mod tests;
