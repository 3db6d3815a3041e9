//! Why a server did not give an answer that can be used, and who else may be asked.

use crate::failure::{Cause, Failure};

/// What went wrong with one server.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// It does not answer as it should: it rests, another one may know.
    Server(Failure),
    /// The connection had ended before the question: another connection may do.
    Stale(Failure),
    /// Too much was asked of it, or the time was too short to judge: another one may know.
    Busy(Failure),
    /// It is not of the domain that was asked for.
    Elsewhere(String),
    /// It does not accept our password: nobody else is asked, for every try counts towards a lockout.
    Credentials(Failure),
    /// It answered, and another server would say the same.
    Answer(Failure),
}

impl Trouble {
    /// Nothing came back from it.
    pub(super) fn unreachable(detail: impl Into<String>) -> Self {
        Self::Server(Failure::new(Cause::DirectoryUnreachable, detail))
    }

    /// That is not its fault, or cannot be told.
    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self::Busy(Failure::new(Cause::DirectoryUnreachable, detail))
    }

    /// Something came back that makes no sense.
    pub(super) fn nonsense(detail: impl Into<String>) -> Self {
        Self::Server(Failure::new(Cause::DirectoryInvalid, detail))
    }
}

/// The name of a result code (RFC 4511 appendix A) that an administrator will meet.
const fn result_name(code: u32) -> &'static str {
    match code {
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        12 => "unavailableCriticalExtension",
        13 => "confidentialityRequired",
        16 => "noSuchAttribute",
        18 => "inappropriateMatching",
        21 => "invalidAttributeSyntax",
        32 => "noSuchObject",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        80 => "other",
        _ => "result",
    }
}

/// Code, its name and what the server added, bounded and printable.
pub(super) fn describe(code: u32, diagnostic: &str) -> String {
    let said: String = diagnostic.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    match said.trim() {
        "" => format!("{} ({code})", result_name(code)),
        said => format!("{} ({code}): {said}", result_name(code)),
    }
}

/// What Active Directory means by the number behind `data` in the text of a refused bind.
pub(super) fn bind_refusal(diagnostic: &str) -> Option<&'static str> {
    let (_, rest) = diagnostic.split_once("data ")?;
    let code: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
    Some(match code.to_ascii_lowercase().as_str() {
        "525" => "no such user",
        "52e" => "wrong password",
        "530" => "not permitted to log on at this time",
        "531" => "not permitted to log on at this computer",
        "532" => "the password has expired",
        "533" => "the account is disabled",
        "701" => "the account has expired",
        "773" => "the password must be changed",
        "775" => "the account is locked out",
        _ => return None,
    })
}

/// What a search's result code other than success means for who is asked next.
pub(super) fn of_search(code: u32, diagnostic: &str) -> Trouble {
    let detail = describe(code, diagnostic);
    match code {
        // The question was too much for it, which says nothing about others.
        3 | 11 => Trouble::busy(detail),
        // Overloaded or going down; or an operationsError: something inside it failed.
        1 | 51 | 52 | 80 => Trouble::unreachable(detail),
        _ => Trouble::Answer(Failure::new(Cause::DirectoryRefused, detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_bind_is_explained_by_the_number_active_directory_puts_behind_data() {
        let said =
            |data: &str| format!("80090308: LdapErr: DSID-0C090446, comment: AcceptSecurityContext error, data {data}, v2580\0");
        let table = [
            ("525", "no such user"),
            ("52e", "wrong password"),
            ("532", "the password has expired"),
            ("533", "the account is disabled"),
            ("701", "the account has expired"),
            ("773", "the password must be changed"),
            ("775", "the account is locked out"),
        ];
        for (data, meaning) in table {
            assert_eq!(bind_refusal(&said(data)), Some(meaning));
        }
        for unknown in [said("0"), said("zzz"), said("52e0"), String::new(), "data".into()] {
            assert_eq!(bind_refusal(&unknown), None, "{unknown}");
        }
    }

    #[test]
    fn what_a_server_says_is_shown_on_one_line_and_cut() {
        assert_eq!(describe(49, "no\r\nFAKE\0"), "invalidCredentials (49): no  FAKE");
        assert_eq!(describe(32, ""), "noSuchObject (32)");
        assert!(describe(80, &"x".repeat(10_000)).len() < 300);
    }

    #[test]
    fn only_a_server_in_trouble_is_passed_over_for_another() {
        for code in [1, 51, 52] {
            assert!(matches!(of_search(code, ""), Trouble::Server(_)), "{code}");
        }
        for code in [3, 11] {
            assert!(matches!(of_search(code, ""), Trouble::Busy(_)), "the question, and not the server: {code}");
        }
        for code in [2, 10, 12, 18, 34, 50, 53, 999] {
            let Trouble::Answer(failure) = of_search(code, "") else { panic!("{code}") };
            assert_eq!(failure.cause, Cause::DirectoryRefused);
        }
    }
}
