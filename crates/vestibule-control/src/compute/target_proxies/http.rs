//! Regional target HTTP proxies. They have no update and no patch: only the URL map can be exchanged.

use vestibule_model::ResourceName;

use super::super::Call;
use super::super::kind::{Fingerprint, Info, Kind, Methods, ScopeKind, linked};
use crate::{Change, Document, Error};

/// `targetHttpProxies` of regions
pub struct TargetHttpProxies;

static INFO: Info = Info {
    collection: "targetHttpProxies",
    scopes: &[ScopeKind::Region],
    word: "target_http_proxy",
    kind: "compute#targetHttpProxy",
    list_kind: "compute#targetHttpProxyList",
    aggregated_kind: Some("compute#targetHttpProxyAggregatedList"),
    fingerprint: Fingerprint::Checked,
    labels: false,
    methods: Methods::NONE,
    actions: &[super::SET_URL_MAP],
    questions: &[],
    output_only: &[],
};

impl Kind for TargetHttpProxies {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn insert(&self, change: &mut Change<'_>, name: &ResourceName, doc: &mut Document) -> Result<(), Error> {
        super::validate(change, name, doc)
    }

    fn act(
        &self,
        change: &mut Change<'_>,
        _call: &Call,
        name: &ResourceName,
        _verb: &str,
        body: &Document,
        doc: Document,
    ) -> Result<Document, Error> {
        super::act_set_url_map(change, name, body, doc)
    }

    fn references(&self, _name: &ResourceName, doc: &Document) -> Vec<ResourceName> {
        linked(doc, "urlMap").into_iter().collect()
    }
}
