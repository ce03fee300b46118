//! What a handler is given, and what it gives back.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use vestibule_control::{Control, Document, Error};
use vestibule_iam::Principal;
use vestibule_model::route::{Method, Params};

use crate::{Api, ApiDeps};

/// What stands around a call: who calls, over which endpoint, and what there is to work with.
pub struct Ctx<'a> {
    pub(crate) api: &'a Api,
    pub(crate) principal: Principal,
    pub(crate) region: Option<String>,
    pub(crate) base_url: String,
    pub(crate) patience: Duration,
}

impl Ctx<'_> {
    pub fn deps(&self) -> &ApiDeps {
        self.api.deps()
    }

    pub fn control(&self) -> &Control {
        &self.api.deps().control
    }

    /// Who calls. A token that nobody minted here, and no token at all, is the person at this machine.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The caller's e-mail address, as operations and annotations print it.
    pub fn user(&self) -> &str {
        self.principal.email().unwrap_or("anonymous")
    }

    /// The region that the endpoint names rather than the path: Cloud Run's v1 paths have none, so clients put it into
    /// the host (`us-central1-run.googleapis.com`) or, with Terraform's `{{location}}`, before the path
    /// (`/run/us-central1/apis/…`).
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The id of a project that stands somewhere else than in the path, where clients may name it by its number.
    pub fn project_id(&self, project: &str) -> String {
        self.api.project_id(project)
    }

    /// The endpoint that the client called, e.g. `http://127.0.0.1:8470`, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// How long a handler that was registered as waiting may block. Zero when too many wait already.
    pub fn patience(&self) -> Duration {
        self.patience
    }
}

/// One call of a method: routed, decoded and checked.
#[derive(Debug)]
pub struct Call {
    pub method: &'static Method,
    pub(crate) params: Params,
    /// Declared parameters under their declared names, in the order sent.
    pub(crate) query: Vec<(&'static str, String)>,
    /// `fields`, which is not the handler's business.
    pub(crate) fields: Option<String>,
    pub(crate) body: Document,
}

impl Call {
    /// A path parameter. Empty if the method has none of that name, which is a mistake in the handler.
    pub fn param(&self, name: &str) -> &str {
        debug_assert!(self.params.get(name).is_some(), "{} has no parameter {name}", self.method.id);
        self.params.get(name).unwrap_or_default()
    }

    /// A path parameter that only some methods have, for handlers that serve several.
    pub fn optional_param(&self, name: &str) -> Option<&str> {
        self.params.get(name)
    }

    /// The project id that the path names.
    pub fn project(&self) -> &str {
        crate::projects::PARAMETERS.iter().find_map(|name| self.params.get(name)).unwrap_or_default()
    }

    /// A query parameter; the first value if there are several.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query_all(name).next()
    }

    /// All values of a repeated query parameter.
    pub fn query_all(&self, name: &str) -> impl Iterator<Item = &str> {
        debug_assert!(
            self.method.query_parameter(name).is_some(),
            "{} has no query parameter {name}",
            self.method.id
        );
        self.query.iter().filter(move |(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter that only some methods have, for handlers that serve several.
    pub fn optional_query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// All query parameters as sent.
    pub fn queries(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.query.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// A boolean query parameter; `false` if absent.
    pub fn flag(&self, name: &str) -> bool {
        self.query(name).is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    /// The body, empty if none was sent.
    pub fn body(&self) -> &Document {
        &self.body
    }

    /// The body by value.
    pub fn document(self) -> Document {
        self.body
    }

    /// The body as a typed message.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_value(Value::Object(self.body.clone()))
            .map_err(|error| Error::bad_request(format!("Invalid JSON payload received. {error}")))
    }
}

/// A successful answer.
#[derive(Debug)]
pub struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Json(Value),
    /// Anything else, with its media type among the headers.
    Raw(Bytes),
}

impl Reply {
    /// 200 with a JSON document.
    pub fn json(value: Value) -> Reply {
        Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: Body::Json(value) }
    }

    /// 200 with `{}`: what methods without an answer answer, since Terraform's client fails on an empty body.
    pub fn empty() -> Reply {
        Reply::json(Value::Object(Map::new()))
    }

    /// 200 with bytes of some media type.
    pub fn raw(media_type: &'static str, bytes: impl Into<Bytes>) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
        Reply { status: StatusCode::OK, headers, body: Body::Raw(bytes.into()) }
    }

    /// Another status.
    pub fn with_status(mut self, status: StatusCode) -> Reply {
        self.status = status;
        self
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Reply {
        Reply::json(value)
    }
}

impl From<Document> for Reply {
    fn from(document: Document) -> Reply {
        Reply::json(Value::Object(document))
    }
}
