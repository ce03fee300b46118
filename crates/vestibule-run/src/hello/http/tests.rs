use super::*;
use tokio::net::TcpListener;

/// A connection to a server that answers with method, target and length of the body.
async fn connect() -> (TcpStream, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let (ending, watch_ending) = watch::channel(false);
    tokio::spawn(serve(stream, watch_ending, |request| Answer {
        content_type: "text/plain",
        body: format!("{} {} {}", request.method, request.target, request.body_bytes),
    }));
    (client, ending)
}

/// Sends all of it and reads until the server closes.
async fn talk(request: &[u8]) -> String {
    let (mut client, _ending) = connect().await;
    client.write_all(request).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn keeps_the_connection_and_answers_what_was_pipelined() {
    let answer = talk(
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
          HEAD /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    let head =
        |length| format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n");
    let (eight, nine) = (head(8), head(9));
    assert_eq!(answer, format!("{eight}\r\nGET /a 0{nine}\r\nPOST /b 5{nine}Connection: close\r\n\r\n"));
}

#[tokio::test]
async fn reads_chunks_with_extensions_and_trailers() {
    let answer = talk(
        b"PUT /x HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n",
    )
    .await;
    assert!(answer.ends_with("\r\n\r\nPUT /x 6"), "{answer}");
}

#[tokio::test]
async fn old_clients_get_one_answer_unless_they_ask_for_more() {
    let answer = talk(b"GET /a HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
    let answer = talk(b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
}

#[tokio::test]
async fn says_go_on_before_it_reads_the_body() {
    let (mut client, _ending) = connect().await;
    let head = b"POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    client.write_all(head).await.unwrap();
    let mut seen = [0; 25];
    client.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"ab").await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("POST /a 2"), "{rest}");
}

#[tokio::test]
async fn refuses_what_it_cannot_frame() {
    for head in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Content-Length: +1",
        "Content-Length: 1\r\nContent-Length: 1",
        "Transfer-Encoding: gzip",
        "Bad Header: 1",
    ] {
        let answer = talk(format!("POST / HTTP/1.1\r\n{head}\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head}: {answer}");
    }
    let many = "A: b\r\n".repeat(MAX_HEADERS + 1);
    let answer = talk(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn bad_chunks_end_the_connection() {
    for chunks in ["x\r\n", "-1\r\n", "1\r\nab\r\n", "ffffffffffffffffff\r\n"] {
        let request = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
        assert_eq!(talk(request.as_bytes()).await, "", "{chunks:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_ends_with_the_service_and_a_busy_one_after_its_answer() {
    let (mut idle, ending) = connect().await;
    ending.send_replace(true);
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);

    let (mut busy, ending) = connect().await;
    let head = b"POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    busy.write_all(head).await.unwrap();
    // Now the server is in the request.
    busy.read_exact(&mut [0; 25]).await.unwrap();
    ending.send_replace(true);
    busy.write_all(b"12").await.unwrap();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("Connection: close\r\n") && answer.ends_with("POST /a 2"), "{answer}");
}
