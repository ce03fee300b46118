//! Request heads, as a server reads them.

use crate::authority::is_valid_authority;
use crate::body::Framing;
use crate::chars::{is_token, is_token_byte};
use crate::error::{Error, Kind};
use crate::fields::{Field, Fields, Name};
use crate::limits::{MAX_LEADING_EMPTY_LINES, MAX_REQUEST_LINE_BYTES};
use crate::lines::Lines;
use crate::span::Span;
use crate::target::{self, Form};
use crate::values::{self, Connection};

/// A request method. Methods are case-sensitive (RFC 9110 section 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Connect,
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
    Trace,
    Other,
}

impl Method {
    fn of(method: &[u8]) -> Method {
        match method {
            b"GET" => Method::Get,
            b"PUT" => Method::Put,
            b"POST" => Method::Post,
            b"HEAD" => Method::Head,
            b"PATCH" => Method::Patch,
            b"TRACE" => Method::Trace,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// Sending it twice does no more than sending it once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Patch | Method::Connect | Method::Other)
    }
}

/// What a client waits for before it sends the body (RFC 9110 section 10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    #[default]
    Nothing,
    Continue,
}

/// How far a head was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    RequestLine { skipped: usize },
    Fields,
    Done,
}

/// A request head, as positions into the buffer it is read from. Reusable: [`clear`](Self::clear) keeps its memory.
#[derive(Debug, Clone)]
pub struct RequestHead {
    stage: Stage,
    lines: Lines,
    method: Method,
    method_span: Span,
    target: Span,
    form: Form,
    fields: Fields,
    host: Option<Span>,
    content_length: Option<u64>,
    chunked: bool,
    /// What is wrong with `Transfer-Encoding`; with a `Content-Length` beside it something else is.
    bad_coding: Option<Kind>,
    connection: Connection,
    expect: Expect,
}

impl Default for RequestHead {
    fn default() -> RequestHead {
        RequestHead {
            stage: Stage::RequestLine { skipped: 0 },
            lines: Lines::default(),
            method: Method::Other,
            method_span: Span::default(),
            target: Span::default(),
            form: Form::Origin,
            fields: Fields::default(),
            host: None,
            content_length: None,
            chunked: false,
            bad_coding: None,
            connection: Connection::default(),
            expect: Expect::Nothing,
        }
    }
}

impl RequestHead {
    /// Makes it ready for the next request.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = RequestHead { fields, ..RequestHead::default() };
    }

    /// Reads on. `buffer` holds all bytes since the head's start: at least those of the last call, and perhaps more
    /// than the head. Answers the head's length in bytes once it is complete. Turns field names to lower case.
    pub fn parse(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        self.advance(buffer).map_err(Error::client)
    }

    /// Whether any byte of a request was seen, empty lines apart.
    pub fn has_started(&self, buffer: &[u8]) -> bool {
        self.stage != Stage::RequestLine { skipped: 0 } || buffer.len() > self.lines.position()
    }

    /// The head for reading, once [`parse`](Self::parse) has answered its length.
    pub fn view<'a>(&'a self, buffer: &'a [u8]) -> Request<'a> {
        debug_assert_eq!(self.stage, Stage::Done);
        Request { head: self, buffer }
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Kind> {
        while let Stage::RequestLine { skipped } = self.stage {
            if !self.request_line(buffer, skipped)? {
                return Ok(None);
            }
        }
        while self.stage == Stage::Fields {
            let Some(line) = self.lines.next(buffer)? else {
                return Ok(None);
            };
            if line.is_empty() {
                self.finish(buffer)?;
                self.stage = Stage::Done;
            } else {
                let field = Field::parse(buffer, line)?;
                self.note(buffer, field)?;
                self.fields.push(field)?;
            }
        }
        Ok(Some(self.lines.position()))
    }

    /// Answers whether a line was there.
    fn request_line(&mut self, buffer: &[u8], skipped: usize) -> Result<bool, Kind> {
        // What is no HTTP at all (a TLS handshake, say) need not wait for a line end that may never come.
        let first = buffer.get(self.lines.position());
        if first.is_some_and(|&b| !is_token_byte(b) && b != b'\r' && b != b'\n') {
            return Err(Kind::BadMethod);
        }
        let next = self.lines.next_within(buffer, MAX_REQUEST_LINE_BYTES, Kind::RequestLineTooLong)?;
        let Some(line) = next else {
            return Ok(false);
        };
        if !line.is_empty() {
            self.read_request_line(buffer, line.start, line.end)?;
            self.stage = Stage::Fields;
        } else if skipped == MAX_LEADING_EMPTY_LINES {
            return Err(Kind::LeadingEmptyLines);
        } else {
            self.stage = Stage::RequestLine { skipped: skipped + 1 };
        }
        Ok(true)
    }

    fn read_request_line(&mut self, buffer: &[u8], start: usize, end: usize) -> Result<(), Kind> {
        let line = &buffer[start..end];
        let first = memchr::memchr(b' ', line).ok_or(Kind::BadRequestLine)?;
        let last = memchr::memrchr(b' ', line).ok_or(Kind::BadRequestLine)?;
        if !is_token(&line[..first]) {
            return Err(Kind::BadMethod);
        }
        if first == last {
            return Err(Kind::BadRequestLine);
        }
        check_version(&line[last + 1..])?;
        self.method = Method::of(&line[..first]);
        self.method_span = Span::new(start, start + first);
        self.target = Span::new(start + first + 1, start + last);
        self.form = target::parse(buffer, self.target, self.method)?;
        Ok(())
    }

    /// Notes the fields that decide about framing and routing.
    fn note(&mut self, buffer: &[u8], field: Field) -> Result<(), Kind> {
        let value = field.value.of(buffer);
        match field.id {
            Name::Host if self.host.is_some() => return Err(Kind::SeveralHosts),
            Name::Host if !is_valid_authority(value) => return Err(Kind::BadHost),
            Name::Host => self.host = Some(field.value),
            Name::ContentLength if self.content_length.is_some() => return Err(Kind::SeveralContentLengths),
            Name::ContentLength => self.content_length = Some(values::content_length(value)?),
            Name::TransferEncoding => {
                let repeated = if self.chunked { Err(Kind::BadTransferEncoding) } else { Ok(()) };
                self.bad_coding =
                    repeated.and_then(|()| values::transfer_encoding(value)).err().or(self.bad_coding);
                self.chunked = true;
            }
            Name::Expect if value.eq_ignore_ascii_case(b"100-continue") => self.expect = Expect::Continue,
            Name::Expect => return Err(Kind::UnsupportedExpectation),
            _ => {}
        }
        Ok(())
    }

    /// Checks what only the whole head shows.
    fn finish(&mut self, buffer: &[u8]) -> Result<(), Kind> {
        if self.host.is_none() {
            return Err(Kind::MissingHost);
        }
        if self.chunked && self.content_length.is_some() {
            return Err(Kind::LengthAndEncoding);
        }
        if let Some(kind) = self.bad_coding {
            return Err(kind);
        }
        self.connection = values::connection(buffer, &mut self.fields)?;
        Ok(())
    }
}

/// `HTTP/` digit `.` digit, of major version 1 and not 1.0. A minor version above 1 means nothing more to us
/// (RFC 9110 section 2.5).
fn check_version(version: &[u8]) -> Result<(), Kind> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            match (major, minor) {
                (b'1', b'0') => Err(Kind::OldVersion),
                (b'1', _) => Ok(()),
                _ => Err(Kind::UnsupportedVersion),
            }
        }
        _ => Err(Kind::BadVersion),
    }
}

/// A complete request head together with its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    head: &'a RequestHead,
    buffer: &'a [u8],
}

impl<'a> Request<'a> {
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// The method as it was sent.
    pub fn method_text(&self) -> &'a str {
        ascii(self.head.method_span.of(self.buffer))
    }

    /// The target as it was sent. ASCII.
    pub fn target(&self) -> &'a str {
        ascii(self.head.target.of(self.buffer))
    }

    pub fn form(&self) -> Form {
        self.head.form
    }

    /// Whom the request is for: the authority of an absolute target, else `Host` (RFC 9112 section 3.2.2), for
    /// `CONNECT` the target. Valid and ASCII, as it was sent.
    pub fn authority(&self) -> &'a str {
        match self.head.form {
            Form::Absolute { authority, .. } => ascii(authority.of(self.buffer)),
            Form::Authority => self.target(),
            _ => self.head.host.map_or("", |host| ascii(host.of(self.buffer))),
        }
    }

    /// Path and query. An absolute target without a path may give an empty string or one that starts with `?`;
    /// `*` and the target of a `CONNECT` have no path and give an empty string.
    pub fn path_and_query(&self) -> &'a str {
        match self.head.form {
            Form::Origin => self.target(),
            Form::Absolute { path, .. } => ascii(path.of(self.buffer)),
            Form::Authority | Form::Asterisk => "",
        }
    }

    /// Every field in order, also those that end at this hop.
    pub fn fields(&self) -> &'a [Field] {
        self.head.fields.as_slice()
    }

    /// The buffer that the spans of the fields point into.
    pub fn buffer(&self) -> &'a [u8] {
        self.buffer
    }

    /// The value of the first field of that name that `Connection` does not name.
    pub fn first(&self, id: Name) -> Option<&'a [u8]> {
        let field = self.fields().iter().find(|f| f.id == id && !f.nominated)?;
        Some(field.value.of(self.buffer))
    }

    /// How the body is delimited.
    pub fn framing(&self) -> Framing {
        match self.head.content_length {
            _ if self.head.chunked => Framing::Chunked,
            None | Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
        }
    }

    /// `Content-Length` as sent; a value of 0 counts as sent.
    pub fn content_length(&self) -> Option<u64> {
        self.head.content_length
    }

    pub fn connection(&self) -> Connection {
        self.head.connection
    }

    pub fn expect(&self) -> Expect {
        self.head.expect
    }

    /// The protocol that the client wants to go on with, if `Connection` says `upgrade` too.
    pub fn upgrade(&self) -> Option<&'a [u8]> {
        if self.head.connection.upgrade { self.first(Name::Upgrade) } else { None }
    }
}

/// Bytes that were checked to be ASCII when the head was read.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
