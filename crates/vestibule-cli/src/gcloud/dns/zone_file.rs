//! Zone files, as BIND has them: one record a line.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Records as a zone file.
pub fn write(records: &[Value]) -> String {
    let mut out = String::new();
    for record in records {
        let text = |field: &str| record.get(field).and_then(Value::as_str).unwrap_or_default();
        let ttl = record.get("ttl").and_then(Value::as_i64).unwrap_or(0);
        for data in
            record.get("rrdatas").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            out += &format!("{} {ttl} IN {} {data}\n", text("name"), text("type"));
        }
    }
    out
}

/// Reads a zone file: `$ORIGIN`, `$TTL`, comments, records over several lines in parentheses.
pub fn read(text: &str, origin: &str) -> Result<Vec<Value>, String> {
    let mut reader = Reader { origin: origin.to_owned(), ttl: None, owner: None, sets: BTreeMap::new() };
    for (number, line) in logical_lines(text) {
        reader.line(&line).map_err(|why| format!("line {number}: {why}"))?;
    }
    let record = |((name, kind), (ttl, data)): ((String, String), (i64, Vec<String>))| json!({"kind": "dns#resourceRecordSet", "name": name, "type": kind, "ttl": ttl, "rrdatas": data});
    Ok(reader.sets.into_iter().map(record).collect())
}

/// Lines without comments, those in parentheses joined; with the number of the first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (content, depth) = strip_comment(line);
        let (number, joined, depth) = match open.take() {
            Some((number, before)) => (number, format!("{before} {content}"), depth + 1),
            None => (index + 1, content, depth),
        };
        match depth {
            depth if depth > 0 => open = Some((number, joined)),
            _ if joined.trim().is_empty() => {}
            _ => lines.push((number, joined)),
        }
    }
    lines
}

/// The line without its comment and parentheses, and how many parentheses it opens.
fn strip_comment(line: &str) -> (String, i32) {
    let mut out = String::new();
    let mut depth = 0;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ';' if !quoted => break,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        out.push(if !quoted && matches!(c, '(' | ')') { ' ' } else { c });
    }
    (out, depth)
}

struct Reader {
    origin: String,
    ttl: Option<i64>,
    owner: Option<String>,
    sets: BTreeMap<(String, String), (i64, Vec<String>)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        match words.first() {
            Some(&"$ORIGIN") => {
                self.origin = words.get(1).ok_or("no name after $ORIGIN")?.to_string();
                return Ok(());
            }
            Some(&"$TTL") => {
                self.ttl = words.get(1).and_then(|word| word.parse().ok());
                return Ok(());
            }
            _ => {}
        }
        if !line.starts_with([' ', '\t']) {
            self.owner = Some(self.full(words.remove(0)));
        }
        let owner = self.owner.clone().ok_or("no name")?;
        let mut ttl = self.ttl;
        while let Some(word) = words.first().copied() {
            match word.parse::<i64>() {
                Ok(seconds) => ttl = Some(seconds),
                Err(_) if word.eq_ignore_ascii_case("IN") => {}
                Err(_) => break,
            }
            words.remove(0);
        }
        if words.len() < 2 {
            return Err("a type and data expected".into());
        }
        let kind = words.remove(0).to_ascii_uppercase();
        let ttl = ttl.ok_or("no time to live")?;
        let data = self.data(&kind, &words);
        let set = self.sets.entry((owner, kind)).or_insert((ttl, Vec::new()));
        set.1.push(data);
        Ok(())
    }

    fn full(&self, name: &str) -> String {
        match name {
            "@" => self.origin.clone(),
            name if name.ends_with('.') => name.to_owned(),
            name => format!("{name}.{}", self.origin),
        }
    }

    /// Names in the data become full names.
    fn data(&self, kind: &str, words: &[&str]) -> String {
        let names: &[usize] = match kind {
            "CNAME" | "NS" | "PTR" | "DNAME" => &[0],
            "MX" => &[1],
            "SRV" => &[3],
            "SOA" => &[0, 1],
            _ => &[],
        };
        let full = words
            .iter()
            .enumerate()
            .map(|(i, word)| if names.contains(&i) { self.full(word) } else { (*word).to_owned() });
        full.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let records = read(
            "$TTL 300\n@ IN SOA ns host (\n  1 ; serial\n  2 3 4 5 )\nwww 60 IN A 10.0.0.1\n    60 A 10.0.0.2\nalias CNAME www ; a comment\n",
            "example.com.",
        )
        .unwrap();
        let text = write(&records);
        assert_eq!(
            text,
            "alias.example.com. 300 IN CNAME www.example.com.\nexample.com. 300 IN SOA ns.example.com. host.example.com. 1 2 3 4 5\n\
             www.example.com. 60 IN A 10.0.0.1\nwww.example.com. 60 IN A 10.0.0.2\n"
        );
        assert_eq!(read(&text, "x.").unwrap(), records);
    }

    #[test]
    fn says_where_it_stops() {
        assert_eq!(read("a 300 IN A\n", "x.").unwrap_err(), "line 1: a type and data expected");
    }
}
