//! Lists: filter, order, pages, and the shapes that compute wraps around them.
//!
//! A page token names the last entry that was sent, not its number. So a list that changes between two pages neither
//! repeats an entry nor leaves one out that was there all the time.

mod filter;
mod page;

pub use filter::Filter;
pub use page::{Listing, Page};

use serde_json::{Map, Value, json};
use vestibule_control::Error;
use vestibule_model::name::SELF_LINK_PREFIX;
use vestibule_model::{Scope, region};

use crate::Call;

/// Entries on a page of compute's if the client names no number; also the most it may ask for.
pub const COMPUTE_PAGE_SIZE: usize = 500;

/// Answers a `list` method of compute. `parent` is the collection, `projects/p/regions/r/urlMaps`.
pub fn compute(call: &Call, kind: &str, parent: &str, items: Vec<Value>) -> Result<Value, Error> {
    let page = compute_listing(call)?.page(items, |item| text(item, "name"))?;
    let mut answer = Map::from_iter([
        ("kind".to_owned(), json!(kind)),
        ("id".to_owned(), json!(parent)),
        ("selfLink".to_owned(), json!(format!("{SELF_LINK_PREFIX}{parent}"))),
    ]);
    // Google leaves an empty list out, and gcloud counts on nothing else.
    if !page.items.is_empty() {
        answer.insert("items".to_owned(), Value::Array(page.items));
    }
    put_token(&mut answer, page.next_page_token);
    Ok(Value::Object(answer))
}

/// Answers an `aggregatedList` method of compute. `collection` is the word inside of each scope, e.g. `urlMaps`. Scopes
/// without entries are told with a warning if the client asks for all; `items` is there even if it is empty, since
/// gcloud fails without.
pub fn compute_aggregated(
    call: &Call,
    kind: &str,
    collection: &str,
    scopes: Vec<(Scope, Vec<Value>)>,
) -> Result<Value, Error> {
    let parent = format!("projects/{}/aggregated/{collection}", call.project());
    // One list over all scopes, so that a page may end inside of any of them.
    let tagged = scopes.into_iter().flat_map(|(scope, items)| {
        let scope = scope.to_string();
        items.into_iter().map(move |item| (scope.clone(), item))
    });
    let page = compute_listing(call)?.page_by(
        tagged.collect(),
        |(_, item)| item,
        |(scope, item)| format!("{scope}/{}", text(item, "name")),
    )?;
    let mut groups: Map<String, Value> = Map::new();
    for (scope, item) in page.items {
        let group = groups.entry(scope).or_insert_with(|| json!({ collection: [] }));
        if let Some(list) = group[collection].as_array_mut() {
            list.push(item);
        }
    }
    let first_page = call.query("pageToken").is_none();
    if first_page && call.flag("includeAllScopes") {
        for scope in all_scopes() {
            groups.entry(scope.clone()).or_insert_with(|| json!({ "warning": no_results(&scope) }));
        }
    }
    let mut answer = Map::from_iter([
        ("kind".to_owned(), json!(kind)),
        ("id".to_owned(), json!(parent)),
        ("selfLink".to_owned(), json!(format!("{SELF_LINK_PREFIX}{parent}"))),
        ("items".to_owned(), Value::Object(groups)),
    ]);
    put_token(&mut answer, page.next_page_token);
    Ok(Value::Object(answer))
}

/// Answers a list of the newer APIs: `{member: […], nextPageToken}`, with `pageSize` and `pageToken` of the call.
/// `key` tells entries apart and orders them.
pub fn google(
    call: &Call,
    member: &str,
    default_size: usize,
    max_size: usize,
    items: Vec<Value>,
    key: impl Fn(&Value) -> String,
) -> Result<Value, Error> {
    let asked = page_size(call)?;
    let listing = Listing {
        size: asked.unwrap_or(default_size).min(max_size),
        token: call.optional_query("pageToken").map(str::to_owned),
        ..Listing::default()
    };
    let page = listing.page(items, key)?;
    let mut answer = Map::new();
    if !page.items.is_empty() {
        answer.insert(member.to_owned(), Value::Array(page.items));
    }
    put_token(&mut answer, page.next_page_token);
    Ok(Value::Object(answer))
}

/// `pageSize` of a call, if it names one; 0 names none.
fn page_size(call: &Call) -> Result<Option<usize>, Error> {
    match call.optional_query("pageSize").map(|size| size.parse::<i64>().unwrap_or(0)) {
        Some(negative) if negative < 0 => Err(Error::invalid("pageSize", negative, "Must not be negative.")),
        size => Ok(size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0)),
    }
}

fn compute_listing(call: &Call) -> Result<Listing, Error> {
    let asked = call.query("maxResults").and_then(|size| size.parse().ok()).unwrap_or(0);
    if asked > COMPUTE_PAGE_SIZE {
        let why = format!("Values must be within the range: [0, {COMPUTE_PAGE_SIZE}]");
        return Err(Error::invalid("maxResults", asked, why));
    }
    Ok(Listing {
        size: if asked == 0 { COMPUTE_PAGE_SIZE } else { asked },
        token: call.query("pageToken").map(str::to_owned),
        filter: call.query("filter").map(Filter::parse).transpose()?,
        newest_first: match call.query("orderBy") {
            None | Some("" | "name") => false,
            Some("creationTimestamp desc") => true,
            Some(other) => {
                let why = "Only 'name' and 'creationTimestamp desc' are supported.";
                return Err(Error::invalid("orderBy", other, why));
            }
        },
    })
}

fn all_scopes() -> impl Iterator<Item = String> {
    let regions = region::REGIONS.iter().map(|region| Scope::region(region.name).to_string());
    std::iter::once(Scope::Global.to_string()).chain(regions)
}

fn no_results(scope: &str) -> Value {
    json!({
        "code": "NO_RESULTS_ON_PAGE",
        "message": format!("There are no results for scope '{scope}' on this page."),
        "data": [{ "key": "scope", "value": scope }],
    })
}

fn put_token(answer: &mut Map<String, Value>, token: Option<String>) {
    if let Some(token) = token {
        answer.insert("nextPageToken".to_owned(), json!(token));
    }
}

fn text(item: &Value, member: &str) -> String {
    item[member].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use vestibule_model::route::{RouteMatch, find};

    fn call(path: &str, query: &str) -> Call {
        let RouteMatch::Found(found) = find("GET", path) else { panic!("{path}") };
        crate::decode::call(found, query, &Bytes::new()).unwrap()
    }

    fn maps(names: &[&str]) -> Vec<Value> {
        names.iter().map(|name| json!({ "name": name, "kind": "compute#urlMap" })).collect()
    }

    #[test]
    fn a_compute_list() {
        let path = "/compute/v1/projects/demo/regions/us-central1/urlMaps";
        let parent = "projects/demo/regions/us-central1/urlMaps";
        let first =
            compute(&call(path, "maxResults=2"), "compute#urlMapList", parent, maps(&["c", "a", "b"]))
                .unwrap();
        assert_eq!(first["items"], Value::Array(maps(&["a", "b"])));
        assert_eq!(first["selfLink"], format!("https://www.googleapis.com/compute/v1/{parent}"));
        let query = format!("maxResults=2&pageToken={}", first["nextPageToken"].as_str().unwrap());
        let second =
            compute(&call(path, &query), "compute#urlMapList", parent, maps(&["c", "a", "b"])).unwrap();
        assert_eq!(second["items"], Value::Array(maps(&["c"])));
        assert_eq!(second.get("nextPageToken"), None);
        let empty = compute(&call(path, ""), "compute#urlMapList", parent, Vec::new()).unwrap();
        assert_eq!(empty.get("items"), None);
        let error = compute(&call(path, "orderBy=colour"), "k", parent, Vec::new()).unwrap_err();
        assert!(error.to_string().contains("'colour'"), "{error}");
    }

    #[test]
    fn an_aggregated_list() {
        let path = "/compute/v1/projects/demo/aggregated/urlMaps";
        let scopes = || {
            vec![
                (Scope::Global, maps(&["g"])),
                (Scope::region("europe-west1"), maps(&["e"])),
                (Scope::region("us-central1"), maps(&["a", "b"])),
            ]
        };
        let kind = "compute#urlMapsAggregatedList";
        let all =
            compute_aggregated(&call(path, "includeAllScopes=True"), kind, "urlMaps", scopes()).unwrap();
        assert_eq!(all["items"]["regions/us-central1"]["urlMaps"], Value::Array(maps(&["a", "b"])));
        assert_eq!(all["items"]["regions/us-east1"]["warning"]["code"], "NO_RESULTS_ON_PAGE");
        let mut seen = Vec::new();
        let mut query = "maxResults=1".to_owned();
        loop {
            let page = compute_aggregated(&call(path, &query), kind, "urlMaps", scopes()).unwrap();
            for (scope, group) in page["items"].as_object().unwrap() {
                seen.push(format!("{scope}/{}", group["urlMaps"][0]["name"].as_str().unwrap()));
            }
            match page["nextPageToken"].as_str() {
                Some(token) => query = format!("maxResults=1&pageToken={token}"),
                None => break,
            }
        }
        assert_eq!(
            seen,
            ["global/g", "regions/europe-west1/e", "regions/us-central1/a", "regions/us-central1/b"]
        );
        let none = compute_aggregated(&call(path, ""), kind, "urlMaps", Vec::new()).unwrap();
        assert_eq!(none["items"], json!({}));
    }

    #[test]
    fn filters_apply_before_pages() {
        let path = "/compute/v1/projects/demo/global/networks";
        let listed =
            compute(&call(path, "filter=name+eq+b.*&maxResults=1"), "k", "p", maps(&["a1", "b1", "b2"]))
                .unwrap();
        assert_eq!(listed["items"], Value::Array(maps(&["b1"])));
        assert!(listed["nextPageToken"].is_string());
    }
}
