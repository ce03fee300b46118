//! The one place that writes to the terminal.
//!
//! Data goes to stdout and everything else to stderr, so that a pipe sees only data. Every command is handed a
//! [`Printer`] and has no other way to say something; that is what lets the tour run gcloud commands in process and
//! show their answers, and tests compare both streams to the byte.
//!
//! A reader that went away (`| head`) is no error: the rest of the output is dropped.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};

/// The two output streams of a command.
pub struct Printer {
    out: RefCell<Stream>,
    err: RefCell<Stream>,
}

struct Stream {
    sink: Sink,
    terminal: bool,
    colour: bool,
}

enum Sink {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    Memory(Vec<u8>),
    /// The reader is gone.
    Closed,
}

/// How a piece of text stands out on a terminal that shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Bold,
    Dim,
    Good,
    Bad,
    Notice,
}

impl Printer {
    /// The process's own stdout and stderr.
    pub fn stdio() -> Printer {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::env::var_os("TERM").is_none_or(|v| v != "dumb");
        let (out, err) = (io::stdout(), io::stderr());
        let (out_tty, err_tty) = (out.is_terminal(), err.is_terminal());
        Printer {
            out: RefCell::new(Stream {
                sink: Sink::Stdout(out),
                terminal: out_tty,
                colour: colour && out_tty,
            }),
            err: RefCell::new(Stream {
                sink: Sink::Stderr(err),
                terminal: err_tty,
                colour: colour && err_tty,
            }),
        }
    }

    /// Keeps both streams in memory; see [`Printer::into_captured`].
    pub fn captured() -> Printer {
        let stream =
            || RefCell::new(Stream { sink: Sink::Memory(Vec::new()), terminal: false, colour: false });
        Printer { out: stream(), err: stream() }
    }

    /// What a captured printer was given: stdout, stderr.
    pub fn into_captured(self) -> (String, String) {
        let text = |stream: RefCell<Stream>| match stream.into_inner().sink {
            Sink::Memory(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        };
        (text(self.out), text(self.err))
    }

    /// Data, as it is (the caller ends lines).
    pub fn data(&self, text: &str) {
        self.out.borrow_mut().write(text.as_bytes());
    }

    /// One line of data.
    pub fn line(&self, text: &str) {
        let mut out = self.out.borrow_mut();
        out.write(text.as_bytes());
        out.write(b"\n");
    }

    /// Anything that is not data, as it is.
    pub fn note(&self, text: &str) {
        self.err.borrow_mut().write(text.as_bytes());
    }

    /// One line that is not data.
    pub fn note_line(&self, text: &str) {
        let mut err = self.err.borrow_mut();
        err.write(text.as_bytes());
        err.write(b"\n");
    }

    pub fn out_is_terminal(&self) -> bool {
        self.out.borrow().terminal
    }

    pub fn err_is_terminal(&self) -> bool {
        self.err.borrow().terminal
    }

    /// `text` for stdout, in a tone when stdout shows colours.
    pub fn tone(&self, tone: Tone, text: &str) -> String {
        paint(self.out.borrow().colour, tone, text)
    }

    /// `text` for stderr, in a tone when stderr shows colours.
    pub fn note_tone(&self, tone: Tone, text: &str) -> String {
        paint(self.err.borrow().colour, tone, text)
    }
}

fn paint(colour: bool, tone: Tone, text: &str) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Bold => "1",
        Tone::Dim => "2",
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Notice => "33",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

impl Stream {
    fn write(&mut self, bytes: &[u8]) {
        let wrote = match &mut self.sink {
            Sink::Stdout(out) => out.lock().write_all(bytes).and_then(|()| out.lock().flush()),
            Sink::Stderr(err) => err.lock().write_all(bytes),
            Sink::Memory(memory) => {
                memory.extend_from_slice(bytes);
                Ok(())
            }
            Sink::Closed => Ok(()),
        };
        if wrote.is_err() {
            self.sink = Sink::Closed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_kept_apart() {
        let printer = Printer::captured();
        printer.line("data");
        printer.note_line("note");
        printer.data("more");
        assert_eq!(printer.into_captured(), ("data\nmore".into(), "note\n".into()));
    }

    #[test]
    fn no_colour_off_a_terminal() {
        assert_eq!(Printer::captured().tone(Tone::Good, "ok"), "ok");
        assert_eq!(paint(true, Tone::Good, "ok"), "\x1b[32mok\x1b[0m");
    }
}
