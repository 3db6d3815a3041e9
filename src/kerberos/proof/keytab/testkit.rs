//! Writes keytabs for tests.

/// One record's contents.
#[derive(Clone, Debug)]
pub(in crate::kerberos) struct Record {
    pub(in crate::kerberos) realm: String,
    pub(in crate::kerberos) components: Vec<String>,
    pub(in crate::kerberos) kvno: u32,
    /// As old writers do: without the second, longer version number.
    pub(in crate::kerberos) short: bool,
    pub(in crate::kerberos) etype: u16,
    pub(in crate::kerberos) key: Vec<u8>,
}

impl Record {
    /// A record of `name@REALM` or `service/host@REALM`.
    pub(in crate::kerberos) fn new(principal: &str, kvno: u32, etype: u16, key: &[u8]) -> Self {
        let (name, realm) = principal.rsplit_once('@').unwrap();
        let components = name.split('/').map(Into::into).collect();
        Self { realm: realm.into(), components, kvno, short: false, etype, key: key.to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = u16::try_from(self.components.len()).unwrap().to_be_bytes().to_vec();
        let counted = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend_from_slice(bytes);
        };
        counted(&mut out, self.realm.as_bytes());
        for component in &self.components {
            counted(&mut out, component.as_bytes());
        }
        out.extend_from_slice(&[0, 0, 0, 1]); // NT-PRINCIPAL
        out.extend_from_slice(&1_795_389_486_u32.to_be_bytes());
        out.push(self.kvno.to_be_bytes()[3]);
        out.extend_from_slice(&self.etype.to_be_bytes());
        counted(&mut out, &self.key);
        if !self.short {
            out.extend_from_slice(&self.kvno.to_be_bytes());
        }
        out
    }
}

/// A keytab with these records.
pub(in crate::kerberos) fn keytab(records: &[Record]) -> Vec<u8> {
    let mut out = vec![5, 2];
    for record in records {
        let bytes = record.bytes();
        out.extend_from_slice(&i32::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&bytes);
    }
    out
}

/// A hole of this many bytes.
pub(in crate::kerberos) fn hole(length: i32) -> Vec<u8> {
    [&(-length).to_be_bytes()[..], &vec![0; usize::try_from(length).unwrap()]].concat()
}
