//! The right name for a wrong one, when there is one close by.

use toml::de::DeValue;

use crate::config::problem::quote;
use crate::config::schema::{self, Presence, Table};

/// The word that was probably meant: few letters changed, or the same words with other separators.
pub(super) fn nearest<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let normal = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let written = normal(written);
    let distance = |word: &'a str| (strsim::damerau_levenshtein(&written, &normal(word)), word);
    let (distance, word) = words.map(distance).min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may differ, but a short word has few letters to tell it from others.
    let prefix = written.len() >= 4 && (normal(word).starts_with(&written) || written.starts_with(&normal(word)));
    (distance <= word.len() / 3 || prefix).then_some(word)
}

/// What to write instead of an unknown key.
pub(super) fn for_key(table: &Table, path: &str, name: &str, value: &DeValue<'_>) -> String {
    if path.starts_with("kerberos.realms.") && value.as_table().is_some() {
        return "a realm's name holds dots: write it in quotes, [kerberos.realms.\"USERS.EXAMPLE\"]".to_owned();
    }
    let known = || table.keys.iter().filter(|key| !matches!(key.presence, Presence::Later(_))).map(|key| key.name);
    if let Some(right) = nearest(name, known()) {
        return format!("did you mean {right}?");
    }
    let elsewhere = schema::tables()
        .into_iter()
        .find(|(_, table)| table.key(name).is_some_and(|key| !matches!(key.presence, Presence::Later(_))));
    match elsewhere {
        Some((other, _)) if !other.is_empty() => format!("it belongs to {other}"),
        Some(_) => format!("it stands at the top: [{name}]"),
        None => format!("remove it; known here: {}", known().collect::<Vec<_>>().join(", ")),
    }
}

/// A key as it would be written: bare, or in quotes.
pub(super) fn show_key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if bare && name.len() <= 64 { name.to_owned() } else { quote(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_name_is_suggested_and_a_distant_one_is_not() {
        let words = ["trust_anchors", "intermediates", "key", "spn", "max_connections"];
        for (written, right) in [
            ("trust_anchor", Some("trust_anchors")),
            ("trust-anchors", Some("trust_anchors")),
            ("TrustAnchors", Some("trust_anchors")),
            ("intermediate", Some("intermediates")),
            ("kye", Some("key")),
            ("pin", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(written, words.into_iter()), right, "{written}");
        }
    }
}
