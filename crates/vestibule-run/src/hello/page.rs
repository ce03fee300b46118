//! What the sample service says.

use serde_json::{Map, Value, json};

use super::http::{Answer, Request};
use crate::refusal::Escaped;

/// What the service knows about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) service: Option<String>,
    pub(crate) revision: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) region: Option<String>,
}

/// The page for a request, in the form that it accepts.
pub(super) fn answer(identity: &Identity, request: &Request) -> Answer {
    let accepts =
        |kind: &str| request.header("accept").any(|value| value.to_ascii_lowercase().contains(kind));
    if accepts("application/json") {
        Answer { content_type: "application/json", body: as_json(identity, request) }
    } else if accepts("text/html") {
        Answer { content_type: "text/html; charset=utf-8", body: as_html(identity, request) }
    } else {
        Answer { content_type: "text/plain; charset=utf-8", body: as_text(identity, request) }
    }
}

/// Everything but the headers, as names and values.
fn facts<'a>(identity: &'a Identity, request: &'a Request) -> Vec<(&'static str, &'a str)> {
    let known = |value: &'a Option<String>| value.as_deref();
    let optional = [
        ("service", known(&identity.service)),
        ("revision", known(&identity.revision)),
        ("project", known(&identity.project)),
        ("region", known(&identity.region)),
        ("method", Some(request.method.as_str())),
        ("path", Some(request.target.as_str())),
    ];
    optional.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn as_json(identity: &Identity, request: &Request) -> String {
    let facts = facts(identity, request).into_iter();
    let mut object: Map<String, Value> = facts.map(|(name, value)| (name.to_owned(), value.into())).collect();
    object.insert("body_bytes".into(), request.body_bytes.into());
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in &request.headers {
        // A header that comes more than once is a list.
        let entry = headers.entry(name.to_ascii_lowercase());
        entry
            .and_modify(|present| match present {
                Value::Array(values) => values.push(value.as_str().into()),
                single => *single = json!([single.take(), value]),
            })
            .or_insert_with(|| value.as_str().into());
    }
    object.insert("headers".into(), headers.into());
    format!("{:#}\n", Value::Object(object))
}

fn as_text(identity: &Identity, request: &Request) -> String {
    let mut text = String::from("Hello from Cloud Run, served by Vestibule.\n\n");
    for (name, value) in facts(identity, request) {
        text.push_str(&format!("{name:9} {value}\n"));
    }
    text.push_str(&format!("{:9} {} bytes\n\nheaders\n", "body", request.body_bytes));
    for (name, value) in &request.headers {
        text.push_str(&format!("  {}: {value}\n", name.to_ascii_lowercase()));
    }
    text
}

fn as_html(identity: &Identity, request: &Request) -> String {
    let row = |(name, value): (&str, &str)| {
        format!("<tr><th>{}</th><td><code>{}</code></td></tr>\n", Escaped(name), Escaped(value))
    };
    let facts: String = facts(identity, request).into_iter().map(row).collect();
    let headers: String =
        request.headers.iter().map(|(name, value)| row((&name.to_ascii_lowercase(), value))).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Hello</title>\n<style>\n\
         body {{ font-family: sans-serif; margin: 3em auto; max-width: 50em; padding: 0 1em }}\n\
         th {{ text-align: left; padding-right: 2em; vertical-align: top }}\n\
         td {{ word-break: break-all }}\n</style>\n</head>\n<body>\n\
         <h1>Hello from Cloud Run, served by Vestibule</h1>\n\
         <table>\n{facts}</table>\n<h2>Headers</h2>\n<table>\n{headers}</table>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(accept: Option<&str>) -> Answer {
        let identity = Identity {
            service: Some("svc".into()),
            revision: Some("svc-00001-abc".into()),
            project: None,
            region: Some("us-central1".into()),
        };
        let mut headers = vec![("Host".to_owned(), "<b>".to_owned())];
        headers.extend(["1", "2", "3"].map(|value| ("X-Many".to_owned(), value.to_owned())));
        headers.extend(accept.map(|accept| ("Accept".to_owned(), accept.to_owned())));
        let request = Request {
            method: "GET".into(),
            target: "/a?b=<c>".into(),
            headers,
            body_bytes: 3,
            ..Request::default()
        };
        answer(&identity, &request)
    }

    #[test]
    fn json_for_who_asks() {
        let answer = ask(Some("application/json, */*"));
        assert_eq!(answer.content_type, "application/json");
        let value: Value = serde_json::from_str(&answer.body).unwrap();
        let headers = json!({"host": "<b>", "x-many": ["1", "2", "3"], "accept": "application/json, */*"});
        let expected = json!({
            "service": "svc", "revision": "svc-00001-abc", "region": "us-central1", "method": "GET",
            "path": "/a?b=<c>", "body_bytes": 3, "headers": headers,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn html_for_browsers_and_it_is_escaped() {
        let answer = ask(Some("text/html,application/xhtml+xml"));
        assert_eq!(answer.content_type, "text/html; charset=utf-8");
        assert!(answer.body.contains("<code>/a?b=&lt;c&gt;</code>"), "{}", answer.body);
        assert!(!answer.body.contains("<b>"));
    }

    #[test]
    fn text_for_everyone_else() {
        for accept in [None, Some("*/*")] {
            let answer = ask(accept);
            assert_eq!(answer.content_type, "text/plain; charset=utf-8");
            assert!(answer.body.contains("revision  svc-00001-abc\n"), "{}", answer.body);
            assert!(answer.body.contains("path      /a?b=<c>\n"), "{}", answer.body);
            assert!(!answer.body.contains("project"), "{}", answer.body);
        }
    }
}
