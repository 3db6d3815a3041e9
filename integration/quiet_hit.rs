//! A cache hit makes no system call to krb5.conf, DNS or a KDC.

use std::process::Command;

use http::Method;

use crate::support::bridge::{Bridge, Settings};
use crate::support::device::{Device, PATH};
use crate::support::{Lab, eventually, read};

#[tokio::test]
async fn a_cache_hit_opens_no_file_and_talks_to_no_kdc_and_no_dns() {
    let lab = Lab::get();
    let trace = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let bridge = Bridge::start_with(&Settings::new(&lab), |command| {
        let mut traced = Command::new("strace");
        traced.args(["--follow-forks", "--trace=open,openat,stat,newfstatat,statx,access,connect,sendto,sendmsg", "--output"]);
        traced.arg(&trace).arg(command.get_program()).args(command.get_args());
        traced
    });
    let mut device = Device::connect(&lab, bridge.address, "alice").await;
    assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);

    let calls = || read(&trace).lines().map(str::to_owned).collect::<Vec<_>>();
    let cold = calls();
    assert!(cold.iter().any(|call| call.contains("/run/krb5")), "the first request reads krb5.conf, or this test sees nothing");
    assert!(cold.iter().any(|call| call.contains("htons(88)")), "the first request asks the KDC, or this test sees nothing");

    for _ in 0..20 {
        assert_eq!(device.request(Method::OPTIONS, PATH, "").await.status, 200);
    }
    eventually("twenty-one audit events", || (bridge.audit().len() == 21).then_some(()));
    let warm: Vec<_> = calls().split_off(cold.len());
    for call in &warm {
        assert!(!call.contains("krb5") && !call.contains("htons(88)") && !call.contains("htons(53)"), "{call}");
        assert!(!call.contains("open") && !call.contains("resolv.conf"), "a cache hit opened a file: {call}");
        assert!(!call.contains("connect("), "a cache hit connected somewhere: {call}");
    }
}
