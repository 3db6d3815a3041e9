//! Every way a request or a start can fail: stage, cause, remedy, in one table.
//!
//! The log, the audit event, the response, `doctor` and `docs/failures.md` are all fed from [`Cause`]; a failure that is not
//! in the table cannot be expressed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The step of a request's way at which it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// TLS handshake and admission of the client certificate.
    Tls,
    /// Reading the client's HTTP request.
    Request,
    /// Reading the certificate's claims and mapping them to one account.
    Mapping,
    /// Asking the directory.
    Directory,
    /// Whether the mapped account may be impersonated now.
    Account,
    /// Deciding whether this principal may use this route.
    Policy,
    /// Finding and reaching a KDC.
    Kdc,
    /// Our own ticket-granting ticket.
    Tgt,
    /// S4U2Self: a ticket to ourselves on the user's behalf (MS-SFU 3.1.5.1.1).
    S4u2Self,
    /// S4U2Proxy: the ticket to the back end (MS-SFU 3.1.5.2.1).
    S4u2Proxy,
    /// Comparing who the KDC vouched for with who was mapped.
    Identity,
    /// Making the AP-REQ.
    Token,
    /// Reaching the back end.
    Upstream,
    /// The back end's verdict on the token, and its proof of itself.
    UpstreamAuth,
    /// The client's connection.
    Client,
}

impl Stage {
    /// Name in logs, audit events and documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Request => "request",
            Self::Mapping => "mapping",
            Self::Directory => "directory",
            Self::Account => "account",
            Self::Policy => "policy",
            Self::Kdc => "kdc",
            Self::Tgt => "tgt",
            Self::S4u2Self => "s4u2self",
            Self::S4u2Proxy => "s4u2proxy",
            Self::Identity => "identity",
            Self::Token => "token",
            Self::Upstream => "upstream",
            Self::UpstreamAuth => "upstream-auth",
            Self::Client => "client",
        }
    }
}

/// What the device is told: one of four statuses, never 401 and never 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// 400 and close: the request is malformed.
    Malformed,
    /// 403: this certificate gets nothing here.
    Refused,
    /// 503 with `Retry-After`: our or the back end's trouble.
    Unavailable,
    /// The connection ends (TLS alert, or the client is gone): there is nobody to answer.
    Closed,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident { $code:literal, $stage:ident, $answer:ident, $summary:literal, $remedy:literal })*) => {
        /// Why it failed. One line of the table each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause {
            $( #[doc = $summary] $name, )*
        }

        impl Cause {
            /// The whole table, in the order of a request's way.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Stable code in logs, audit events and documentation.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The stage it belongs to.
            pub const fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage,)* }
            }

            /// What the device is told.
            pub const fn answer(self) -> Answer {
                match self { $(Self::$name => Answer::$answer,)* }
            }

            /// The cause in one sentence.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

causes! {
    // TLS
    HandshakeFailed { "handshake-failed", Tls, Closed, "the TLS handshake did not complete", "see the detail; the device must speak TLS 1.2 or 1.3 and present a client certificate" }
    HandshakeTimeout { "handshake-timeout", Tls, Closed, "the TLS handshake took longer than listener.handshake_timeout", "check the network path; raise the limit only for very slow links" }
    TooManyConnections { "too-many-connections", Tls, Closed, "listener.max_connections is reached", "raise listener.max_connections and the process's descriptor limit, or add an instance" }
    NoCertificate { "no-certificate", Tls, Closed, "the device presented no certificate", "enrol a client certificate on the device" }
    UnknownIssuer { "unknown-issuer", Tls, Closed, "the certificate does not chain to a configured trust anchor", "add the issuing CA to client_certificates.trust_anchors (or intermediates) if its devices are meant to be let in" }
    CertificateExpired { "certificate-expired", Tls, Closed, "the certificate is outside its validity period", "renew the device's certificate; check both clocks" }
    CertificateRevoked { "certificate-revoked", Tls, Closed, "the certificate, or a CA above it, is revoked: on its issuer's CRL or by its responder", "none here: enrol the device anew if that was a mistake; a hold ends with the CA's next CRL" }
    RevocationUnknown { "revocation-unknown", Tls, Unavailable, "nothing says whether the certificate is revoked: no CRL covers it, no OCSP responder vouches for it", "put a current CRL of its issuer into client_certificates.revocation.crl_files, or let one be fetched: distribution_points, ocsp" }
    CrlExpired { "crl-expired", Tls, Unavailable, "the issuer's CRL is past its nextUpdate, and nothing else vouches for the certificate", "publish a new CRL, and see why it was not fetched or installed; revocation fails closed" }
    CertificateUnsuitable { "certificate-unsuitable", Tls, Closed, "the certificate is not fit for client authentication", "see the detail: key usage, extended key usage, signature algorithm, or a critical, doubled or malformed extension; usages other than client-auth have to be named for the issuer" }
    IssuerNotAllowed { "issuer-not-allowed", Tls, Closed, "the certificate's issuing CA is not one of those that may issue for devices", "add the CA to client_certificates.issuing_cas if it may" }
    NotInNtAuth { "not-in-ntauth", Tls, Closed, "the certificate's issuing CA is not in the forest's NTAuth store, or the store could not be read yet", "publish it if it may speak for accounts: certutil -dspublish -f ca.cer NTAuthCA; see the detail and the log where the store was not read" }
    TemplateNotAllowed { "template-not-allowed", Tls, Closed, "the certificate's template is not one allowed for its issuer", "add it to the issuer's templates if requesters cannot choose the names in it" }
    PolicyNotAsserted { "policy-not-asserted", Tls, Closed, "the certificate asserts no policy required for its issuer", "have the CA issue it under that policy, or change the issuer's policies" }
    RevocationUntrusted { "revocation-untrusted", Tls, Closed, "the CRL or OCSP answer about the certificate is not signed by its issuer, and nothing else vouches for it", "see the detail; fetch the CRL from the CA again and check who answers under that address" }
    // Request
    MalformedRequest { "malformed-request", Request, Malformed, "the request is not well-formed HTTP/1.1", "see the detail; a proxy in front may have altered the request" }
    HeadersTooLarge { "headers-too-large", Request, Malformed, "request line and headers exceed the limit", "raise listener.max_header_bytes if the client is legitimate" }
    NoRoute { "no-route", Request, Refused, "no route matches this host and path", "add a [[route]] for the path, or remove the client's expectation" }
    RequestTimeout { "request-timeout", Request, Closed, "the request was not complete in time", "check the network path; raise listener.header_timeout only for very slow links" }
    BodyTooLarge { "body-too-large", Request, Malformed, "the request body exceeds the limit", "raise the back end's max_body_bytes if such uploads are legitimate" }
    // Mapping
    CertificateMalformed { "certificate-malformed", Mapping, Refused, "the certificate's names or SID extension are malformed or duplicated", "have the CA reissue it; the detail names the extension" }
    SidConflict { "sid-conflict", Mapping, Refused, "the SID in the certificate contradicts another SID: of the certificate itself, of its static row or of the account it names", "see the detail; have the CA reissue it, or correct the row or the account's mapping" }
    NoMapping { "no-mapping", Mapping, Refused, "no mapping rule applies to this certificate", "see the detail for what each rule lacked, and kcd-bridge explain; a certificate without a SID needs a string in altSecurityIdentities, a static row or a weak rule for its issuer" }
    AmbiguousMapping { "ambiguous-mapping", Mapping, Refused, "mapping rules disagree about the account", "correct the mapping that is wrong, or keep a rule away by match; ambiguity is always a refusal" }
    SuffixNotAllowed { "suffix-not-allowed", Mapping, Refused, "the name's suffix is not allowed for this issuer", "add it to the rule's allowed_suffixes if this issuer may speak for it" }
    WeakMappingOnly { "weak-mapping-only", Mapping, Refused, "only a name ties the certificate to an account, and no rule allows that for its issuer", "have the CA add the SID, map the certificate in altSecurityIdentities by issuer and serial number, or name the issuer in a weak rule" }
    AccountNotFound { "account-not-found", Mapping, Refused, "the directory has no account for the certificate", "see the detail for what was looked for; map the account, or correct the certificate" }
    AmbiguousAccount { "ambiguous-account", Mapping, Refused, "the directory has several accounts for the certificate", "remove the mapping from all but one: ambiguity is always a refusal" }
    DirectoryMismatch { "directory-mismatch", Mapping, Refused, "the directory's answer is not exactly what was asked for", "the directory treats letters as equal that are not: correct the attribute or the certificate" }
    CertificateOlderThanAccount { "certificate-older-than-account", Mapping, Refused, "the certificate was issued before the account was made, so a name alone cannot mean this account", "reissue the certificate, or map it strongly" }
    // Directory
    DirectoryUnreachable { "directory-unreachable", Directory, Unavailable, "no directory server answered in time", "check directory.servers, name resolution, the firewall (ports 636 and 3269, or 389 and 3268) and the servers' certificates" }
    DirectoryRefused { "directory-refused", Directory, Unavailable, "the directory server refuses our account or our question, or does not show an attribute", "check directory.bind_user and its password file, and what it may read; see the detail" }
    DirectoryInvalid { "directory-invalid", Directory, Unavailable, "the directory's answer cannot be understood", "see the detail" }
    // Account
    AccountDisabled { "account-disabled", Account, Refused, "the account is disabled", "Enable-ADAccount, or let the refusal stand" }
    AccountLocked { "account-locked", Account, Refused, "the account is locked out", "Unlock-ADAccount, or wait for the lockout to end" }
    AccountExpired { "account-expired", Account, Refused, "the account has expired", "Set-ADAccountExpiration, or let the refusal stand" }
    AccountPasswordExpired { "account-password-expired", Account, Refused, "the account's password has expired or must be changed", "have the user change it, or remove directory.deny_expired_passwords" }
    AccountNotDelegated { "account-not-delegated", Account, Refused, "the account is sensitive and cannot be delegated", "Set-ADUser -AccountNotDelegated $false, or let the refusal stand" }
    AccountProtected { "account-protected", Account, Refused, "the account is in Protected Users, whose members are never delegated", "remove it from the group, or let the refusal stand" }
    AccountKindDenied { "account-kind-denied", Account, Refused, "the account is not of a kind this rule may map to", "users only, unless the rule is for computers; domain controllers, trusts and krbtgt never" }
    AccountDenied { "account-denied", Account, Refused, "the account is on a deny list", "see the detail for which; kerberos.denied_accounts, kerberos.denied_groups and directory.denied_groups are the lists" }
    AccountGroupMissing { "account-group-missing", Account, Refused, "the account is in none of the groups required", "add it to a group of directory.required_groups" }
    AccountOutsideHours { "account-outside-hours", Account, Refused, "the account may not log on at this hour", "Set-ADUser -LogonHours, or remove directory.enforce_logon_hours" }
    // Policy
    NotPermitted { "not-permitted", Policy, Refused, "policy does not let this principal use this route", "see the detail" }
    // KDC
    KdcUnreachable { "kdc-unreachable", Kdc, Unavailable, "no KDC of the realm answered in time", "check kerberos.kdcs, DNS SRV records and TCP/UDP port 88" }
    RealmUnknown { "realm-unknown", Kdc, Unavailable, "a realm is needed that the configuration does not list", "add it under kerberos.realms with its KDCs" }
    ClockSkew { "clock-skew", Kdc, Unavailable, "this host's clock and the KDC's differ too much", "synchronise the clock (chrony or systemd-timesyncd) with the domain" }
    EtypeNotSupported { "etype-not-supported", Kdc, Unavailable, "the KDC and we have no encryption type in common", "check msDS-SupportedEncryptionTypes of the account and, for a Windows 2003 back end, allow_rc4" }
    KdcOther { "kdc-error", Kdc, Unavailable, "the KDC answered with an error that is not classified", "see the detail for the code" }
    AcquisitionTimeout { "acquisition-timeout", Kdc, Unavailable, "no ticket was obtained within kerberos.acquire_timeout", "see the KDC errors logged before" }
    Overloaded { "overloaded", Kdc, Unavailable, "too many ticket acquisitions are waiting", "raise kerberos.workers or kerberos.queue, or add an instance" }
    // TGT
    KeytabUnusable { "keytab-unusable", Tgt, Unavailable, "the keytab has no usable key for our principal", "export the keytab again (ktpass or samba-tool domain exportkeytab); it is read again when it changes" }
    OwnAccountUnknown { "own-account-unknown", Tgt, Unavailable, "the KDC does not know our principal", "check the spelling of kerberos.principal, with the realm in upper case" }
    OwnKeyRefused { "own-key-refused", Tgt, Unavailable, "the KDC does not accept the keytab's key", "the password was changed after the export: export the keytab again; it is read again when it changes" }
    OwnPasswordExpired { "own-password-expired", Tgt, Unavailable, "our account's password has expired or must be changed", "Set-ADUser {account} -PasswordNeverExpires $true, set a new password, export the keytab again; it is read again when it changes" }
    OwnAccountRevoked { "own-account-revoked", Tgt, Unavailable, "our account is disabled, locked, expired or restricted", "Enable-ADAccount {account}, Unlock-ADAccount {account}, or Clear-ADAccountExpiration {account}; the detail says which, where the KDC does" }
    OwnEtypeNotSupported { "own-etype-not-supported", Tgt, Unavailable, "the KDC has no key of our account of an encryption type that we may use", "Set-ADUser {account} -KerberosEncryptionType AES128,AES256, set a new password (AES keys are made then), export the keytab again; it is read again when it changes" }
    OwnTgtNotForwardable { "own-tgt-not-forwardable", Tgt, Unavailable, "the KDC gives our account no forwardable ticket, so nobody can be delegated", "our account must be neither sensitive nor in Protected Users: Set-ADUser {account} -AccountNotDelegated $false; Remove-ADGroupMember 'Protected Users' {account}; no policy may forbid forwardable tickets" }
    // S4U2Self
    UserUnknown { "user-unknown", S4u2Self, Refused, "the KDC knows no such user", "check the certificate's UPN against the account's userPrincipalName" }
    UserDisabled { "user-disabled", S4u2Self, Refused, "the KDC says that the user's account is disabled", "Enable-ADAccount {user}, or let the refusal stand" }
    UserLocked { "user-locked", S4u2Self, Refused, "the KDC says that the user's account is locked out", "Unlock-ADAccount {user}, or wait for the lockout to end" }
    UserExpired { "user-expired", S4u2Self, Refused, "the KDC says that the user's account has expired", "Clear-ADAccountExpiration {user}, or let the refusal stand" }
    UserPasswordExpired { "user-password-expired", S4u2Self, Refused, "the KDC says that the user's password has expired or must be changed", "have the user change it, or Set-ADUser {user} -ChangePasswordAtLogon $false" }
    UserOutsideHours { "user-outside-hours", S4u2Self, Refused, "the KDC says that the user may not log on at this hour", "change the account's logon hours, or let the refusal stand" }
    UserWorkstationDenied { "user-workstation-denied", S4u2Self, Refused, "the KDC says that the user may log on at certain computers only, and not from here", "Set-ADUser {user} -LogonWorkstations $null, or let the refusal stand" }
    UserRestricted { "user-restricted", S4u2Self, Refused, "the KDC's policy does not let this user's ticket be issued", "see the detail; an authentication policy or another restriction of the account: Get-ADUser {user} -Properties AuthenticationPolicy,LogonWorkstations,MemberOf" }
    UserRevoked { "user-revoked", S4u2Self, Refused, "the user's account is disabled, locked, expired or restricted; the KDC does not say which", "Get-ADUser {user} -Properties Enabled,LockedOut,AccountExpirationDate,LogonHours; enable the account, or let the refusal stand" }
    OwnSpnMissing { "own-spn-missing", S4u2Self, Unavailable, "our account has no service principal name, and a KDC issues tickets to services only", "setspn -S HTTP/bridge.your.domain {account}, or samba-tool spn add HTTP/bridge.your.domain {account}; any SPN that nobody else has will do" }
    S4u2SelfRefused { "s4u2self-refused", S4u2Self, Refused, "the KDC refuses a ticket to ourselves for this user", "see the detail; our account needs a service principal name: setspn -L {account}" }
    // S4U2Proxy
    UserNotDelegable { "user-not-delegable", S4u2Proxy, Refused, "the user's account is sensitive and cannot be delegated", "Set-ADUser {user} -AccountNotDelegated $false, or let the refusal stand" }
    UserProtected { "user-protected", S4u2Proxy, Refused, "the user is in Protected Users, whose members are never delegated", "Remove-ADGroupMember 'Protected Users' {user}, or let the refusal stand" }
    ProtocolTransitionOff { "protocol-transition-off", S4u2Proxy, Unavailable, "our account may not use protocol transition, so the KDC lets nobody be delegated by its delegation list", "Set-ADAccountControl {account} -TrustedToAuthForDelegation $true, or samba-tool delegation for-any-protocol {account} on" }
    SpnNotListed { "spn-not-listed", S4u2Proxy, Unavailable, "the SPN is not on our account's delegation list", "Set-ADUser {account} -Add @{'msDS-AllowedToDelegateTo'='{spn}'}, or samba-tool delegation add-service {account} {spn}" }
    ResourceListLacksUs { "resource-list-lacks-us", S4u2Proxy, Unavailable, "the SPN's account lists who may delegate to it, and our account is not among them", "add us to that list: Set-ADComputer {owner} (or Set-ADUser) -PrincipalsAllowedToDelegateToAccount with all who are on it and {account}, or samba-tool delegation add-principal {owner} {account}; or use our own list: Set-ADUser {account} -Add @{'msDS-AllowedToDelegateTo'='{spn}'}" }
    DelegationAcrossRealms { "delegation-across-realms", S4u2Proxy, Unavailable, "the SPN's account is in another domain, which a delegation list does not reach", "name us on the SPN's account, in its own domain: Set-ADComputer {owner} (or Set-ADUser) -PrincipalsAllowedToDelegateToAccount {account}; or make a bridge's account in that domain" }
    DelegationRefused { "delegation-refused", S4u2Proxy, Refused, "the KDC refuses to delegate this user to this SPN, and nothing says why", "see the detail; Get-ADUser {user} -Properties AccountNotDelegated,MemberOf; Get-ADUser {account} -Properties TrustedToAuthForDelegation,'msDS-AllowedToDelegateTo' (it must have {spn})" }
    PolicyRefused { "policy-refused", S4u2Proxy, Refused, "the KDC's policy does not let this user have a ticket to this SPN", "see the detail; selective authentication of a trust ('Allowed to authenticate' on {owner}), or an authentication policy of {user} or {owner}" }
    SpnUnknown { "spn-unknown", S4u2Proxy, Unavailable, "the KDC knows no account with this SPN", "register it on the account that the back end runs as: setspn -S {spn} ACCOUNT; where two accounts have it (setspn -X), take it from one" }
    SpnDuplicate { "spn-duplicate", S4u2Proxy, Unavailable, "several accounts have this SPN, so the KDC issues no ticket to it", "take it from all but the one that the back end runs as: setspn -Q {spn}; setspn -D {spn} ACCOUNT" }
    SpnOwnerRevoked { "spn-owner-revoked", S4u2Proxy, Unavailable, "the SPN's account is disabled or expired", "Enable-ADAccount {owner}" }
    WeakEtypeRefused { "weak-etype-refused", S4u2Proxy, Unavailable, "the service ticket would use RC4 and the back end does not allow it", "set msDS-SupportedEncryptionTypes of the SPN's account to 24, or allow_rc4 = true on the back end" }
    // Identity
    SidMismatch { "sid-mismatch", Identity, Refused, "the KDC's PAC names another account than the certificate", "the UPN was reassigned or the certificate was forged: reissue it for the right account" }
    AccountKindRefused { "account-kind-refused", Identity, Refused, "the account is a domain controller, a trust, krbtgt, or a computer that no rule for computers mapped", "only user accounts are delegated, and computers by the rule dns-name" }
    PrivilegedRefused { "privileged-refused", Identity, Refused, "the account is privileged and privileged accounts are not delegated", "use an ordinary account on the device; kerberos.denied_groups is the list" }
    PacMissing { "pac-missing", Identity, Refused, "the evidence ticket carries no PAC", "the account must not have NO_AUTH_DATA_REQUIRED, the KDC must be a domain controller" }
    PacInvalid { "pac-invalid", Identity, Refused, "the evidence ticket's PAC is malformed or its checksum is wrong", "check the KDC; see the detail" }
    TicketUnusable { "ticket-unusable", Identity, Unavailable, "the KDC's ticket is not one we may use", "see the detail" }
    IdentityFallback { "identity-fallback", Identity, Refused, "the ticket names another client than the one asked for", "report this: the library authenticated as somebody else; nothing was sent" }
    // Token
    TokenFailed { "token-failed", Token, Unavailable, "the AP-REQ could not be made", "see the detail" }
    // Upstream
    UpstreamUnreachable { "upstream-unreachable", Upstream, Unavailable, "no connection to the back end", "check the back end's url, name resolution and firewall" }
    UpstreamTls { "upstream-tls", Upstream, Unavailable, "the TLS handshake with the back end failed", "check its certificate against the back end's trust_anchors; old servers need transport = \"http\"" }
    UpstreamClosed { "upstream-closed", Upstream, Unavailable, "the back end closed the connection before answering", "see the back end's log" }
    UpstreamTimeout { "upstream-timeout", Upstream, Unavailable, "the back end did not answer in time", "raise the back end's response_timeout, or see why it is slow" }
    UpstreamMalformed { "upstream-malformed", Upstream, Unavailable, "the back end's answer is not well-formed HTTP", "see the detail" }
    ReplayBufferFull { "replay-buffer-full", Upstream, Unavailable, "the body must be sent again but exceeds the replay buffer", "raise the back end's replay_buffer_bytes" }
    // Upstream authentication
    TokenRefused { "token-refused", UpstreamAuth, Unavailable, "the back end answered 401 to a fresh token, also after the ticket was reacquired", "check that the SPN's account is the one the web application runs as (kernel-mode authentication, alternate service account, duplicate SPN: setspn -X)" }
    TokenKeyWrong { "token-key-wrong", UpstreamAuth, Unavailable, "the back end cannot decrypt the ticket, also after it was reacquired: it has not the key of the SPN's account", "run it as the account that has the SPN ({owner}), or move the SPN: setspn -Q {spn}; kernel-mode authentication, an alternate service account, a password or keytab out of date" }
    BackEndClockSkew { "back-end-clock-skew", UpstreamAuth, Unavailable, "the back end's clock and ours differ too much for it to take the token", "synchronise both clocks with the domain: w32tm /resync on the back end" }
    NtlmOnly { "ntlm-only", UpstreamAuth, Unavailable, "the back end offers NTLM only", "enable Negotiate: adsutil.vbs set w3svc/NTAuthenticationProviders \"Negotiate,NTLM\", or <providers> in IIS 7" }
    MutualMissing { "mutual-missing", UpstreamAuth, Unavailable, "the back end did not prove itself: no AP-REP in a successful answer", "mutual = \"tolerate-absence\" if that server never sends one" }
    MutualFailed { "mutual-failed", UpstreamAuth, Unavailable, "the back end's AP-REP is wrong", "something between us and the back end answered in its place, or the answer belongs to another request" }
    NegotiationInvalid { "negotiation-invalid", UpstreamAuth, Unavailable, "the back end's Negotiate answer is malformed", "see the detail" }
    IsolationUnproved { "isolation-unproved", UpstreamAuth, Unavailable, "the back end's self-test has not shown yet that it keeps users apart", "see the log for what the self-test waits for: the KDC, the back end, or a good answer to its self_test.path" }
    IsolationFailed { "isolation-failed", UpstreamAuth, Unavailable, "the back end's self-test showed that it does not keep users apart", "take away what shares connections or keeps answers between the bridge and the back end, and see that self_test.path names the user; then send SIGHUP: nothing else opens it again" }
    // Client
    ClientGone { "client-gone", Client, Closed, "the device closed the connection", "none: devices do that whenever their network changes" }
    ShuttingDown { "shutting-down", Client, Unavailable, "the bridge is stopping", "none: the device will retry" }
}

/// What stands in the table's remedies for a name that only the failure knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// `{account}`: our own account
    Account,
    /// `{spn}`: the back end's service principal name
    Spn,
    /// `{user}`: the user's account
    User,
    /// `{owner}`: the account that has the SPN
    Owner,
}

impl Name {
    const fn placeholder(self) -> &'static str {
        match self {
            Self::Account => "{account}",
            Self::Spn => "{spn}",
            Self::User => "{user}",
            Self::Owner => "{owner}",
        }
    }
}

/// The names that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<Name, Box<str>>);

impl Names {
    /// One more. A remedy is made to be copied into a shell, and some names were chosen by peers: one with letters that a shell could
    /// take for more than a name is left out.
    #[must_use]
    pub fn with(mut self, what: Name, name: &str) -> Self {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '/' | ':');
        // An option is no name either; a computer's ends with its only dollar sign.
        let account = name.strip_suffix('$').unwrap_or(name);
        if !account.is_empty() && !account.starts_with('-') && account.chars().all(plain) {
            self.0.insert(what, name.into());
        }
        self
    }

    /// A remedy with them filled in.
    pub fn fill(&self, remedy: &str) -> String {
        self.0.iter().fold(remedy.to_owned(), |text, (what, name)| text.replace(what.placeholder(), name))
    }
}

/// One failure: its line of the table and what was seen. `detail` is for administrators (log, audit, doctor), never for devices,
/// and never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Line of the table.
    pub cause: Cause,
    /// What was seen: names, codes, limits.
    pub detail: String,
    /// When it makes sense to come again, where that is known; it goes into `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Few failures have any.
    names: Option<Box<Names>>,
}

impl Failure {
    /// A failure with what was seen.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), retry_after: None, names: None }
    }

    /// The same, with the time after which it makes sense to come again.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The same with a name for the remedy.
    #[must_use]
    pub fn naming(mut self, what: Name, name: &str) -> Self {
        let names = self.names.take().map_or_else(Names::default, |names| *names);
        self.names = Some(Box::new(names.with(what, name)));
        self
    }

    /// The same with more that was seen.
    #[must_use]
    pub fn also(mut self, seen: &str) -> Self {
        if !self.detail.is_empty() {
            self.detail.push_str("; ");
        }
        self.detail.push_str(seen);
        self
    }

    /// The same, about somebody: what was seen begins with the name.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.detail = format!("{subject}: {}", self.detail);
        self
    }

    /// The same failure by another line of the table.
    #[must_use]
    pub fn because(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    /// What to do about it: the table's remedy with the names filled in that are known.
    pub fn remedy(&self) -> String {
        let remedy = self.cause.remedy();
        self.names.as_ref().map_or_else(|| remedy.to_owned(), |names| names.fill(remedy))
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self::new(cause, "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause.stage().name(), self.cause.summary())?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_is_unique_and_every_cause_has_a_remedy() {
        let codes: HashSet<_> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        assert_eq!(codes.len(), Cause::ALL.len());
        for cause in Cause::ALL {
            assert!(!cause.summary().is_empty() && !cause.remedy().is_empty(), "{cause:?}");
        }
    }

    #[test]
    fn a_remedy_names_our_account_the_spn_and_the_user() {
        let refused = Failure::new(Cause::SpnNotListed, "").naming(Name::Account, "svc-bridge").naming(Name::Spn, "HTTP/mbx1");
        assert!(refused.remedy().starts_with("Set-ADUser svc-bridge -Add @{'msDS-AllowedToDelegateTo'='HTTP/mbx1'}"));
        assert_eq!(
            Failure::from(Cause::UserLocked).naming(Name::User, "pc1$").remedy().split(',').next(),
            Some("Unlock-ADAccount pc1$")
        );
        assert!(Failure::from(Cause::UserLocked).remedy().contains("{user}"), "what is not known stays open");
    }

    /// Whoever chooses a name must not write a command that an administrator copies.
    #[test]
    fn a_name_that_a_shell_could_take_for_more_is_not_filled_in() {
        for name in ["a; rm -rf ~", "$(id)", "a`b`", "a'b", "a b", "-Force", "", "a$b", "a$$", "a|b", "a\nb", "{owner}"] {
            let failure = Failure::from(Cause::UserLocked).naming(Name::User, name);
            assert_eq!(failure.remedy(), Cause::UserLocked.remedy(), "{name:?}");
        }
    }

    #[test]
    fn every_placeholder_of_a_remedy_is_one_that_can_be_filled() {
        for cause in Cause::ALL {
            let names = [Name::Account, Name::Spn, Name::User, Name::Owner];
            let left = names.iter().fold(cause.remedy().to_owned(), |text, name| text.replace(name.placeholder(), ""));
            assert!(
                !left.contains("{a") && !left.contains("{s") && !left.contains("{u") && !left.contains("{o"),
                "{cause:?}: {left}"
            );
        }
    }

    #[test]
    fn a_failure_reads_as_stage_cause_and_detail() {
        let failure = Failure::new(Cause::UserUnknown, "alice@CORP.EXAMPLE");
        assert_eq!(failure.to_string(), "s4u2self: the KDC knows no such user (alice@CORP.EXAMPLE)");
    }
}
