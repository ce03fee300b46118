//! Zone files, as RFC 1035 section 5 and RFC 2308 have them.
//!
//! Only the frame of a record is understood here: whose it is, how long it lives, its type. Its data stays text, with
//! names written out and strings in quotes; whether it fits the type is for the API to say.

use serde_json::{Value, json};

/// The types that a managed zone holds, by the name's place in data that has one: `MX` has its name in second place.
/// Records of other types are passed over.
const TYPES: &[(&str, &[usize])] = &[
    ("A", &[]),
    ("AAAA", &[]),
    ("CAA", &[]),
    ("CNAME", &[0]),
    ("DNSKEY", &[]),
    ("DS", &[]),
    ("HTTPS", &[1]),
    ("IPSECKEY", &[]),
    ("MX", &[1]),
    ("NAPTR", &[5]),
    ("NS", &[0]),
    ("PTR", &[0]),
    ("SOA", &[0, 1]),
    ("SPF", &[]),
    ("SRV", &[3]),
    ("SSHFP", &[]),
    ("SVCB", &[1]),
    ("TLSA", &[]),
    ("TXT", &[]),
];

/// Where the data of an SOA record says how long negative answers live.
const SOA_MINIMUM: usize = 6;

/// Records as a zone file.
pub fn write(records: &[Value]) -> String {
    let mut out = String::new();
    for record in records {
        let text = |field: &str| record.get(field).and_then(Value::as_str).unwrap_or_default();
        let ttl = record.get("ttl").and_then(Value::as_i64).unwrap_or(0);
        let data = record.get("rrdatas").and_then(Value::as_array).into_iter().flatten();
        for data in data.filter_map(Value::as_str) {
            out += &format!("{} {ttl} IN {} {data}\n", text("name"), text("type"));
        }
    }
    out
}

/// Reads the records of a zone file, one record set for all that are of one name and type.
pub fn read(text: &str, origin: &str) -> Result<Vec<Value>, String> {
    let mut reader = Reader {
        origin: origin.to_owned(),
        owner: None,
        default_ttl: None,
        last_ttl: None,
        sets: Vec::new(),
    };
    for entry in entries(text)? {
        reader.entry(&entry).map_err(|why| format!("line {}: {why}", entry.line))?;
    }
    let record = |set: Set| json!({"kind": "dns#resourceRecordSet", "name": set.name, "type": set.kind, "ttl": set.ttl, "rrdatas": set.data});
    Ok(reader.sets.into_iter().map(record).collect())
}

/// A word of a zone file, as it is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    quoted: bool,
}

/// One entry: a line, or several in parentheses.
#[derive(Debug)]
struct Entry {
    /// The number of its first line.
    line: usize,
    /// Whether its first word stands at the very beginning, where the owner does.
    named: bool,
    tokens: Vec<Token>,
}

/// Splits a file into entries: comments end at the line's end, parentheses hold lines together, quotes hold words.
fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut open: Option<Entry> = None;
    let mut depth = 0_usize;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let named = line.starts_with(|c: char| !c.is_whitespace() && c != ';' && c != '(');
        let entry = open.get_or_insert_with(|| Entry { line: number, named, tokens: Vec::new() });
        let mut rest = line.chars().peekable();
        while let Some(&c) = rest.peek() {
            match c {
                ';' => break,
                '(' | ')' => {
                    rest.next();
                    let closed = || format!("line {number}: a parenthesis is closed that was not opened");
                    depth = if c == '(' { depth + 1 } else { depth.checked_sub(1).ok_or_else(closed)? };
                }
                c if c.is_whitespace() => drop(rest.next()),
                _ => entry
                    .tokens
                    .push(token(&mut rest).ok_or_else(|| format!("line {number}: a quote is not closed"))?),
            }
        }
        if depth == 0 {
            entries.extend(open.take().filter(|entry| !entry.tokens.is_empty()));
        }
    }
    match open {
        Some(entry) => Err(format!("line {}: a parenthesis is not closed", entry.line)),
        None => Ok(entries),
    }
}

/// One word; a backslash keeps the character after it from meaning anything.
fn token(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let quoted = rest.next_if_eq(&'"').is_some();
    let mut text = String::new();
    while let Some(&c) = rest.peek() {
        match c {
            '"' if quoted => {
                rest.next();
                return Some(Token { text, quoted });
            }
            '\\' => {
                text.extend(rest.next());
                text.extend(rest.next());
                continue;
            }
            ';' | '(' | ')' if !quoted => break,
            c if c.is_whitespace() && !quoted => break,
            _ => {}
        }
        text.extend(rest.next());
    }
    (!quoted).then_some(Token { text, quoted })
}

struct Set {
    name: String,
    kind: String,
    ttl: i64,
    data: Vec<String>,
}

struct Reader {
    origin: String,
    owner: Option<String>,
    /// `$TTL`, or what the SOA record says for want of it.
    default_ttl: Option<i64>,
    last_ttl: Option<i64>,
    sets: Vec<Set>,
}

impl Reader {
    fn entry(&mut self, entry: &Entry) -> Result<(), String> {
        let mut tokens = entry.tokens.as_slice();
        if let Some(directive) = tokens[0].text.strip_prefix('$') {
            return self.directive(directive, &tokens[1..]);
        }
        if entry.named {
            self.owner = Some(self.name(&tokens[0])?);
            tokens = &tokens[1..];
        }
        let owner = self.owner.clone().ok_or("no name")?;
        let mut ttl = None;
        // The time to live and the class stand in either order, or not at all.
        while let [first, rest @ ..] = tokens {
            match seconds(&first.text) {
                Some(seconds) if ttl.is_none() => ttl = Some(seconds),
                _ if first.text.eq_ignore_ascii_case("IN") => {}
                _ => break,
            }
            tokens = rest;
        }
        let [kind, data @ ..] = tokens else { return Err("a type expected".into()) };
        let kind = kind.text.to_ascii_uppercase();
        if data.is_empty() {
            return Err("a type and data expected".into());
        }
        let Some((_, names)) = TYPES.iter().find(|(known, _)| *known == kind) else { return Ok(()) };
        if kind == "SOA" && self.default_ttl.is_none() {
            self.default_ttl = data.get(SOA_MINIMUM).and_then(|token| seconds(&token.text));
        }
        let ttl = ttl.or(self.default_ttl).or(self.last_ttl).ok_or("no time to live")?;
        self.last_ttl = Some(ttl);
        let data = self.data(&kind, names, data);
        self.put(owner, kind, ttl, data);
        Ok(())
    }

    fn directive(&mut self, directive: &str, values: &[Token]) -> Result<(), String> {
        let value = || values.first().ok_or_else(|| format!("a value after ${directive} expected"));
        match directive {
            "ORIGIN" => self.origin = self.name(value()?)?,
            "TTL" => self.default_ttl = Some(seconds(&value()?.text).ok_or("$TTL is no time")?),
            other => return Err(format!("${other} is not supported")),
        }
        Ok(())
    }

    /// Records of one name and type are a set: each datum once, and the shortest time to live for all.
    fn put(&mut self, name: String, kind: String, ttl: i64, data: String) {
        match self.sets.iter_mut().find(|set| set.kind == kind && set.name.eq_ignore_ascii_case(&name)) {
            Some(set) => {
                set.ttl = set.ttl.min(ttl);
                if !set.data.contains(&data) {
                    set.data.push(data);
                }
            }
            None => self.sets.push(Set { name, kind, ttl, data: vec![data] }),
        }
    }

    /// A name that stands by itself. Quotes are for strings (RFC 1035 section 5.1): what they would let into a name, a
    /// zone file that is written of it could not hold.
    fn name(&self, token: &Token) -> Result<String, String> {
        if token.quoted { Err("a name cannot be in quotes".into()) } else { Ok(self.full(&token.text)) }
    }

    fn full(&self, name: &str) -> String {
        match name {
            "@" => self.origin.clone(),
            name if name.ends_with('.') && !name.ends_with("\\.") => name.to_owned(),
            name if self.origin == "." => format!("{name}."),
            name => format!("{name}.{}", self.origin),
        }
    }

    /// The data as the API has it: full names, strings in quotes, times in seconds.
    fn data(&self, kind: &str, names: &[usize], tokens: &[Token]) -> String {
        let is_text = matches!(kind, "TXT" | "SPF");
        let word = |(index, token): (usize, &Token)| match token {
            token if token.quoted || is_text => format!("\"{}\"", token.text),
            token if names.contains(&index) => self.full(&token.text),
            token if kind == "SOA" => {
                seconds(&token.text).map_or_else(|| token.text.clone(), |s| s.to_string())
            }
            token => token.text.clone(),
        };
        tokens.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
    }
}

/// A time: seconds, or numbers with units (`1h30m`), as BIND writes them.
fn seconds(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut number: Option<i64> = None;
    for c in text.chars() {
        match c.to_digit(10) {
            Some(digit) => number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit.into())?),
            None => {
                let unit = match c.to_ascii_lowercase() {
                    's' => 1,
                    'm' => 60,
                    'h' => 3600,
                    'd' => 86_400,
                    'w' => 604_800,
                    _ => return None,
                };
                total = total.checked_add(number.take()?.checked_mul(unit)?)?;
            }
        }
    }
    match (text.is_empty(), number) {
        (true, _) => None,
        (false, rest) => total.checked_add(rest.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        write(&read(text, "example.com.").unwrap()).lines().map(str::to_owned).collect()
    }

    #[test]
    fn reads_what_it_writes() {
        let records = read(
            "$TTL 300\n@ IN SOA ns host (\n  1 ; serial\n  2h 3 4w 5 )\nwww 60 IN A 10.0.0.1\n    60 A 10.0.0.2\nalias CNAME www ; a comment\n",
            "example.com.",
        )
        .unwrap();
        let text = write(&records);
        assert_eq!(
            text,
            "example.com. 300 IN SOA ns.example.com. host.example.com. 1 7200 3 2419200 5\n\
             www.example.com. 60 IN A 10.0.0.1\nwww.example.com. 60 IN A 10.0.0.2\n\
             alias.example.com. 300 IN CNAME www.example.com.\n"
        );
        assert_eq!(read(&text, "x.").unwrap(), records);
    }

    #[test]
    fn strings_stay_as_they_are() {
        assert_eq!(
            lines(
                "a 5 TXT \"two  blanks; no comment\" word \"a \\\" b\"\nb 5 CAA 0 issue \"ca.example; x=1\" ; this is one\n"
            ),
            [
                "a.example.com. 5 IN TXT \"two  blanks; no comment\" \"word\" \"a \\\" b\"",
                "b.example.com. 5 IN CAA 0 issue \"ca.example; x=1\"",
            ]
        );
    }

    #[test]
    fn names_are_not_in_quotes() {
        for text in ["x 5 A 10.0.0.1\n\"f  \" 5 A 10.0.0.2\n", "x 5 A 10.0.0.1\n$ORIGIN \"a b\"\n"] {
            assert_eq!(read(text, "example.com.").unwrap_err(), "line 2: a name cannot be in quotes");
        }
        let escaped = "f\\ g.example.com. 5 IN A 10.0.0.2";
        assert_eq!(lines(escaped), [escaped], "a backslash is the way to have a blank in a name");
    }

    #[test]
    fn origins_owners_classes_and_times() {
        assert_eq!(
            lines(
                "$ORIGIN sub\n$TTL 1h\n@ IN 5m MX 10 mail\n\tIN NS ns.other.\n$ORIGIN other.\nx 1d2h3m4s IN SRV 1 2 3 y\n7 A 10.0.0.1\n"
            ),
            [
                "sub.example.com. 300 IN MX 10 mail.sub.example.com.",
                "sub.example.com. 3600 IN NS ns.other.",
                "x.other. 93784 IN SRV 1 2 3 y.other.",
                "7.other. 3600 IN A 10.0.0.1",
            ]
        );
        // Without $TTL: the SOA record's last number, then what was told last.
        assert_eq!(lines("@ SOA a b 1 2 3 4 60\nx A 10.0.0.1\n")[1], "x.example.com. 60 IN A 10.0.0.1");
        assert_eq!(lines("x 9 A 10.0.0.1\ny A 10.0.0.2\n")[1], "y.example.com. 9 IN A 10.0.0.2");
    }

    #[test]
    fn one_set_has_one_time_and_each_datum_once() {
        assert_eq!(
            lines("x 60 A 10.0.0.1\nX 30 A 10.0.0.2\nx 90 A 10.0.0.1\nx 5 DNAME y\n"),
            ["x.example.com. 30 IN A 10.0.0.1", "x.example.com. 30 IN A 10.0.0.2"],
            "and what a managed zone cannot hold is passed over"
        );
    }

    #[test]
    fn says_where_it_stops() {
        for (text, why) in [
            ("a 300 IN A\n", "line 1: a type and data expected"),
            ("\n\na 300\n", "line 3: a type expected"),
            (" A 10.0.0.1\n", "line 1: no name"),
            ("a A 10.0.0.1\n", "line 1: no time to live"),
            ("a 5 TXT \"open\n", "line 1: a quote is not closed"),
            ("a 5 SOA x y (\n1\n", "line 1: a parenthesis is not closed"),
            ("a 5 A 10.0.0.1 )\n", "line 1: a parenthesis is closed that was not opened"),
            ("$INCLUDE other\n", "line 1: $INCLUDE is not supported"),
            ("$TTL x\n", "line 1: $TTL is no time"),
            ("$ORIGIN\n", "line 1: a value after $ORIGIN expected"),
        ] {
            assert_eq!(read(text, "x.").unwrap_err(), why, "{text}");
        }
    }
}
