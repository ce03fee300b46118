//! How the tour looks: headings, commands with their answers and times, requests with theirs.

use std::time::Duration;

use crate::printer::{Printer, Tone};
use crate::wire::Reply;

/// The most lines of a command's answer that are shown.
const ANSWER_LINES: usize = 20;

/// Writes the tour.
pub struct Show<'p> {
    printer: &'p Printer,
}

impl<'p> Show<'p> {
    pub fn new(printer: &'p Printer) -> Show<'p> {
        Show { printer }
    }

    pub fn heading(&self, text: &str) {
        self.printer.line(&format!("\n{}", self.printer.tone(Tone::Bold, &format!("== {text}"))));
    }

    pub fn line(&self, text: &str) {
        self.printer.line(text);
    }

    pub fn command(&self, words: &str, answer: &str, took: Duration) {
        let prompt = self.printer.tone(Tone::Bold, &format!("$ {words}"));
        self.printer.line(&format!("{prompt}  {}", self.took(took)));
        let lines: Vec<&str> = answer.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in lines.iter().take(ANSWER_LINES) {
            self.printer.line(&format!("  {line}"));
        }
        if lines.len() > ANSWER_LINES {
            self.printer.line(&format!("  … {} more lines", lines.len() - ANSWER_LINES));
        }
    }

    pub fn request(&self, what: &str, url: &str, reply: &Reply, expected: u16, took: Duration) {
        let tone = if reply.status == expected { Tone::Good } else { Tone::Bad };
        let status = self.printer.tone(tone, &reply.status.to_string());
        self.printer.line(&format!("{status}  GET {url}  {what}  {}", self.took(took)));
        if let Some(summary) = summary(reply) {
            self.printer.line(&format!("     {}", self.printer.tone(Tone::Dim, &summary)));
        }
    }

    pub fn failure(&self, text: &str) {
        self.printer
            .note_line(&format!("{}: {text}", self.printer.note_tone(Tone::Bad, "the tour stops here")));
    }

    pub fn printer(&self) -> &'p Printer {
        self.printer
    }

    fn took(&self, took: Duration) -> String {
        self.printer.tone(Tone::Dim, &format!("({})", short(took)))
    }
}

/// `4 ms`, `1.3 s`.
pub fn short(time: Duration) -> String {
    match time.as_millis() {
        0 => format!("{} µs", time.as_micros()),
        ms if ms < 1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// What an answer says, in one line.
fn summary(reply: &Reply) -> Option<String> {
    if let Ok(body) = serde_json::from_str::<serde_json::Value>(&reply.body) {
        let field = |name: &str| body.get(name).and_then(|value| value.as_str());
        return Some(format!("answered by service {}, revision {}", field("service")?, field("revision")?));
    }
    let text: String = strip_tags(&reply.body);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then(|| line.chars().take(120).collect())
}

/// The words of an HTML page, without its title.
fn strip_tags(html: &str) -> String {
    let body = html.split_once("</title>").map_or(html, |(_, rest)| rest);
    let mut out = String::new();
    let mut inside = false;
    for c in body.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                out.push(' ');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_an_answer() {
        let reply = |body: &str| Reply { status: 200, body: body.into() };
        assert_eq!(
            summary(&reply(r#"{"service":"s","revision":"r"}"#)).as_deref(),
            Some("answered by service s, revision r")
        );
        let page = "<html><title>403 Forbidden</title><h1>Error: Forbidden</h1>\n<h2></h2>";
        assert_eq!(summary(&reply(page)).as_deref(), Some("Error: Forbidden"));
        assert_eq!(summary(&reply("")), None);
    }

    #[test]
    fn times() {
        assert_eq!(short(Duration::from_millis(4)), "4 ms");
        assert_eq!(short(Duration::from_millis(1340)), "1.3 s");
    }
}
