//! Names of compute resources, and how flags and words become them.

use std::fmt;

use crate::gcloud::error::Failure;
use crate::gcloud::invocation::Invocation;

/// Where a resource lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Global,
    Region(String),
    Zone(String),
}

/// A compute resource: `projects/P/regions/R/urlMaps/N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub project: String,
    pub scope: Scope,
    pub collection: String,
    pub name: String,
}

/// Where resources of a kind may live, and what happens when the command line does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scopes {
    /// Global only.
    Global,
    /// In a region only; it must be named.
    Region,
    /// Either; one must be named.
    RegionOrGlobal,
    /// As above, and gcloud also has zonal ones.
    RegionGlobalOrZone,
    /// Either; global unless a region is named.
    GlobalUnlessRegion,
}

/// A kind of resource.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub collection: &'static str,
    pub scopes: Scopes,
    /// The plural in prompts: "The following networks will be deleted".
    pub plural: &'static str,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Global => f.write_str("global"),
            Scope::Region(region) => write!(f, "regions/{region}"),
            Scope::Zone(zone) => write!(f, "zones/{zone}"),
        }
    }
}

impl Link {
    /// The collection's path on the API, without the resource's name.
    pub fn collection_path(&self) -> String {
        format!("/compute/v1/projects/{}/{}/{}", self.project, self.scope, self.collection)
    }

    /// The resource's path on the API.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection_path(), self.name)
    }

    /// The resource as a reference in a body.
    pub fn url(&self, api_base: &str) -> String {
        format!("{api_base}{}", self.path())
    }

    /// Reads a full or partial URL: `https://…/projects/P/…`, `projects/P/…`, `regions/R/COLLECTION/N`.
    pub fn parse(text: &str, default_project: &str) -> Option<Link> {
        let rest = match text.find("projects/") {
            Some(at) if at == 0 || text[..at].ends_with('/') => &text[at..],
            _ if text.contains("://") => return None,
            _ => text,
        };
        let mut parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
        let project = match parts.first() {
            Some(&"projects") if parts.len() > 2 => {
                let project = parts[1].to_owned();
                parts.drain(..2);
                project
            }
            _ => default_project.to_owned(),
        };
        let (scope, collection, name) = match parts.as_slice() {
            ["global", collection, name] => (Scope::Global, *collection, *name),
            ["regions", region, collection, name] => {
                (Scope::Region((*region).to_owned()), *collection, *name)
            }
            ["zones", zone, collection, name] => (Scope::Zone((*zone).to_owned()), *collection, *name),
            _ => return None,
        };
        Some(Link { project, scope, collection: collection.to_owned(), name: name.to_owned() })
    }
}

impl Kind {
    /// The resource that `word` and the scope flags name.
    pub fn resolve(&self, inv: &Invocation<'_>, word: &str) -> Result<Link, Failure> {
        self.resolve_in(inv, word, "region", "global")
    }

    /// As [`Kind::resolve`], with other names for the scope flags.
    pub fn resolve_in(
        &self,
        inv: &Invocation<'_>,
        word: &str,
        region: &str,
        global: &str,
    ) -> Result<Link, Failure> {
        if word.contains('/') {
            let link = Link::parse(word, &inv.project());
            return link.ok_or_else(|| Failure::new(format!("could not parse resource [{word}]")));
        }
        let scope = self.scope(inv, word, region, global)?;
        Ok(self.link(inv, scope, word))
    }

    /// A resource of this kind in a known scope. A URL keeps its own.
    pub fn at(&self, inv: &Invocation<'_>, scope: &Scope, word: &str) -> Result<Link, Failure> {
        if word.contains('/') {
            let link = Link::parse(word, &inv.project());
            return link.ok_or_else(|| Failure::new(format!("could not parse resource [{word}]")));
        }
        Ok(self.link(inv, scope.clone(), word))
    }

    fn link(&self, inv: &Invocation<'_>, scope: Scope, name: &str) -> Link {
        Link { project: inv.project(), scope, collection: self.collection.to_owned(), name: name.to_owned() }
    }

    fn scope(&self, inv: &Invocation<'_>, word: &str, region: &str, global: &str) -> Result<Scope, Failure> {
        let given = inv.args.text(region).map(|r| Scope::Region(basename(r).to_owned()));
        let configured = || inv.properties.get("compute", "region").map(|r| Scope::Region(r.to_owned()));
        let underspecified =
            |flags: &str| Failure::new(format!("Underspecified resource [{word}]. Specify {flags}."));
        if given.is_some() && inv.args.on(global) {
            return Err(Failure::new(format!(
                "argument --{global}: At most one of --{global} | --{region} can be specified."
            )));
        }
        if let Some(zone) = inv.args.text("zone").filter(|_| self.scopes == Scopes::RegionGlobalOrZone) {
            return Ok(Scope::Zone(basename(zone).to_owned()));
        }
        match (self.scopes, given) {
            (Scopes::Global, _) => Ok(Scope::Global),
            (_, Some(scope)) => Ok(scope),
            (Scopes::GlobalUnlessRegion, None) => Ok(Scope::Global),
            (_, None) if inv.args.on(global) => Ok(Scope::Global),
            (Scopes::Region, None) => {
                configured().ok_or_else(|| underspecified(&format!("the [--{region}] flag")))
            }
            (Scopes::RegionOrGlobal, None) => configured()
                .ok_or_else(|| underspecified(&format!("one of the [--{global}, --{region}] flags"))),
            (Scopes::RegionGlobalOrZone, None) => configured()
                .ok_or_else(|| underspecified(&format!("one of the [--{global}, --{region}, --zone] flags"))),
        }
    }
}

pub fn basename(text: &str) -> &str {
    text.trim_end_matches('/').rsplit('/').next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        let expected = Link {
            project: "p".into(),
            scope: Scope::Region("r".into()),
            collection: "urlMaps".into(),
            name: "n".into(),
        };
        for text in [
            "https://www.googleapis.com/compute/v1/projects/p/regions/r/urlMaps/n",
            "http://127.0.0.1:8470/compute/v1/projects/p/regions/r/urlMaps/n",
            "projects/p/regions/r/urlMaps/n",
            "regions/r/urlMaps/n",
        ] {
            assert_eq!(Link::parse(text, "p").as_ref(), Some(&expected), "{text}");
        }
        assert_eq!(Link::parse("n", "p"), None);
        assert_eq!(Link::parse("https://x/y/z", "p"), None);
        assert_eq!(expected.url("http://h:1"), "http://h:1/compute/v1/projects/p/regions/r/urlMaps/n");
    }
}
