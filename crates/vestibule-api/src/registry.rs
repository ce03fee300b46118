//! Which handler answers which method.

use std::collections::HashMap;

use bytes::Bytes;
use http::{Request, Response};
use vestibule_control::Error;
use vestibule_model::Service;
use vestibule_model::route::{self, Method};

use crate::{Call, Ctx, Reply};

/// Answers one method of Google's. Runs on a thread that may block.
pub type Handler = fn(&Ctx<'_>, Call) -> Result<Reply, Error>;

/// Answers a path outside of Google's method table. Runs on a thread that may block.
pub type PathHandler = fn(&Ctx<'_>, Request<Bytes>) -> Response<Bytes>;

/// A handler, and whether it may block until something happens.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) handler: Handler,
    pub(crate) waits: bool,
}

/// All handlers. Filled once at start; a name that the method table does not have, or has twice, is a mistake in this
/// program and panics there and then.
#[derive(Default)]
pub struct Registry {
    methods: HashMap<(Service, &'static str), Entry>,
    paths: Vec<(Matcher, PathHandler)>,
}

struct Matcher {
    path: &'static str,
    prefix: bool,
}

impl Registry {
    /// The handlers of one service.
    pub fn service(&mut self, service: Service) -> Methods<'_> {
        Methods { registry: self, service }
    }

    /// Serves one exact path, with any HTTP method.
    pub fn path(&mut self, path: &'static str, handler: PathHandler) {
        self.paths.push((Matcher { path, prefix: false }, handler));
    }

    /// Serves every path that starts with `prefix`, with any HTTP method. Exact paths win, then longer prefixes.
    pub fn prefix(&mut self, prefix: &'static str, handler: PathHandler) {
        self.paths.push((Matcher { path: prefix, prefix: true }, handler));
    }

    pub(crate) fn entry(&self, method: &Method) -> Option<Entry> {
        self.methods.get(&(method.service, method.id)).copied()
    }

    pub(crate) fn path_handler(&self, path: &str) -> Option<PathHandler> {
        let fits = |matcher: &Matcher| match matcher.prefix {
            true => path.starts_with(matcher.path),
            false => path == matcher.path,
        };
        let best = self.paths.iter().filter(|(matcher, _)| fits(matcher));
        best.max_by_key(|(matcher, _)| (!matcher.prefix, matcher.path.len())).map(|(_, handler)| *handler)
    }
}

/// The handlers of one service, while they are being registered.
pub struct Methods<'r> {
    registry: &'r mut Registry,
    service: Service,
}

impl Methods<'_> {
    /// Registers the handler of a method, e.g. `run.namespaces.services.create`.
    pub fn add(&mut self, id: &str, handler: Handler) -> &mut Self {
        self.insert(id, Entry { handler, waits: false })
    }

    /// Registers a handler that blocks until something happens, for at most [`Ctx::patience`].
    pub fn add_waiting(&mut self, id: &str, handler: Handler) -> &mut Self {
        self.insert(id, Entry { handler, waits: true })
    }

    fn insert(&mut self, id: &str, entry: Entry) -> &mut Self {
        let Some(method) = route::method(self.service, id) else {
            panic!("{:?} has no method {id}", self.service)
        };
        let before = self.registry.methods.insert((self.service, method.id), entry);
        assert!(before.is_none(), "{id} of {:?} has two handlers", self.service);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(_: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
        Err(Error::not_implemented(call.method.id))
    }

    #[test]
    fn versions_of_a_service_do_not_mix() {
        let mut registry = Registry::default();
        registry.service(Service::RunV2).add("run.projects.locations.services.get", refuse);
        let method = |service| route::method(service, "run.projects.locations.services.get").unwrap();
        assert!(registry.entry(method(Service::RunV2)).is_some());
        assert!(
            registry
                .entry(route::method(Service::RunV1, "run.projects.locations.services.list").unwrap())
                .is_none()
        );
    }

    #[test]
    #[should_panic(expected = "has no method")]
    fn a_misspelt_method_is_found_at_once() {
        Registry::default().service(Service::Compute).add("compute.urlMap.insert", refuse);
    }

    #[test]
    #[should_panic(expected = "two handlers")]
    fn a_method_has_one_handler() {
        let mut registry = Registry::default();
        let mut methods = registry.service(Service::Compute);
        methods.add("compute.urlMaps.insert", refuse).add("compute.urlMaps.insert", refuse);
    }

    #[test]
    fn exact_paths_win_over_prefixes() {
        fn path(_: &Ctx<'_>, _: Request<Bytes>) -> Response<Bytes> {
            Response::new(Bytes::from_static(b"path"))
        }
        fn prefix(_: &Ctx<'_>, _: Request<Bytes>) -> Response<Bytes> {
            Response::new(Bytes::from_static(b"prefix"))
        }
        let mut registry = Registry::default();
        registry.prefix("/x/", prefix);
        registry.path("/x/exact", path);
        assert_eq!(registry.path_handler("/x/exact").unwrap() as usize, path as *const () as usize);
        assert_eq!(registry.path_handler("/x/other").unwrap() as usize, prefix as *const () as usize);
        assert!(registry.path_handler("/y").is_none());
    }
}
