//! `WWW-Authenticate` as bytes: which of Negotiate and NTLM are offered, and Negotiate's token (RFC 9110 section 11.6.1, RFC 4559).

/// What the header fields of one response say about Negotiate and NTLM. Other schemes do not matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kerberos) struct Offers<'a> {
    /// Negotiate with data
    pub negotiate: Token<'a>,
    /// Negotiate without data
    pub bare_negotiate: bool,
    /// NTLM, with or without data
    pub ntlm: bool,
}

/// The data of Negotiate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kerberos) enum Token<'a> {
    /// none
    None,
    /// what follows the one Negotiate
    One(&'a [u8]),
    /// more than one Negotiate, at least one of them with data
    Several,
}

impl<'a> Offers<'a> {
    /// Reads the values of all fields; each may hold several challenges. Never fails: what is not a challenge is no offer.
    pub(in crate::kerberos) fn read(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut offers = Self { negotiate: Token::None, bare_negotiate: false, ntlm: false };
        for element in values.flat_map(Elements) {
            let (scheme, data) = split_scheme(element);
            if data.first() == Some(&b'=') {
                // A parameter of the challenge before.
                continue;
            }
            if scheme.eq_ignore_ascii_case(b"Negotiate") {
                offers.negotiate(data);
            } else if scheme.eq_ignore_ascii_case(b"NTLM") {
                offers.ntlm = true;
            }
        }
        offers
    }

    fn negotiate(&mut self, data: &'a [u8]) {
        let again = self.bare_negotiate || self.negotiate != Token::None;
        match (data.is_empty(), again) {
            (true, _) if self.negotiate == Token::None => self.bare_negotiate = true,
            (false, false) => self.negotiate = Token::One(data),
            _ => self.negotiate = Token::Several,
        }
    }
}

/// The scheme, and its data without the space between.
fn split_scheme(element: &[u8]) -> (&[u8], &[u8]) {
    let end = element.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'=')).unwrap_or(element.len());
    let (scheme, data) = element.split_at_checked(end).unwrap_or((element, &[]));
    (scheme, data.trim_ascii())
}

/// Elements of a comma-separated list, trimmed; commas inside quoted strings do not separate.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let comma = self.0.iter().position(|&byte| {
            let plain = !std::mem::take(&mut escaped);
            match byte {
                b'"' if plain => quoted = !quoted,
                b'\\' if plain && quoted => escaped = true,
                b',' if !quoted => return true,
                _ => {}
            }
            false
        });
        let end = comma.unwrap_or(self.0.len());
        let element = self.0.get(..end).unwrap_or_default();
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        Some(element.trim_ascii())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<'a>(values: &[&'a str]) -> Offers<'a> {
        Offers::read(values.iter().map(|value| value.as_bytes()))
    }

    fn offers(negotiate: Token<'_>, bare_negotiate: bool, ntlm: bool) -> Offers<'_> {
        Offers { negotiate, bare_negotiate, ntlm }
    }

    #[test]
    fn a_token_is_found_in_any_field_list_position_and_letter_case() {
        let expected = offers(Token::One(b"oYG2=="), false, false);
        for values in [
            &["Negotiate oYG2=="][..],
            &["negotiate   oYG2== "],
            &["Basic realm=\"a, Negotiate b\"", "NEGOTIATE oYG2=="],
            &["Digest realm=\"x\\\", y\", nonce = \"1\", Negotiate oYG2==, Basic realm=q"],
            &[", ,Negotiate\toYG2=="],
        ] {
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    #[test]
    fn bare_negotiate_and_ntlm_are_offers_without_a_token() {
        assert_eq!(read(&["Negotiate", "NTLM"]), offers(Token::None, true, true));
        assert_eq!(read(&["Negotiate, NTLM"]), offers(Token::None, true, true));
        assert_eq!(read(&["ntlm TlRM"]), offers(Token::None, false, true));
        assert_eq!(read(&["Basic realm=\"NTLM\"", ""]), offers(Token::None, false, false));
        assert_eq!(read(&["Negotiate", "Negotiate"]), offers(Token::None, true, false));
    }

    #[test]
    fn two_answers_are_never_reduced_to_one() {
        for values in [
            &["Negotiate oYG2", "Negotiate oYG2"][..],
            &["Negotiate oYG2, Negotiate"],
            &["Negotiate", "Negotiate oYG2"],
            &["Negotiate a", "Negotiate", "Negotiate"],
        ] {
            assert_eq!(read(values).negotiate, Token::Several, "{values:?}");
        }
    }

    #[test]
    fn schemes_and_parameters_that_resemble_negotiate_are_not() {
        assert_eq!(read(&["Negotiated oYG2", "X-Negotiate oYG2", "Basic negotiate=oYG2"]), offers(Token::None, false, false));
        assert_eq!(read(&["Digest a=1, ntlm=\"2\", negotiate = 3"]), offers(Token::None, false, false));
    }

    proptest! {
        #[test]
        fn reading_is_total(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4)) {
            let _ = Offers::read(values.iter().map(Vec::as_slice));
        }
    }
}
