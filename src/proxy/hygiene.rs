//! What headers may pass, in both directions.
//!
//! Towards the back end nothing may arrive that could pass for an identity, an authorization, or a decision of ours; towards the
//! device nothing that belongs to our authentication. Hop-by-hop fields end here both ways (RFC 9110 section 7.6.1).

use http::header::{self, HeaderMap, HeaderName};

/// Fields of one connection only, whatever `Connection` says.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Names a client must not send: authorization, and what proxies, balancers and applications take for the user's or the client's
/// identity, or for a rewritten request.
const IDENTITY: [&str; 38] = [
    "authorization",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy",
    "forwarded",
    "via",
    "expect",
    "client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "true-client-ip",
    "from-user",
    "front-end-https",
    "remote-user",
    "user",
    "username",
    "x-commonaccesstoken",
    "x-cluster-client-ip",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-isfromcafe",
    "x-logon-user",
    "x-rewrite-url",
    "x-real-ip",
    "x-sourcecafeserver",
    "x-tls-client",
    "x-token-user-name",
    "x-upn",
    "x-wl-proxy-client-ip",
    "x-wlid-membername",
    "auth-user",
    "authenticated-user",
    "logon-user",
    "on-behalf-of",
    "x-authorization",
    "x-on-behalf-of",
    "x-sid",
];

/// Prefixes of such names.
const IDENTITY_PREFIXES: [&str; 35] = [
    "cert-",
    "client-cert",
    "clientcert",
    "iis-",
    "iv-",
    "ms-exch",
    "msexch",
    "ns-client",
    "oidc-",
    "proxy-",
    "remote-",
    "sm-",
    "ssl",
    "wl-proxy",
    "x-amzn-",
    "x-arr-",
    "x-auth-",
    "x-authenticated",
    "x-cert-",
    "x-client-",
    "x-forward",
    "x-goog-",
    "x-iis-",
    "x-impersonat",
    "x-kcd-",
    "x-ms-client-",
    "x-ms-exch",
    "x-ms-forwarded",
    "x-ms-proxy",
    "x-msexch",
    "x-original",
    "x-remote",
    "x-ssl",
    "x-tls-client-",
    "x-webobjects-",
];

/// Endings of `x-` names that carry a user.
const IDENTITY_SUFFIXES: [&str; 6] = ["-user", "-username", "-userid", "-email", "-principal", "-identity"];

/// Takes out of a request's headers everything that must not reach a back end.
pub(super) fn clean_request(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name.as_str())).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Takes out of a response's headers everything that must not reach a device. The length of a chunked answer is the chunks'.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
    for name in ["www-authenticate", "proxy-authenticate", "authentication-info", "proxy-authentication-info", "persistent-auth"]
    {
        headers.remove(name);
    }
}

/// Removes the fields of this connection: the fixed ones and those that `Connection` names.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Names of other characters than letters, digits and hyphens are dropped whole: CGI-like interfaces cannot tell `X_Remote_User` or
/// `X.Remote.User` from `X-Remote-User`.
fn is_unwanted(name: &str) -> bool {
    !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        || IDENTITY.contains(&name)
        || IDENTITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || (name.starts_with("x-") && IDENTITY_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)))
        || (name.starts_with("x-") && name.contains("client-cert"))
        || (name.starts_with("x-") && name.contains("clientcert"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        clean_request(&mut headers);
        headers
    }

    #[test]
    fn nothing_that_could_pass_for_an_identity_gets_through() {
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-User",
            "X-Forwarded-Client-Cert",
            "X-Real-IP",
            "Via",
            "X-Remote-User",
            "Remote-User",
            "X_Remote_User",
            "Remote_User",
            "REMOTE_USER",
            "X.Remote.User",
            "X-Remote~User",
            "X-Client-Cert",
            "X-Client-Cert-Subject",
            "X-SSL-Client-S-DN",
            "SSL-Client-Cert",
            "X-ARR-ClientCert",
            "X-Webobjects-Remote-User",
            "X-Authenticated-User",
            "X-IIS-WindowsAuthToken",
            "MSExchProxyUri",
            "X-MS-Proxy",
            "NS-Client-Cert",
            "Client-Cert",
            "Client-Cert-Subject",
            "ClientCert",
            "SSLClientCertSubject",
            "Cert-Subject",
            "Auth-User",
            "Logon-User",
            "X-On-Behalf-Of",
            "X-Impersonate-User",
            "X-SID",
            "X-Authorization",
            "X-Any-User",
            "X-MS-Client-Principal",
            "X-CommonAccessToken",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "Front-End-Https",
            "Proxy",
            "Expect",
            "TE",
            "Trailer",
            "Upgrade",
            "Keep-Alive",
            "Transfer-Encoding",
        ] {
            assert!(cleaned(&[(name, "alice")]).is_empty(), "{name}");
            assert!(cleaned(&[(name, "alice"), (name, "bob")]).is_empty(), "{name} twice");
        }
    }

    #[test]
    fn what_devices_send_gets_through_unchanged() {
        let fields = [
            ("ms-asprotocolversion", "14.1"),
            ("x-ms-policykey", "3942919513"),
            ("ms-asacceptmultipart", "T"),
            ("user-agent", "Apple-iPhone/1.0"),
            ("content-type", "application/vnd.ms-sync.wbxml"),
            ("accept-encoding", "gzip"),
            ("accept-language", "en-us"),
            ("cookie", "a=b"),
            ("translate", "f"),
            ("depth", "1"),
            ("x-unknown", "kept"),
        ];
        assert_eq!(cleaned(&fields).len(), fields.len());
    }

    #[test]
    fn headers_named_in_connection_go_no_further_but_framing_cannot_be_named_away() {
        let headers = cleaned(&[
            ("connection", "X-Secret, close"),
            ("connection", "x-two"),
            ("x-secret", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ]);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-three"]);
        assert_eq!(cleaned(&[("connection", "content-length, host"), ("content-length", "5"), ("host", "a")]).len(), 2);
    }

    #[test]
    fn a_response_loses_our_authentication_and_keeps_the_rest() {
        let mut headers = HeaderMap::new();
        for name in
            ["www-authenticate", "proxy-authenticate", "authentication-info", "persistent-auth", "connection", "keep-alive"]
        {
            headers.append(name, "x".parse().unwrap());
            headers.append(name, "y".parse().unwrap());
        }
        for name in ["ms-server-activesync", "ms-asprotocolversions", "x-ms-rp", "x-ms-location", "set-cookie", "retry-after"] {
            headers.append(name, "kept".parse().unwrap());
        }
        clean_response(&mut headers);
        assert_eq!(headers.len(), 6);
        assert!(headers.values().all(|value| value == "kept"));
    }
}
