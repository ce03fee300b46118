//! `docs/api.md`: which of Google's methods are answered. Written from the registry, so it cannot claim too much.

use std::collections::BTreeMap;

use vestibule_model::route::{self, Method};

use crate::registry::Registry;

/// Set to anything: the page is written anew.
const WRITE: &str = "VESTIBULE_WRITE_DOCS";

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");

const HEAD: &str = "\
# API methods

What `vestibule serve` answers of Google's APIs, by the ids of the public discovery documents. A method under *not
built* answers 501 and names itself. Made by `VESTIBULE_WRITE_DOCS=1 cargo test -p vestibule-api coverage`; a test
compares it with the code.
";

/// Verbs of one resource: those with a handler and those without.
#[derive(Default)]
struct Verbs {
    built: Vec<&'static str>,
    missing: Vec<&'static str>,
}

fn by_resource<'r>(
    registry: &Registry,
    methods: impl Iterator<Item = &'r Method>,
) -> BTreeMap<&'static str, Verbs> {
    let mut resources = BTreeMap::<_, Verbs>::new();
    for method in methods {
        let (resource, verb) = method.id.rsplit_once('.').unwrap_or((method.id, ""));
        let verbs = resources.entry(resource).or_default();
        let list = if registry.entry(method).is_some() { &mut verbs.built } else { &mut verbs.missing };
        list.push(verb);
    }
    resources
}

fn page() -> String {
    let mut registry = Registry::default();
    crate::register(&mut registry);
    let mut services = BTreeMap::<&str, Vec<&Method>>::new();
    for method in route::methods() {
        services.entry(method.service.module()).or_default().push(method);
    }
    let mut page = HEAD.to_owned();
    for (service, methods) in services {
        page.push_str(&format!("\n## {service}\n\n| resource | answered | not built |\n|---|---|---|\n"));
        for (resource, mut verbs) in by_resource(&registry, methods.into_iter()) {
            verbs.built.sort_unstable();
            verbs.missing.sort_unstable();
            page.push_str(&format!(
                "| `{resource}` | {} | {} |\n",
                verbs.built.join(", "),
                verbs.missing.join(", ")
            ));
        }
    }
    page
}

#[test]
fn the_page_tells_what_is_built() {
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(PAGE, page).unwrap();
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    let differs = page.lines().zip(written.lines()).find(|(new, old)| new != old);
    assert!(
        page == written,
        "docs/api.md is out of date (first difference: {differs:?}); run {WRITE}=1 cargo test -p vestibule-api coverage"
    );
}
