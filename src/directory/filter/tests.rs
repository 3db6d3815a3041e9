use proptest::prelude::*;

use super::*;

/// RFC 4515 as a server reads it, independent of what writes it.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Group(char, Vec<Parsed>),
    Assertion(String, Vec<u8>),
}

fn parse(text: &str) -> Option<Parsed> {
    let (parsed, rest) = parse_filter(text.as_bytes())?;
    rest.is_empty().then_some(parsed)
}

fn parse_filter(text: &[u8]) -> Option<(Parsed, &[u8])> {
    let mut rest = text.strip_prefix(b"(")?;
    if let Some((operator @ (b'&' | b'|'), behind)) = rest.split_first() {
        rest = behind;
        let mut parts = Vec::new();
        while rest.first() == Some(&b'(') {
            let (part, behind) = parse_filter(rest)?;
            parts.push(part);
            rest = behind;
        }
        return Some((Parsed::Group(char::from(*operator), parts), rest.strip_prefix(b")")?));
    }
    let equals = rest.iter().position(|octet| !octet.is_ascii_alphanumeric() && *octet != b'-')?;
    let name = String::from_utf8(rest[..equals].to_vec()).ok()?;
    rest = rest[equals..].strip_prefix(b"=")?;
    let mut value = Vec::new();
    loop {
        match rest {
            [b')', behind @ ..] => return Some((Parsed::Assertion(name, value), behind)),
            [b'\\', high, low, behind @ ..] => {
                value.push(u8::from_str_radix(std::str::from_utf8(&[*high, *low]).ok()?, 16).ok()?);
                rest = behind;
            }
            // A star would be a pattern, the others must be escaped (section 3).
            [b'*' | b'(' | b'\\' | 0, ..] | [] => return None,
            [octet, behind @ ..] => {
                value.push(*octet);
                rest = behind;
            }
        }
    }
}

const ATTRIBUTES: [Attribute; 8] = [
    Attribute::ObjectSid,
    Attribute::UserPrincipalName,
    Attribute::AccountName,
    Attribute::AltSecurityIdentities,
    Attribute::UserCertificate,
    Attribute::Mail,
    Attribute::DnsHostName,
    Attribute::ServicePrincipalName,
];

fn any_filter() -> impl Strategy<Value = Filter> {
    let special = prop::sample::select(b"()*\\\0&|!=~<>:,; aA0\x7f\x80\xff".to_vec());
    let value = prop::collection::vec(prop_oneof![special, any::<u8>()], 0..20);
    let leaf = (prop::sample::select(ATTRIBUTES.to_vec()), value).prop_map(|(attribute, value)| Filter::equals(attribute, value));
    leaf.prop_recursive(3, 20, 4, |inner| {
        let parts = prop::collection::vec(inner, 0..4);
        prop_oneof![parts.clone().prop_map(Filter::And), parts.prop_map(Filter::Or)]
    })
}

fn expected(filter: &Filter) -> Parsed {
    match filter {
        Filter::Equals(attribute, value) => Parsed::Assertion(attribute.name().into(), value.clone()),
        Filter::And(parts) => Parsed::Group('&', parts.iter().map(expected).collect()),
        Filter::Or(parts) => Parsed::Group('|', parts.iter().map(expected).collect()),
    }
}

fn has_nothing(parsed: &Parsed) -> bool {
    match parsed {
        Parsed::Group(_, parts) => parts.is_empty() || parts.iter().any(has_nothing),
        Parsed::Assertion(_, value) => value.is_empty(),
    }
}

/// What a filter means for an object that has exactly the values of which `holds` is true.
fn meaning(filter: &Filter, holds: &dyn Fn(&[u8]) -> bool) -> bool {
    match filter {
        Filter::Equals(_, value) => !value.is_empty() && holds(value),
        Filter::And(parts) => parts.iter().all(|part| meaning(part, holds)),
        Filter::Or(parts) => parts.iter().any(|part| meaning(part, holds)),
    }
}

proptest! {
    #[test]
    fn whatever_the_value_is_the_text_is_one_assertion_of_exactly_it(
        attribute in prop::sample::select(ATTRIBUTES.to_vec()),
        value in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let text = Filter::equals(attribute, &value).to_string();
        prop_assert!(text.bytes().all(|octet| (0x20..0x7F).contains(&octet)), "printable ASCII only");
        prop_assert_eq!(parse(&text), Some(Parsed::Assertion(attribute.name().into(), value)));
    }

    #[test]
    fn a_filter_reads_as_it_was_built(filter in any_filter()) {
        prop_assert_eq!(parse(&filter.to_string()), Some(expected(&filter)));
    }

    #[test]
    fn pruning_keeps_the_meaning_and_leaves_nothing_empty(filter in any_filter(), threshold in any::<u8>()) {
        let holds = |value: &[u8]| value.iter().fold(0_u8, |sum, octet| sum.wrapping_add(*octet)) < threshold;
        let meant = meaning(&filter, &holds);
        match filter.pruned() {
            Pruned::Nothing => prop_assert!(!meant),
            Pruned::Everything => prop_assert!(meant),
            Pruned::Some(pruned) => {
                prop_assert_eq!(meaning(&pruned, &holds), meant);
                prop_assert!(!has_nothing(&expected(&pruned)), "{}", pruned);
            }
        }
    }

    #[test]
    fn the_library_takes_every_filter_that_is_asked(filter in any_filter()) {
        if let Pruned::Some(pruned) = filter.pruned() {
            prop_assert!(ldap3::parse_filter(pruned.to_string()).is_ok(), "{}", pruned);
        }
    }
}

#[test]
fn what_would_change_the_question_is_escaped() {
    let table: [(&[u8], &str); 6] = [
        (b"*", "(mail=\\2a)"),
        (b"a)(objectClass=*", "(mail=a\\29\\28objectClass=\\2a)"),
        (b"\\2a", "(mail=\\5c2a)"),
        (b"\0", "(mail=\\00)"),
        ("é".as_bytes(), "(mail=\\c3\\a9)"),
        (b"a b@c", "(mail=a b@c)"),
    ];
    for (value, text) in table {
        assert_eq!(Filter::equals(Attribute::Mail, value).to_string(), text);
    }
}

#[test]
fn a_comparison_with_nothing_finds_nobody_and_an_empty_group_is_never_asked() {
    let some = || Filter::equals(Attribute::Mail, "a");
    let none = || Filter::equals(Attribute::Mail, "");
    assert_eq!(none().pruned(), Pruned::Nothing);
    assert_eq!(Filter::And(Vec::new()).pruned(), Pruned::Everything);
    assert_eq!(Filter::Or(Vec::new()).pruned(), Pruned::Nothing);
    assert_eq!(Filter::And(vec![some(), none()]).pruned(), Pruned::Nothing);
    assert_eq!(Filter::Or(vec![none(), some()]).pruned(), Pruned::Some(some()));
    assert_eq!(Filter::Or(vec![Filter::And(Vec::new()), some()]).pruned(), Pruned::Everything);
}
