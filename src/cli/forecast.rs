//! `kcd-bridge forecast`, from audit logs: which of the client certificates in use end soon, by user and device, and which SPNs stop
//! working when the domain refuses RC4.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::certificate::Fingerprint;
use crate::cli::{Exit, ForecastArgs, Output};
use crate::der::{self, format_kerberos_time};
use crate::kerberos::encryption::{Encryption, Etypes, Rc4Use, TicketUse};
use crate::kerberos::wire::crypto::Etype;
use crate::roster::{Ending, Roster, Sighting};

/// No event is longer.
const MAX_LINE: u64 = 1 << 20;
const DAY: i64 = 24 * 3600;

/// The report; the documented shape of `--json`, version 1.
#[derive(Serialize)]
struct Report {
    version: u32,
    /// Days looked ahead.
    days: u32,
    /// Certificates seen in the logs.
    certificates: usize,
    /// Lines that are no audit event.
    unreadable_lines: u64,
    /// Certificates that end within these days, or ended, and that nobody renewed.
    ending: Vec<Ending>,
    /// How many others end and were renewed.
    renewed: usize,
    /// SPNs that tickets were used for.
    spns: usize,
    /// Those that stop working when RC4 is refused.
    rc4: Vec<Rc4Use>,
}

/// What of an event is of interest.
#[derive(Deserialize)]
struct Event {
    time: String,
    principal: Option<String>,
    certificate: Option<EventCertificate>,
    eas_device_id: Option<String>,
    sid: Option<String>,
    spn: Option<String>,
    ticket: Option<EventTicket>,
}

#[derive(Deserialize)]
struct EventCertificate {
    sha256: String,
    issuer: String,
    serial: String,
    not_after: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EventTicket {
    etype: String,
    session_etype: String,
    evidence_etype: String,
}

/// What was seen in all logs.
#[derive(Default)]
struct Seen {
    roster: Roster,
    encryption: Encryption,
}

pub(in crate::cli) fn run(args: &ForecastArgs, output: &mut Output) -> Exit {
    let (seen, mut unreadable_lines) = (Seen::default(), 0);
    for path in &args.audit_logs {
        match read(path, &seen) {
            Ok(Lines { events: 0, others }) if others > 0 => {
                output.error(format_args!("{}: holds no audit event", path.display()));
                return Exit::CouldNotRun;
            }
            Ok(lines) => unreadable_lines += lines.others,
            Err(error) => {
                output.error(format_args!("{}: {error}", path.display()));
                return Exit::CouldNotRun;
            }
        }
    }
    let (renewed, ending): (Vec<_>, Vec<_>) =
        seen.roster.ending(now(), i64::from(args.days) * DAY).into_iter().partition(|ending| ending.renewed);
    let report = Report {
        version: 1,
        days: args.days,
        certificates: seen.roster.len(),
        unreadable_lines,
        ending,
        renewed: renewed.len(),
        spns: seen.encryption.spns(),
        rc4: seen.encryption.rc4(),
    };
    if args.json {
        output.line(serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        output.text(&report.text());
    }
    if report.ending.is_empty() && report.rc4.is_empty() { Exit::Good } else { Exit::Finding }
}

/// Lines of a log.
#[derive(Default)]
struct Lines {
    events: u64,
    others: u64,
}

/// Notes every event of a log (`-`: standard input).
fn read(path: &Path, seen: &Seen) -> io::Result<Lines> {
    let input: Box<dyn Read> = if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(regular(path)?) };
    let mut input = BufReader::new(input);
    let (mut line, mut lines) = (Vec::new(), Lines::default());
    loop {
        line.clear();
        if (&mut input).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(lines);
        }
        match serde_json::from_slice::<Event>(&line) {
            Ok(event) => {
                lines.events += 1;
                note_tickets(&event, &seen.encryption);
                if let Some(sighting) = sighting(event) {
                    seen.roster.note(sighting);
                }
            }
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) => lines.others += 1,
        }
    }
}

/// What never ends is no log.
fn regular(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    File::open(path)
}

/// Only requests that a token was sent with.
fn note_tickets(event: &Event, encryption: &Encryption) {
    let (Some(spn), Some(ticket), Some(at)) = (&event.spn, &event.ticket, seconds(&event.time)) else { return };
    let number = |name: &str| Etype::from_name(name).map_or(0, Etype::number);
    let etypes = Etypes {
        ticket: number(&ticket.etype),
        session_key: number(&ticket.session_etype),
        evidence: number(&ticket.evidence_etype),
    };
    let user = event.sid.as_ref().or(event.principal.as_ref()).map_or("", String::as_str);
    encryption.note(&TicketUse { spn, user, etypes, at });
}

/// Only certificates that stood for somebody.
fn sighting(event: Event) -> Option<Sighting> {
    let certificate = event.certificate?;
    Some(Sighting {
        certificate: fingerprint(&certificate.sha256)?,
        not_after: seconds(&certificate.not_after?)?,
        issuer: certificate.issuer,
        serial: certificate.serial,
        principal: event.principal?,
        device: event.eas_device_id,
        at: seconds(&event.time)?,
    })
}

fn fingerprint(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(Fingerprint(bytes))
}

/// RFC 3339 in UTC, as the audit log writes it; fractions are dropped.
fn seconds(text: &str) -> Option<i64> {
    let digits: String = text.get(..19)?.chars().filter(char::is_ascii_digit).collect();
    der::kerberos_time(format!("{digits}Z").as_bytes()).ok()
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        if !self.ending.is_empty() {
            let _ = writeln!(text, "{:<10} {:>5}  {:<36} {:<24} CERTIFICATE", "ENDS", "DAYS", "USER", "DEVICE");
        }
        for ending in &self.ending {
            let device = if ending.devices.is_empty() { "-".to_owned() } else { ending.devices.join(" ") };
            let _ = writeln!(
                text,
                "{:<10} {:>5}  {:<36} {:<24} {} of {}",
                date(ending.not_after),
                ending.days_left,
                plain(&ending.principal),
                plain(&device),
                plain(&ending.serial),
                plain(&ending.issuer)
            );
        }
        let _ = writeln!(
            text,
            "{} of {} certificates end within {} days and were not renewed ({} were)",
            self.ending.len(),
            self.certificates,
            self.days,
            self.renewed
        );
        self.add_rc4(&mut text);
        if self.unreadable_lines > 0 {
            let _ = writeln!(text, "{} lines are no audit events", self.unreadable_lines);
        }
        text
    }

    fn add_rc4(&self, text: &mut String) {
        if !self.rc4.is_empty() {
            let _ = writeln!(text, "{:<36} {:>8} {:>6}  {:<10} RC4 IN", "SPN", "REQUESTS", "USERS", "LAST SEEN");
        }
        for Rc4Use { spn, requests, users, last_seen, ticket, session_key, evidence, unset, repair } in &self.rc4 {
            let parts = [(ticket, "ticket"), (session_key, "session key"), (evidence, "the bridge's own account")];
            let parts: Vec<_> = parts.into_iter().filter(|(count, _)| **count > 0).map(|(_, part)| part).collect();
            let (spn, date, parts) = (plain(spn), date(*last_seen), parts.join(", "));
            let _ = writeln!(text, "{spn:<36} {requests:>8} {users:>6}  {date:<10} {parts}");
            if *unset {
                let _ =
                    writeln!(text, "    stops first: without an explicit setting domain controllers of 2026 issue no RC4 ticket");
            }
            let _ = writeln!(text, "    repair: {}", plain(repair));
        }
        let _ = writeln!(text, "{} of {} SPNs use RC4 and stop working when the domain refuses it", self.rc4.len(), self.spns);
    }
}

/// Devices choose some of this text: it must not steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn date(seconds: i64) -> String {
    let digits = format_kerberos_time(seconds);
    let text = String::from_utf8_lossy(&digits);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default().to_owned();
    format!("{}-{}-{}", part(0..4), part(4..6), part(6..8))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(since).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_audit_log_are_read_with_and_without_fractions() {
        assert_eq!(seconds("2026-11-23T00:38:44.548147Z"), Some(1_795_394_324));
        assert_eq!(seconds("2026-11-23T00:38:44Z"), Some(1_795_394_324));
        for bad in ["", "2026-11-23", "2026-13-23T00:38:44Z", "yesterday, at about noon"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_fingerprint_is_64_hexadecimal_digits() {
        assert_eq!(fingerprint(&"0a".repeat(32)), Some(Fingerprint([10; 32])));
        for bad in ["", "0a", &"0g".repeat(32), &"é".repeat(32)] {
            assert_eq!(fingerprint(bad), None, "{bad}");
        }
    }
}
