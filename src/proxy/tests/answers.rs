use super::*;

/// Serves this text, with the proof after the status line, once on every connection.
async fn verbatim(status_line: &'static str, rest: &'static str) -> SocketAddr {
    raw_backend(move |mut stream, _| async move {
        let Some(head) = raw_head(&mut stream).await else { return };
        let _ = stream.write_all(format!("{status_line}\r\n{}{rest}", raw_proof(&head)).as_bytes()).await;
        // Until the bridge closes.
        let _ = raw_head(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn statuses_and_reason_phrases_that_devices_act_on_come_through_unchanged() {
    for line in [
        "HTTP/1.1 449 Retry after sending a PROVISION command",
        "HTTP/1.1 451 Redirected",
        "HTTP/1.1 456 Blocked",
        "HTTP/1.1 457 Expired",
        "HTTP/1.1 403 No EAS for you",
        "HTTP/1.1 500 Internal",
        "HTTP/1.1 503 Busy",
        "HTTP/1.1 507 Insufficient Space",
        "HTTP/1.1 200 Fine",
    ] {
        let bridge = Bridge::to(verbatim(line, "Content-Length: 2\r\n\r\nok").await);
        let answer = bridge.device("alice").await.get("/eas").await;
        assert_eq!((answer.line.as_str(), answer.text()), (line, "ok"));
    }
}

#[tokio::test]
async fn the_devices_answer_keeps_every_header_but_those_of_our_authentication_and_of_one_hop() {
    let rest = "MS-Server-ActiveSync: 14.0\r\nX-MS-RP: 2.5\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Gone: 1\r\nConnection: X-Gone\r\nKeep-Alive: timeout=5\r\n\
        WWW-Authenticate: NTLM\r\nAuthentication-Info: x\r\nProxy-Authenticate: Basic\r\nPersistent-Auth: true\r\nX-Kcd-Correlation-Id: forged\r\nContent-Length: 0\r\n\r\n";
    let bridge = Bridge::to(verbatim("HTTP/1.1 200 OK", rest).await);
    let answer = bridge.device("alice").await.get("/eas").await;
    let mut names: Vec<_> =
        answer.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).filter(|name| name != "date").collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "ms-server-activesync", "set-cookie", "set-cookie", "x-kcd-correlation-id", "x-ms-rp"]);
    assert_ne!(answer.header("x-kcd-correlation-id"), Some("forged"));
}

#[tokio::test]
async fn the_correlation_id_of_header_and_event_is_the_same() {
    let bridge = Bridge::to(backend(echo_user).await);
    let mut device = bridge.device("alice").await;
    let ids = [device.get("/eas").await, device.get("/eas/../x").await]
        .map(|answer| answer.header("x-kcd-correlation-id").unwrap().to_owned());
    let events = bridge.finish().await;
    assert_eq!([&events[0]["correlation_id"], &events[1]["correlation_id"]], [&ids[0], &ids[1]]);
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn an_empty_200_stays_empty_with_content_length_0() {
    let bridge = Bridge::to(verbatim("HTTP/1.1 200 OK", "Content-Length: 0\r\n\r\n").await);
    let mut device = bridge.device("alice").await;
    device.send("POST /eas HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    let answer = device.head().await;
    assert_eq!(
        (answer.header("content-length"), answer.header("transfer-encoding"), answer.header("content-type")),
        (Some("0"), None, None)
    );
    let event = &bridge.finish().await[0];
    assert_eq!((&event["outcome"], &event["bytes_down"]), (&"served".into(), &0.into()));
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_are_served() {
    let bridge = Bridge::to(verbatim("HTTP/1.1 200 OK", "Content-Length: 42\r\n\r\n").await);
    let mut device = bridge.device("alice").await;
    device.send("HEAD /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(device.head().await.header("content-length"), Some("42"));
    assert_eq!(bridge.finish().await[0]["outcome"], "served");
    for line in ["HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified"] {
        let bridge = Bridge::to(verbatim(line, "\r\n").await);
        assert_eq!(bridge.device("alice").await.get("/eas").await.line, line);
        assert_eq!(bridge.finish().await[0]["outcome"], "served");
    }
}

#[tokio::test]
async fn interim_responses_are_skipped_and_a_switch_of_protocols_is_refused() {
    let bridge = Bridge::to(
        raw_backend(|mut stream, _| async move {
            let Some(head) = raw_head(&mut stream).await else { return };
            let interim = "HTTP/1.1 100 Continue\r\nWWW-Authenticate: NTLM\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
            let _ = stream
                .write_all(format!("{interim}HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", raw_proof(&head)).as_bytes())
                .await;
            let _ = raw_head(&mut stream).await;
        })
        .await,
    );
    assert_eq!(bridge.device("alice").await.get("/eas").await.text(), "ok");
    for line in ["HTTP/1.1 101 Switching Protocols", "HTTP/1.1 407 Proxy Authentication Required", "HTTP/1.1 600 Odd"] {
        let bridge = Bridge::to(verbatim(line, "Upgrade: x\r\nContent-Length: 0\r\n\r\n").await);
        let upgrade = "GET /eas HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(bridge.device("alice").await.ask(upgrade).await.status, 503, "{line}");
        assert_eq!(bridge.finish().await[0]["reason"], "upstream-malformed");
    }
}

/// Notes the head of every request as it came over the wire.
async fn wiretap() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let notes = Arc::clone(&heads);
    let address = raw_backend(move |mut stream, _| {
        let notes = Arc::clone(&notes);
        async move {
            while let Some(head) = raw_head(&mut stream).await {
                let length = header_of(&head, "content-length").map_or(0, |value| value.parse().unwrap());
                let _ = stream.read_exact(&mut vec![0; length]).await;
                let answer = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", raw_proof(&head));
                notes.lock().unwrap().push(head);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    (address, heads)
}

#[tokio::test]
async fn the_back_end_sees_its_own_host_one_authorization_and_nothing_the_client_may_not_say() {
    let (address, heads) = wiretap().await;
    let bridge = Bridge::to(address);
    let request = "POST /eas HTTP/1.1\r\nHost: mail.example\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\nauthorization: Negotiate Zm9yZ2Vk\r\n\
        Proxy-Authorization: Basic eA==\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=x\r\nVia: 1.1 x\r\nX-Real-IP: x\r\nX-Remote-User: bob\r\nX_Remote_User: bob\r\n\
        X-Client-Cert: x\r\nX-ARR-ClientCert: x\r\nmsExchProxyUri: x\r\nX-MS-Proxy: x\r\nTE: trailers\r\nTrailer: X\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
        Connection: X-Named, keep-alive\r\nX-Named: gone\r\nExpect: 100-continue\r\nX-MS-PolicyKey: 42\r\nX-Kcd-Correlation-Id: mine\r\nUser-Agent: Phone/1 (ä)\r\nCookie: a=b\r\nContent-Length: 4\r\n\r\nmail";
    let mut device = bridge.device("alice").await;
    device.send(request).await;
    assert_eq!(device.head().await.status, 100, "the expectation is met here");
    assert_eq!(device.answer().await.status, 200);
    let heads = heads.lock().unwrap().clone();
    let mut lines: Vec<_> = heads[0].trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /eas HTTP/1.1");
    lines.sort_unstable();
    let names: Vec<_> = lines.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["authorization", "content-length", "cookie", "host", "user-agent", "x-ms-policykey"]);
    assert_eq!(lines[3], "host: mbx.corp.example");
    assert!(token_of(header_of(&heads[0], "authorization").unwrap()).starts_with("alice|"));
}

#[tokio::test]
async fn path_and_query_are_forwarded_byte_for_byte() {
    let (address, heads) = wiretap().await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    for target in [
        "/eas?jAAJBAp2MTQwRGV2aWNlAApTbWFydFBob25l",
        "/eas?jREHBBB5as2MmCK7PBjTcygvbVXsBAAAAAA=",
        "/eas?a+b/c=&%zz&User=CORP\\alice&../..",
        "/EAS/default.eas?Cmd=Ping&DeviceId=x",
        "/eas/a%20b%7e?x%2fy",
        "/eas?",
    ] {
        assert_eq!(device.get(target).await.status, 200, "{target}");
        let expected = format!("GET {target} HTTP/1.1");
        assert_eq!(heads.lock().unwrap().pop().unwrap().split("\r\n").next(), Some(expected.as_str()));
    }
    let absolute = "GET http://mail.example/eas?x=1 HTTP/1.1\r\nHost: mail.example\r\n\r\n";
    assert_eq!(device.ask(absolute).await.status, 200);
    assert!(heads.lock().unwrap()[0].starts_with("GET /eas?x=1 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_post_without_a_body_says_so_and_a_get_does_not() {
    let (address, heads) = wiretap().await;
    let bridge = Bridge::to(address);
    let mut device = bridge.device("alice").await;
    device.ask("POST /eas HTTP/1.1\r\nHost: a\r\n\r\n").await;
    device.get("/eas").await;
    let heads = heads.lock().unwrap();
    assert_eq!((header_of(&heads[0], "content-length"), header_of(&heads[1], "content-length")), (Some("0"), None));
}

#[tokio::test]
async fn the_event_of_a_served_request_says_who_what_and_how() {
    let bridge = Bridge::to(backend(echo_user).await);
    let request = "POST /eas?Cmd=Ping&User=x&DeviceId=d1&DeviceType=iPad HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    bridge.device("alice").await.ask(request).await;
    let event = &bridge.finish().await[0];
    for (name, value) in [
        ("event", "request"),
        ("outcome", "served"),
        ("mapper", "static"),
        ("strength", "strong"),
        ("principal", "alice"),
        ("spn", "HTTP/mbx.corp.example"),
        ("backend", "mbx"),
        ("method", "POST"),
        ("path", "/eas"),
        ("eas_command", "Ping"),
        ("eas_device_id", "d1"),
        ("eas_device_type", "iPad"),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    for (name, value) in [("status", 200), ("backend_status", 200), ("attempts", 1), ("bytes_up", 4), ("bytes_down", 5)] {
        assert_eq!(event[name], value, "{name}");
    }
    assert_eq!(event["ticket"]["client"], "alice@CORP");
    assert_eq!(event["ticket"]["etype"], "aes256-cts-hmac-sha1-96");
    assert_eq!(event["certificate"]["issuer"], "CN=Device CA");
    assert!(event.get("reason").is_none() && event.get("detail").is_none());
    assert!(!event.to_string().contains("Negotiate"));
}
