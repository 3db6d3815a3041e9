//! Which back end a request is for. The path is decoded for this decision only; what is forwarded are the bytes that came.

use http::Request;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use crate::failure::{Cause, Failure};
use crate::proxy::RouteConfig;

/// The routing table, longest path first.
#[derive(Debug)]
pub(super) struct Routes(Vec<RouteConfig>);

impl Routes {
    pub(super) fn new(mut routes: Vec<RouteConfig>) -> Self {
        routes.sort_by_key(|route| std::cmp::Reverse((route.path.len(), route.host.is_some())));
        Self(routes)
    }

    /// Index of the back end. Refuses paths that a server could read differently than we do.
    pub(super) fn find(&self, head: &Parts) -> Result<usize, Failure> {
        let host = host(head)?;
        let path = unambiguous_path(head.uri.path()).map_err(|detail| Failure::new(Cause::MalformedRequest, detail))?;
        self.0
            .iter()
            .find(|route| {
                route.host.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host.host())) && is_below(&path, &route.path)
            })
            .map(|route| route.backend)
            .ok_or_else(|| Failure::new(Cause::NoRoute, format!("host {:?}, path {:?}", host.host(), shortened(&path))))
    }

    /// See [`host_leading_to`].
    pub(super) fn host_leading_to(&self, backend: usize, host_header: &str, path: &str) -> Option<String> {
        let own = self.0.iter().filter(|route| route.backend == backend).filter_map(|route| route.host.as_deref());
        let leads = |host: &&str| {
            let request = Request::builder().uri(path).header(HOST, *host).body(()).ok();
            request.is_some_and(|request| self.find(&request.into_parts().0) == Ok(backend))
        };
        std::iter::once(host_header).chain(own).find(leads).map(str::to_owned)
    }
}

/// A Host with which this path leads to this back end: its own (`host_header`), or that of one of its routes.
pub fn host_leading_to(routes: &[RouteConfig], backend: usize, host_header: &str, path: &str) -> Option<String> {
    Routes::new(routes.to_vec()).host_leading_to(backend, host_header, path)
}

/// The one host that the request names: `Host`, and the same in an absolute-form target.
fn host(head: &Parts) -> Result<Authority, Failure> {
    let malformed = |detail| Failure::new(Cause::MalformedRequest, detail);
    let mut values = head.headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(malformed("not exactly one Host header")) };
    let host = Authority::try_from(value.as_bytes()).map_err(|_| malformed("the Host header is not a host"))?;
    match head.uri.authority() {
        Some(target) if !target.as_str().eq_ignore_ascii_case(host.as_str()) => {
            Err(malformed("the request target and the Host header name different hosts"))
        }
        _ => Ok(host),
    }
}

/// Whether `path` is `prefix` or below it, on a segment border, without regard to ASCII case as IIS compares.
fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.get(..prefix.len()).is_some_and(|front| front.eq_ignore_ascii_case(prefix))
        && path.get(prefix.len()..).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path with its percent-encoding taken off, provided that no reader (also one that decodes twice, trims dots and spaces, cuts
/// path parameters or takes a backslash for a slash, as old servers do) ends up at another place.
fn unambiguous_path(raw: &str) -> Result<String, &'static str> {
    let once = decode(raw.as_bytes(), true)?;
    check(&once)?;
    let twice = decode(once.as_bytes(), false)?;
    check(&twice)?;
    Ok(once)
}

fn check(path: &str) -> Result<(), &'static str> {
    if path.contains('\\') {
        return Err("the path holds a backslash");
    }
    if path.chars().any(char::is_control) {
        return Err("the path holds an encoded control character");
    }
    let is_dots = |segment: &str| {
        let name = segment.split(';').next().unwrap_or_default();
        name.contains('.') && name.chars().all(|c| matches!(c, '.' | ' '))
    };
    if path.split('/').any(is_dots) { Err("the path holds a dot segment") } else { Ok(()) }
}

/// Decodes once. An encoded slash is refused; so is a broken escape when `strict`, and IIS's `%uXXXX` always.
fn decode(raw: &[u8], strict: bool) -> Result<String, &'static str> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit =
            |index: usize| after.get(index).and_then(|byte| char::from(*byte).to_digit(16)).and_then(|n| u8::try_from(n).ok());
        match (digit(0), digit(1)) {
            (Some(high), Some(low)) => {
                let byte = high << 4 | low;
                if matches!(byte, b'/' | b'\\') {
                    return Err("the path holds an encoded slash");
                }
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ if strict || matches!(after.first(), Some(b'u' | b'U')) => return Err("the path holds a broken percent-encoding"),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).map_err(|_| "the path is not UTF-8 after decoding")
}

fn shortened(path: &str) -> String {
    path.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        Routes::new(vec![
            RouteConfig { host: None, path: "/Microsoft-Server-ActiveSync".into(), backend: 0 },
            RouteConfig { host: None, path: "/Microsoft-Server-ActiveSync/beta".into(), backend: 1 },
            RouteConfig { host: Some("mail.example".into()), path: "/owa/".into(), backend: 2 },
        ])
    }

    fn find(host: &str, target: &str) -> Result<usize, Cause> {
        let request = Request::builder().uri(target).header("host", host).body(()).unwrap();
        routes().find(&request.into_parts().0).map_err(|failure| failure.cause)
    }

    #[test]
    fn the_longest_prefix_wins_on_a_segment_border_and_without_regard_to_case() {
        assert_eq!(find("any", "/Microsoft-Server-ActiveSync?Cmd=Ping"), Ok(0));
        assert_eq!(find("any", "/microsoft-server-activesync/default.eas"), Ok(0));
        assert_eq!(find("any", "/Microsoft-Server-ActiveSync/Beta/x"), Ok(1));
        assert_eq!(find("any", "/Microsoft-Server-ActiveSyncX"), Err(Cause::NoRoute));
        assert_eq!(find("MAIL.example:443", "/owa"), Ok(2));
        assert_eq!(find("mail.example", "/owa/x"), Ok(2));
        assert_eq!(find("other.example", "/owa"), Err(Cause::NoRoute));
        assert_eq!(find("any", "/"), Err(Cause::NoRoute));
    }

    #[test]
    fn an_absolute_target_must_name_the_host_of_the_host_header() {
        assert_eq!(find("mail.example", "https://mail.example/owa"), Ok(2));
        assert_eq!(find("mail.example", "https://other.example/owa"), Err(Cause::MalformedRequest));
    }

    #[test]
    fn a_path_that_another_reader_could_take_elsewhere_is_refused() {
        for path in [
            "/Microsoft-Server-ActiveSync/../owa",
            "/Microsoft-Server-ActiveSync/./x",
            "/Microsoft-Server-ActiveSync/%2e%2e/owa",
            "/Microsoft-Server-ActiveSync/.%2E/owa",
            "/Microsoft-Server-ActiveSync/%252e%252e/owa",
            "/Microsoft-Server-ActiveSync/..%2fowa",
            "/Microsoft-Server-ActiveSync%2F..",
            "/Microsoft-Server-ActiveSync/..%5cowa",
            "/Microsoft-Server-ActiveSync/%255c",
            "/Microsoft-Server-ActiveSync/..%20/owa",
            "/Microsoft-Server-ActiveSync/..;a=b/owa",
            "/Microsoft-Server-ActiveSync/.../owa",
            "/Microsoft-Server-ActiveSync/%u002e%u002e/owa",
            "/Microsoft-Server-ActiveSync/%25u002e/owa",
            "/Microsoft-Server-ActiveSync/%c0%ae%c0%ae/owa",
            "/Microsoft-Server-ActiveSync/%00",
            "/Microsoft-Server-ActiveSync/%0d%0a",
            "/Microsoft-Server-ActiveSync/%",
            "/Microsoft-Server-ActiveSync/%4",
            "/Microsoft-Server-ActiveSync/%zz",
        ] {
            assert_eq!(find("any", path), Err(Cause::MalformedRequest), "{path}");
        }
    }

    #[test]
    fn ordinary_encodings_pass() {
        for path in ["/a%20b", "/100%25.eml", "/a.b/..c/c..", "/%C3%A4", "/file%2ename"] {
            assert_eq!(find("any", &format!("/Microsoft-Server-ActiveSync{path}")), Ok(0), "{path}");
        }
    }
}
