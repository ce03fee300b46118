//! From Google's spelling of names to Rust's.

/// `IPAddress` → `ip_address`, `ipv6CidrRange` → `ipv6_cidr_range`. What is no identifier character becomes `_`.
pub fn snake(name: &str) -> String {
    let chars: Vec<char> = name.replace("IPv", "Ipv").chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        let previous = i.checked_sub(1).map(|p| chars[p]);
        let starts_word = c.is_ascii_uppercase()
            && previous.is_some_and(|p| {
                p.is_ascii_lowercase()
                    || p.is_ascii_digit()
                    || (p.is_ascii_uppercase() && chars.get(i + 1).is_some_and(char::is_ascii_lowercase))
            });
        if starts_word {
            out.push('_');
        }
        match c {
            c if c.is_ascii_alphanumeric() => out.push(c.to_ascii_lowercase()),
            _ if out.is_empty() => {}
            _ => out.push('_'),
        }
    }
    out
}

/// A field's name in Rust: [`snake`], with an underscore after a keyword.
pub fn field(name: &str) -> String {
    let snake = snake(name);
    match snake.as_str() {
        "type" | "match" | "ref" | "self" | "use" | "mod" | "in" | "for" | "loop" | "move" | "enum"
        | "fn" => {
            format!("{snake}_")
        }
        _ => snake,
    }
}

/// `run_v2` → `RunV2`, `networkUrl` → `NetworkUrl`.
pub fn pascal(name: &str) -> String {
    let mut upper = true;
    let mut out = String::new();
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() {
            upper = true;
        } else if std::mem::take(&mut upper) {
            out.push(c.to_ascii_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// What serde's `rename_all = "camelCase"` makes of a field.
pub fn serde_camel(field: &str) -> String {
    let pascal = pascal(field);
    let mut chars = pascal.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// A schema's name as a Rust identifier.
pub fn identifier(schema: &str) -> String {
    schema.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, expected) in [
            ("IPAddress", "ip_address"),
            ("IPProtocol", "ip_protocol"),
            ("IPv4Range", "ipv4_range"),
            ("ipv6CidrRange", "ipv6_cidr_range"),
            ("http2HealthCheck", "http2_health_check"),
            ("pathMatchers", "path_matchers"),
            ("@type", "type"),
            ("x-goog.y", "x_goog_y"),
        ] {
            assert_eq!(snake(name), expected);
        }
        assert_eq!(field("type"), "type_");
        assert_eq!(pascal("run_v2"), "RunV2");
        assert_eq!(serde_camel("path_matchers"), "pathMatchers");
        assert_ne!(serde_camel("ip_address"), "IPAddress");
    }
}
