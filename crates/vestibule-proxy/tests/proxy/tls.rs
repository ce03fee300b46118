//! Encryption towards clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use vestibule_proxy::tls::{Certificate, Tls};

use crate::backend::{Backend, ok};
use crate::wire::Wire;
use crate::world::{PORT, Site, World, endpoints};

type Secure = Wire<StreamOwned<ClientConnection, TcpStream>>;

/// A certificate for these names, and its PEM.
fn certificate(names: &[&str]) -> (Certificate, String) {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let pem = made.cert.pem();
    (Certificate::from_pem(&pem, &made.signing_key.serialize_pem(), names).unwrap(), pem)
}

/// A proxy with these certificates, and what clients trust.
fn serve(backend: &Backend, names: &[&[&str]]) -> (World, RootCertStore) {
    let (certificates, pems): (Vec<_>, Vec<_>) = names.iter().map(|names| certificate(names)).unzip();
    let mut roots = RootCertStore::empty();
    for pem in pems {
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let world = World::hasty(Duration::from_millis(300));
    let tls = Some(Arc::new(Tls::new(certificates).unwrap()));
    world.serve(Site { tls, ..Site::of(endpoints(&[backend.address])) });
    (world, roots)
}

fn config(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

fn connect(world: &World, config: ClientConfig, name: &str) -> std::io::Result<Secure> {
    let stream = TcpStream::connect(world.address(PORT))?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut plain = Wire::new(stream).stream;
    connection.complete_io(&mut plain)?;
    Ok(Wire { stream: StreamOwned::new(connection, plain), read: Vec::new() })
}

#[test]
fn requests_come_decrypted_and_say_so() {
    let backend = Backend::http(|request| ok(&request.text()));
    let (world, roots) = serve(&backend, &[&["app.example"]]);
    let mut config = config(roots);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut client = connect(&world, config, "app.example").unwrap();
    assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let body = "x".repeat(300_000);
    for _ in 0..3 {
        client.send(format!(
            "POST /a HTTP/1.1\r\nHost: app.example\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = client.response();
        assert!(answer.status() == 200 && answer.text() == body);
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.requests()[0].field("x-forwarded-proto"), Some("https"));
    let entry = &world.entries("internal_http_lb_rule", 3)[0];
    assert_eq!(entry["httpRequest"]["requestUrl"], "https://app.example/a");
    assert_eq!(entry["jsonPayload"]["tls"]["protocol"], "TLSv1.3");
    assert!(entry["jsonPayload"]["tls"]["cipher"].as_str().unwrap().starts_with("TLS_"), "{entry}");
}

#[test]
fn http2_is_agreed_on_and_obeys_the_same_rules() {
    let backend = Backend::text("fine");
    let (world, roots) = serve(&backend, &[&["a.example"], &["b.example"]]);
    let mut config = config(roots);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = crate::h2::Client::tls(world.address(PORT), Arc::new(config), "a.example");
    for (host, status) in [("a.example", 200), ("b.example", 421), ("a.example:443", 200)] {
        let request = http::Request::get(format!("https://{host}/x")).body(()).unwrap();
        assert_eq!(client.ask(request, b"").unwrap().status.as_u16(), status, "{host}");
    }
    assert_eq!(backend.requests()[0].field("x-forwarded-proto"), Some("https"));
    let entry = &world.entries("internal_http_lb_rule", 3)[0];
    assert_eq!(entry["httpRequest"]["protocol"], "HTTP/2");
    assert_eq!(entry["jsonPayload"]["tls"]["protocol"], "TLSv1.3");
}

#[test]
fn the_name_chooses_the_certificate_and_other_hosts_are_misdirected() {
    let backend = Backend::text("fine");
    let (world, roots) = serve(&backend, &[&["a.example"], &["*.b.example"]]);
    for (name, own, foreign) in
        [("a.example", "a.example:443", "x.b.example"), ("y.b.example", "z.b.example", "a.example")]
    {
        // The client checks that it got a certificate for the name.
        let mut client = connect(&world, config(roots.clone()), name).unwrap();
        client.send(format!("GET / HTTP/1.1\r\nHost: {own}\r\n\r\n"));
        assert_eq!(client.response().text(), "fine");
        client.send(format!("GET / HTTP/1.1\r\nHost: {foreign}\r\n\r\n"));
        assert_eq!(client.response().status(), 421);
        client.send(format!("GET / HTTP/1.1\r\nHost: {own}\r\n\r\n"));
        assert_eq!(client.response().text(), "fine");
    }
}

#[test]
fn an_unknown_name_gets_the_first_certificate() {
    let backend = Backend::text("fine");
    let (world, roots) = serve(&backend, &[&["a.example"], &["b.example"]]);
    let error =
        connect(&world, config(roots), "c.example").err().expect("the name is not in the certificate");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn what_is_no_tls_gets_an_alert_and_the_others_go_on() {
    let backend = Backend::text("fine");
    let (world, roots) = serve(&backend, &[&["a.example"]]);
    let mut plain = world.connect();
    plain.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let alert = plain.rest();
    // Content type 21, fatal.
    assert!(alert.first() == Some(&21) && alert.get(5) == Some(&2), "{alert:?}");
    // A hello of TLS 1.0, and nothing newer.
    let mut old = world.connect();
    old.send(hello_of_tls_10());
    let alert = old.rest();
    assert!(alert.first() == Some(&21) && alert.get(5) == Some(&2), "{alert:?}");
    let mut client = connect(&world, config(roots), "a.example").unwrap();
    client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.response().text(), "fine");
}

/// A `ClientHello` that offers TLS 1.0 with one suite, and no extension.
fn hello_of_tls_10() -> Vec<u8> {
    let mut body = vec![3, 1];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0, 47, 1, 0]);
    let mut message = vec![1, 0, 0, body.len() as u8];
    message.extend_from_slice(&body);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend_from_slice(&message);
    record
}

#[test]
fn a_handshake_that_stalls_is_ended() {
    let backend = Backend::text("fine");
    let (world, _) = serve(&backend, &[&["a.example"]]);
    let mut stalled: Vec<Wire> = (0..50).map(|_| world.connect()).collect();
    for client in &mut stalled {
        client.send(&hello_of_tls_10()[..10]);
    }
    for mut client in stalled {
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn a_session_is_resumed_on_any_worker() {
    let backend = Backend::text("fine");
    let (world, roots) = serve(&backend, &[&["a.example"]]);
    let config = config(roots);
    let mut resumed = 0;
    for _ in 0..8 {
        let mut client = connect(&world, config.clone(), "a.example").unwrap();
        client.send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        assert_eq!(client.response().text(), "fine");
        // Reads the tickets, and the end of the connection, which is told.
        assert_eq!(client.stream.read(&mut [0; 16]).unwrap(), 0);
        let _ = client.stream.flush();
        resumed += u32::from(client.stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed));
    }
    assert_eq!(resumed, 7);
}

/// Connects, asks, reads what comes behind the answer (tickets are in it), and tells whether a session was resumed.
fn resumes(world: &World, config: &ClientConfig, name: &str) -> bool {
    let mut client = connect(world, config.clone(), name).unwrap();
    client.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"));
    assert_eq!(client.response().text(), "fine");
    assert_eq!(client.stream.read(&mut [0; 16]).unwrap(), 0);
    client.stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
}

#[test]
fn sessions_outlive_snapshots_but_not_certificates() {
    let backend = Backend::text("fine");
    let world = World::new();
    let ((first, first_pem), (second, second_pem)) =
        (certificate(&["a.example"]), certificate(&["a.example"]));
    let mut roots = RootCertStore::empty();
    for pem in [first_pem, second_pem] {
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let config = config(roots);
    let serve = |tls: &Arc<Tls>| {
        world.serve(Site { tls: Some(tls.clone()), ..Site::of(endpoints(&[backend.address])) });
    };
    let tls = Arc::new(Tls::new(vec![first]).unwrap());
    serve(&tls);
    assert!(!resumes(&world, &config, "a.example"));
    // Another listener with the same TLS settings: what a changed URL map brings.
    for _ in 0..3 {
        serve(&tls);
        assert!(resumes(&world, &config, "a.example"));
    }
    serve(&Arc::new(Tls::new(vec![second]).unwrap()));
    assert!(!resumes(&world, &config, "a.example"), "a session of the certificate that is gone");
    assert!(resumes(&world, &config, "a.example"));
}
