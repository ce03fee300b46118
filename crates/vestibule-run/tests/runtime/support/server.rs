//! The program that instances run in tests. What it does is in the variable `MODE`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Runs the server in its mode. Does not return.
pub fn run() -> ! {
    let mode = std::env::var("MODE").unwrap_or_default();
    let (mode, argument) = mode.split_once(' ').unwrap_or((&mode, ""));
    match mode {
        "exit" => std::process::exit(3),
        "never" => loop {
            std::thread::park();
        },
        "slow" => {
            std::thread::sleep(Duration::from_millis(argument.parse().unwrap()));
            serve()
        }
        "deaf" => {
            // A handler that does nothing: SIGTERM is ignored.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let _context = runtime.enter();
            let _ignored = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            serve()
        }
        "parent" => {
            #[expect(clippy::zombie_processes, reason = "that nobody waits for it is what is under test")]
            let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            std::fs::write(argument, child.id().to_string()).unwrap();
            serve()
        }
        "print" => {
            println!("plain words");
            println!("{{\"severity\": \"WARNING\", \"message\": \"structured words\"}}");
            eprintln!("words on stderr");
            serve()
        }
        "flood" => {
            std::thread::spawn(|| {
                let mut out = std::io::stdout().lock();
                let line = format!("{}\n", "x".repeat(100));
                while out.write_all(line.as_bytes()).is_ok() {}
            });
            serve()
        }
        _ => serve(),
    }
}

fn serve() -> ! {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            std::thread::Builder::new().stack_size(128 * 1024).spawn(move || answer(stream)).unwrap();
        }
    }
}

/// `/env`: the environment. `/wait/MS`: after so long. `/exit`: ends without an answer.
fn answer(stream: TcpStream) {
    let mut lines = BufReader::new(&stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    if path == "/exit" {
        std::process::exit(4);
    }
    if let Some(wait) = path.strip_prefix("/wait/") {
        std::thread::sleep(Duration::from_millis(wait.parse().unwrap()));
    }
    let body = match path.as_str() {
        "/env" => std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect(),
        _ => std::process::id().to_string(),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = (&stream).write_all(format!("{head}{body}").as_bytes());
}
