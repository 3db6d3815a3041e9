//! THE unsafe file: what `libgssapi` lacks for delegation (credential stores, the raw handle that exporting needs, allowable
//! encryption types) and the process environment libkrb5 reads. Nothing else in the crate may be unsafe.
//!
//! MIT krb5 1.20 is what this was written against; every handle made here has exactly one owner that releases it.

#![expect(unsafe_code, reason = "three GSS calls without a safe wrapper, and the environment of a C library")]

use std::ffi::{CStr, c_void};
use std::path::Path;
use std::ptr;

use libgssapi::credential::Cred;
use libgssapi::error::{Error, MajorFlags};
use libgssapi_sys as sys;
use zeroize::{Zeroize, Zeroizing};

unsafe extern "C" {
    // gssapi/gssapi_krb5.h; exported by libgssapi_krb5.so.2, which libgssapi-sys links.
    fn gss_krb5_set_allowable_enctypes(
        minor: *mut sys::OM_uint32,
        cred: sys::gss_cred_id_t,
        count: sys::OM_uint32,
        enctypes: *mut i32,
    ) -> sys::OM_uint32;
}

/// Object identifiers as the library wants them.
pub(super) mod oid {
    /// Kerberos 5 mechanism, 1.2.840.113554.1.2.2
    pub(in crate::kerberos::acquire::gss) const KRB5: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
    /// SPNEGO mechanism, 1.3.6.1.5.5.2
    pub(in crate::kerberos::acquire::gss) const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";
    /// GSS_KRB5_NT_PRINCIPAL_NAME, 1.2.840.113554.1.2.2.1
    pub(in crate::kerberos::acquire::gss) const PRINCIPAL_NAME: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";
    /// GSS_KRB5_NT_ENTERPRISE_NAME, 1.2.840.113554.1.2.2.6
    pub(in crate::kerberos::acquire::gss) const ENTERPRISE_NAME: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x06";
}

/// What a credential is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Usage {
    /// to initiate contexts
    Initiate,
    /// to accept them
    Accept,
}

/// A credential that can also be exported: the handle, kept alive by its owner. Stays on the thread that made it.
pub(super) struct Credential {
    handle: sys::gss_cred_id_t,
    owner: Cred,
}

impl Credential {
    /// A safe handle on the same credential.
    pub(super) fn cred(&self) -> Cred {
        self.owner.clone()
    }

    /// Takes ownership of a handle the library just returned.
    fn adopt(handle: sys::gss_cred_id_t) -> Self {
        // SAFETY: `handle` came from a successful acquire call in this file and is given to no other owner.
        let owner = unsafe { Cred::from_c(handle) };
        Self { handle, owner }
    }
}

/// Points libkrb5 at the private krb5.conf and takes every default credential out of its reach. Refuses when another thread
/// exists: the environment is not synchronised, so this is done first thing in the process.
pub fn set_environment(krb5_config: &Path) -> Result<(), std::io::Error> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(std::io::Error::other("the environment can only be set while the process has one thread"));
    }
    // SAFETY: this is the only thread, as counted above, and it starts none here.
    unsafe { std::env::set_var("KRB5_CONFIG", krb5_config) };
    for name in ["KRB5CCNAME", "KRB5_KTNAME", "KRB5_CLIENT_KTNAME", "KRB5_TRACE", "KRB5RCACHETYPE", "GSS_MECH_CONFIG"] {
        // SAFETY: as above.
        unsafe { std::env::remove_var(name) };
    }
    Ok(())
}

/// `gss_acquire_cred_from`, from an explicit credential store; to initiate for the Kerberos mechanism alone.
pub(super) fn acquire_from(name: Option<&[u8]>, usage: Usage, store: &[(&CStr, &CStr)]) -> Result<Credential, Error> {
    let name = name.map(|name| RawName::import(name, oid::PRINCIPAL_NAME)).transpose()?;
    let mut elements: Vec<_> =
        store.iter().map(|(key, value)| sys::gss_key_value_element_desc { key: key.as_ptr(), value: value.as_ptr() }).collect();
    let set = sys::gss_key_value_set_desc { count: count(elements.len()), elements: elements.as_mut_ptr() };
    // An initiator has one mechanism, the one its context uses; an acceptor answers to either framing.
    let (usage, accepted) = match usage {
        Usage::Initiate => (sys::GSS_C_INITIATE, 1),
        Usage::Accept => (sys::GSS_C_ACCEPT, 2),
    };
    let mut known = [oid_desc(oid::KRB5), oid_desc(oid::SPNEGO)];
    let mut mechanisms = sys::gss_OID_set_desc_struct { count: accepted, elements: known.as_mut_ptr() };
    let mut handle: sys::gss_cred_id_t = ptr::null_mut();
    let mut minor = 0;
    // SAFETY: every pointer is to a live local (or null where the call allows it); strings are NUL-terminated CStrs that outlive
    // the call; the library writes only `minor` and `handle`.
    let major = unsafe {
        sys::gss_acquire_cred_from(
            &raw mut minor,
            name.as_ref().map_or(ptr::null_mut(), |name| name.0),
            sys::_GSS_C_INDEFINITE,
            &raw mut mechanisms,
            usage.cast_signed(),
            &raw const set,
            &raw mut handle,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    complete(major, minor)?;
    Ok(Credential::adopt(handle))
}

/// `gss_acquire_cred_impersonate_name` (S4U2Self) for the Kerberos mechanism alone: with a second mechanism, or another one in the
/// context later, the library would fall back to a default credential.
pub(super) fn impersonate(impersonator: &Credential, user: &[u8], name_type: &'static [u8]) -> Result<Credential, Error> {
    let name = RawName::import(user, name_type)?;
    let mut mechanism = oid_desc(oid::KRB5);
    let mut mechanisms = sys::gss_OID_set_desc_struct { count: 1, elements: &raw mut mechanism };
    let mut handle: sys::gss_cred_id_t = ptr::null_mut();
    let mut minor = 0;
    // SAFETY: `impersonator.handle` is alive, its owner is borrowed; the other pointers are to live locals or null where allowed;
    // the library writes only `minor` and `handle`.
    let major = unsafe {
        sys::gss_acquire_cred_impersonate_name(
            &raw mut minor,
            impersonator.handle,
            name.0,
            sys::_GSS_C_INDEFINITE,
            &raw mut mechanisms,
            sys::GSS_C_INITIATE.cast_signed(),
            &raw mut handle,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    complete(major, minor)?;
    Ok(Credential::adopt(handle))
}

/// `gss_krb5_set_allowable_enctypes`: which encryption types this credential's TGS requests offer.
pub(super) fn set_allowable_enctypes(credential: &Credential, enctypes: &[i32]) -> Result<(), Error> {
    let mut enctypes = enctypes.to_vec();
    let mut minor = 0;
    // SAFETY: the handle is alive, its owner is borrowed; the array is alive and `count` long; the library copies it.
    let major = unsafe {
        gss_krb5_set_allowable_enctypes(&raw mut minor, credential.handle, count(enctypes.len()), enctypes.as_mut_ptr())
    };
    complete(major, minor)
}

/// `gss_export_cred`: every ticket and key in the credential's cache, for [`crate::kerberos::proof::exported_credential`].
/// The library's own copy is wiped before it is released.
pub(super) fn export(credential: &Credential) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut minor = 0;
    let mut buffer = sys::gss_buffer_desc { length: 0, value: ptr::null_mut() };
    // SAFETY: the handle is alive, its owner is borrowed; the library writes only `minor` and `buffer`.
    let major = unsafe { sys::gss_export_cred(&raw mut minor, credential.handle, &raw mut buffer) };
    complete(major, minor)?;
    if buffer.value.is_null() {
        return Ok(Zeroizing::default());
    }
    // SAFETY: after success `buffer` describes `length` initialised bytes that belong to us until they are released below.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.value.cast::<u8>(), buffer.length) };
    let copy = Zeroizing::new(bytes.to_vec());
    bytes.zeroize();
    // SAFETY: `buffer` was filled by the library and is released exactly once; `bytes` is not used after this.
    let _ = unsafe { sys::gss_release_buffer(&raw mut minor, &raw mut buffer) };
    Ok(copy)
}

/// An imported name, released on drop.
struct RawName(sys::gss_name_t);

impl RawName {
    fn import(text: &[u8], name_type: &'static [u8]) -> Result<Self, Error> {
        let mut buffer = sys::gss_buffer_desc { length: text.len(), value: text.as_ptr().cast::<c_void>().cast_mut() };
        let mut kind = oid_desc(name_type);
        let mut name: sys::gss_name_t = ptr::null_mut();
        let mut minor = 0;
        // SAFETY: the library reads `length` bytes of `text` and the OID, both alive, and writes only `minor` and `name`.
        let major = unsafe { sys::gss_import_name(&raw mut minor, &raw mut buffer, &raw mut kind, &raw mut name) };
        complete(major, minor)?;
        Ok(Self(name))
    }
}

impl Drop for RawName {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the name was imported by `RawName::import` and is released exactly once.
        let _ = unsafe { sys::gss_release_name(&raw mut minor, &raw mut self.0) };
    }
}

fn oid_desc(bytes: &'static [u8]) -> sys::gss_OID_desc_struct {
    sys::gss_OID_desc_struct { length: count(bytes.len()), elements: bytes.as_ptr().cast::<c_void>().cast_mut() }
}

/// Lengths here are of small local arrays.
fn count(length: usize) -> sys::OM_uint32 {
    sys::OM_uint32::try_from(length).unwrap_or(sys::OM_uint32::MAX)
}

fn complete(major: sys::OM_uint32, minor: sys::OM_uint32) -> Result<(), Error> {
    if major == sys::GSS_S_COMPLETE { Ok(()) } else { Err(Error { major: MajorFlags::from_bits_retain(major), minor }) }
}
