//! Strict HTTP/1.1 message framing (RFC 9112): what the bytes of a request must look like before the HTTP library sees them.
//!
//! The library is lenient where a proxy must not be: it takes a bare LF for a line end and resolves `Transfer-Encoding` together
//! with `Content-Length` silently. Whatever two parsers could read differently is refused here. Total over any bytes.

use http::Uri;
use http::uri::Authority;

/// Header lines in one request, at most: what the HTTP library takes without allocating.
pub(super) const MAX_HEADERS: usize = 100;
/// Of a header's name and of a method; hyper would answer 431 and 414 by itself where no limit of ours came first.
const MAX_NAME: usize = 1024;
const MAX_TRAILER_BYTES: usize = 8192;
const MAX_EXTENSION_BYTES: usize = 1024;

/// How the body after a head is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// Why a head is refused; for the administrator.
pub(super) type Refused = &'static str;

/// Length of the head at the front of `bytes`, if its end is there. `Err` as soon as a line end is not CR LF.
pub(super) fn head_length(bytes: &[u8], from: usize) -> Result<Option<usize>, Refused> {
    let mut at = from;
    while let Some(offset) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        let line_feed = at + offset;
        if !bytes.get(..line_feed).is_some_and(|before| before.ends_with(b"\r")) {
            return Err("a line ends with a bare LF");
        }
        if bytes.get(..=line_feed).is_some_and(|head| head.ends_with(b"\r\n\r\n")) {
            return Ok(Some(line_feed + 1));
        }
        at = line_feed + 1;
    }
    Ok(None)
}

/// Checks a whole head (up to and including the empty line) and says how its body is delimited.
pub(super) fn check_head(head: &[u8]) -> Result<Framing, Refused> {
    let text = head.strip_suffix(b"\r\n\r\n").ok_or("the head does not end")?;
    let mut lines = split_lines(text);
    check_request_line(lines.next().unwrap_or_default())?;
    let mut found = Fields::default();
    for (index, line) in lines.enumerate() {
        if index >= MAX_HEADERS {
            return Err("too many header lines");
        }
        found.line(line)?;
    }
    if !found.host {
        return Err("no Host header");
    }
    match (found.length, found.chunked) {
        (Some(_), true) => Err("both Transfer-Encoding and Content-Length"),
        (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
        (None, true) => Ok(Framing::Chunked),
    }
}

/// Splits at CR LF; a lone CR or LF stays inside its line, where no grammar allows it.
fn split_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let end = text.windows(2).position(|pair| pair == b"\r\n");
        let (line, after) = end.map_or((text, None), |end| (text.get(..end).unwrap_or_default(), text.get(end + 2..)));
        rest = after;
        Some(line)
    })
}

fn check_request_line(line: &[u8]) -> Result<(), Refused> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("the request line is not method, target, version");
    };
    if method.len() > MAX_NAME {
        return Err("the method is too long");
    }
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err("the method is not a token");
    }
    if matches!(method, b"CONNECT" | b"TRACE" | b"TRACK") {
        return Err("this method is not served");
    }
    if version != b"HTTP/1.1" {
        return Err("the version is not HTTP/1.1");
    }
    if !target.iter().all(|byte| (0x21..=0x7E).contains(byte) && *byte != b'#') {
        return Err("the request target holds a character that must be percent-encoded");
    }
    let uri = Uri::try_from(target).map_err(|_| "the request target is not a URI")?;
    let absolute_or_origin = match uri.scheme_str() {
        None => target.starts_with(b"/"),
        Some(scheme) => matches!(scheme, "http" | "https") && uri.authority().is_some_and(is_plain),
    };
    if absolute_or_origin && uri.path().starts_with('/') {
        Ok(())
    } else {
        Err("the request target is neither a path nor an http URI")
    }
}

#[derive(Default)]
struct Fields {
    host: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Fields {
    fn line(&mut self, line: &[u8]) -> Result<(), Refused> {
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            return Err("a header is folded over lines");
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a header line has no colon")?;
        let (name, value) = line.split_at_checked(colon).ok_or("a header line has no colon")?;
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err("a header name is not a token");
        }
        if name.len() > MAX_NAME {
            return Err("a header name is too long");
        }
        let value = value.get(1..).unwrap_or_default();
        if !value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7E | 0x80..)) {
            return Err("a header value holds a control character");
        }
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"host") {
            let authority = Authority::try_from(value).map_err(|_| "the Host header is not a host")?;
            if std::mem::replace(&mut self.host, true) {
                return Err("more than one Host header");
            }
            if !is_plain(&authority) {
                return Err("the Host header is not a host");
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(decimal(value).ok_or("Content-Length is not a number")?).is_some() {
                return Err("more than one Content-Length header");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding")
            && (std::mem::replace(&mut self.chunked, true) || !value.eq_ignore_ascii_case(b"chunked"))
        {
            return Err("Transfer-Encoding is not chunked alone");
        }
        Ok(())
    }
}

/// Host and perhaps port; no user information, which could make two readers see two hosts.
fn is_plain(authority: &Authority) -> bool {
    !authority.host().is_empty() && !authority.as_str().contains('@')
}

fn decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Follows a chunked body (RFC 9112 section 7.1) byte by byte, to know where it ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunks {
    state: ChunkState,
    value: u64,
    count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLf,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastLf,
    Done,
}

impl Chunks {
    /// Follows `bytes`; returns how many of them belong to this body.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let mut at = 0;
        while self.state != ChunkState::Done {
            if self.state == ChunkState::Data {
                let rest = bytes.len() - at;
                let step = usize::try_from(self.value).map_or(rest, |left| left.min(rest));
                self.value -= step as u64;
                at += step;
                if self.value > 0 {
                    break;
                }
                self.state = ChunkState::DataEnd;
            }
            let Some(byte) = bytes.get(at) else { break };
            self.byte(*byte)?;
            at += 1;
        }
        Ok(at)
    }

    /// Whether the body has ended.
    pub(super) fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }

    fn byte(&mut self, byte: u8) -> Result<(), Refused> {
        use ChunkState as S;
        self.state = match (self.state, byte) {
            (S::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.count < 15 => {
                self.value = self.value << 4 | u64::from(char::from(byte).to_digit(16).unwrap_or_default());
                self.count += 1;
                S::Size
            }
            (S::Size, b'\r') if self.count > 0 => S::SizeEnd,
            (S::Size, b';') if self.count > 0 => {
                self.count = 0;
                S::Extension
            }
            (S::Extension, b'\r') => S::SizeEnd,
            (S::Extension, b'\t' | 0x20..=0x7E) if self.count < MAX_EXTENSION_BYTES => {
                self.count += 1;
                S::Extension
            }
            (S::SizeEnd, b'\n') => {
                self.count = 0;
                if self.value == 0 { S::TrailerStart } else { S::Data }
            }
            (S::DataEnd, b'\r') => S::DataEndLf,
            (S::DataEndLf, b'\n') => S::Size,
            (S::TrailerStart, b'\r') => S::LastLf,
            (S::TrailerStart, byte) if is_token(byte) => S::Trailer,
            (S::Trailer, b'\r') => S::TrailerEnd,
            (S::Trailer, b'\t' | 0x20..=0x7E | 0x80..) if self.count < MAX_TRAILER_BYTES => {
                self.count += 1;
                S::Trailer
            }
            (S::TrailerEnd, b'\n') => S::TrailerStart,
            (S::LastLf, b'\n') => S::Done,
            _ => return Err("the chunked body is malformed"),
        };
        Ok(())
    }
}
