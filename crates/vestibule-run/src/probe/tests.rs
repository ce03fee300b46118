use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpListener;

fn probed(kind: ProbeKind) -> Probe {
    Probe {
        kind,
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        failure_threshold: 3,
    }
}

fn at(address: SocketAddr) -> Place {
    Place { address, port: Some(8080) }
}

fn http_probe() -> Probe {
    let headers = vec![("X-Probe".to_owned(), "yes".to_owned()), ("Bad".to_owned(), "a\r\nb: c".to_owned())];
    probed(ProbeKind::Http { port: 8080, path: "/ready?x=1".into(), headers })
}

#[test]
fn the_time_an_instance_may_take() {
    assert_eq!(budget(&Probe::default_tcp(8080)), MAX_STARTUP);
    assert_eq!(budget(&http_probe()), Duration::from_secs(30));
    let probe = Probe { initial_delay: Duration::from_secs(200), ..http_probe() };
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
    let default = Probe::default_tcp(8080);
    let container = Container::new("app", "i");
    assert_eq!(title(Purpose::Startup, &default, Some(8080)), "Default STARTUP TCP probe");
    assert_eq!(title(Purpose::Startup, &default, Some(8081)), "STARTUP TCP probe");
    assert_eq!(title(Purpose::Liveness, &default, Some(8080)), "LIVENESS TCP probe");
    assert_eq!(subject(&container, &default), "for container \"app\" on port 8080");
    assert_eq!(title(Purpose::Startup, &http_probe(), Some(8080)), "STARTUP HTTP probe");
    assert_eq!(subject(&container, &http_probe()), "for container \"app\" on port 8080 path \"/ready?x=1\"");
    assert_eq!((times(&default), times(&http_probe())), ("1 time".to_owned(), "3 times".to_owned()));
}

#[test]
fn only_the_port_for_requests_is_translated() {
    let place = Place { address: "127.0.0.1:9".parse().unwrap(), port: Some(8080) };
    assert_eq!(place.at(8080).port(), 9);
    assert_eq!(place.at(9090).port(), 9090);
    let sidecar = Place { address: "127.0.0.1:0".parse().unwrap(), port: None };
    assert_eq!(sidecar.at(8080).port(), 8080);
}

/// A server that answers with the next status each time; the last one for ever.
async fn answering(statuses: &'static [u16]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut at = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
            let answer = format!("HTTP/1.1 {} X\r\n\r\n", statuses[at.min(statuses.len() - 1)]);
            let _ = stream.write_all(answer.as_bytes()).await;
            at += 1;
        }
    });
    address
}

fn quick() -> Probe {
    Probe {
        period: Duration::from_millis(1),
        ..probed(ProbeKind::Http { port: 8080, path: "/".into(), headers: vec![] })
    }
}

#[tokio::test]
async fn only_failures_in_a_row_count() {
    let address = answering(&[500, 500, 200, 500, 500, 404]).await;
    until_failed(&quick(), at(address)).await;
    // The seventh look.
    assert!(!passes_at_first(&quick(), at(address)).await);
}

#[tokio::test]
async fn what_failed_may_pass_again() {
    let address = answering(&[500, 500, 500, 500, 204]).await;
    assert!(!passes_at_first(&quick(), at(address)).await);
    until_passed(&quick(), at(address)).await;
    assert!(passes_at_first(&quick(), at(address)).await);
}

#[tokio::test]
async fn finds_a_listener_soon_after_it_appears() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let waiting = tokio::spawn(async move { until_ready(&Probe::default_tcp(8080), at(address)).await });
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
    until_ready(&Probe::default_tcp(8080), at(address)).await.unwrap_err();
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
    until_ready(&http_probe(), at(address)).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}
