//! Distinguished names as text (RFC 4514).

/// One attribute of a name and its value.
type Attribute = (String, Vec<u8>);

/// The parts of a distinguished name from left to right, each with its attributes and their values, unescaped. Quoted values and
/// `;` are read as well (RFC 1779), a value in `#hex` stays as it is. None where the text is no distinguished name.
pub(super) fn parts(dn: &str) -> Option<Vec<Vec<Attribute>>> {
    let mut rest = dn.as_bytes();
    let mut parts = Vec::new();
    let mut part = Vec::new();
    if dn.trim().is_empty() {
        return Some(parts);
    }
    loop {
        let (attribute, separator, behind) = attribute(rest)?;
        part.push(attribute);
        rest = behind;
        match separator {
            Some(b'+') => {}
            Some(_) => parts.push(std::mem::take(&mut part)),
            None => {
                parts.push(part);
                return Some(parts);
            }
        }
    }
}

/// `type=value`, the separator behind it, and the rest.
fn attribute(text: &[u8]) -> Option<(Attribute, Option<u8>, &[u8])> {
    let equals = text.iter().position(|&octet| octet == b'=')?;
    let (name, rest) = (text.get(..equals)?.trim_ascii(), text.get(equals + 1..)?.trim_ascii_start());
    if name.is_empty() || !name.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.')) {
        return None;
    }
    let name = String::from_utf8(name.to_vec()).ok()?;
    let (value, rest) = match rest.split_first() {
        Some((b'"', quoted)) => {
            let (value, rest) = quoted_value(quoted)?;
            (value, rest.trim_ascii_start())
        }
        _ => plain_value(rest)?,
    };
    match rest.split_first() {
        None => Some(((name, value), None, rest)),
        Some((&separator @ (b',' | b';' | b'+'), behind)) => Some(((name, value), Some(separator), behind)),
        Some(_) => None,
    }
}

fn plain_value(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    // Spaces before a separator count only where they are escaped.
    let mut kept = 0;
    loop {
        match rest.split_first() {
            None | Some((b',' | b';' | b'+', _)) => {
                value.truncate(kept);
                return Some((value, rest));
            }
            Some((b'\\', escape)) => {
                let (octet, behind) = escaped(escape)?;
                value.push(octet);
                kept = value.len();
                rest = behind;
            }
            Some((b'"' | b'<' | b'>' | 0, _)) => return None,
            Some((&octet, behind)) => {
                value.push(octet);
                if octet != b' ' {
                    kept = value.len();
                }
                rest = behind;
            }
        }
    }
}

fn quoted_value(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    loop {
        match rest.split_first()? {
            (b'"', behind) => return Some((value, behind)),
            (b'\\', escape) => {
                let (octet, behind) = escaped(escape)?;
                value.push(octet);
                rest = behind;
            }
            (&octet, behind) => {
                value.push(octet);
                rest = behind;
            }
        }
    }
}

/// What stands behind a backslash: two hexadecimal digits or a special character.
fn escaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|value| u8::try_from(value).ok());
    match rest {
        [high, low, behind @ ..] if digit(*high).is_some() => Some((digit(*high)? << 4 | digit(*low)?, behind)),
        [octet @ (b' ' | b'"' | b'#' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\'), behind @ ..] => Some((*octet, behind)),
        _ => None,
    }
}

/// The DNS name of the domain that a name ends in: its last DC components, in lower case. Empty where there are none, or none
/// that could stand in a DNS name.
pub(super) fn domain_of(dn: &str) -> String {
    let component = |part: &Vec<Attribute>| match part.as_slice() {
        [(name, value)] if name.eq_ignore_ascii_case("dc") => Some(value.clone()),
        _ => None,
    };
    let parts = parts(dn).unwrap_or_default();
    let mut labels: Vec<_> = parts.iter().rev().map_while(component).collect();
    labels.reverse();
    let is_label = |label: &Vec<u8>| {
        !label.is_empty() && label.len() <= 63 && label.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(octet))
    };
    if !labels.iter().all(is_label) {
        return String::new();
    }
    let labels: Vec<_> = labels.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    labels.join(".")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_domain_is_the_last_dc_components_whatever_the_names_before_them_hold() {
        let table = [
            ("CN=Alice,OU=Staff,DC=Corp,DC=Example", "corp.example"),
            ("CN=Alice\\,DC=evil,OU=Staff,DC=corp,DC=example", "corp.example"),
            ("CN=\"Alice,DC=evil\" , DC=corp, DC=example", "corp.example"),
            ("CN=a\\2CDC=evil;DC=corp;DC=example", "corp.example"),
            ("CN=a+DC=evil,DC=corp,DC=example", "corp.example"),
            ("DC=host,CN=MicrosoftDNS,DC=corp,DC=example", "corp.example"),
            ("dc=corp,Dc=EXAMPLE", "corp.example"),
            ("DC=c\\6frp,DC=example", "corp.example"),
            ("CN=Alice,O=Corp", ""),
            ("DC=corp,DC=example,O=x", ""),
            ("", ""),
            ("CN=a,DC=cor\\,p,DC=example", ""),
            ("CN=a,DC=,DC=example", ""),
            ("CN=a,DC=corp.example", ""),
            ("CN=a,DC=corp,,DC=example", ""),
            ("CN=a\\", ""),
            ("CN=\"open,DC=corp,DC=example", ""),
            ("CN=\"a\"b,DC=corp,DC=example", ""),
            ("CN=a,DC=corp,DC=example,", ""),
            ("corp.example", ""),
            ("<SID=S-1-5-21-1-2-3>", ""),
        ];
        for (dn, domain) in table {
            assert_eq!(domain_of(dn), domain, "{dn}");
        }
    }

    #[test]
    fn values_are_unescaped_and_only_escaped_spaces_at_their_end_count() {
        let value = |dn: &str| parts(dn).map(|parts| parts[0][0].1.clone());
        assert_eq!(value("CN=  a b  ").unwrap(), b"a b");
        assert_eq!(value("CN=\\ a\\ ,O=x").unwrap(), b" a ");
        assert_eq!(value("CN=\\C3\\A9\\\\\\\"").unwrap(), "é\\\"".as_bytes());
        assert_eq!(value("CN=\"a, b \\\" c\"").unwrap(), b"a, b \" c");
        assert_eq!(value("CN=").unwrap(), b"");
        for bad in ["CN=a\\z", "CN=a\\4", "CN=a<b", "=a", "C N=a", "CN", "CN=a\0"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_splitter(text in "\\PC{0,40}", special in "[\\\\\",;+=#<>DCdc0-9a-f ]{0,40}") {
            domain_of(&text);
            domain_of(&special);
        }

        #[test]
        fn an_escaped_value_comes_back_and_cannot_reach_the_domain(value in proptest::collection::vec(any::<u8>(), 0..30)) {
            let escaped = value.iter().fold(String::new(), |text, octet| format!("{text}\\{octet:02x}"));
            let dn = format!("CN={escaped},DC=corp,DC=example");
            prop_assert_eq!(&parts(&dn).unwrap()[0][0].1, &value);
            prop_assert_eq!(domain_of(&dn), "corp.example");
        }
    }
}
