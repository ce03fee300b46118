//! A request as the matcher sees it.

/// What a URL map looks at. Everything is borrowed; building one costs nothing.
#[derive(Clone, Copy)]
pub struct RequestView<'r> {
    /// Authority as the client sent it, port included. An absolute request target's authority beats `Host`.
    pub host: &'r [u8],
    /// Path after [`crate::normalize::path`], without query.
    pub path: &'r [u8],
    /// What follows `?`, undecoded. `Some("")` for a bare `?`.
    pub query: Option<&'r [u8]>,
    pub method: &'r [u8],
    pub headers: &'r dyn Headers,
    /// A fresh random number: it picks among weighted backend services.
    pub random: u64,
}

/// Request headers, whatever holds them.
pub trait Headers {
    /// Calls `each` with every value of the header, in the order received. `name` is lower case.
    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8]));
}

/// Headers in a slice of names and values. Names may be in any case.
impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for [(N, V)] {
    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let wanted = self.iter().filter(|(known, _)| known.as_ref().eq_ignore_ascii_case(name));
        wanted.for_each(|(_, value)| each(value.as_ref()));
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for Vec<(N, V)> {
    fn values(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.as_slice().values(name, each);
    }
}

/// No headers at all.
impl Headers for () {
    fn values(&self, _name: &str, _each: &mut dyn FnMut(&[u8])) {}
}

impl std::fmt::Debug for RequestView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestView")
            .field("method", &String::from_utf8_lossy(self.method))
            .field("host", &String::from_utf8_lossy(self.host))
            .field("path", &String::from_utf8_lossy(self.path))
            .finish_non_exhaustive()
    }
}
