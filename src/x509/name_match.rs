//! Strong name matches: which issuers' names an administrator vouches for, in the text of the Windows policy "Allow name-based
//! strong mappings for certificates" (MS-PKCA 3.1.5.2.1.5).
//!
//! ```text
//! <SHA-1 of the issuing CA's certificate>; <policy OID>, …; UpnSuffix=corp.example, UpnSuffix=…, IssuerSubject
//! ```

use thiserror::Error;

/// More lines than any real policy has.
const MAX_TUPLES: usize = 1024;

/// All tuples, each issuer once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameMatchPolicy {
    tuples: Vec<NameMatch>,
}

/// One line: what the names of one issuer prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameMatch {
    /// SHA-1 of the issuing CA's certificate.
    pub issuer: [u8; 20],
    /// The certificate must assert one of these policies; at least one.
    pub policies: Vec<String>,
    /// UPNs with these suffixes are strong; lower case.
    pub upn_suffixes: Vec<String>,
    /// `<I>…<S>…` is strong.
    pub issuer_subject: bool,
    /// Where it stands, counted from 1.
    pub line: usize,
}

/// What is wrong with a policy, and where. One wrong line refuses all of it, as in Windows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {problem}")]
pub struct NameMatchError {
    /// Counted from 1.
    pub line: usize,
    /// In words.
    pub problem: String,
}

impl NameMatchPolicy {
    /// Reads the policy's text: one tuple a line, empty lines and lines that begin with `#` left out.
    pub fn parse(text: &str) -> Result<Self, NameMatchError> {
        let mut tuples: Vec<NameMatch> = Vec::new();
        for (line, text) in text.lines().enumerate().map(|(index, text)| (index + 1, text.trim())) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let wrong = |problem: String| NameMatchError { line, problem };
            let tuple = NameMatch::parse(text, line).map_err(wrong)?;
            if let Some(earlier) = tuples.iter().find(|earlier| earlier.issuer == tuple.issuer) {
                return Err(wrong(format!("the issuer stands in line {} already: join the two", earlier.line)));
            }
            if tuples.len() == MAX_TUPLES {
                return Err(wrong(format!("more than {MAX_TUPLES} issuers")));
            }
            tuples.push(tuple);
        }
        Ok(Self { tuples })
    }

    /// What is said of the CA whose certificate has this SHA-1.
    pub fn of_issuer(&self, sha1: &[u8; 20]) -> Option<&NameMatch> {
        self.tuples.iter().find(|tuple| tuple.issuer == *sha1)
    }

    /// Every tuple, in the order of the text.
    pub fn tuples(&self) -> &[NameMatch] {
        &self.tuples
    }
}

impl NameMatch {
    /// Whether a certificate with these policies is meant.
    pub fn covers(&self, policies: &[String]) -> bool {
        self.policies.iter().any(|policy| policies.contains(policy))
    }

    fn parse(text: &str, line: usize) -> Result<Self, String> {
        let sections: Vec<&str> = text.split(';').map(str::trim).collect();
        let [thumbprint, policies, names] = sections.as_slice() else {
            return Err("three sections separated by ';' are needed: thumbprint; policy OIDs; names".to_owned());
        };
        let mut tuple =
            Self { issuer: issuer(thumbprint)?, policies: Vec::new(), upn_suffixes: Vec::new(), issuer_subject: false, line };
        for policy in policies.split(',').map(str::trim) {
            if !is_dotted(policy) {
                return Err(format!("{policy:?} is not an object identifier"));
            }
            if tuple.policies.iter().any(|earlier| earlier == policy) {
                return Err(format!("policy {policy} stands twice"));
            }
            tuple.policies.push(policy.to_owned());
        }
        for name in names.split(',').map(str::trim) {
            tuple.add_name(name)?;
        }
        Ok(tuple)
    }

    fn add_name(&mut self, name: &str) -> Result<(), String> {
        if name.eq_ignore_ascii_case("IssuerSubject") {
            let twice = std::mem::replace(&mut self.issuer_subject, true);
            return if twice { Err("IssuerSubject stands twice".to_owned()) } else { Ok(()) };
        }
        let suffix = name.split_once('=').filter(|(key, _)| key.trim_end().eq_ignore_ascii_case("UpnSuffix"));
        let Some((_, suffix)) = suffix else { return Err(format!("{name:?} is neither UpnSuffix=… nor IssuerSubject")) };
        let suffix = suffix.trim().to_ascii_lowercase();
        let label =
            |label: &str| !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
        if !suffix.split('.').all(label) {
            return Err(format!("{suffix:?} is not a UPN suffix"));
        }
        if self.upn_suffixes.contains(&suffix) {
            return Err(format!("suffix {suffix} stands twice"));
        }
        self.upn_suffixes.push(suffix);
        Ok(())
    }
}

fn issuer(thumbprint: &str) -> Result<[u8; 20], String> {
    let wrong = || {
        format!("{thumbprint:?} is not the SHA-1 of a certificate: 40 hexadecimal digits, without spaces or invisible characters")
    };
    let (pairs, []) = thumbprint.as_bytes().as_chunks::<2>() else { return Err(wrong()) };
    let digits = |pair: &[u8; 2]| {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        u8::try_from(nibble(pair[0])? * 16 + nibble(pair[1])?).ok()
    };
    let bytes: Option<Vec<u8>> = pairs.iter().map(digits).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)
}

/// At least two arcs, decimal, without leading zeros.
fn is_dotted(text: &str) -> bool {
    let arc = |arc: &str| {
        !arc.is_empty() && arc.len() <= 19 && arc.bytes().all(|c| c.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'))
    };
    text.contains('.') && text.split('.').all(arc)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "34be02dcee9ecdf8bc5c16595a73f1b201875fea";
    const OTHER: &str = "34BE02DCEE9ECDF8BC5C16595A73F1B201875FEB";

    fn problem(text: &str) -> NameMatchError {
        NameMatchPolicy::parse(text).unwrap_err()
    }

    #[test]
    fn a_policy_is_read_line_by_line() {
        let text = format!(
            "# agencies\r\n{ONE}; 2.16.840.1.101.3.2.1.3.13, 1.2.3 ; UpnSuffix=Corp.Example, IssuerSubject,UpnSuffix=other.example\r\n\n{OTHER};1.2.3;issuersubject"
        );
        let policy = NameMatchPolicy::parse(&text).unwrap();
        let [first, second] = policy.tuples() else { panic!() };
        assert_eq!((first.line, first.issuer_subject), (2, true));
        assert_eq!(first.policies, ["2.16.840.1.101.3.2.1.3.13", "1.2.3"]);
        assert_eq!(first.upn_suffixes, ["corp.example", "other.example"]);
        assert_eq!((second.line, second.issuer_subject, second.upn_suffixes.len()), (4, true, 0));
        assert_eq!(policy.of_issuer(&second.issuer), Some(second));
        assert_eq!(policy.of_issuer(&[0; 20]), None);
        assert_eq!(first.issuer[..2], [0x34, 0xBE]);
    }

    #[test]
    fn a_certificate_is_covered_by_one_of_the_policies() {
        let policy = NameMatchPolicy::parse(&format!("{ONE}; 1.2.3, 1.2.4; IssuerSubject")).unwrap();
        let tuple = &policy.tuples()[0];
        assert!(tuple.covers(&["1.2.9".into(), "1.2.4".into()]));
        assert!(!tuple.covers(&["1.2".into(), "1.2.33".into()]));
        assert!(!tuple.covers(&[]));
    }

    #[test]
    fn an_issuer_that_stands_twice_refuses_the_policy_with_both_lines() {
        let error = problem(&format!("{ONE}; 1.2.3; IssuerSubject\n\n{}; 1.2.4; UpnSuffix=a", ONE.to_uppercase()));
        assert_eq!(error.line, 3);
        assert!(error.problem.contains("line 1"), "{error}");
    }

    #[test]
    fn a_line_that_is_not_a_tuple_refuses_the_policy() {
        for (bad, what) in [
            (format!("{ONE}; 1.2.3"), "three sections"),
            (format!("{ONE}; 1.2.3; IssuerSubject;"), "three sections"),
            (format!("{}; 1.2.3; IssuerSubject", &ONE[2..]), "not the SHA-1"),
            (format!("{ONE}0; 1.2.3; IssuerSubject"), "not the SHA-1"),
            (format!("\u{200e}{ONE}; 1.2.3; IssuerSubject"), "not the SHA-1"),
            (format!("{}; 1.2.3; IssuerSubject", ONE.replace('3', "g")), "not the SHA-1"),
            (format!("{ONE}; ; IssuerSubject"), "not an object identifier"),
            (format!("{ONE}; 1.2.; IssuerSubject"), "not an object identifier"),
            (format!("{ONE}; 1.02; IssuerSubject"), "not an object identifier"),
            (format!("{ONE}; 12; IssuerSubject"), "not an object identifier"),
            (format!("{ONE}; 1.2,1.2; IssuerSubject"), "twice"),
            (format!("{ONE}; 1.2; "), "neither"),
            (format!("{ONE}; 1.2; Subject"), "neither"),
            (format!("{ONE}; 1.2; IssuerSubject,"), "neither"),
            (format!("{ONE}; 1.2; IssuerSubject, issuersubject"), "twice"),
            (format!("{ONE}; 1.2; UpnSuffix="), "not a UPN suffix"),
            (format!("{ONE}; 1.2; UpnSuffix=@corp.example"), "not a UPN suffix"),
            (format!("{ONE}; 1.2; UpnSuffix=corp.example."), "not a UPN suffix"),
            (format!("{ONE}; 1.2; UpnSuffix=a, upnsuffix=A"), "twice"),
        ] {
            let error = problem(&format!("\n{bad}"));
            assert_eq!(error.line, 2, "{bad}");
            assert!(error.problem.contains(what), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_policy_reader_is_total(text in any::<String>(), tail in "[0-9a-f;,. =\\nUpnSuffix]{0,80}") {
            let _ = (NameMatchPolicy::parse(&text), NameMatchPolicy::parse(&format!("{ONE};{tail}")));
        }
    }
}
