use super::*;
use crate::testing;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpListener;

fn probed(kind: ProbeKind) -> Revision {
    let startup_probe = Probe {
        kind,
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        failure_threshold: 3,
    };
    Revision { startup_probe, ..testing::revision("r") }
}

fn http_probe() -> Revision {
    let headers = vec![("X-Probe".to_owned(), "yes".to_owned()), ("Bad".to_owned(), "a\r\nb: c".to_owned())];
    probed(ProbeKind::Http { port: 8080, path: "/ready?x=1".into(), headers })
}

#[test]
fn the_time_an_instance_may_take() {
    assert_eq!(budget(&Probe::default_tcp(8080)), MAX_STARTUP);
    assert_eq!(budget(&http_probe().startup_probe), Duration::from_secs(30));
    let probe = Probe { initial_delay: Duration::from_secs(200), ..http_probe().startup_probe };
    assert_eq!(budget(&probe), Duration::from_secs(230));
    let probe = Probe { failure_threshold: u32::MAX, ..probe };
    assert_eq!(budget(&probe), MAX_STARTUP);
}

#[test]
fn reads_the_status() {
    assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
    assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
    for bad in [&b""[..], b"HTTP/2 200\r\n", b"HTTP/1.1 2\r\n", b"HTTP/1.1\r\n", b"\xff\xff 200", b"hello"] {
        assert_eq!(status(bad), None, "{bad:?}");
    }
}

#[test]
fn names_in_the_log() {
    let default = testing::revision("r");
    assert_eq!(title(&default), "Default STARTUP TCP probe");
    assert_eq!(subject(&default), "for container \"app\" on port 8080");
    assert_eq!(title(&http_probe()), "STARTUP HTTP probe");
    assert_eq!(subject(&http_probe()), "for container \"app\" on port 8080 path \"/ready?x=1\"");
}

#[tokio::test]
async fn finds_a_listener_soon_after_it_appears() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let waiting = tokio::spawn(async move { until_ready(&testing::revision("r"), address).await });
    sleep(Duration::from_millis(30)).await;
    assert!(!waiting.is_finished());
    let _listener = TcpListener::bind(address).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn gives_up_when_the_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let start = Instant::now();
    until_ready(&testing::revision("r"), address).await.unwrap_err();
    let took = start.elapsed();
    assert!(took <= MAX_STARTUP && took > MAX_STARTUP - Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn http_wants_success() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            let text = String::from_utf8(request).unwrap();
            assert!(text.starts_with("GET /ready?x=1 HTTP/1.1\r\n"), "{text}");
            assert!(text.contains("\r\nX-Probe: yes\r\n") && !text.contains("b: c"), "{text}");
            let answer = if count.fetch_add(1, Ordering::SeqCst) < 3 { "503 No" } else { "302 Found" };
            let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await;
        }
    });
    until_ready(&http_probe(), address).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}
