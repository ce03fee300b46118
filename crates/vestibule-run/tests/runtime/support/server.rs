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
        // A task: it writes what it sees into a folder, and how many run at once.
        "task" => task(std::path::Path::new(argument)),
        // A task that succeeds at the attempt of this number.
        "stubborn" => std::process::exit(if variable("CLOUD_RUN_TASK_ATTEMPT") == argument { 0 } else { 7 }),
        // A sidecar: it listens on a port of its own.
        "at" => serve_at(argument.parse().unwrap()),
        // Cannot start unless something listens on a port already.
        "after" => match TcpStream::connect(("127.0.0.1", argument.parse().unwrap())) {
            Ok(_) => serve(),
            Err(_) => std::process::exit(5),
        },
        _ => serve(),
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn task(folder: &std::path::Path) -> ! {
    let index = variable("CLOUD_RUN_TASK_INDEX");
    let mark = folder.join(format!("running-{index}"));
    std::fs::write(&mark, "").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let running = files.filter(|file| file.file_name().to_string_lossy().starts_with("running-")).count();
    let variables: String = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
    std::fs::write(folder.join(index), format!("{running}\n{variables}")).unwrap();
    println!("task done");
    std::fs::remove_file(mark).unwrap();
    std::process::exit(0)
}

fn serve() -> ! {
    serve_at(std::env::var("PORT").unwrap().parse().unwrap())
}

fn serve_at(port: u16) -> ! {
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            std::thread::Builder::new().stack_size(128 * 1024).spawn(move || answer(stream)).unwrap();
        }
    }
}

/// `/env`: the environment. `/cwd`: the working directory. `/wait/MS`: after so long. `/exit`: ends without an answer.
/// `/health`: 500 if the file exists that the variable `SICK` names.
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
        "/cwd" => std::env::current_dir().unwrap().display().to_string(),
        "/env" => std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect(),
        _ => std::process::id().to_string(),
    };
    let sick =
        path == "/health" && std::env::var_os("SICK").is_some_and(|file| std::fs::exists(file).unwrap());
    let status = if sick { "500 Sick" } else { "200 OK" };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = (&stream).write_all(format!("{head}{body}").as_bytes());
}
