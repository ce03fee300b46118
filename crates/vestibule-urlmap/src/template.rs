//! Path templates: `/users/{user=*}/carts/{rest=**}` and what is rewritten from them.
//!
//! `*` stands for one non-empty segment (or a non-empty part of one, next to literal text), `**` for anything, slashes
//! and nothing included. `{name}` is `{name=*}`. `**` must be the last operator; text may follow it. The grammar and
//! the set of characters an operator takes are those of Envoy's URI template matcher.

use regex::bytes::Regex;

/// Operators a template may hold.
const MAX_OPERATORS: usize = 5;
/// Longest template in bytes.
const MAX_LENGTH: usize = 1024;
/// What `*` takes: path characters without `/`, brackets and what must be escaped.
const SEGMENT_CLASS: &str = "a-zA-Z0-9._~%!$&'()+,;:@=*-";

/// A compiled `pathTemplateMatch`.
#[derive(Debug)]
pub(crate) struct Template {
    /// What every matching path begins with.
    literal_prefix: Box<str>,
    regex: Regex,
    variables: Vec<Box<str>>,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        if !text.starts_with('/') {
            return Err("Path template must begin with '/'.".into());
        }
        if text.len() > MAX_LENGTH {
            return Err(format!("Path template must be at most {MAX_LENGTH} characters long."));
        }
        let mut parser = Parser { rest: text, ..Parser::default() };
        parser.sequence(false)?;
        if parser.operators > MAX_OPERATORS {
            return Err(format!("Path template must contain at most {MAX_OPERATORS} operators."));
        }
        let regex = Regex::new(&format!(r"\A{}\z", parser.regex)).map_err(|error| error.to_string())?;
        let end = text.find(['*', '{']).unwrap_or(text.len());
        Ok(Template { literal_prefix: text[..end].into(), regex, variables: parser.variables })
    }

    /// What every matching path begins with.
    pub(crate) fn literal_prefix(&self) -> &str {
        &self.literal_prefix
    }

    pub(crate) fn is_match(&self, path: &[u8]) -> bool {
        self.regex.is_match(path)
    }
}

#[derive(Default)]
struct Parser<'t> {
    rest: &'t str,
    regex: String,
    operators: usize,
    open_ended: bool,
    variables: Vec<Box<str>>,
}

impl Parser<'_> {
    /// Reads literals and operators up to the end, or up to `}` inside a variable.
    fn sequence(&mut self, in_variable: bool) -> Result<(), String> {
        while let Some(next) = self.rest.chars().next() {
            match next {
                '}' if in_variable => return Ok(()),
                '*' => self.operator()?,
                '{' if !in_variable => self.variable()?,
                '{' | '}' => return Err("Path template has unbalanced or nested braces.".into()),
                '?' | '#' => return Err("Path template must not contain '?' or '#'.".into()),
                literal if literal.is_ascii_graphic() => {
                    self.regex.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
                    self.rest = &self.rest[1..];
                }
                _ => return Err("Path template contains an invalid character.".into()),
            }
        }
        Ok(())
    }

    fn operator(&mut self) -> Result<(), String> {
        let open_ended = self.rest.starts_with("**");
        self.rest = &self.rest[if open_ended { 2 } else { 1 }..];
        if self.rest.starts_with('*') {
            return Err("Path template has an operator that is neither '*' nor '**'.".into());
        }
        self.push_operator(open_ended)
    }

    fn push_operator(&mut self, open_ended: bool) -> Result<(), String> {
        if self.open_ended {
            return Err("Path template must have '**' as its last operator.".into());
        }
        self.open_ended = open_ended;
        self.operators += 1;
        match open_ended {
            true => self.regex.push_str(&format!("[{SEGMENT_CLASS}/]*")),
            false => self.regex.push_str(&format!("[{SEGMENT_CLASS}]+")),
        }
        Ok(())
    }

    fn variable(&mut self) -> Result<(), String> {
        let name_end = self.rest.find(['=', '}']).ok_or("Path template has an unbalanced brace.")?;
        let name = &self.rest[1..name_end];
        check_variable_name(name)?;
        if self.variables.iter().any(|known| **known == *name) {
            return Err(format!("Path template has the variable '{name}' more than once."));
        }
        self.variables.push(name.into());
        self.rest = &self.rest[name_end..];
        self.regex.push('(');
        match self.rest.strip_prefix('=') {
            None => self.push_operator(false)?,
            Some(value) => {
                self.rest = value;
                let before = self.operators;
                self.sequence(true)?;
                if self.operators == before {
                    return Err(format!("Path template variable '{name}' has no operator."));
                }
            }
        }
        self.rest = self.rest.strip_prefix('}').ok_or("Path template has an unbalanced brace.")?;
        self.regex.push(')');
        Ok(())
    }
}

fn check_variable_name(name: &str) -> Result<(), String> {
    let letter_first = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if letter_first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(format!("Path template has an invalid variable name '{name}'."))
}

/// A compiled `pathTemplateRewrite`: literal text and variables of the template that matched.
#[derive(Debug)]
pub(crate) struct TemplateRewrite {
    parts: Vec<RewritePart>,
}

#[derive(Debug)]
enum RewritePart {
    Literal(Box<str>),
    /// Group of the template's regular expression.
    Group(usize),
}

impl TemplateRewrite {
    /// Compiles the rewrite against the template of the same rule.
    pub(crate) fn parse(text: &str, template: &Template) -> Result<TemplateRewrite, String> {
        if !text.starts_with('/') {
            return Err("Path template rewrite must begin with '/'.".into());
        }
        if text.len() > MAX_LENGTH {
            return Err(format!("Path template rewrite must be at most {MAX_LENGTH} characters long."));
        }
        if template.variables.is_empty() {
            return Err("Path template rewrite needs a path template with at least one variable.".into());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let literal_end = rest.find(['{', '}', '*']).unwrap_or(rest.len());
            if literal_end > 0 {
                parts.push(RewritePart::Literal(rest[..literal_end].into()));
                rest = &rest[literal_end..];
                continue;
            }
            let name = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let (name, after) =
                name.ok_or("Path template rewrite may only use literal text and {variables}.")?;
            let group = template.variables.iter().position(|known| **known == *name);
            let group =
                group.ok_or_else(|| format!("Path template rewrite uses the unknown variable '{name}'."))?;
            parts.push(RewritePart::Group(group + 1));
            rest = after;
        }
        Ok(TemplateRewrite { parts })
    }

    /// The new path for one that `template` matched.
    pub(crate) fn apply(&self, template: &Template, path: &[u8], out: &mut Vec<u8>) {
        let Some(groups) = template.regex.captures(path) else {
            out.extend_from_slice(path);
            return;
        };
        for part in &self.parts {
            match part {
                RewritePart::Literal(text) => out.extend_from_slice(text.as_bytes()),
                RewritePart::Group(group) => {
                    out.extend_from_slice(groups.get(*group).map_or(&[][..], |found| found.as_bytes()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(template: &str, path: &str) -> bool {
        Template::parse(template).expect(template).is_match(path.as_bytes())
    }

    fn rewrite(template: &str, rewrite: &str, path: &str) -> Option<String> {
        let template = Template::parse(template).expect(template);
        let rewrite = TemplateRewrite::parse(rewrite, &template).expect(rewrite);
        let mut out = Vec::new();
        template.is_match(path.as_bytes()).then(|| rewrite.apply(&template, path.as_bytes(), &mut out))?;
        String::from_utf8(out).ok()
    }

    /// The API's examples, and what Envoy 1.40 was measured to do.
    #[test]
    fn matching() {
        for (template, path, want) in [
            ("/dstar/**", "/dstar/", true),
            ("/dstar/**", "/dstar/a/b", true),
            ("/dstar/**", "/dstar", false),
            ("/tpl/{u=*}/carts/{r=**}", "/tpl/a/carts", false),
            ("/tpl/{u=*}/carts/{r=**}", "/tpl/a/carts/", true),
            ("/tpl/{u=*}/carts/{r=**}", "/tpl//carts/x", false),
            ("/t2/{u=*}.m4s", "/t2/a.m4s", true),
            ("/t2/{u=*}.m4s", "/t2/.m4s", false),
            ("/t2/{u=*}.m4s", "/t2/a/b.m4s", false),
            ("/t3/**.m3u8", "/t3/a/b.m3u8", true),
            ("/t3/**.m3u8", "/t3/.m3u8", true),
            ("/t4/{v=a/*}/z", "/t4/a/q/z", true),
            ("/t4/{v=a/*}/z", "/t4/b/q/z", false),
            ("/t7/*/b", "/t7/q/b", true),
            ("/t7/*/b", "/t7/q/b/", false),
            ("/t8/{x=**}/lit", "/t8/lit", false),
            ("/t8/{x=**}/lit", "/t8//lit", true),
            ("/c/*", "/c/a=b@c%20*", true),
            ("/c/*", "/c/a[b", false),
            ("/plain", "/plain", true),
        ] {
            assert_eq!(matches(template, path), want, "{template} {path}");
        }
    }

    #[test]
    fn rewriting() {
        for (template, to, path, want) in [
            ("/tpl/{u=*}/carts/{r=**}", "/{u}-{r}", "/tpl/abc@x.com/carts/FL/e/S", "/abc@x.com-FL/e/S"),
            ("/tpl/{u=*}/carts/{r=**}", "/{u}-{r}/", "/tpl/a/carts/FL", "/a-FL/"),
            ("/t4/{v=a/*}/z", "/{v}", "/t4/a/q/z", "/a/q"),
            ("/t5/{u}/**", "/w/{u}", "/t5/a/b/c", "/w/a"),
            ("/t6/{u=**}", "/{u}", "/t6/", "/"),
            ("/x/{a}/{b}", "/{b}/{a}", "/x/1/2", "/2/1"),
        ] {
            assert_eq!(rewrite(template, to, path).as_deref(), Some(want), "{template} -> {to}: {path}");
        }
    }

    #[test]
    fn bad_templates() {
        for bad in [
            "a/*",
            "/***",
            "/**/*",
            "/{a=**}/{b=*}",
            "/{a}/{a}",
            "/{1a}",
            "/{}",
            "/{a",
            "/a}",
            "/{a={b}}",
            "/{a=b}",
            "/*/*/*/*/*/*",
            "/a?b",
            "/a b",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        assert!(Template::parse(&format!("/{}", "a".repeat(1024))).is_err());
    }

    #[test]
    fn bad_rewrites() {
        let template = Template::parse("/{a}/**").expect("template");
        for bad in ["{a}", "/{b}", "/*", "/{a", "/a}"] {
            assert!(TemplateRewrite::parse(bad, &template).is_err(), "{bad}");
        }
        let plain = Template::parse("/a/*").expect("template");
        assert!(TemplateRewrite::parse("/x", &plain).is_err());
    }

    #[test]
    fn prefix_is_what_stands_before_the_first_operator() {
        assert_eq!(Template::parse("/a/b{c}").expect("template").literal_prefix(), "/a/b");
        assert_eq!(Template::parse("/x").expect("template").literal_prefix(), "/x");
    }

    proptest! {
        #[test]
        fn never_panics(text in "/[a/*{}=?]{0,16}", path in "/[a-c/]{0,12}") {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.is_match(path.as_bytes());
                prop_assert!(!template.is_match(path.as_bytes()) || path.starts_with(template.literal_prefix()));
            }
        }
    }
}
