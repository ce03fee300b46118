//! The program that Google's own gcloud starts for `run services proxy`.
//!
//! It is a component of the SDK (`cloud-run-proxy`) that looks names up as any program does, and `run.app` is no name of
//! this machine's. A link to this binary of that name, on the path, takes its place: same flags, same words on stderr.

use std::time::Duration;

use super::relay::Relay;
use super::upstream;
use crate::http::Api;
use crate::printer::Printer;
use crate::secret::Secret;
use crate::settings::{DEFAULT_API, Environment};

/// Where to listen if nobody says otherwise.
const DEFAULT_BIND: &str = "127.0.0.1:8080";

/// What the program is told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flags {
    host: String,
    token: String,
    bind: Option<String>,
    up_time: Option<Duration>,
}

/// Runs the program. Its exit code.
pub fn run(words: &[String], environment: &Environment, printer: &Printer) -> u8 {
    match serve(words, environment, printer) {
        Ok(()) => 0,
        Err(message) => {
            printer.note_line(&message);
            1
        }
    }
}

fn serve(words: &[String], environment: &Environment, printer: &Printer) -> Result<(), String> {
    let flags = Flags::parse(words)?;
    let api = ["VESTIBULE_API", "CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN"];
    let api = api.iter().find_map(|name| environment.get(name)).unwrap_or(DEFAULT_API);
    let upstream = upstream(&Api::new(api, Secret::new("local")), &flags.host)?;
    let bind = flags.bind.as_deref().unwrap_or(DEFAULT_BIND);
    let address = bind.parse().map_err(|_| format!("[{bind}] is not an address."))?;
    let relay = Relay::bind(address, upstream)
        .map_err(|error| format!("server error: listen {bind}: bind: {}", said(&error)))?;
    printer.note_line(&format!("{} proxies to {}", relay.address(), flags.host));
    let ended = relay.run(Secret::new(flags.token), flags.up_time, || None);
    printer.note_line(&format!("{bind} shutting down."));
    ended.map_err(|error| error.to_string())
}

/// In the words that gcloud looks for.
fn said(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        _ => error.to_string(),
    }
}

impl Flags {
    /// Flags with one dash or two, and their values in the same word or in the next.
    fn parse(words: &[String]) -> Result<Flags, String> {
        let mut flags = Flags::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix('-').map(|name| name.strip_prefix('-').unwrap_or(name));
            let name = name.ok_or_else(|| format!("unexpected argument: {word}"))?;
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, words.next().map(String::as_str)),
            };
            let value = value.ok_or_else(|| format!("flag needs an argument: -{name}"))?;
            match name {
                "host" => value.clone_into(&mut flags.host),
                "token" => value.clone_into(&mut flags.token),
                "bind" => flags.bind = Some(value.to_owned()),
                "server-up-time" => {
                    let time = duration(value).ok_or_else(|| format!("invalid duration \"{value}\""))?;
                    flags.up_time = (!time.is_zero()).then_some(time);
                }
                other => return Err(format!("flag provided but not defined: -{other}")),
            }
        }
        match (flags.host.starts_with("https://"), flags.token.is_empty()) {
            (true, false) => Ok(flags),
            (false, _) => Err("-host must be the https URL of a service".to_owned()),
            (true, true) => Err("-token must be given".to_owned()),
        }
    }
}

/// Whole hours, minutes and seconds, as Go writes them: `55m`, `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut number) = (0u64, None);
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                let digit = u64::from(letter.to_digit(10)?);
                number = Some(number.unwrap_or(0u64).checked_mul(10)?.checked_add(digit)?);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    (number.is_none_or(|left| left == 0) && !text.is_empty()).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Flags, String> {
        Flags::parse(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn reads_what_gcloud_says() {
        let flags = parse("-host https://h -token t -bind 127.0.0.1:9 -server-up-time 55m").unwrap();
        let minutes = Some(Duration::from_secs(55 * 60));
        assert_eq!((&*flags.host, &*flags.token, flags.up_time), ("https://h", "t", minutes));
        assert_eq!(flags.bind.as_deref(), Some("127.0.0.1:9"));
        assert_eq!(parse("--host=https://h --token=t").unwrap().bind, None);
        for bad in
            ["", "-host https://h", "-host http://h -token t", "-x y", "-host", "y", "-server-up-time 5"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_of_go() {
        let seconds = |text| duration(text).map(|time| time.as_secs());
        assert_eq!([seconds("1h30m"), seconds("7s"), seconds("0")], [Some(5400), Some(7), Some(0)]);
        assert_eq!([seconds("5"), seconds("m"), seconds(""), seconds("99999999999999999999h")], [None; 4]);
    }
}
