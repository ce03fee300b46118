//! A URL map as the Envoy routes that it stands for (Google's published rules: exact paths before the longest prefix, route
//! rules by priority, header actions by level).

use serde_json::{Value, json};

/// The route configuration.
pub fn routes(map: &Value) -> Value {
    let mut hosts: Vec<Value> = Vec::new();
    let mut everything = false;
    for (index, matcher) in list(&map["pathMatchers"]).enumerate() {
        let own = list(&map["hostRules"]).filter(|rule| rule["pathMatcher"] == matcher["name"]);
        let domains: Vec<Value> = own.flat_map(|rule| list(&rule["hosts"])).cloned().collect();
        everything |= domains.iter().any(|domain| domain == "*");
        let mut host =
            json!({"name": format!("m{index}"), "domains": domains, "routes": of_matcher(matcher)});
        add_headers(&mut host, &matcher["headerAction"]);
        hosts.push(host);
    }
    if !everything {
        hosts.push(json!({"name": "default", "domains": ["*"], "routes": [of_default(map)]}));
    }
    let mut config = json!({"virtual_hosts": hosts});
    add_headers(&mut config, &map["headerAction"]);
    config
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn of_matcher(matcher: &Value) -> Vec<Value> {
    let mut exact = Vec::new();
    let mut prefixes = Vec::new();
    for rule in list(&matcher["pathRules"]) {
        for path in list(&rule["paths"]).filter_map(text) {
            match path.strip_suffix('*') {
                Some(prefix) => prefixes.push((prefix.len(), route(rule, "", json!({"prefix": prefix})))),
                None => exact.push(route(rule, "", json!({"path": path}))),
            }
        }
    }
    prefixes.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    let mut rules: Vec<&Value> = list(&matcher["routeRules"]).collect();
    rules.sort_by_key(|rule| rule["priority"].as_i64());
    let by_priority = rules.into_iter().flat_map(|rule| {
        list(&rule["matchRules"]).map(move |conditions| {
            let mut route = route(rule, "", matches(conditions));
            add_headers(&mut route, &rule["headerAction"]);
            route
        })
    });
    let by_path = exact.into_iter().chain(prefixes.into_iter().map(|(_, route)| route));
    by_path.chain(by_priority).chain([of_default(matcher)]).collect()
}

fn of_default(level: &Value) -> Value {
    route(level, "default", json!({"prefix": "/"}))
}

/// `kind` is `default` for a default, whose members are called otherwise.
fn route(rule: &Value, kind: &str, condition: Value) -> Value {
    let name = |plain: &str| match kind {
        "" => plain.to_owned(),
        _ => format!("{kind}{}{}", plain[..1].to_uppercase(), &plain[1..]),
    };
    let mut route = json!({"match": condition});
    let redirect = &rule[name("urlRedirect")];
    if !redirect.is_null() {
        route["redirect"] = of_redirect(redirect);
        return route;
    }
    let action = &rule[name("routeAction")];
    route["route"] = match text(&rule[name("service")]) {
        Some(service) => json!({"cluster": service}),
        None => weighted(action),
    };
    let rewrite = &action["urlRewrite"];
    for (ours, theirs) in [("pathPrefixRewrite", "prefix_rewrite"), ("hostRewrite", "host_rewrite_literal")] {
        if let Some(value) = text(&rewrite[ours]) {
            route["route"][theirs] = json!(value);
        }
    }
    if let Some(pattern) = text(&rewrite["regexRewrite"]["pathPattern"]) {
        let substitution = &rewrite["regexRewrite"]["pathSubstitution"];
        route["route"]["regex_rewrite"] =
            json!({"pattern": {"regex": pattern}, "substitution": substitution});
    }
    if let Some(template) = text(&rewrite["pathTemplateRewrite"]) {
        route["route"]["path_rewrite_policy"] = json!({"name": "rewrite", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig",
            "path_template_rewrite": template}});
    }
    let cors = &action["corsPolicy"];
    if !cors.is_null() {
        route["typed_per_filter_config"] = json!({"envoy.filters.http.cors": of_cors(cors)});
    }
    route
}

fn weighted(action: &Value) -> Value {
    let clusters: Vec<Value> = list(&action["weightedBackendServices"])
        .map(|part| {
            let mut cluster = json!({"name": part["backendService"], "weight": part["weight"]});
            add_headers(&mut cluster, &part["headerAction"]);
            cluster
        })
        .collect();
    json!({"weighted_clusters": {"clusters": clusters}})
}

fn of_redirect(redirect: &Value) -> Value {
    let mut out = json!({});
    for (ours, theirs) in [
        ("httpsRedirect", "https_redirect"),
        ("hostRedirect", "host_redirect"),
        ("pathRedirect", "path_redirect"),
        ("prefixRedirect", "prefix_rewrite"),
        ("stripQuery", "strip_query"),
    ] {
        if !redirect[ours].is_null() {
            out[theirs] = redirect[ours].clone();
        }
    }
    out["response_code"] = match text(&redirect["redirectResponseCode"]) {
        Some("MOVED_PERMANENTLY_DEFAULT") | None => json!("MOVED_PERMANENTLY"),
        Some(code) => json!(code),
    };
    out
}

fn of_cors(cors: &Value) -> Value {
    let joined = |name: &str| list(&cors[name]).filter_map(text).collect::<Vec<_>>().join(",");
    let origins: Vec<Value> =
        list(&cors["allowOrigins"])
            .map(|origin| {
                if origin == "*" { json!({"safe_regex": {"regex": ".*"}}) } else { json!({"exact": origin}) }
            })
            .collect();
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": origins, "allow_methods": joined("allowMethods"),
        "allow_headers": joined("allowHeaders"), "expose_headers": joined("exposeHeaders"),
        "max_age": cors["maxAge"].as_i64().map(|age| age.to_string()).unwrap_or_default(),
        "allow_credentials": cors["allowCredentials"].as_bool().unwrap_or(false),
    })
}

fn matches(conditions: &Value) -> Value {
    let mut out = json!({});
    let cases = [("prefixMatch", "prefix"), ("fullPathMatch", "path")];
    for (ours, theirs) in cases {
        if let Some(value) = text(&conditions[ours]) {
            out[theirs] = json!(value);
        }
    }
    if let Some(regex) = text(&conditions["regexMatch"]) {
        out["safe_regex"] = json!({"regex": regex});
    }
    if let Some(template) = text(&conditions["pathTemplateMatch"]) {
        out["path_match_policy"] = json!({"name": "match", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
            "path_template": template}});
    }
    if conditions["ignoreCase"] == true {
        out["case_sensitive"] = json!(false);
    }
    out["headers"] = list(&conditions["headerMatches"]).map(of_header).collect();
    out["query_parameters"] = list(&conditions["queryParameterMatches"]).map(of_query).collect();
    out
}

fn of_header(header: &Value) -> Value {
    let name = text(&header["headerName"]).unwrap_or_default();
    let mut out = json!({"name": if name == "PORT" { ":authority" } else { name }});
    for (ours, theirs) in [("exactMatch", "exact"), ("prefixMatch", "prefix"), ("suffixMatch", "suffix")] {
        if let Some(value) = text(&header[ours]) {
            out["string_match"] = json!({theirs: value});
        }
    }
    if let Some(regex) = text(&header["regexMatch"]) {
        let regex = if name == "PORT" { format!(".*:(?:{regex})") } else { regex.to_owned() };
        out["string_match"] = json!({"safe_regex": {"regex": regex}});
    }
    if header["presentMatch"] == true {
        out["present_match"] = json!(true);
    }
    let range = &header["rangeMatch"];
    if !range.is_null() {
        out["range_match"] = json!({"start": range["rangeStart"], "end": range["rangeEnd"]});
    }
    if header["invertMatch"] == true {
        out["invert_match"] = json!(true);
    }
    out
}

fn of_query(query: &Value) -> Value {
    let mut out = json!({"name": query["name"]});
    if let Some(value) = text(&query["exactMatch"]) {
        out["string_match"] = json!({"exact": value});
    }
    if let Some(regex) = text(&query["regexMatch"]) {
        out["string_match"] = json!({"safe_regex": {"regex": regex}});
    }
    if query["presentMatch"] == true {
        out["present_match"] = json!(true);
    }
    out
}

fn add_headers(level: &mut Value, action: &Value) {
    for direction in ["request", "response"] {
        let removed = &action[format!("{direction}HeadersToRemove")];
        if !removed.is_null() {
            level[format!("{direction}_headers_to_remove")] = removed.clone();
        }
        let added: Vec<Value> = list(&action[format!("{direction}HeadersToAdd")])
            .map(|header| {
                // Google replaces unless told otherwise.
                let append = if header["replace"] == false {
                    "APPEND_IF_EXISTS_OR_ADD"
                } else {
                    "OVERWRITE_IF_EXISTS_OR_ADD"
                };
                json!({"header": {"key": header["headerName"], "value": header["headerValue"]},
                       "append_action": append, "keep_empty_value": true})
            })
            .collect();
        if !added.is_empty() {
            level[format!("{direction}_headers_to_add")] = added.into();
        }
    }
}
